"""For how long a transaction fills before it is written. Pure.

Each costs the same for one record as for a hundred, and a dot waits for its own. So the journal is to be at work a
third of the time: transactions that are quick, on a machine that has time, follow one another quickly (a message waits
some 10 ms); the longer they take, the longer each fills, and the less of a busy machine they cost.
"""

from __future__ import annotations

from typing import Final

_LEAST_S: Final = 0.005  # alone, a message should not wait for company
_MOST_S: Final = 0.05  # filling for longer saves little more
_REST: Final = 2.0  # to the time at work
_WEIGHT: Final = 0.2  # of the newest transaction in the mean


class Filling:
    def __init__(self) -> None:
        self._takes = 0.0  # seconds, in the mean
        self._ended = 0.0

    def ended(self, took: float, now: float) -> None:
        """A transaction is over that took so many seconds. `now` as for `wait`."""
        self._takes += _WEIGHT * (took - self._takes)
        self._ended = now

    def wait(self, now: float) -> float:
        """Seconds until the next one, which something waits for since now."""
        rest = min(_MOST_S, _REST * self._takes) - (now - self._ended)
        return max(_LEAST_S, rest)
