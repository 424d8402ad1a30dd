"""The consumer's thread: records of both lanes, the group's membership, and its metadata.

Nothing else calls this consumer: `consumer_group_metadata()` from another thread blocks for seconds. What happens goes
to the agent as one stream of events in the order in which it happened, so that a transaction built from the agent's
view never has metadata newer than that view: **the metadata follows the loss that it came after**.

Urgent records of a poll come first. A partition is paused from its assignment until its state is restored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas.codec import Undecodable, decode
from schemas.lanes import MessageQueue
from sinks.smtp.queue import LaneRecord
from topics.deadletters import DeadLetters, Poisoned
from topics.errors import Broken, Later, mapped
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import record_of
from topics.registry import MAX_READ, Topic

_POLL_S: Final = 0.1  # when nothing comes
_BATCH: Final = 1_000
DRAIN_S: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Assigned:
    """Both lanes of the partition are ours: restore it, then say `resume` with the same term."""

    partition: int
    term: int  # of this assignment, of all of this consumer's


@dataclass(frozen=True, slots=True)
class Revoked:
    """Drain the partition, then set `done`. The consumer waits, up to DRAIN_S, then gives it up anyway."""

    partition: int
    done: threading.Event


@dataclass(frozen=True, slots=True)
class Lost:
    partition: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that went to the dead letters."""

    partition: int
    urgent: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll brought, by partition; and the metadata that holds from now on."""

    metadata: Any
    records: dict[int, list[LaneRecord]]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str


Event = Assigned | Revoked | Lost | Polled | Failed


@dataclass(frozen=True, slots=True)
class _Drain:
    done: threading.Event
    deadline: float  # of time.monotonic()

    @property
    def left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    @property
    def over(self) -> bool:
        return self.done.is_set() or not self.left


class Intake:
    """`hear` is called in the consumer's thread with every event."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        lanes: tuple[Topic, Topic],
        hear: Callable[[Event], None],
        publisher: Publisher,
        *,
        instance: str,
        **settings: Any,
    ) -> None:
        """`lanes`: ordinary, urgent. `publisher` writes the dead letters. `settings` are librdkafka's."""
        self._cluster = cluster
        self._lanes = lanes
        self._hear = hear
        self._publisher = publisher
        self._dead = DeadLetters(publisher, group)
        self._eager = cluster.group_protocol == "classic"
        self._urgent = {cluster.topic(topic): topic is lanes[1] for topic in lanes}
        self._owned: dict[int, set[bool]] = {}
        self._terms: dict[int, int] = {}  # of partitions that are ours with both lanes
        self._drains: dict[int, _Drain] = {}
        self._assignments = 0
        self._restored: dict[int, int] = {}  # the newest term in which each partition was restored
        self._wanted = True
        self._held: set[int] = set()  # partitions whose consumption is paused, as the consumer knows it
        self._stop = threading.Event()
        self._consumer: Consumer = cluster.consumer(
            group,
            f"intake-{instance}",
            **{"isolation.level": "read_committed", "max.poll.interval.ms": 300_000, **settings},
        )
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def resume(self, partition: int, term: int) -> None:
        """The partition is restored. From any thread.

        A restore may end after its partition was lost and assigned anew: input taken in before the new restore would
        be ignored, and its offsets committed with those of the next records.
        """
        self._restored[partition] = max(term, self._restored.get(partition, 0))

    def want(self, wanted: bool) -> None:
        """Whether more records are welcome. From any thread."""
        self._wanted = wanted

    def close(self) -> None:
        """Leave the group; the partitions are revoked first, so the agent must still serve events."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        consumer = self._consumer
        try:
            consumer.subscribe(
                list(self._urgent), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stop.is_set():
                self._turn()
            self._hand_over()
            consumer.close()
        except (Broken, Poisoned, Later) as error:
            self._fail(str(error))
        except KafkaException as error:
            self._fail(str(mapped(error)))

    def _hand_over(self) -> None:
        """Drain everything before `close()`: in it librdkafka sends no heartbeat, so a drain in its callback that
        outlasts the session (15 s) would end as the drain of a member long expelled.
        """
        for number in list(self._terms):
            self._drain(number)
        while any(not drain.over for drain in self._drains.values()):
            self._turn()

    def _drain(self, number: int) -> _Drain:
        """Ask the agent to drain the partition, once in an assignment."""
        drain = self._drains.get(number)
        if drain is None:
            drain = self._drains[number] = _Drain(threading.Event(), time.monotonic() + DRAIN_S)
            self._hear(Revoked(number, drain.done))
        return drain

    def _fail(self, reason: str) -> None:
        log.error("intake_ended", reason=reason)
        self._hear(Failed(reason))

    def _turn(self) -> None:
        self._pause_and_resume()
        # poll() returns with the first record, consume() only when it has all or the time is over.
        first = self._consumer.poll(_POLL_S)
        messages = [] if first is None else [first, *self._consumer.consume(_BATCH, 0)]
        # After the poll, so after the callbacks that it delivered: who rejoins has been told of the loss before.
        metadata = self._consumer.consumer_group_metadata()
        records, skipped = self._sorted(messages)
        self._hear(Polled(metadata, records, skipped))

    def _pause_and_resume(self) -> None:
        wanted = self._wanted and not self._stop.is_set()
        should = {number for number in self._owned if not (wanted and self._is_restored(number))}
        if pause := self._places(should - self._held):
            self._consumer.pause(pause)
        if resume := self._places((self._held - should) & self._owned.keys()):
            self._consumer.resume(resume)
        self._held = should

    def _is_restored(self, number: int) -> bool:
        return number in self._terms and self._restored.get(number) == self._terms[number]

    def _places(self, numbers: set[int]) -> list[TopicPartition]:
        return [
            TopicPartition(name, number)
            for number in numbers
            for name, urgent in self._urgent.items()
            if urgent in self._owned.get(number, ())
        ]

    def _sorted(self, messages: Sequence[Message]) -> tuple[dict[int, list[LaneRecord]], tuple[Skipped, ...]]:
        records: dict[int, tuple[list[LaneRecord], list[LaneRecord]]] = {}
        skipped: list[Skipped] = []
        for message in messages:
            error = message.error()
            if error is not None:
                if error.fatal():
                    raise Broken(error.name())
                log.warning("intake_consume_error", error=error.name())
                continue
            record = record_of(message, self._cluster)
            urgent = record.topic == self._lanes[1].name
            try:
                if record.size > MAX_READ:
                    raise Undecodable(f"{record.size} bytes; at most {MAX_READ} are read")
                command = decode(record.value, record.headers)
                if not isinstance(command, MessageQueue):
                    raise Undecodable(f"{command.type} where a lane's command belongs")
            except Undecodable as reason:
                self._dead.put(record, str(reason))
                skipped.append(Skipped(record.partition, urgent, record.offset))
                continue
            both = records.setdefault(record.partition, ([], []))
            both[urgent].append(LaneRecord(urgent, record.offset, command.key, command, record.value or b""))
        self._dead.passed(len(messages))
        if skipped:
            self._publisher.flush()  # its offset may be committed from now on
        return {number: [*urgent, *ordinary] for number, (ordinary, urgent) in records.items()}, tuple(skipped)

    # In poll(), on the consumer's thread

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._eager:
            consumer.assign(partitions)
        else:
            consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        for place in partitions:
            owned = self._owned.setdefault(place.partition, set())
            owned.add(self._urgent[place.topic])
            self._held.add(place.partition)
            if len(owned) == len(self._lanes) and not self._stop.is_set():
                self._assignments += 1
                self._terms[place.partition] = self._assignments
                self._hear(Assigned(place.partition, self._assignments))
        log.info("lanes_assigned", partitions=_numbers(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        leaving = self._leaving(partitions)
        drains = [self._drain(number) for number in leaving]
        for drain in drains:
            drain.done.wait(drain.left)
        drained = all(drain.done.is_set() for drain in drains)
        log.info("lanes_revoked", partitions=_numbers(partitions), drained=drained)
        for number in leaving:
            self._forget(number)
        self._unassign(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for number in self._leaving(partitions):
            self._forget(number)
        log.warning("lanes_lost", partitions=_numbers(partitions))
        self._unassign(consumer, partitions)

    def _forget(self, number: int) -> None:
        self._drains.pop(number, None)
        self._hear(Lost(number))

    def _leaving(self, partitions: Sequence[TopicPartition]) -> list[int]:
        left: list[int] = []
        for place in partitions:
            owned = self._owned.get(place.partition, set())
            if self._terms.pop(place.partition, None) is not None:
                left.append(place.partition)
            owned.discard(self._urgent[place.topic])
            if not owned:
                self._owned.pop(place.partition, None)
            self._held.discard(place.partition)
        return left

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._eager:
            consumer.unassign()
        else:
            consumer.incremental_unassign(partitions)


def _numbers(partitions: Sequence[TopicPartition]) -> list[int]:
    return sorted({place.partition for place in partitions})
