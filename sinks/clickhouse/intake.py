"""The sink's side of Kafka: one consumer of all its topics, and the marks that it commits.

Tells which partitions came and went; what that means for records in hand is decided by writer.py. All calls come from
one thread, and rebalance callbacks run inside `wait`, `gather` and `hold`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sinks.clickhouse.core import Mark, Place
from topics.errors import Broken, Later, mapped
from topics.inlet import leave
from topics.kafka import Cluster
from topics.record import Record, record_of
from topics.registry import SINK, Topic

GROUP: Final = SINK
_HOLD_STEP_S: Final = 0.2  # between two looks at `stop` while waiting
_ASK_TIMEOUT_S: Final = 10.0
_ANSWER_STEP_S: Final = 0.005  # between two looks whether a commit was answered

log = structlog.get_logger(__name__)


class _Answer(NamedTuple):
    """What the broker said to a commit."""

    offsets: Mapping[tuple[str, int], int]
    failure: KafkaError | None


class Intake:
    """Records in order of offset within a partition, from its mark on."""

    def __init__(self, cluster: Cluster, topics: Sequence[Topic]) -> None:
        self.assigned = False  # ever; a second sink may be given nothing, and is ready for all that
        self.at_end: set[Place] = set()  # partitions whose end has been reached
        self._cluster = cluster
        self._gained: set[Place] = set()
        self._dropped: set[Place] = set()
        self._early: list[Record] = []  # came while holding or committing
        # The end of a partition ends the wait for a record that Kafka has forgotten.
        self._answer: _Answer | None = None  # to the last commit
        self._consumer = cluster.consumer(
            GROUP,
            GROUP,
            **{
                "enable.partition.eof": True,
                "on_commit": self._on_commit,
                # Rows are inserted once a second: a fetch that returns with each new record would be work for nobody.
                "fetch.min.bytes": 128 * 1024,
                "fetch.wait.max.ms": 500,
            },
        )
        self._consumer.subscribe(
            [cluster.topic(topic) for topic in topics],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def wait(self, limit: int, seconds: float) -> list[Record]:
        """Up to `limit` records; waits for the first one at most. For when there is nothing in hand."""
        first = self._consumer.poll(0 if self._early else seconds)
        return self._records([] if first is None else [first, *self._consumer.consume(limit, 0)])

    def gather(self, limit: int, seconds: float) -> list[Record]:
        """Up to `limit` records, or those that come within `seconds`: one sleep for many records."""
        return self._records(self._consumer.consume(limit, seconds))

    def changes(self) -> tuple[set[Place], set[Place]]:
        """Partitions dropped, and gained, since the last call. One that is in both was dropped first."""
        dropped, self._dropped = self._dropped, set()
        gained, self._gained = self._gained, set()
        return dropped, gained

    def marks(self, places: Collection[Place]) -> dict[Place, Mark]:
        """What was committed; nothing for a partition that never was. Raises Later."""
        asked = [TopicPartition(self._cluster.topic(topic), number) for topic, number in places]
        try:
            answered = self._consumer.committed(asked, timeout=_ASK_TIMEOUT_S)
        except KafkaException as error:
            raise mapped(error) from None
        found: dict[Place, Mark] = {}
        for at in answered:
            if at.error is not None:
                raise mapped(at.error)
            if (mark := Mark.read(at.offset, at.metadata)) is not None:
                found[self._cluster.bare(at.topic), at.partition] = mark
        return found

    def commit(self, marks: Mapping[Place, Mark]) -> None:
        """In one request, answered when this returns. Raises Later, also when a partition is another member's by now.

        Not by a synchronous commit: without a coordinator that blocks for longer than anybody waits for us to stop.
        """
        offsets = [
            TopicPartition(self._cluster.topic(topic), number, mark.offset, mark.metadata)
            for (topic, number), mark in marks.items()
        ]
        self._answer, wanted = None, {(at.topic, at.partition): at.offset for at in offsets}
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            raise mapped(error) from None
        deadline = time.monotonic() + _ASK_TIMEOUT_S
        while self._answer is None or self._answer.offsets != wanted:  # an older one may come late
            if time.monotonic() > deadline:
                raise Later("no answer to a commit")
            if (message := self._consumer.poll(_ANSWER_STEP_S)) is not None:
                self._early = self._records([message])
        if self._answer.failure is not None:
            raise mapped(self._answer.failure)

    def only(self, places: Collection[Place]) -> None:
        """Take records of these partitions alone; of all when there are none."""
        assignment = self._consumer.assignment()
        self._consumer.resume(assignment)
        if places:
            others = [at for at in assignment if (self._cluster.bare(at.topic), at.partition) not in places]
            self._consumer.pause(others)

    def hold(self, seconds: float, stop: threading.Event) -> None:
        """Wait while staying in the group, taking no records."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            self._consumer.pause(self._consumer.assignment())  # anew each time: what is assigned meanwhile is not
            message = self._consumer.poll(min(left, _HOLD_STEP_S))
            if message is not None:
                self._early = self._records([message])
        self._consumer.resume(self._consumer.assignment())

    def close(self) -> None:
        """Leave the group. What is in hand stays with its mark, and is taken up by the next owner."""
        leave(self._consumer, GROUP)

    def _records(self, messages: Sequence[Message]) -> list[Record]:
        found, self._early = self._early, []
        for message in messages:
            error = message.error()
            if error is None:
                record = record_of(message, self._cluster)
                self.at_end.discard((record.topic, record.partition))
                found.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                self.at_end.add((self._cluster.bare(str(message.topic())), message.partition() or 0))
            elif error.fatal():
                raise Broken(error.name())
            else:
                log.warning("consume_error", error=error.name())
        return found

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failures = [error, *(at.error for at in partitions)]
        offsets = {(at.topic, at.partition): at.offset for at in partitions}
        self._answer = _Answer(offsets, next((failure for failure in failures if failure is not None), None))

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.assigned = True
        self._gained |= self._places(partitions)
        log.info("assigned", partitions=len(partitions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = self._places(partitions)
        self._dropped |= places
        self._gained -= places
        self.at_end -= places
        self._early = [record for record in self._early if (record.topic, record.partition) not in places]
        log.info("dropped", partitions=len(partitions))

    def _places(self, partitions: Sequence[TopicPartition]) -> set[Place]:
        return {(self._cluster.bare(at.topic), at.partition) for at in partitions}
