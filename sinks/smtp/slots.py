"""To whom a worker's connections are opened: sites that answer, and a share for those that nobody knows. Pure; part of
the queue owner's core.

A domain that does not answer holds a connection until its time-out, and of very many new ones there are always some. So
those that have not answered lately have half of the connections to be called by; and a twentieth, which is always
theirs, while a site that does answer waits for one.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sinks.smtp.queue import Session, Site

_FREE: Final = 2  # of how many connections one is being opened to a site that has not answered
_ALWAYS: Final = 20  # while others wait
_REMEMBERED: Final = 10_000  # sites that answered


class Slots:
    def __init__(self, sessions: int) -> None:
        self._free = max(1, sessions // _FREE)
        self._always = max(1, sessions // _ALWAYS)
        self._answered: dict[str, None] = {}  # lanes, the latest last
        self._strange: set[int] = set()  # sessions that are being opened to those that have not answered lately
        self._known: deque[Site] = deque()  # that wait for a connection, each once
        self._others: deque[Site] = deque()  # that have not answered lately, and wait as well

    def has(self, site: Site) -> bool:
        """Whether a connection may be opened to the site, if there is one."""
        return site.lane in self._answered or self._has_for_others()

    def _has_for_others(self) -> bool:
        return len(self._strange) < (self._always if self._known else self._free)

    def wait(self, site: Site) -> None:
        if not site.hungry:
            site.hungry = True
            (self._known if site.lane in self._answered else self._others).append(site)

    def next(self) -> Site | None:
        """The site that has waited for longest, of those that may have a connection. It waits no more."""
        if self._others and self._has_for_others():
            site = self._others.popleft()
        elif self._known:
            site = self._known.popleft()
        else:
            return None
        site.hungry = False
        return site

    def opening(self, session: Session) -> None:
        if session.site.lane not in self._answered:
            self._strange.add(session.number)

    def opened(self, session: Session) -> None:
        self._strange.discard(session.number)
        self._answered.pop(session.site.lane, None)
        self._answered[session.site.lane] = None
        if len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]

    def gone(self, session: Session) -> None:
        self._strange.discard(session.number)

    def silent(self, site: Site) -> None:
        """It did not answer, or said that it cannot."""
        self._answered.pop(site.lane, None)
