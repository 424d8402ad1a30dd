"""For how long a batch fills before it is begun. Pure.

Each costs nearly the same for one record as for a hundred: a transaction its round trips, a batch of the loop a request
to each partition. So whoever works in batches is to be at work a third of the time. Batches that are quick, on a
machine that has time, follow one another quickly; the longer they take, the longer each fills, and the less of a busy
machine they cost.
"""

from __future__ import annotations

from typing import Final

_REST: Final = 2.0  # to the time at work
_WEIGHT: Final = 0.2  # of the newest batch in the mean


class Filling:
    def __init__(self, least: float, most: float) -> None:
        """Seconds: what always is waited for company, and after how much of it more saves little."""
        self._least = least
        self._most = most
        self._takes = 0.0  # seconds, in the mean
        self._ended = float("-inf")

    def ended(self, took: float, now: float) -> None:
        """A batch is over that took so many seconds. `now` as for `wait`."""
        self._takes += _WEIGHT * (took - self._takes)
        self._ended = now

    def wait(self, now: float) -> float:
        """Seconds until the next one, which something waits for since now."""
        rest = min(self._most, _REST * self._takes) - (now - self._ended)
        return max(self._least, rest)
