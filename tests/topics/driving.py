"""What the tests of this folder share: events, a stage that runs loops in threads, and a plain reader of a topic."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from schemas.messages import MessageDelivered
from schemas.state import SuppressionReason, SuppressionSet
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.loop import Loop
from topics.publisher import Publisher
from topics.record import Record, record_of
from topics.registry import Topic
from topics.view import View

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 13, tzinfo=UTC)


def delivered(name: str, **fields: Any) -> MessageDelivered:
    return MessageDelivered.from_cause(
        name,
        occurred_at=NOON,
        message_id=name,
        recipient_id="r" * 26,
        recipient_domain="example.test",
        accepted_at=NOON,
        **fields,
    )


def suppression(recipient_id: str, cause: str = "1", active: bool = True) -> SuppressionSet:
    return SuppressionSet.from_cause(
        f"{recipient_id}/{cause}",
        occurred_at=NOON,
        recipient_id=recipient_id,
        reason=SuppressionReason.MANUAL,
        active=active,
    )


class Running:
    """A loop in a thread; `stop` ends it and raises what ended it before."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the loop did not stop"
        error, self.error = self.error, None
        if error:
            raise error

    def _run(self) -> None:
        try:
            self.loop.run(self._stop)
        except BaseException as error:
            self.error = error


class Stage:
    """A publisher, and whatever a test starts; all of it ends with the test."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.publisher = Publisher(cluster, "plan", clock=lambda: LATER, settings={"linger.ms": 0})
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self._ends.callback(self.publisher.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ends.close()

    def send(self, topic: Topic, *records: tuple[bytes | None, bytes | None]) -> None:
        for key, value in records:
            self.publisher.send(topic, key, value)
        self.publisher.flush()

    def run(
        self,
        topics: Sequence[Topic],
        handle: Callable[[Sequence[Record]], None],
        *,
        group: str = "plan",
        publisher: Publisher | None = None,
        **options: Any,
    ) -> Running:
        """Returns when the loop has its partitions."""
        ready = threading.Event()
        loop = Loop(
            self.cluster, group, topics, handle, publisher=publisher or self.publisher, ready=ready.set, **options
        )
        running = Running(loop)
        self._ends.callback(running.stop)
        wait_until(lambda: ready.is_set() or running.error, what="the loop to have its partitions")
        return running

    def view(self, topics: Topic | Sequence[Topic], fold: Callable[[Record], Any], **options: Any) -> View[Any]:
        view = View(self.cluster, topics, fold, **options)
        self._ends.callback(view.close)
        assert view.wait_ready(30)
        return view

    def read(self, topic: Topic, count: int) -> list[Record]:
        """The first `count` records of a topic, by partition and offset."""
        consumer = self.cluster.consumer("reader", "reader", **{"group.protocol": "classic"})
        name = self.cluster.topic(topic)
        consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in range(topic.embedded)])
        found: list[Record] = []

        def enough() -> bool:
            found.extend(record_of(m, self.cluster) for m in consumer.consume(count, 0.1) if m.error() is None)
            return len(found) >= count

        try:
            wait_until(enough, what=f"{count} records on {topic.name}")
        finally:
            consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))
