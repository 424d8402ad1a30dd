"""The clock of the final dot: it goes on while the process is stopped and the machine sleeps."""

from __future__ import annotations

import time

# Elsewhere than on Linux the monotonic clock has to do; macOS's stands still while the machine sleeps.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds since some fixed moment."""
    return time.clock_gettime(_BOOTTIME)
