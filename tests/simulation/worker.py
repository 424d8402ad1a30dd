"""One queue owner in the model world: the real core, driven as its docstring says, with model Kafka and SMTP around it.

Three threads, as in production: the event loop that alone touches the core, the consumer's, the journal's. What a rule
of the journal demands of a driver is a method of its own here, so that `mutations` can break it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

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
from sinks.smtp.state import Phase, decode
from tests.simulation.broker import LOST
from tests.simulation.clients import Outcome
from tests.simulation.group import Metadata
from tests.simulation.host import LANE, STATE, lane_record
from tests.simulation.kernel import Future, Steps, done
from tests.simulation.membership import Membership

if TYPE_CHECKING:
    from tests.simulation.world import World

TICK: Final = 1.0
STUCK: Final = 2.0  # a transaction that takes longer: Kafka is away
STEP: Final = done()


class Worker(Membership):
    def __init__(self, world: World, instance: int, incarnation: int) -> None:
        super().__init__(world, instance, incarnation)
        for label, steps in (("loop", self._loop()), ("consumer", self._consume()), ("journal", self._write())):
            self.kernel.spawn(self.process, label, steps)

    # The event loop: nothing else touches the core

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
            case Start(session, attempt, record):
                self.world.operator.attempted(self, record.command)
                self._start(session, attempt, record.command)
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
