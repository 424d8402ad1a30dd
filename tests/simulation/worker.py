"""One queue owner in the model world: the real core, driven as its docstring says, with model Kafka and SMTP around it.

Three threads, as in production: the event loop that alone touches the core, the consumer's, the journal's. What a rule
of the journal demands of a driver is a method of its own here, so that `mutations` can break it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from schemas.lanes import MessageQueue
from sinks.smtp.commands import (
    Bodies,
    Close,
    Command,
    Dot,
    Drained,
    Drop,
    Fetch,
    Open,
    Publish,
    Start,
    Transaction,
)
from sinks.smtp.core import Owner
from sinks.smtp.queue import LaneRecord
from sinks.smtp.state import Kind, Phase, Result, State, decode
from tests.simulation.broker import LOST, Connection, Link
from tests.simulation.clients import Change, Consumer, FactProducer, Outcome, Producer
from tests.simulation.group import Metadata
from tests.simulation.kernel import Future, Process, Steps, done
from tests.simulation.log import Record
from tests.simulation.peer import Answer, Behaviour
from tests.simulation.transactions import Refusal

if TYPE_CHECKING:
    from tests.simulation.world import World

LANE: Final = ("lane", "lane.urgent")  # by urgency
STATE: Final = "state"
EPOCH: Final = 1_800_000_000.0  # wall time at which the world begins
DRAIN: Final = 60.0
DOT_TIMEOUT: Final = 100.0
TICK: Final = 1.0
STUCK: Final = 2.0  # a transaction that takes longer: Kafka is away
STEP: Final = done()
Name = tuple[str, int]


class Wire:
    """A session with the peer."""

    __slots__ = ("behaviour", "message", "number", "open", "started")

    def __init__(self, number: int, behaviour: Behaviour) -> None:
        self.number = number
        self.behaviour = behaviour
        self.open = True
        self.message: tuple[str, int] | None = None  # and the attempt's number
        self.started = 0


class Worker:
    transaction_timeout = 10.0
    early = 0.5  # share of transactions whose records leave before their offsets do: the client decides

    def __init__(self, world: World, instance: int, incarnation: int) -> None:
        self.world = world
        self.kernel = world.kernel
        self.broker = world.broker
        self.instance = instance
        self.name = f"w{instance}.{incarnation}"
        self.process = Process(self.name)
        self.link = Link()
        self.skew = world.kernel.random.uniform(-0.5, 0.5)
        self.owner = Owner(world.rules(self.name))
        self.wires: dict[int, Wire] = {}
        self.hung_up: set[int] = set()  # sessions closed, whose last outcome may not be committed
        self._settling: set[int] = set()  # those of them that the transaction under way has the outcomes of
        self.producer = Producer(self.broker, self.link, f"smtp.main.{instance}", self.transaction_timeout)
        self.consumer = Consumer(self.broker, self.link, self.process, self.name, LANE)
        self.publisher = FactProducer(self.broker, self.link, self.process, world.fact)
        self.stopping = False
        self.stopped = False
        self._reader = Connection(self.link)
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = Future()
        self._journal: tuple[Transaction, Metadata] | None = None
        self._journal_wake = Future()
        self._busy = True  # until the producer is initialised
        self._busy_since: float | None = None
        self._handed: Metadata | None = None  # by the consumer's thread
        self._metadata: Metadata | None = None  # as of the newest poll that the loop knows of
        self._terms: dict[int, object] = {}  # a partition's assignment, so that a late restore is told from a new one
        self._drained: dict[int, Future] = {}
        self._deadline: dict[int, float] = {}
        for label, steps in (("loop", self._loop()), ("consumer", self._consume()), ("journal", self._write())):
            self.kernel.spawn(self.process, label, steps)

    # Clocks

    def wall(self) -> float:
        return EPOCH + self.kernel.now + self.skew

    def boot(self) -> float:
        """CLOCK_BOOTTIME: it does not stop with the process."""
        return self.kernel.now

    def note(self, what: str, *details: Any) -> None:
        self.world.note(self.name, what, *details)

    def die(self, why: str) -> None:
        """The process ends; the supervisor starts another."""
        self.world.died(self, why)

    # The event loop: nothing else touches the core

    def post(self, call: Callable[[], None]) -> None:
        self._inbox.append(call)
        self._wake.resolve()

    def _loop(self) -> Steps:
        kernel, due = self.kernel, 0.0
        while not self.stopped:
            if not self._inbox:
                if kernel.now >= due:
                    due = kernel.now + TICK
                    if self._busy_since is not None and kernel.now - self._busy_since > STUCK:
                        self.owner.pause()
                    else:
                        self.owner.resume(self.wall())
                    self.owner.tick(self.wall())
                    self._carry_out()
                self._wake = Future()
                yield kernel.either(self._wake, kernel.sleep(max(0.0, due - kernel.now)))
                continue
            self._inbox.popleft()()
            self._carry_out()
            yield STEP

    def _carry_out(self) -> None:
        while commands := self.owner.take():
            for command in commands:
                self.do(command)
        if not self._busy:
            self._begin()

    def do(self, command: Command) -> None:
        match command:
            case Open(session):
                self._open(session, command.command)
            case Start(session, attempt, message):
                self._start(session, attempt, message)
            case Dot(session, not_after):
                wire = self.wires[session]
                self.post(lambda: self.dot(wire, not_after) if wire.open else None)
            case Drop(session) | Close(session):
                self.hang_up(session)
            case Publish(ticket, facts):
                self._publish(ticket, facts)
            case Fetch(ticket, number, _):
                self.kernel.spawn(self.process, "fetch", self._fetch(command, ticket, number))
            case Drained(number):
                if number in self._drained:
                    self._drained[number].resolve()

    # Sessions

    def _open(self, number: int, message: MessageQueue) -> None:
        wire = self.wires[number] = Wire(number, self.world.behave(message))
        wire.started = int(self.wall() * 1000)
        self.world.peer.connect(wire.behaviour).then(partial(self._hear, wire, self._opened))

    def _opened(self, wire: Wire, answer: Answer) -> None:
        if answer is Answer.GO:
            self.owner.opened(wire.number, self.wall())
            return
        self.hang_up(wire.number)
        result = Result(Kind.DEFERRED, int(self.wall() * 1000), wire.started, stage="connect", worker=self.name)
        self.owner.open_failed(wire.number, result, self.wall())

    def _start(self, number: int, attempt: int, message: MessageQueue) -> None:
        wire = self.wires[number]
        wire.message, wire.started = (message.message_id, attempt), int(self.wall() * 1000)
        wire.behaviour = self.world.behave(message)
        self.world.peer.envelope(wire.behaviour).then(partial(self._hear, wire, self.written))

    def written(self, wire: Wire, answer: Answer) -> None:
        if answer is Answer.GO:
            self.owner.ready(wire.number, self.boot())
        else:
            self._outcome(wire, answer, Kind.DEFERRED, "rcpt" if answer is not Answer.CUT else "body")

    def dot(self, wire: Wire, not_after: float) -> None:
        if not self.in_time(not_after):
            self.post(partial(self.owner.late, wire.number))
            return
        assert wire.message is not None
        self.world.dotted(self, *wire.message)
        answer = self.world.peer.dot(wire.behaviour, *wire.message, self.name)
        either = self.kernel.either(answer, self.kernel.sleep(DOT_TIMEOUT))
        either.then(lambda first: self._hear(wire, self._answered, Answer.CUT if first is not answer else answer.value))

    def in_time(self, not_after: float) -> bool:
        return self.boot() <= not_after

    def _answered(self, wire: Wire, answer: Answer) -> None:
        self._outcome(wire, answer, Kind.UNKNOWN, "dot")

    def _outcome(self, wire: Wire, answer: Answer, cut: Kind, stage: str) -> None:
        kinds = {Answer.ACCEPT: Kind.DELIVERED, Answer.DEFER: Kind.DEFERRED, Answer.BOUNCE: Kind.BOUNCED}
        kind, keep = kinds.get(answer, cut), answer is not Answer.CUT
        reason = "reply_lost" if kind is Kind.UNKNOWN else ""
        result = Result(
            kind, int(self.wall() * 1000), wire.started, code=int(answer.value) if keep else 0, stage=stage,
            reason=reason, worker=self.name, session_id=str(wire.number),
        )  # fmt: skip
        self.note("outcome", self.world.short(wire.message), kind.name, stage)
        if not keep:
            self.hang_up(wire.number)
        self.owner.outcome(wire.number, result, self.wall(), keep=keep)

    def _hear(self, wire: Wire, handle: Callable[[Wire, Answer], None], answer: Answer) -> None:
        if wire.open:
            self.post(lambda: handle(wire, answer) if wire.open else None)

    def hang_up(self, number: int) -> None:
        wire = self.wires.pop(number, None)
        if wire is not None:
            wire.open = False
            self.hung_up.add(number)

    # Facts

    def _publish(self, ticket: int, facts: Iterable[Any]) -> None:
        waiting, good = len(tuple(facts)), [True]

        def on_ack(ok: bool) -> None:
            nonlocal waiting
            waiting -= 1
            good[0] = good[0] and ok
            if waiting == 0:
                self.post(lambda: self.acked(ticket, good[0]))

        for fact in facts:
            self.publisher.publish((self.name, fact), on_ack)

    def acked(self, ticket: int, ok: bool) -> None:
        self.owner.acked(ticket, ok, self.wall())

    # Bodies

    def _fetch(self, command: Fetch, ticket: int, number: int) -> Steps:
        reply: Any = LOST
        while reply is LOST:
            reply = yield self.broker.request(self._reader, self._read_bodies, command, number)
        self.post(lambda: self.owner.bodies(ticket, reply, self.wall()))

    def _read_bodies(self, command: Fetch, number: int) -> Bodies:
        found: Bodies = {}
        for wanted in command.wanted:
            record = self.broker.partitions[LANE[wanted.urgent], number].at(wanted.offset)
            found[wanted.key] = None if record is None else lane_record(wanted.urgent, record)
        return found

    # The journal

    def _begin(self) -> None:
        """Take the next transaction, with the metadata of the assignment that the core now knows."""
        if self._metadata is None:
            return
        transaction = self.owner.transaction(self.wall())
        if transaction is None:
            return
        sending = sum(
            1 for row in transaction.records if row.value is not None and decode(row.value).phase is Phase.SENDING
        )
        self.world.expect(sending <= len(self.wires), self.name, f"{sending} sending, {len(self.wires)} sessions")
        if self.owner.depth.unwritten == 0:
            self._settling = self.hung_up.copy()
        self._busy, self._busy_since = True, self.kernel.now
        self._journal = (transaction, self._metadata)
        self._journal_wake.resolve()

    def _write(self) -> Steps:
        kernel = self.kernel
        yield from self.producer.init()
        self._busy = False
        self.post(lambda: None)
        while not self.stopped:
            if self._journal is None:
                self._journal_wake = Future()
                yield self._journal_wake
                continue
            transaction, metadata = self._journal
            self._journal = None
            yield kernel.sleep(0.05 * kernel.random.random())
            boot = self.boot()  # before the commit is asked for
            outcome = yield from self.write(transaction, metadata)
            for _ in range(20):
                if outcome is not Outcome.TIMED_OUT:
                    break
                # Nobody knows whether it is committed: only the same call again tells.
                outcome = yield from self.in_doubt()
            match outcome:
                case Outcome.OK:
                    self.post(partial(self._landed, self.committed, transaction, boot))
                case Outcome.ABORT:
                    ended = yield from self.producer.abort()
                    if ended is not Outcome.OK:
                        self.die(f"abort: {ended.value}")
                        return
                    self.post(partial(self._landed, self.aborted, transaction, boot))
                case _:
                    self.die(f"commit: {outcome.value}")
                    return

    def write(self, transaction: Transaction, metadata: Metadata) -> Steps:
        random, producer = self.kernel.random, self.producer
        producer.begin()
        for row in transaction.records:
            producer.produce((STATE, row.partition), row.key, row.value)
        for move in transaction.moves:
            producer.produce((LANE[move.urgent], move.partition), move.lane, move.command)
        if random.random() < self.early:
            flushed = yield from producer.flush()
            if flushed is not Outcome.OK:
                return flushed
        offered = yield from self.offer(transaction, metadata)
        if offered is not Outcome.OK:
            return offered
        if random.random() < self.world.spurious_aborts:
            return Outcome.ABORT
        return (yield from producer.commit(self.world.commit_timeout))

    def offer(self, transaction: Transaction, metadata: Metadata) -> Steps:
        offsets = {(LANE[row.urgent], row.partition): row.offset for row in transaction.offsets}
        return (yield from self.producer.send_offsets(offsets, metadata))

    def in_doubt(self) -> Steps:
        return (yield from self.producer.commit(self.world.commit_timeout))

    def _landed(self, tell: Callable[[Transaction, float], None], transaction: Transaction, boot: float) -> None:
        self._busy, self._busy_since = False, None
        tell(transaction, boot)

    def committed(self, transaction: Transaction, boot: float) -> None:
        self.hung_up -= self._settling
        self.owner.committed(transaction.number, boot, self.wall())

    def aborted(self, transaction: Transaction, boot: float) -> None:
        self.note("aborted", transaction.number)
        self.owner.aborted(transaction.number, self.wall())

    # The consumer

    def _consume(self) -> Steps:
        consumer, limit = self.consumer, 0.0
        while not self.stopped:
            if self.stopping:
                if not limit:
                    # Drained before it leaves, and polling all the while: a closing client sends no heartbeats.
                    limit = self.kernel.now + DRAIN
                    for number in sorted(self._terms):
                        self._drain(number)
                if self.kernel.now >= limit or all(drained.done for drained in self._drained.values()):
                    yield from self._leave()
                    return
            found = yield from consumer.poll(0.5 if limit else 2.0, 50)
            if isinstance(found, Change):
                self.note(found.kind, *sorted(found.partitions))
                match found.kind:
                    case "assigned" if not limit:
                        for number in sorted(found.partitions):
                            term = self._terms[number] = object()
                            self.kernel.spawn(self.process, "restore", self._restore(number, term))
                    case "revoked":
                        yield from self._revoked(found.partitions)
                    case "lost":
                        self.lost(found)
                consumer.done(found)
            elif found:
                self._take_in(found)
            # On this thread, after the callbacks of this poll: so never newer than what the core has been told.
            self._hand_over(consumer.metadata())

    def _leave(self) -> Steps:
        everything = frozenset(self._terms)
        yield from self._revoked(everything)
        self.consumer.done(Change("revoked", everything))
        yield from self.consumer.leave()
        self.stopped = True
        self.world.left(self)

    def _hand_over(self, metadata: Metadata) -> None:
        if metadata != self._handed:
            self._handed = metadata
            self.post(partial(self._learn, metadata))

    def _learn(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def _take_in(self, found: list[tuple[Name, Record]]) -> None:
        batches: dict[int, list[LaneRecord]] = {}
        for (topic, number), record in found:
            batches.setdefault(number, []).append(lane_record(topic == LANE[1], record))
        for number, records in batches.items():
            self.post(partial(self._intake, number, self._terms.get(number), records))

    def _intake(self, number: int, term: object, records: list[LaneRecord]) -> None:
        if self._terms.get(number) is term:
            self.owner.intake(number, records, self.wall())

    def lost(self, change: Change) -> None:
        for number in sorted(change.partitions):
            self._drained.pop(number, None)
            if self._terms.pop(number, None) is not None:
                self.world.troubled(self, "lost")
                self.post(partial(self.owner.lost, number))

    def _drain(self, number: int) -> None:
        """Ask for it once in an assignment."""
        if number not in self._drained:
            self._drained[number] = Future()
            self._deadline[number] = self.kernel.now + DRAIN
            self.post(partial(self._revoke, number))

    def _revoked(self, partitions: frozenset[int]) -> Steps:
        kernel, numbers = self.kernel, sorted(number for number in partitions if number in self._terms)
        for number in numbers:
            self._drain(number)
        for number in numbers:
            drained, left = self._drained[number], max(0.0, self._deadline[number] - kernel.now)
            yield kernel.either(drained, kernel.sleep(left))
            if not drained.done:
                self.world.troubled(self, "drain limit")
        told = Future()
        for number in numbers:
            self._terms.pop(number)
            self._drained.pop(number)
            self.post(partial(self.owner.lost, number))
        self.post(told.resolve)
        yield told

    def _revoke(self, number: int) -> None:
        if number in self.owner.partitions:
            self.owner.revoke(number, self.wall())
        elif number in self._drained:
            self._drained[number].resolve()  # still being restored

    # Restore

    def _restore(self, number: int, term: object) -> Steps:
        offsets = yield from self.ask(self.committed_offsets, number)
        end = yield from self.ask(self.end, number)
        states: dict[bytes, bytes] = {}
        position = 0
        while position < end:
            records, position = yield from self.ask(self._read_state, number, position)
            for record in records:
                if record.value is None:
                    states.pop(record.key, None)
                else:
                    states[record.key] = record.value
            if position < end:
                yield self.kernel.sleep(0.1)  # a transaction is open below the end
        found = self.restored([(key, decode(value)) for key, value in states.items()])
        positions = {urgent: offsets.get((LANE[urgent], number), 0) for urgent in (False, True)}
        self.post(partial(self._assigned, number, term, found, positions))

    def _assigned(
        self, number: int, term: object, states: list[tuple[bytes, State]], positions: dict[bool, int]
    ) -> None:
        if self._terms.get(number) is not term or self._drained.get(number) is not None:
            return  # taken away in the meantime
        self.note("restored", number, len(states), positions[False], positions[True])
        self.owner.assigned(number, states, positions, self.wall())
        for urgent, position in positions.items():
            self.consumer.positions[LANE[urgent], number] = position

    def restored(self, states: list[tuple[bytes, State]]) -> list[tuple[bytes, State]]:
        return states

    def committed_offsets(self, number: int) -> dict[Name, int] | Refusal:
        names = [(topic, number) for topic in LANE]
        group = self.broker.group
        if not group.stable(names):
            return Refusal.UNSTABLE
        return {name: group.committed[name] for name in names if name in group.committed}

    def end(self, number: int) -> int:
        """ListOffsets, read_uncommitted."""
        return self.broker.partitions[STATE, number].end

    def _read_state(self, number: int, position: int) -> tuple[list[Record], int]:
        return self.broker.partitions[STATE, number].read(position)

    def ask(self, handle: Callable[..., Any], *args: Any) -> Steps:
        while True:
            reply = yield self.broker.request(self._reader, handle, *args)
            if reply is not LOST and reply is not Refusal.UNSTABLE:
                return reply
            yield self.kernel.sleep(0.05)


def lane_record(urgent: bool, record: Record) -> LaneRecord:
    return LaneRecord(urgent, record.offset, record.key, record.value, 700)
