"""The queue owner: what becomes of every message of the partitions it owns. Pure: time comes in, commands come out.

Owner is the one door; ledger.py (states, transactions, facts), dispatch.py (what goes next), sessions.py (connections),
attempts.py (messages on them), admission.py (what comes in) and cache.py (bodies) are its rooms. Kafka, SMTP, clocks
and threads are the driver's: agent.py, or a simulation.

How to drive it
---------------
One thread. `now` is wall time (seconds since the epoch) and orders schedules; `boot` is CLOCK_BOOTTIME (it counts
while the machine sleeps or the process is stopped) and guards the final dot. After any call, carry out `take()`, in
order.

    assigned(partition, states, positions, now)  after a restore as topics/store.py does it. positions: the committed,
                                    or first, offset of both lanes, by urgency
    intake(partition, records, now) records of its lanes, each lane's in order; not before `assigned`
    skipped(partition, urgent, offset)  a lane record that cannot be read went to the dead letters
    transaction(now)                the next one or None; then write it, and call exactly one of
    committed(number, boot, now)    boot: taken *before* the commit was asked for
    aborted(number, now)            not committed for sure. If that is in doubt, the process must end
    opened / open_failed / reroute / composed / still / ready / outcome / late / closed
                                    what sessions report, by the numbers of `Open`. What a session reports that the core
                                    has dropped or closed is ignored
    acked(ticket, ok, now)          the facts of a Publish
    bodies(ticket, found, now)      the answer to a Fetch, exactly once for each, lost partitions' too
    tick(now)                       ten times a second or more
    pause() / resume(now)           no attempt may start (Kafka is away, a view is old) / may start again
    unpark(keys, now)               what `Rules` parked under these is asked about again
    review(now)                     `Rules.reviews` changed: also messages whose turn is far are asked about
    reshape(now)                    the answers of Rules.limits or Rules.shape are others
    revoke(partition, now)          no new attempt; `Drained` follows when the last dot is answered, and that written
    lost(partition)                 forget it: at once on a loss, after Drained, or when the drain took too long

A message is `sending` from the moment it is given to a connection, which may still be opening: at most one per
connection. Its dot leaves (`Dot`) only when a transaction that wrote this `sending` is committed, and within 10 s of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from schemas.lanes import MessageQueue
from sinks.smtp.admission import Admission
from sinks.smtp.attempts import Attempts
from sinks.smtp.cache import Cache
from sinks.smtp.commands import Bodies, Command, Drained, Rules, Transaction
from sinks.smtp.dispatch import Dispatch
from sinks.smtp.ledger import Ledger
from sinks.smtp.queue import Entry, Hold, LaneRecord, Partition, Relaned, Session, Site, Stage, Wakes
from sinks.smtp.review import Review
from sinks.smtp.sessions import Sessions
from sinks.smtp.state import Kind, Phase, Result, State, key_of
from sinks.smtp.verdicts import Verdicts

_SWEEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Depth:
    """A snapshot for metrics."""

    messages: int  # queued, sending, or ended with facts owed
    sending: int
    composing: int
    owed: int  # messages whose facts are on their way
    marks: int
    sessions: int
    unwritten: int
    cached_bytes: int
    parked: int


class Owner:
    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()
        self._out: list[Command] = []
        self._partitions: dict[int, Partition] = {}
        self._ledger = Ledger(self._rules, self._out)
        self._cache = Cache(self._rules.cache_bytes, self._out)
        self._verdicts = Verdicts(self._rules, self._ledger, self._cache)
        wakes = Wakes()
        self._sessions = Sessions(self._rules, self._out, wakes)
        self._attempts = Attempts(self._rules, self._out, self._ledger)
        self._dispatch = Dispatch(self._rules, self._cache, self._verdicts, self._sessions, self._attempts, wakes)
        self._admission = Admission(self._rules, self._ledger, self._cache, self._verdicts, self._dispatch)
        self._review = Review(self._rules, self._cache, self._verdicts)
        self._swept = 0.0

    def take(self) -> list[Command]:
        """The commands since the last call."""
        out = self._out.copy()
        self._out.clear()
        return out

    # Partitions

    def assigned(
        self, number: int, states: Iterable[tuple[bytes, State]], positions: dict[bool, int], now: float
    ) -> None:
        if number in self._partitions:
            raise ValueError(f"partition {number} is owned already")
        partition = self._partitions[number] = Partition(number, dict(positions))
        self._admission.restore(partition, states, now)
        if any(self._rules.reviews(lane, now) for lane in partition.sites):
            self._review.start(partition, now)

    def revoke(self, number: int, now: float) -> None:
        partition = self._partitions.get(number)
        if partition is None or partition.hold is not Hold.OWNED:
            return
        partition.hold = Hold.DRAINING
        for session in self._of(partition):
            if session.stage is not Stage.DOT:
                # Whoever owns the partition next begins again: the peer has no dot, so it has no message.
                if session.entry is not None:
                    self._attempts.abandon(session, now)
                self._sessions.drop(session)
        self._check_drained(partition)

    def lost(self, number: int) -> None:
        partition = self._partitions.pop(number, None)
        if partition is None:
            return
        partition.hold = Hold.GONE
        for session in self._of(partition):
            self._attempts.over(session)
            self._sessions.drop(session)
        for entry in partition.entries.values():
            self._cache.free(entry)
        self._verdicts.parking.forget(partition)
        self._review.stop(partition)

    @property
    def partitions(self) -> tuple[int, ...]:
        return tuple(self._partitions)

    def _of(self, partition: Partition) -> list[Session]:
        return [session for session in self._sessions.by_number.values() if session.site.partition is partition]

    def _check_drained(self, partition: Partition) -> None:
        if partition.hold is Hold.DRAINING and not self._of(partition) and not self._ledger.waits_for(partition):
            partition.hold = Hold.DRAINED
            self._out.append(Drained(partition.number))

    # Intake

    def intake(self, number: int, records: Sequence[LaneRecord], now: float) -> None:
        partition = self._partitions.get(number)
        if partition is None or partition.hold is not Hold.OWNED:
            return
        self._admission.take_in(partition, records, now)

    def skipped(self, number: int, urgent: bool, offset: int) -> None:
        """The lane record at `offset` cannot be read and is dead-lettered: go past it."""
        partition = self._partitions.get(number)
        if partition is not None and partition.hold is Hold.OWNED:
            partition.positions[urgent] = max(partition.positions[urgent], offset + 1)
            partition.touched = True

    def bodies(self, ticket: int, found: Bodies, now: float) -> None:
        if not self._review.bodies(ticket, found, now):
            self._admission.bodies(ticket, found, now)

    # Transactions and facts

    def transaction(self, now: float) -> Transaction | None:
        return self._ledger.take(list(self._partitions.values()))

    def committed(self, number: int, boot: float, now: float) -> None:
        for session in self._ledger.committed(number, boot, now):
            # `boot` is when the commit began: a stop of the process during the commit counts.
            self._attempts.release(session, session.committed if session.committed is not None else boot)
        bodiless, self._ledger.bodiless = self._ledger.bodiless, []
        for partition in self._partitions.values():
            self._check_drained(partition)
            if waiting := [entry for entry in bodiless if entry.site.partition is partition]:
                self._cache.restore(partition, waiting)

    def aborted(self, number: int, now: float) -> None:
        self._ledger.aborted(number)

    def acked(self, ticket: int, ok: bool, now: float) -> None:
        entry = self._ledger.acked(ticket, ok)
        if entry is None:
            return
        # Also of one that may go on at once: what stands for a body that is gone must not be sent.
        self._cache.free(entry)
        if entry.phase is Phase.QUEUED and (site := self._dispatch.schedule(entry, now)) is not None:
            self._dispatch.pump(site, now)

    # Sessions

    def opened(self, number: int, now: float, source: str = "") -> None:
        """`source`: the name of what it leaves from, where it has one."""
        if (session := self._sessions.by_number.get(number)) is not None and session.stage is Stage.OPENING:
            session.source = source
            self._dispatch.opened(session, now)

    def open_failed(self, number: int, result: Result, now: float, *, rest: bool = True) -> None:
        """`rest`: the site refused or did not answer, so nothing new goes there for a while."""
        session = self._sessions.by_number.get(number)
        if session is None or session.stage is not Stage.OPENING:
            return
        entry = session.entry
        assert entry is not None
        self._over(session, entry, result, now, keep=False, rest=rest)

    def composed(self, numbers: Iterable[int], now: float) -> None:
        """The messages of these sessions have left the processes that compose."""
        for number in numbers:
            if (session := self._sessions.by_number.get(number)) is not None:
                self._attempts.composed(session)
        self._dispatch.feed(now)

    def still(self, number: int, now: float) -> bool:
        """The mail is composed, and may have waited for that: whether its attempt may go on, and MAIL be said. If not,
        there was none, and the session is idle.
        """
        session = self._sessions.by_number.get(number)
        if session is None or session.stage is not Stage.TRANSFER or session.entry is None:
            return False
        return self._dispatch.still(session, now)

    def ready(self, number: int, boot: float) -> None:
        """All but the dot is written (and flushed: bytes kept in a buffer could leave much later)."""
        session = self._sessions.by_number.get(number)
        if session is not None and session.stage is Stage.TRANSFER:
            session.stage = Stage.READY
            self._attempts.release(session, boot)

    def late(self, number: int) -> None:
        """The dot was not written: `not_after` had passed."""
        session = self._sessions.by_number.get(number)
        if session is not None and session.stage is Stage.DOT:
            self._attempts.renew(session)

    def outcome(self, number: int, result: Result, now: float, *, keep: bool, rest: bool = False) -> None:
        """What became of the attempt. `keep`: the session can take another message. `rest`: as for `open_failed`."""
        session = self._sessions.by_number.get(number)
        if session is not None and session.entry is not None and session.stage is not Stage.OPENING:
            self._over(session, session.entry, result, now, keep=keep, rest=rest)

    def closed(self, number: int, now: float) -> None:
        """The connection is gone, without an attempt on it (with one, say `outcome` instead)."""
        session = self._sessions.by_number.get(number)
        if session is None:
            return
        if session.entry is not None and session.stage is not Stage.DOT:
            self._attempts.abandon(session, now)
        elif session.entry is not None:
            self._ledger.settle(session.entry, self._admission.doubt(session.entry, "reply_lost", now), now)
        self._free(session, now, keep=False)

    def _over(self, session: Session, entry: Entry, result: Result, now: float, *, keep: bool, rest: bool) -> None:
        if not result.started_at and result.kind is not Kind.UNKNOWN:
            entry.attempts -= 1  # a local cause: no attempt was made
        if rest:
            self._sessions.silent(session.site, now)
        elif result.kind is Kind.DELIVERED:
            session.site.failures = 0
        self._ledger.settle(entry, result, now)
        self._free(session, now, keep=keep)

    def _free(self, session: Session, now: float, *, keep: bool) -> None:
        self._attempts.over(session)
        if keep:
            self._sessions.keep_or_close(session, now)
        else:
            self._sessions.gone(session)
        self._dispatch.pump(session.site, now)
        self._dispatch.feed(now)
        self._check_drained(session.site.partition)

    # Control

    def reroute(self, number: int, to: Callable[[MessageQueue], Relaned | None], now: float) -> bool:
        """The message for which session `number` is being opened belongs to another lane, as `to` says (None: not).

        It moves, with all that waits beside it and belongs elsewhere too; the session is gone, without a `Drop`. False
        when nothing has changed.
        """
        session = self._sessions.by_number.get(number)
        if session is None or session.stage is not Stage.OPENING or session.entry is None:
            return False
        entry, site = session.entry, session.site
        target = to(entry.body.command) if entry.body is not None else None
        if target is None or site.partition.hold is not Hold.OWNED:
            return False
        self._attempts.abandon(session, now)
        self._sessions.gone(session)
        self._verdicts.move(entry, target)
        for other in (*site.ready_urgent, *site.ready):
            if other.phase is not Phase.QUEUED or other.body is None:
                continue  # it has ended; or its turn, and with it this question, comes later
            if (target := to(other.body.command)) is not None:
                self._verdicts.move(other, target)
        self._dispatch.pump(site, now)
        return True

    def relane(self, message_id: str, to: Relaned, now: float) -> bool:
        """Move a waiting message to another lane: `moved` here and `message.queue` there, in one transaction.

        What it has been through goes with it: where it stood and its attempts. False when it is not one of ours, or is
        being sent.
        """
        key = key_of(message_id)
        for partition in self._partitions.values():
            entry = partition.entries.get(key)
            if entry is None or entry.phase is not Phase.QUEUED or entry.result is not None:
                continue
            if partition.hold is not Hold.OWNED:
                continue
            self._verdicts.move(entry, to)
            return True
        return False

    def unpark(self, keys: Iterable[str], now: float) -> None:
        """What is parked under these keys may be tried, if nothing else keeps it."""
        self._dispatch.unpark(keys, now)

    def review(self, now: float) -> None:
        """Look also at messages that wait for their time: those that are to move or to end do so now, in batches."""
        for partition in self._partitions.values():
            self._review.start(partition, now)

    def pause(self) -> None:
        self._dispatch.running = False

    def resume(self, now: float) -> None:
        if not self._dispatch.running:
            self._dispatch.resume(list(self._partitions.values()), now)

    def reshape(self, now: float) -> None:
        self._dispatch.reshape(list(self._partitions.values()), now)

    def tick(self, now: float) -> None:
        self._ledger.republish()
        for partition in self._partitions.values():
            if partition.hold is Hold.OWNED:
                self._tick(partition, now)
        self._dispatch.tick(now)
        if self._dispatch.running:
            self._review.tick(now)
        if now - self._swept >= _SWEEP_S:
            self._swept = now
            self._sessions.sweep(now)
            self._dispatch.forget(list(self._partitions.values()), now)

    def _tick(self, partition: Partition, now: float) -> None:
        sites: dict[str, Site] = {}
        for entry in partition.due.due(now):
            if entry.phase is Phase.QUEUED and (site := self._dispatch.schedule(entry, now)) is not None:
                sites[site.lane] = site
        for entry in partition.expiry.due(now):
            if entry.phase is Phase.QUEUED and entry.result is None:
                self._ledger.settle(entry, Result(Kind.EXPIRED, int(now * 1000)), now)
            elif entry.phase <= Phase.SENDING:
                partition.expiry.add(now, entry)  # under way: look again
        for key in partition.windows.due(now):
            if key in partition.marks:
                partition.dirty[key] = None
        for site in sites.values():
            self._dispatch.pump(site, now)

    @property
    def unwritten(self) -> int:
        """How much waits for a transaction: about its number of records."""
        return sum(len(each.dirty) + len(each.moved) + each.touched for each in self._partitions.values())

    @property
    def depth(self) -> Depth:
        owned = self._partitions.values()
        return Depth(
            messages=sum(len(partition.entries) for partition in owned),
            sending=sum(session.entry is not None for session in self._sessions.by_number.values()),
            composing=self._attempts.orders.begun,
            owed=self._ledger.owed,
            marks=sum(len(partition.marks) for partition in owned),
            sessions=len(self._sessions.by_number),
            unwritten=self.unwritten,
            cached_bytes=self._cache.used,
            parked=len(self._verdicts.parking),
        )
