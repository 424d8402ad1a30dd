"""Kafka clients as librdkafka offers them: a transactional producer, a group consumer, an idempotent producer.

They retry what librdkafka retries; what it hands to the application, they hand to the driver.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from tests.simulation.broker import LOST, Broker, Connection, Link
from tests.simulation.group import Metadata
from tests.simulation.kernel import Future, Process, Steps
from tests.simulation.log import Record, Rows
from tests.simulation.transactions import Refusal

Name = tuple[str, int]


class Outcome(Enum):
    OK = "ok"
    TIMED_OUT = "timed out"  # retriable: ask again, with the same call
    ABORT = "abort"  # the transaction must be aborted
    FATAL = "fatal"  # this producer can do nothing any more


class Producer:
    """The transactional producer. Each method is a step of the journal's thread; none may overlap another."""

    def __init__(self, broker: Broker, link: Link, transactional_id: str, timeout: float = 10.0) -> None:
        self._broker = broker
        self._connection = Connection(link)
        self._id = transactional_id
        self._timeout = timeout
        self._epoch = -1
        self._sequence = 0
        self._rows: dict[Name, Rows] = {}

    def init(self) -> Steps:
        reply = yield from self._ask(self._broker.coordinator.init, self._id, self._timeout)
        _, self._epoch = reply

    def begin(self) -> None:
        self._rows = {}

    def produce(self, partition: Name, key: Any, value: Any) -> None:
        self._rows.setdefault(partition, []).append((key, value))

    def flush(self) -> Steps:
        if not self._rows:
            return Outcome.OK
        rows, self._rows = self._rows, {}
        self._sequence += 1
        refusal = yield from self._ask(
            self._broker.coordinator.write, self._id, self._epoch, self._sequence, rows
        )  # fmt: skip
        return _outcome(refusal)

    def send_offsets(self, offsets: dict[Name, int], metadata: Metadata) -> Steps:
        broker = self._broker
        refusal = yield from self._ask(
            broker.coordinator.add_offsets, self._id, self._epoch, broker.group, metadata, offsets
        )
        return _outcome(refusal)

    def commit(self, timeout: float) -> Steps:
        """TIMED_OUT leaves it open whether the broker has committed: only the same call again tells."""
        flushed = yield from self.flush()
        if flushed is not Outcome.OK:
            return flushed
        return (yield from self._end(True, timeout))

    def abort(self, timeout: float = 30.0) -> Steps:
        self._rows = {}
        return (yield from self._end(False, timeout))

    def _end(self, commit: bool, timeout: float) -> Steps:
        deadline = self._broker.kernel.now + timeout
        refusal = yield from self._ask(
            self._broker.coordinator.end, self._id, self._epoch, commit, deadline=deadline
        )  # fmt: skip
        if refusal is Refusal.EMPTY and not commit:
            return Outcome.OK  # nothing had reached the broker
        return _outcome(refusal)

    def _ask(self, handle: Callable[..., Any], *args: Any, deadline: float | None = None) -> Steps:
        kernel = self._broker.kernel
        while True:
            reply = yield self._broker.request(self._connection, handle, *args)
            if reply is not LOST and reply is not Refusal.CONCURRENT:
                return reply
            if deadline is not None and kernel.now >= deadline:
                return LOST
            if reply is Refusal.CONCURRENT:
                yield kernel.sleep(0.02 + 0.08 * kernel.random.random())


def _outcome(reply: Any) -> Outcome:
    if reply is None:
        return Outcome.OK
    if reply is LOST:
        return Outcome.TIMED_OUT
    return Outcome.ABORT if reply is Refusal.MEMBER else Outcome.FATAL


@dataclass(frozen=True, slots=True)
class Change:
    """A rebalance callback; `partitions` are lane partitions. Until the driver says `done`, nothing more comes."""

    kind: Literal["assigned", "revoked", "lost"]
    partitions: frozenset[int]


class Consumer:
    """The group consumer: heartbeats in the background, callbacks and records by `poll` on the consumer's thread."""

    def __init__(self, broker: Broker, link: Link, process: Process, member: str, topics: tuple[str, ...]) -> None:
        self.broker = broker
        self.member = member
        self.topics = topics
        self._link = link
        self.positions: dict[Name, int] = {}
        self._connection = Connection(link)
        self._epoch = 0
        self._held: frozenset[int] = frozenset()
        self._changes: deque[Change] = deque()
        self._busy = False  # a callback is being served
        self._left = False
        self._lost = False
        self._wake = Future()
        for topic in topics:
            for at in range(broker.group.partitions):
                broker.partitions[topic, at].watchers.append(self._signal)
        broker.kernel.spawn(process, "heartbeat", self._heartbeats())

    def metadata(self) -> Metadata:
        """What the client knows now, which may be newer than what the callbacks have told."""
        return Metadata(self.member, self._epoch)

    def done(self, change: Change) -> None:
        """The callback has returned: partitions it took away are let go of."""
        if change.kind != "assigned":
            self._held -= change.partitions
            for topic in self.topics:
                for at in change.partitions:
                    self.positions.pop((topic, at), None)
        self._busy = False
        if change.kind == "lost":
            self._lost = False

    def poll(self, timeout: float, limit: int) -> Steps:
        """A Change, or a list of (partition, record), empty after `timeout`."""
        kernel = self.broker.kernel
        deadline = kernel.now + timeout
        while True:
            if self._changes and not self._busy:
                self._busy = True
                change = self._changes.popleft()
                return Change("lost", self._held) if change.kind == "lost" else change
            records = self._fetch(limit)
            if records:
                return records
            if kernel.now >= deadline:
                return []
            self._wake = Future()
            yield kernel.either(self._wake, kernel.sleep(deadline - kernel.now))
            yield kernel.sleep(kernel.random.uniform(*self.broker.latency))

    def leave(self) -> Steps:
        """Close: after the last revocation, say goodbye."""
        self._left = True
        yield self.broker.request(self._connection, self.broker.group.leave, self.member)

    def _signal(self) -> None:
        self._wake.resolve()

    def _fetch(self, limit: int) -> list[tuple[Name, Record]]:
        if not (self.broker.up and self._link.up):
            return []
        found: list[tuple[Name, Record]] = []
        for name in sorted(self.positions):
            if len(found) < limit and name[1] in self._held:
                position = self.positions[name]
                records, self.positions[name] = self.broker.partitions[name].read(position, limit=limit - len(found))
                found.extend((name, record) for record in records)
        return found

    def _heartbeats(self) -> Steps:
        kernel = self.broker.kernel
        while not self._left:
            if self._lost:
                # Expelled: it joins again only once the application has been told that it lost everything.
                yield kernel.sleep(0.05)
                continue
            reply = yield self.broker.request(self._connection, self._beat, self._epoch, self._held)
            if self._left:
                return
            if reply is not LOST:
                self._reconcile(reply)
            reconciling = self._changes or self._busy or reply is LOST
            yield kernel.sleep(0.1 if reconciling else kernel.random.uniform(0.5, 3.0))

    def _beat(self, epoch: int, held: frozenset[int]) -> tuple[int, frozenset[int]] | None:
        return self.broker.group.heartbeat(self.member, epoch, held, self.broker.kernel.now)

    def _reconcile(self, reply: tuple[int, frozenset[int]] | None) -> None:
        if reply is None:
            self._epoch = 0
            self._changes.clear()
            if self._held:
                self._lost = True
                self._change("lost", self._held)
            return
        self._epoch, target = reply
        if self._changes or self._busy:
            return  # one step at a time
        gone, new = self._held - target, target - self._held
        if gone:
            self._change("revoked", gone)
        elif new:
            self._held |= new
            self._change("assigned", new)

    def _change(self, kind: Literal["assigned", "revoked", "lost"], partitions: frozenset[int]) -> None:
        self._changes.append(Change(kind, partitions))
        self._signal()


class Trouble(Enum):
    """What can happen to a fact on its way, for as long as a fault lasts."""

    LATE = "late"  # acknowledged after seconds
    REFUSED = "refused"  # not written, and the producer says so
    UNHEARD = "unheard"  # written, and the producer says that it was not


class FactProducer:
    """The idempotent producer outside all transactions. `on_ack` is told whether the broker has the fact."""

    def __init__(self, broker: Broker, link: Link, process: Process, written: Callable[[Any], None]) -> None:
        self._broker = broker
        self._process = process
        self._connection = Connection(link)
        self._written = written
        self.trouble = 0.0  # share of facts that meet it

    def publish(self, fact: Any, on_ack: Callable[[bool], None]) -> None:
        random = self._broker.kernel.random
        trouble = random.choice(tuple(Trouble)) if random.random() < self.trouble else None
        self._broker.kernel.spawn(self._process, "facts", self._deliver(fact, on_ack, trouble))

    def _deliver(self, fact: Any, on_ack: Callable[[bool], None], trouble: Trouble | None) -> Steps:
        kernel = self._broker.kernel
        if trouble is Trouble.REFUSED:
            yield kernel.sleep(kernel.random.uniform(0.1, 5.0))
            on_ack(False)
            return
        written = _Once(self._written, fact)
        reply = LOST
        while reply is LOST:  # idempotent: a repeat of the request is not a repeat of the record
            reply = yield self._broker.request(self._connection, written)
        if trouble is not None:
            yield kernel.sleep(kernel.random.uniform(0.5, 12.0))
        on_ack(trouble is not Trouble.UNHEARD)


class _Once:
    def __init__(self, call: Callable[[Any], None], argument: Any) -> None:
        self._call: Callable[[Any], None] | None = call
        self._argument = argument

    def __call__(self) -> bool:
        if self._call is not None:
            self._call(self._argument)
            self._call = None
        return True
