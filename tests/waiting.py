"""Wait for a condition with a deadline: the only way a test here synchronises with another thread or process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

_PAUSE = 0.02  # seconds between two looks


T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, timeout: float = 30.0, what: str = "the condition") -> T:
    """Return the first truthy value of `condition()`; raise AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain for {what}; last value: {value!r}")
        time.sleep(_PAUSE)


async def until_async(condition: Callable[[], T], *, timeout: float = 30.0, what: str = "the condition") -> T:
    """As `wait_until`, letting the event loop run between two looks."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain for {what}; last value: {value!r}")
        await asyncio.sleep(_PAUSE)
    return value
