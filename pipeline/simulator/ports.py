"""Ports of the simulated hosts on loopback: free ones at first, the same ones at every later start.

Chosen below the ranges that systems give to outgoing connections, so that a restart finds its own still free.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import structlog

from pipeline.simulator.files import write_whole

log = structlog.get_logger(__name__)

_LOWEST, _HIGHEST = 20_000, 32_000  # Linux hands out from 32768, macOS from 49152
_TRIES = 200


class Ports:
    """Remembers which listener had which port, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, int] = {}
        if path.exists():
            try:
                self._known = {str(k): int(v) for k, v in orjson.loads(path.read_bytes()).items()}
            except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
                log.warning("simulator.ports.forgotten", file=path.name)

    async def listen(self, name: str, start: Callable[[int], Awaitable[None]], wanted: int = 0) -> int:
        """Start a listener on the wanted port, else on the remembered one, else on a free one; its port.

        Raises OSError when the wanted port is taken.
        """
        if wanted:
            await start(wanted)
            return self._keep(name, wanted)
        known = self._known.get(name)
        candidates = [known] if known else []
        candidates += [random.randint(_LOWEST, _HIGHEST) for _ in range(_TRIES)]
        for port in candidates:
            try:
                await start(port)
            except OSError as error:
                if port == known:
                    log.warning("simulator.port.moved", listener=name, port=port, error=error.strerror)
                last = error
                continue
            return self._keep(name, port)
        raise last

    def save(self) -> None:
        """Write down what was chosen."""
        write_whole(self._path, orjson.dumps(self._known, option=orjson.OPT_INDENT_2))

    def _keep(self, name: str, port: int) -> int:
        self._known[name] = port
        return port
