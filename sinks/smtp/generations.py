"""The queue owner as a role: an agent for each generation of lanes that is in use, all on one event loop.

The newest delivers. An older one is the same agent with another answer to "may this attempt start?": it moves all that
waits to the newest (`SmtpConfig.successor`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from sinks.smtp.agent import Agent
from sinks.smtp.config import SmtpConfig
from topics.errors import Broken
from topics.registry import Lanes

__all__ = ["SmtpConfig", "serve"]


async def serve(config: SmtpConfig, draining: Sequence[Lanes], stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Own partitions and deliver until `stop`, of `config.lanes` and of the generations that drain into them. Raises
    Broken when another process must take over.
    """
    # Nothing is sent from what drains, so nothing is composed.
    configs = [config, *(replace(config, lanes=old, successor=config.lanes, presses=0) for old in draining)]
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
