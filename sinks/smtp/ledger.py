"""What is written of each message, what of it is committed, and which facts are owed. Pure; part of the queue owner's
core.

Order, and why: the state is committed, then its facts go out, then the state that forgets them is written. A crash
between any two repeats facts with the same ids and loses none. After an abort the same records, at their newest, are
in the next transaction: nothing is forgotten, and no reader has to seek.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.envelope import MailEvent
from sinks.smtp import facts
from sinks.smtp.commands import Command, Offset, Publish, Record, Rules, Transaction, Written
from sinks.smtp.policy import retry_wait
from sinks.smtp.queue import Entry, Hold, LaneRecord, Partition, Relaned, Session
from sinks.smtp.state import Kind, Phase, Result, encode


@dataclass(frozen=True, slots=True)
class _Repeat:
    partition: Partition
    urgent: bool
    offset: int


class Ledger:
    def __init__(self, rules: Rules, out: list[Command]) -> None:
        self.bodiless: list[Entry] = []  # their facts wait for the body: the core asks for it
        self._rules = rules
        self._out = out
        self._number = 0
        self._flight: Transaction | None = None
        self._taken: list[Partition] = []  # in the newest transaction
        self._moves: list[tuple[Partition, Relaned]] = []  # in it
        self._turn = 0
        self._tickets: dict[int, tuple[Entry | _Repeat, Publish]] = {}
        self._ticket = 0
        self._failed: list[tuple[Entry | _Repeat, Publish]] = []

    def mark(self, entry: Entry) -> None:
        """The entry's state changed: it is in the next transaction."""
        entry.site.partition.dirty[entry.key] = entry

    def settle(self, entry: Entry, result: Result, now: float) -> None:
        """Apply what became of a message that was queued or sending."""
        entry.session = None
        match result.kind:
            case Kind.DEFERRED:
                next_at = now + self._wait(entry)
                if next_at > entry.expires_at:
                    # No attempt fits in before the deadline: it ends now, with the reply that decided it.
                    result = result._replace(kind=Kind.EXPIRED)
            case Kind.HELD:
                next_at = now + self._wait(entry)
            case Kind.UNKNOWN:
                next_at = now + self._wait(entry)
                if not self._resends(entry) or next_at > entry.expires_at:
                    next_at = 0.0
            case _:
                next_at = 0.0
        if result.kind in (Kind.DEFERRED, Kind.HELD) or (result.kind is Kind.UNKNOWN and next_at):
            entry.phase = Phase.QUEUED
            entry.next_at = int(next_at * 1000)
        else:
            entry.phase = Phase.ENDED
        entry.result = result
        self.mark(entry)

    def _wait(self, entry: Entry) -> float:
        assert entry.body is not None
        return retry_wait(entry.body.command.stream, max(1, entry.attempts), entry.key, self._rules.scale)

    def _resends(self, entry: Entry) -> bool:
        assert entry.body is not None
        return self._rules.policy(entry.body.command).on_doubt == "resend"

    # Transactions

    @property
    def in_flight(self) -> bool:
        return self._flight is not None

    def take(self, partitions: Sequence[Partition]) -> Transaction | None:
        """The next transaction, or None when nothing waits or one is under way.

        A partition goes in whole: its offsets say that all it has taken in is written.
        """
        if self._flight is not None or not partitions:
            return None
        records: list[Record] = []
        offsets: list[Offset] = []
        written: list[Written] = []
        self._taken, self._moves = [], []
        self._turn = (self._turn + 1) % len(partitions)
        for partition in (*partitions[self._turn :], *partitions[: self._turn]):
            if not (partition.dirty or partition.moved or partition.touched):
                continue
            for key, entry in partition.dirty.items():
                if entry is None:
                    records.append(Record(partition.number, key, None))
                    written.append(Written(partition, key, None, None, None))
                else:
                    records.append(Record(partition.number, key, encode(entry.state())))
                    written.append(Written(partition, key, entry.phase, entry.result, entry.session))
            partition.dirty = {}
            self._moves += [(partition, moved) for moved in partition.moved]
            partition.moved = []
            partition.touched = False
            self._taken.append(partition)
            offsets += [Offset(partition.number, urgent, partition.offset(urgent)) for urgent in (False, True)]
            if len(records) >= self._rules.batch:
                break
        if not offsets:
            return None
        self._number += 1
        moves = tuple(moved for _, moved in self._moves)
        self._flight = Transaction(self._number, tuple(records), tuple(offsets), moves, tuple(written))
        return self._flight

    def committed(self, number: int, boot: float, now: float) -> list[Session]:
        """The transaction is in the log; its commit began at `boot`. Returns the sessions whose `sending` it holds."""
        flight = self._landed(number)
        known: list[Session] = []
        for item in flight.written:
            partition, key = item.partition, item.key
            if partition.hold is Hold.GONE:
                continue
            match item.phase:
                case None:
                    partition.marks.pop(key, None)
                case Phase.DONE | Phase.MOVED:
                    entry = partition.entries.get(key)
                    if entry is None or entry.phase is not item.phase:
                        continue  # it moved away and is back already
                    del partition.entries[key]
                    partition.marks[key] = entry.offset << 1 | (item.phase is Phase.MOVED)
                    partition.windows.add(entry.keep_until, key)
                case Phase.SENDING:
                    session = item.session
                    if (
                        session is not None
                        and session.entry is not None
                        and session.entry.key == key
                        and key not in partition.dirty  # else it waits for a newer commit
                    ):
                        session.committed = boot
                        known.append(session)
                case Phase.QUEUED | Phase.ENDED if item.result is not None:
                    owing = partition.entries.get(key)
                    if owing is not None and owing.result is item.result:
                        self.publish(owing)
        return known

    def aborted(self, number: int) -> None:
        """The transaction is not in the log. All it held is written again, as it is then."""
        flight = self._landed(number)
        for partition, moved in self._moves:
            partition.moved.append(moved)
        for partition in self._taken:
            partition.touched = True
        for item in flight.written:
            if item.phase is None:
                item.partition.dirty.setdefault(item.key, None)
            elif (entry := item.partition.entries.get(item.key)) is not None:
                item.partition.dirty.setdefault(item.key, entry)

    def waits_for(self, partition: Partition) -> bool:
        """Whether something of the partition is not committed yet."""
        unwritten = bool(partition.dirty or partition.moved)
        return unwritten or (self._flight is not None and partition in self._taken)

    def _landed(self, number: int) -> Transaction:
        flight = self._flight
        if flight is None or flight.number != number:
            raise ValueError(f"transaction {number} is not the one in flight")
        self._flight = None
        return flight

    # Facts

    def publish(self, entry: Entry) -> None:
        """Send the facts that the committed state owes, or say in `bodiless` that they need the body."""
        if entry.body is None:
            self.bodiless.append(entry)
            return
        entry.ticket = self._send(entry, facts.owed(entry.body.command, entry.state()))

    def repeat(self, partition: Partition, record: LaneRecord, now: float) -> None:
        """The record repeats a message that another one brought: dropped, with a fact before its offset is
        committed.
        """
        position = f"{self._rules.lanes[record.urgent]}:{partition.number}:{record.offset}"
        partition.repeats[record.urgent].add(record.offset)
        self._send(_Repeat(partition, record.urgent, record.offset), (facts.repeat(record.command, position, now),))

    def acked(self, ticket: int, ok: bool) -> Entry | None:
        """The facts of `ticket` are in Kafka, or one failed (then all go again). Returns the message that may go on."""
        found = self._tickets.pop(ticket, None)
        if found is None or self._partition(found[0]).hold is Hold.GONE:
            return None
        if not ok:
            self._failed.append(found)
            return None
        thing = found[0]
        if isinstance(thing, _Repeat):
            thing.partition.repeats[thing.urgent].discard(thing.offset)
            thing.partition.touched = True
            return None
        thing.ticket = 0
        thing.result = None
        if thing.phase is Phase.ENDED:
            thing.phase = Phase.DONE
        self.mark(thing)
        return thing

    def republish(self) -> None:
        """Send again what could not be written. Called at every tick, so a failing broker is asked no more often."""
        failed, self._failed = self._failed, []
        for thing, publish in failed:
            if self._partition(thing).hold is not Hold.GONE:
                self._tickets[publish.ticket] = (thing, publish)
                self._out.append(publish)

    @property
    def owed(self) -> int:
        """Messages and repeats whose facts are on their way."""
        return len(self._tickets) + len(self._failed)

    def _send(self, thing: Entry | _Repeat, found: tuple[MailEvent, ...]) -> int:
        self._ticket += 1
        publish = Publish(self._ticket, found)
        self._tickets[self._ticket] = (thing, publish)
        self._out.append(publish)
        return self._ticket

    @staticmethod
    def _partition(thing: Entry | _Repeat) -> Partition:
        return thing.partition if isinstance(thing, _Repeat) else thing.site.partition
