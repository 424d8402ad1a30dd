"""Room for large mail on its way: until the peer has answered, its connection holds it whole. Pure; part of the queue
owner's core.

Decides whether one more may begin: as long as all of them together stay within a bound, and one always. What is small
is not counted and waits for nothing: of it there is no more than connections have. Sites that found no room come in
turn: else one that sends a large message after the other would take up what it gave back each time.
"""

from __future__ import annotations

from typing import Final

LARGE: Final = 256 * 1024  # bytes; what is larger is counted
AGAIN_S: Final = 1.0  # after which a site that found no room asks again
_LAPSES_S: Final = 3 * AGAIN_S  # one that does not is no longer waited for


class Room:
    def __init__(self, most: int) -> None:
        """`most`: bytes of large mail at a time."""
        self._most = most
        self._asked: dict[str, float] = {}  # who found no room, and when last; who waits for longest comes first
        self.used = 0

    def has(self, size: int, lane: str, now: float) -> bool:
        """Whether so much may begin; who hears no is to ask again."""
        if size <= LARGE:
            return True
        while self._asked and now - self._asked[first := next(iter(self._asked))] > _LAPSES_S:
            del self._asked[first]
        if next(iter(self._asked), lane) == lane and (not self.used or self.used + size <= self._most):
            return True
        self._asked[lane] = now
        return False

    def take(self, size: int, lane: str) -> int:
        """What has begun; to be given back when it is over."""
        if size <= LARGE:
            return 0
        self._asked.pop(lane, None)
        self.used += size
        return size

    def give(self, taken: int) -> None:
        self.used -= taken
