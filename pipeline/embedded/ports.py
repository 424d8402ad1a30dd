"""Choose loopback ports, and choose the same again next time, so that endpoints stay as they were printed.

Ports come from below the range that systems give to outgoing connections (Linux from 32768, macOS from 49152). A
server's port out of that range can be taken by any client while the server restarts; a client that tries a dead port of
that range on loopback can even connect to itself.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

_RANGE = range(15_000, 30_000)
_TRIES = 2_000


def is_free(port: int) -> bool:
    """True when a server could listen on this loopback port now."""
    with ExitStack() as held:
        return _hold(port, held)


def free_ports(count: int, *, avoid: Sequence[int] = ()) -> tuple[int, ...]:
    """`count` different loopback ports on which nobody listens. Nothing reserves them: bind soon."""
    chosen: list[int] = []
    with ExitStack() as held:
        for port in random.sample(_RANGE, _TRIES):
            if len(chosen) == count:
                return tuple(chosen)
            if port not in avoid and _hold(port, held):
                chosen.append(port)
    raise OSError(f"no {count} free loopback ports among {_TRIES} tried")


def remembered_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """A port for each name: the one `file` remembers if it is still free, else a new one, which is then remembered."""
    known = _read(file)
    kept = {name: known[name] for name in names if name in known and is_free(known[name])}
    new = [name for name in names if name not in kept]
    chosen = kept | dict(zip(new, free_ports(len(new), avoid=tuple(known.values())), strict=True))
    if known | chosen != known:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        draft.write_text(json.dumps(known | chosen, indent=1, sort_keys=True) + "\n")
        draft.replace(file)  # readers see the old file or the new one, never a half
    return {name: chosen[name] for name in names}


def _read(file: Path) -> dict[str, int]:
    # The file is only a memory: damaged or gone, new ports are chosen.
    try:
        content = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: port for name, port in content.items() if isinstance(port, int) and 0 < port < 65_536}


def _hold(port: int, held: ExitStack) -> bool:
    probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not keep a server out
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
