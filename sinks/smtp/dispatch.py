"""Which message goes next. Pure; part of the queue owner's core.

Per site: urgent first, then tenants in turn (turns.py); its rate of messages; what rules and overrides keep back. Over
all sites: who is asked again, when there is room for one more. On which connection a message goes is sessions.py's;
what it takes there, attempts.py's; what is done with one that may not go, verdicts.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from sinks.smtp.attempts import Attempts
from sinks.smtp.cache import Cache
from sinks.smtp.commands import Go, Rest, Rules
from sinks.smtp.policy import BURST_S
from sinks.smtp.queue import Entry, Hold, Partition, Session, Site, Wakes
from sinks.smtp.room import AGAIN_S
from sinks.smtp.sessions import Sessions
from sinks.smtp.state import Phase
from sinks.smtp.turns import Turns
from sinks.smtp.verdicts import Verdicts

_ASKED_MS: Final = 100  # since an attempt began: what was asked then holds
_PER_FAILURE: Final = 600.0  # seconds after which a silent site's failures are forgotten


class Dispatch:
    def __init__(
        self, rules: Rules, cache: Cache, verdicts: Verdicts, sessions: Sessions, attempts: Attempts, wakes: Wakes
    ) -> None:
        self.running = True  # False: no attempt starts
        self._rules = rules
        self._cache = cache
        self._verdicts = verdicts
        self._sessions = sessions
        self._attempts = attempts
        self._wakes = wakes

    # Where messages wait

    def site(self, partition: Partition, lane: str) -> Site:
        site = partition.sites.get(lane)
        if site is None:
            site = partition.sites[lane] = Site(lane, partition, self._rules.limits(lane), self._rules.weight)
        return site

    def forget(self, partitions: list[Partition], now: float) -> None:
        """Sites where nothing is."""
        for partition in partitions:
            for site in [site for site in partition.sites.values() if site.unused(now)]:
                if not site.failures or now - site.suspended_until >= _PER_FAILURE:
                    del partition.sites[site.lane]

    def schedule(self, entry: Entry, now: float) -> Site | None:
        """Put a queued message where it waits. Returns its site when it may go now: pump it."""
        partition = entry.site.partition
        if entry.next_at > now * 1000:
            partition.due.add(entry.next_at / 1000, entry)
            self._cache.free(entry)
            return None
        # Its site may have been forgotten while it waited, and be known again by another object.
        entry.site = partition.sites.setdefault(entry.site.lane, entry.site)
        entry.site.push(entry)
        return entry.site

    def pump(self, site: Site, now: float) -> None:
        """Give the site's waiting messages to connections, as far as its limits allow."""
        if site.partition.hold is not Hold.OWNED or not self.running:
            return
        if (closed := self._rules.gate(site.lane, now)) is not None:
            self._verdicts.parking.put_all(site, closed)
            return
        if site.shape_at <= now:
            self._shape(site, now)
        while site.ready_urgent or site.ready:
            if (until := max(site.suspended_until, site.held_until)) > now:
                self._wakes.add(site, until)
                return
            turns, entry = self._next(site, now)
            if entry is None:
                self._cache.want(site)
                if (at := min(site.ready_urgent.rested_at(now), site.ready.rested_at(now))) < inf:
                    self._wakes.add(site, at)
                return
            if entry.phase is not Phase.QUEUED:
                turns.pop()  # it ended while it waited
                continue
            verdict = self._verdicts.of(entry, now)
            if isinstance(verdict, Rest):
                turns.rest(verdict.until, verdict.apart)
                if verdict.apart and self._cache.full:
                    self._cache.free(entry)
                continue
            if not isinstance(verdict, Go):
                turns.pop()
                self._verdicts.apply(entry, verdict, now)
                continue
            assert entry.body is not None
            size = self._rules.size(entry.body)
            if not self._attempts.room.has(size, site.lane, now):
                turns.rest(now + AGAIN_S)
                continue
            if not self._paced(site, now) or not self._attempts.orders.admits(site, entry.urgent):
                return
            session = self._sessions.take(site, entry, now)
            if session is None:
                return
            turns.pop()
            self._attempts.assign(session, entry, size, now)
            if site.ready_urgent.lacking or site.ready.lacking:
                self._cache.want(site)  # else who was passed over would wait for all others

    def _next(self, site: Site, now: float) -> tuple[Turns, Entry | None]:
        """The message that is to go, if its body is here: urgent ones first, else tenants in turn."""
        entry = site.ready_urgent.head(now)
        return (site.ready_urgent, entry) if entry is not None else (site.ready, site.ready.head(now))

    def _paced(self, site: Site, now: float) -> bool:
        rate = site.limits.messages_per_second
        if not rate:
            return True
        if site.tat - BURST_S > now:
            self._wakes.add(site, site.tat - BURST_S)
            return False
        return True

    def _shape(self, site: Site, now: float) -> None:
        """What overrides leave of the ceilings. Connections beyond it close as soon as they are idle."""
        shape = self._rules.shape(site.lane, self._rules.limits(site.lane), now)
        site.limits, site.held_until, site.shape_at = shape.limits, shape.suspended_until, shape.again_at
        site.bounded = shape.bounded
        self._sessions.trim(site)

    # Asked again, since what held when a message was chosen may hold no more

    def opened(self, session: Session, now: float) -> None:
        """Connecting took its time: the attempt starts, or the message goes back to where it meets what keeps it."""
        entry, site = session.entry, session.site
        assert entry is not None
        self._sessions.opened(session)
        if site.shape_at <= now:
            self._shape(site, now)
        closed = site.held_until > now or self._rules.gate(site.lane, now) is not None
        closed = closed or (site.bounded and self._rules.source_until(site.lane, session.source, now) > now)
        if self.running and not closed and isinstance(self._verdicts.of(entry, now), Go):
            self._attempts.start(session, entry, now)
        else:
            self._attempts.abandon(session, now)
            self._sessions.keep(session, now)
        self.pump(site, now)

    def still(self, session: Session, now: float) -> bool:
        """Whether the attempt may go on, of which nothing is on the wire yet. If not, it did not happen."""
        entry, site = session.entry, session.site
        assert entry is not None
        assert entry.body is not None
        if now * 1000 - entry.next_at < _ASKED_MS or (
            self.running
            and site.held_until <= now
            and self._rules.gate(site.lane, now) is None
            and self._rules.stands(entry.body.command, session.source, now)
        ):
            return True
        self._attempts.abandon(session, now)
        self._sessions.keep(session, now)
        self.pump(site, now)
        return False

    def unpark(self, keys: Iterable[str], now: float) -> None:
        """What is parked under these is asked about again."""
        for site in self._verdicts.parking.release(keys):
            self.pump(site, now)

    def reshape(self, partitions: list[Partition], now: float) -> None:
        """Ceilings or overrides are others now."""
        for partition in partitions:
            for site in list(partition.sites.values()):
                site.shape_at = 0.0
                site.ready.wake()
                site.ready_urgent.wake()
                self.pump(site, now)

    def resume(self, partitions: list[Partition], now: float) -> None:
        self.running = True
        for partition in partitions:
            for site in list(partition.sites.values()):
                self.pump(site, now)

    def feed(self, now: float) -> None:
        """There may be room for composing again, or a connection: sites that waited for it, in turn."""
        while (site := self._attempts.orders.next()) is not None:
            self.pump(site, now)
        while (site := self._sessions.next()) is not None:
            self.pump(site, now)
            if site.hungry:
                return  # no connection that is idle may be closed for it, so for nobody else

    def tick(self, now: float) -> None:
        self.unpark(self._verdicts.parking.due(now), now)
        while (site := self._wakes.next(now)) is not None:
            self.pump(site, now)
        self.feed(now)
