"""Room in the processes that compose: how many messages may be with them at a time. Pure; part of the queue owner's
core.

Composing is what bounds the rate of all sites together. Begun before its turn there, a message would take a connection
and wait on it: each site would open all that it may have, and each connection carry little; and what is begun no longer
waits where priorities and turns decide. So as much is begun as keeps those processes at work, and sites that found no
room come in turn. Urgent mail has room of its own, as much again: it waits behind no bulk, and bulk not for its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sinks.smtp.queue import Site

_TURN: Final = 4  # messages that a site may begin while others wait; fewer would look at sites more often than at mail


class Orders:
    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: tuple[dict[Site, None], dict[Site, None]] = ({}, {})  # by urgency; who waits for longest is first
        self._turn = 0  # what is left of the turn of the site that `next` named
        self._begun = [0, 0]  # by urgency

    @property
    def begun(self) -> int:
        return sum(self._begun)

    def admits(self, site: Site, urgent: bool) -> bool:
        """Let the site begin one more, of its turn if it has one; if it may not, it waits in line."""
        line = self._lines[urgent]
        if self._begun[urgent] < self._most and (self._turn or not line):
            if self._turn:
                self._turn -= 1
            return True
        line[site] = None
        return False

    def take(self, urgent: bool) -> int:
        """What has begun; to be given back when it is composed, or over."""
        self._begun[urgent] += 1
        return 1 + urgent

    def give(self, taken: int) -> None:
        if taken:
            self._begun[taken - 1] -= 1

    def next(self) -> Site | None:
        """Whose turn it is, now that there may be room; None when nobody waits, or there is none. To be asked until
        then.
        """
        for urgent in (True, False):
            line = self._lines[urgent]
            if line and self._begun[urgent] < self._most:
                site = next(iter(line))
                del line[site]
                self._turn = _TURN
                return site
        self._turn = 0
        return None
