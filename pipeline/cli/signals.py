"""How a command that owns child processes is ended: the first Ctrl-C or SIGTERM cleanly, the next at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

_SAME = 1.0  # seconds: a wrapper may pass on the Ctrl-C that the terminal has sent us too


def end_by_signal() -> None:
    """From now on, the first signal raises KeyboardInterrupt in the main thread, so that all is unwound."""
    first: list[float] = []

    def end(number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > _SAME:
            os._exit(128 + number)  # children are on a leash, and everything of ours survives a kill

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def until_signal() -> None:
    """Wait for it; what comes after is the clean end."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
