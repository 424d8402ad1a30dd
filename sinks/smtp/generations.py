"""The queue owner as a role: an agent for each generation of lanes that is in use, all on one event loop.

The newest delivers. An older one is the same agent with another answer to "may this attempt start?": it moves all that
waits to the newest (`SmtpConfig.successor`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sinks.smtp.agent import Agent
from sinks.smtp.config import SmtpConfig
from topics.errors import Broken

__all__ = ["SmtpConfig", "serve"]


async def serve(configs: Sequence[SmtpConfig], stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Own partitions and deliver until `stop`, of each generation of lanes that is in use. Raises Broken when another
    process must take over.
    """
    waiting = len(configs)

    def one_is_ready() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            ready()

    try:
        async with asyncio.TaskGroup() as group:
            for config in configs:
                group.create_task(Agent(config).run(stop, one_is_ready))
    except* Broken as several:
        raise Broken(str(several.exceptions[0])) from None
