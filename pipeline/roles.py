"""Every role that `mailriver run` knows: its name, what it does in a line, and how it gets its configuration.

A role's own module is imported when it runs: each process loads only what it needs.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pipeline import secrets, wiring
from pipeline.settings import Settings

Ready = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    does: str
    run: Callable[[Settings, Ready], None]
    drain: float = 15.0  # seconds it may take to end cleanly


def _until_signal(work: Callable[[threading.Event], None]) -> None:
    """Run a synchronous role in this thread; SIGTERM and SIGINT ask it to end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    work(stop)


def _until_signal_async(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """The same for an asynchronous role, on uvloop where there is one."""
    import uvloop

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    uvloop.run(main())


def _plan(settings: Settings, ready: Ready) -> None:
    from processors.plan import agent

    config = agent.PlanConfig(
        cluster=wiring.cluster(settings),
        tenants=settings.tenants,
        pools=frozenset(settings.pools),
        recipient_secret=secrets.recipient_secret(settings.secrets_folder),
    )
    _until_signal(lambda stop: agent.run(config, stop, ready))


ROLES: dict[str, Role] = {
    role.name: role
    for role in (Role("plan", "turns requested sends into messages on the lanes of their destinations", _plan),)
}
