"""Which message goes next, on which connection. Pure; part of the queue owner's core.

Per site: urgent first, then tenants in turn (turns.py); limits of connections, of messages per connection and per
second; a rest after failures. Over all sites: the worker's connections (slots.py), the room of the processes that
compose (orders.py) and that for large mail (room.py). What an outcome means is the ledger's.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from math import inf
from typing import Final

from sinks.smtp.cache import Cache
from sinks.smtp.commands import (
    Close,
    Command,
    Dot,
    Drop,
    Go,
    Open,
    Rest,
    Rules,
    Start,
)
from sinks.smtp.ledger import Ledger
from sinks.smtp.orders import Orders
from sinks.smtp.policy import backoff
from sinks.smtp.queue import Entry, Hold, Partition, Session, Site, Stage
from sinks.smtp.room import AGAIN_S, Room
from sinks.smtp.slots import Slots
from sinks.smtp.state import Phase
from sinks.smtp.turns import Turns
from sinks.smtp.verdicts import Verdicts

DOT_WITHIN: Final = 10.0  # seconds of CLOCK_BOOTTIME from the commit; less than the group's session time-out
_PER_OPENING: Final = 4  # messages that wait for a connection under way before another is opened
_FIRST: Final = 2  # connections opened at a time to a site that has none; else as many as it has
_BURST: Final = 0.1  # seconds by which a rate may run ahead: ticks are not exact
_SOON_S: Final = 5.0  # for which a session waits whose source may not be used, before another takes its place
_ASKED_MS: Final = 100  # since an attempt began: what was asked then holds
_PER_FAILURE: Final = 600.0  # seconds after which a silent site's failures are forgotten


class Dispatch:
    def __init__(self, rules: Rules, out: list[Command], ledger: Ledger, cache: Cache) -> None:
        self.running = True  # False: no attempt starts
        self._rules = rules
        self._out = out
        self._ledger = ledger
        self._cache = cache
        self._number = 0
        self._room = Room(rules.large_bytes)
        self._orders = Orders(rules.orders)
        self.verdicts = Verdicts(rules, ledger, cache)
        self.sessions: dict[int, Session] = {}
        self._idle: dict[int, Session] = {}  # the one that is idle for longest comes first
        self._slots = Slots(rules.sessions)
        self._wakes: list[tuple[float, int, Site]] = []
        self._wake = 0

    # Where messages wait

    def site(self, partition: Partition, lane: str) -> Site:
        site = partition.sites.get(lane)
        if site is None:
            site = partition.sites[lane] = Site(lane, partition, self._rules.limits(lane), self._rules.weight)
        return site

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
            self.verdicts.parking.put_all(site, closed)
            return
        if site.shape_at <= now:
            self._shape(site, now)
        while site.ready_urgent or site.ready:
            if (until := max(site.suspended_until, site.held_until)) > now:
                self._wake_at(site, until)
                return
            turns, entry = self._next(site, now)
            if entry is None:
                self._cache.want(site)
                if (at := min(site.ready_urgent.rested_at(now), site.ready.rested_at(now))) < inf:
                    self._wake_at(site, at)
                return
            if entry.phase is not Phase.QUEUED:
                turns.pop()  # it ended while it waited
                continue
            verdict = self.verdicts.of(entry, now)
            if isinstance(verdict, Rest):
                turns.rest(verdict.until, verdict.apart)
                if verdict.apart and self._cache.full:
                    self._cache.free(entry)
                continue
            if not isinstance(verdict, Go):
                turns.pop()
                self.verdicts.apply(entry, verdict, now)
                continue
            assert entry.body is not None
            size = self._rules.size(entry.body)
            if not self._room.has(size, site.lane, now):
                turns.rest(now + AGAIN_S)
                continue
            if not self._paced(site, now) or not self._orders.admits(site, entry.urgent):
                return
            if site.bounded:
                session = self._allowed(site, entry, now)
            else:
                session = self._unidle(site) if site.idle else self._open(site, entry, now)
            if session is None:
                return
            turns.pop()
            session.room = self._room.take(size, site.lane)
            self._assign(session, entry, now)
            if site.ready_urgent.lacking or site.ready.lacking:
                self._cache.want(site)  # else who was passed over would wait for all others

    def _next(self, site: Site, now: float) -> tuple[Turns, Entry | None]:
        """The message that is to go, if its body is here: urgent ones first, else tenants in turn."""
        entry = site.ready_urgent.head(now)
        return (site.ready_urgent, entry) if entry is not None else (site.ready, site.ready.head(now))

    def unpark(self, keys: Iterable[str], now: float) -> None:
        """What is parked under these is asked about again."""
        for site in self.verdicts.parking.release(keys):
            self.pump(site, now)

    def _paced(self, site: Site, now: float) -> bool:
        rate = site.limits.messages_per_second
        if not rate:
            return True
        if site.tat - _BURST > now:
            self._wake_at(site, site.tat - _BURST)
            return False
        return True

    def _shape(self, site: Site, now: float) -> None:
        """What overrides leave of the ceilings. Connections beyond it close as soon as they are idle."""
        shape = self._rules.shape(site.lane, self._rules.limits(site.lane), now)
        site.limits, site.held_until, site.shape_at = shape.limits, shape.suspended_until, shape.again_at
        site.bounded = shape.bounded
        while site.idle and len(site.sessions) > site.limits.connections:
            self._close(site.idle[0])

    def reshape(self, partitions: list[Partition], now: float) -> None:
        """Ceilings or overrides are others now."""
        for partition in partitions:
            for site in list(partition.sites.values()):
                site.shape_at = 0.0
                site.ready.wake()
                site.ready_urgent.wake()
                self.pump(site, now)

    def _wake_at(self, site: Site, at: float) -> None:
        if not site.wake_at or at < site.wake_at:
            site.wake_at = at
            self._wake += 1
            heapq.heappush(self._wakes, (at, self._wake, site))

    # Connections

    def _allowed(self, site: Site, entry: Entry, now: float) -> Session | None:
        """A session from a source that may be used now, idle or opened; None: the site waits for one."""
        until: dict[Session, float] = {}
        for place in range(len(site.idle) - 1, -1, -1):
            session = site.idle[place]
            until[session] = self._rules.source_until(site.lane, session.source, now)
            if until[session] <= now:
                return self._unidle(site, place)
        if (at := self._rules.sources_until(site.lane, now)) > now:
            self._wake_at(site, at)
            return None
        if until and len(site.sessions) >= site.limits.connections:
            # Another source may be used, and has no place. One that will be of use again soon is waited for.
            session, at = max(until.items(), key=lambda each: each[1])
            if at < now + _SOON_S:
                self._wake_at(site, min(until.values()))
                return None
            self._close(session)
        return self._open(site, entry, now)

    def _unidle(self, site: Site, place: int = -1) -> Session:
        session = site.idle.pop(place)
        del self._idle[session.number]
        return session

    def _rest_idle(self, session: Session, now: float) -> None:
        session.stage = Stage.IDLE
        session.idle_since = now
        session.site.idle.append(session)
        self._idle[session.number] = session

    def _open(self, site: Site, entry: Entry, now: float) -> Session | None:
        if len(site.sessions) >= site.limits.connections:
            return None
        if site.opening and not entry.urgent and not self._may_open_another(site):
            return None
        rate = site.limits.connections_per_second
        if rate and site.connect_tat - _BURST > now:
            self._wake_at(site, site.connect_tat - _BURST)
            return None
        if not self._slots.has(site) or (len(self.sessions) >= self._rules.sessions and not self._evict(site)):
            self._slots.wait(site)
            return None
        self._number += 1
        session = Session(self._number, site)
        self.sessions[session.number] = session
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

    def _assign(self, session: Session, entry: Entry, now: float) -> None:
        entry.phase = Phase.SENDING
        entry.attempts += 1
        entry.next_at = int(now * 1000)  # while it is sending: when the attempt began
        entry.session = session
        session.entry = entry
        session.committed = None
        self._ledger.mark(entry)
        if (rate := session.site.limits.messages_per_second) > 0:
            session.site.tat = max(session.site.tat, now) + 1.0 / rate
        if session.stage is Stage.IDLE:
            self._start(session, entry, now)

    def _start(self, session: Session, entry: Entry, now: float) -> None:
        assert entry.body is not None
        self._rules.began(entry.body.command, session.source, now)
        session.stage = Stage.TRANSFER
        session.order = self._orders.take(entry.urgent)
        session.sent += 1
        self._out.append(Start(session.number, entry.attempts, entry.body))

    def opened(self, session: Session, now: float) -> None:
        session.site.opening -= 1
        self._slots.opened(session)
        entry = session.entry
        if entry is not None:
            # Connecting took its time: what held when the message was chosen is asked again at the attempt.
            if session.site.shape_at <= now:
                self._shape(session.site, now)
            closed = session.site.held_until > now or self._rules.gate(session.site.lane, now) is not None
            closed = closed or (
                session.site.bounded and self._rules.source_until(session.site.lane, session.source, now) > now
            )
            if self.running and not closed and isinstance(self.verdicts.of(entry, now), Go):
                self._start(session, entry, now)
            else:
                self.abandon(session, now)  # to the front of the queue, where it meets with what keeps it
        if session.entry is None:
            self._rest_idle(session, now)
        self.pump(session.site, now)

    @property
    def composing(self) -> int:
        """Messages with the processes that compose."""
        return self._orders.begun

    def composed(self, numbers: Iterable[int], now: float) -> None:
        for number in numbers:
            if (session := self.sessions.get(number)) is not None:
                self._give_order(session)
        self._feed(now)

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
        self.abandon(session, now)
        self._rest_idle(session, now)
        self.pump(site, now)
        return False

    def release(self, session: Session, boot: float) -> None:
        """Let the dot go if its commit is known and fresh; ask for a fresh commit if it is old."""
        if session.stage is not Stage.READY or session.committed is None:
            return
        if boot - session.committed > DOT_WITHIN:
            self.renew(session)
        else:
            session.stage = Stage.DOT
            self._out.append(Dot(session.number, session.committed + DOT_WITHIN))

    def renew(self, session: Session) -> None:
        """The commit is too old: another owner may have been named since. A new commit tells."""
        assert session.entry is not None
        session.stage = Stage.READY
        session.committed = None
        self._ledger.mark(session.entry)

    def abandon(self, session: Session, now: float) -> None:
        """The attempt ends before its dot: it did not happen."""
        entry = session.entry
        assert entry is not None
        session.entry = None
        self._make_room(session)
        entry.session = None
        entry.phase = Phase.QUEUED
        entry.attempts -= 1
        entry.next_at = int(now * 1000)
        self._ledger.mark(entry)
        entry.site.push_front(entry)

    def free(self, session: Session, now: float, *, keep: bool) -> None:
        """The session's attempt is over."""
        session.entry = None
        self._make_room(session)
        session.committed = None
        site = session.site
        lasts = session.sent < site.limits.messages_per_connection and len(site.sessions) <= site.limits.connections
        if keep and lasts and site.partition.hold is Hold.OWNED:
            self._rest_idle(session, now)
        elif keep:
            self._close(session)
        else:
            self.gone(session)
        self.pump(site, now)
        self._feed(now)

    def _close(self, session: Session) -> None:
        self._out.append(Close(session.number))
        self.gone(session)

    def drop(self, session: Session) -> None:
        self._out.append(Drop(session.number))
        self.gone(session)

    def gone(self, session: Session) -> None:
        site = session.site
        self._make_room(session)
        self.sessions.pop(session.number, None)
        self._slots.gone(session)
        if site.sessions.pop(session.number, None) is not None and session.stage is Stage.OPENING:
            site.opening -= 1
        if self._idle.pop(session.number, None) is not None:
            site.idle.remove(session)

    def _make_room(self, session: Session) -> None:
        self._room.give(session.room)
        session.room = 0
        self._give_order(session)

    def _give_order(self, session: Session) -> None:
        self._orders.give(session.order)
        session.order = 0

    def rest(self, site: Site, now: float) -> None:
        """A failed connection or a 421: nothing new for a while."""
        self._slots.silent(site)
        if site.suspended_until <= now:
            site.failures += 1
            site.suspended_until = now + backoff(site.failures, self._rules.scale)

    def _feed(self, now: float) -> None:
        """There may be room for composing again, or a connection: sites that waited for it, in turn."""
        while (site := self._orders.next()) is not None:
            self.pump(site, now)
        while len(self.sessions) < self._rules.sessions or self._idle:
            site = self._slots.next()
            if site is None:
                return
            self.pump(site, now)
            if site.hungry:
                return  # no connection that is idle may be closed for it, so for nobody else

    # Time

    def tick(self, now: float) -> None:
        self.unpark(self.verdicts.parking.due(now), now)
        while self._wakes and self._wakes[0][0] <= now:
            site = heapq.heappop(self._wakes)[2]
            site.wake_at = 0.0
            self.pump(site, now)
        self._feed(now)

    def sweep(self, partitions: list[Partition], now: float) -> None:
        """Close what has been idle for long, forget sites where nothing is."""
        for session in list(self._idle.values()):
            if now - session.idle_since >= session.site.limits.idle_s:
                self._close(session)
        for partition in partitions:
            for site in [site for site in partition.sites.values() if site.unused(now)]:
                if not site.failures or now - site.suspended_until >= _PER_FAILURE:
                    del partition.sites[site.lane]

    def resume(self, partitions: list[Partition], now: float) -> None:
        self.running = True
        for partition in partitions:
            for site in list(partition.sites.values()):
                self.pump(site, now)
