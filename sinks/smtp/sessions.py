"""Which connections a worker opens, keeps and closes. Pure; part of the queue owner's core.

Per site: its ceiling and its rate, few at a time until it answers, a source that may be used now, a rest after
failures. Over all sites: how many there are, and to whom they are opened (slots.py). Which message goes on one is
dispatch.py's to say, what becomes of it there attempts.py's.
"""

from __future__ import annotations

from typing import Final

from sinks.smtp.commands import Close, Command, Drop, Open, Rules
from sinks.smtp.policy import BURST_S, backoff
from sinks.smtp.queue import Entry, Hold, Session, Site, Stage, Wakes
from sinks.smtp.slots import Slots

_PER_OPENING: Final = 4  # messages that wait for a connection under way before another is opened
_FIRST: Final = 2  # connections opened at a time to a site that has none; else as many as it has
_SOON_S: Final = 5.0  # for which a session waits whose source may not be used, before another takes its place


class Sessions:
    def __init__(self, rules: Rules, out: list[Command], wakes: Wakes) -> None:
        self.by_number: dict[int, Session] = {}
        self._rules = rules
        self._out = out
        self._wakes = wakes
        self._number = 0
        self._idle: dict[int, Session] = {}  # the one that is idle for longest comes first
        self._slots = Slots(rules.sessions)

    # To have one

    def take(self, site: Site, entry: Entry, now: float) -> Session | None:
        """An idle one, or one that is opened for this message. None: the site waits for it."""
        if site.bounded:
            return self._allowed(site, entry, now)
        return self._unidle(site) if site.idle else self._open(site, entry, now)

    def next(self) -> Site | None:
        """Whose turn it is to have one, of the sites that waited because the worker had no more."""
        if len(self.by_number) < self._rules.sessions or self._idle:
            return self._slots.next()
        return None

    def _allowed(self, site: Site, entry: Entry, now: float) -> Session | None:
        """One from a source that may be used now."""
        until: dict[Session, float] = {}
        for place in range(len(site.idle) - 1, -1, -1):
            session = site.idle[place]
            until[session] = self._rules.source_until(site.lane, session.source, now)
            if until[session] <= now:
                return self._unidle(site, place)
        if (at := self._rules.sources_until(site.lane, now)) > now:
            self._wakes.add(site, at)
            return None
        if until and len(site.sessions) >= site.limits.connections:
            # Another source may be used, and has no place. One that will be of use again soon is waited for.
            session, at = max(until.items(), key=lambda each: each[1])
            if at < now + _SOON_S:
                self._wakes.add(site, min(until.values()))
                return None
            self._close(session)
        return self._open(site, entry, now)

    def _unidle(self, site: Site, place: int = -1) -> Session:
        session = site.idle.pop(place)
        del self._idle[session.number]
        return session

    def _open(self, site: Site, entry: Entry, now: float) -> Session | None:
        if len(site.sessions) >= site.limits.connections:
            return None
        if site.opening and not entry.urgent and not self._may_open_another(site):
            return None
        rate = site.limits.connections_per_second
        if rate and site.connect_tat - BURST_S > now:
            self._wakes.add(site, site.connect_tat - BURST_S)
            return None
        if not self._slots.has(site) or (len(self.by_number) >= self._rules.sessions and not self._evict(site)):
            self._slots.wait(site)
            return None
        self._number += 1
        session = Session(self._number, site)
        self.by_number[session.number] = session
        site.sessions[session.number] = session
        site.opening += 1
        self._slots.opening(session)
        if rate:
            site.connect_tat = max(site.connect_tat, now) + 1.0 / rate
        assert entry.body is not None
        self._out.append(Open(session.number, site.lane, entry.body.command))
        return session

    @staticmethod
    def _may_open_another(site: Site) -> bool:
        """While one is being opened. Their number doubles with each that opens, as long as they have work: a site that
        does not answer is not called by all at once, nor one whose mail composing will not feed to so many.
        """
        opened = len(site.sessions) - site.opening
        return site.waiting > site.opening * _PER_OPENING and site.opening < max(_FIRST, opened)

    def _evict(self, wanting: Site) -> bool:
        """Close the connection that has been idle for longest, of a site where nothing waits."""
        for session in self._idle.values():
            if session.site is not wanting and not session.site.waiting:
                self._close(session)
                return True
        return False

    # What becomes of it

    def opened(self, session: Session) -> None:
        session.site.opening -= 1
        self._slots.opened(session)

    def silent(self, site: Site, now: float) -> None:
        """A failed connection or a 421: nothing new for a while."""
        self._slots.silent(site)
        if site.suspended_until <= now:
            site.failures += 1
            site.suspended_until = now + backoff(site.failures, self._rules.scale)

    def keep(self, session: Session, now: float) -> None:
        """It is idle, and can take another message."""
        session.stage = Stage.IDLE
        session.idle_since = now
        session.site.idle.append(session)
        self._idle[session.number] = session

    def keep_or_close(self, session: Session, now: float) -> None:
        """It could take another message. It does not where it has carried enough, or there are too many."""
        site = session.site
        lasts = session.sent < site.limits.messages_per_connection and len(site.sessions) <= site.limits.connections
        if lasts and site.partition.hold is Hold.OWNED:
            self.keep(session, now)
        else:
            self._close(session)

    def trim(self, site: Site) -> None:
        """Close what is idle beyond the site's ceiling."""
        while site.idle and len(site.sessions) > site.limits.connections:
            self._close(site.idle[0])

    def sweep(self, now: float) -> None:
        """Close what has been idle for long."""
        for session in list(self._idle.values()):
            if now - session.idle_since >= session.site.limits.idle_s:
                self._close(session)

    def drop(self, session: Session) -> None:
        self._out.append(Drop(session.number))
        self.gone(session)

    def gone(self, session: Session) -> None:
        site = session.site
        self.by_number.pop(session.number, None)
        self._slots.gone(session)
        if site.sessions.pop(session.number, None) is not None and session.stage is Stage.OPENING:
            site.opening -= 1
        if self._idle.pop(session.number, None) is not None:
            site.idle.remove(session)

    def _close(self, session: Session) -> None:
        self._out.append(Close(session.number))
        self.gone(session)
