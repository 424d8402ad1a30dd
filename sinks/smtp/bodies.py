"""Read lane records again by their offsets: bodies of messages that waited too long to be kept in memory.

A thread and a consumer of its own, outside the group: seeking on the intake's consumer would tear it out of its place.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.codec import decode
from schemas.lanes import MessageQueue
from sinks.smtp.commands import Bodies, Fetch
from sinks.smtp.queue import LaneRecord
from topics.errors import mapped
from topics.kafka import Cluster
from topics.record import record_of
from topics.registry import Topic

_POLL_S: Final = 0.2
_BATCH: Final = 200
_AGAIN_S: Final = 0.5
_RUN: Final = 200  # offsets: a gap up to this long is read through

log = structlog.get_logger(__name__)


class BodyReader:
    """`answer` is called in the reader's thread, once per `fetch` (none after `close`), `fail` when it cannot go on."""

    def __init__(
        self,
        cluster: Cluster,
        lanes: tuple[Topic, Topic],
        answer: Callable[[int, Bodies], None],
        fail: Callable[[str], None],
        *,
        instance: str,
    ) -> None:
        self._cluster = cluster
        self._lanes = lanes
        self._answer = answer
        self._fail = fail
        self._work: queue.SimpleQueue[Fetch | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._consumer: Consumer = cluster.consumer(
            f"bodies-{instance}",
            f"bodies-{instance}",
            **{
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "group.protocol": "classic",  # never joined
                # Behind what we wanted librdkafka asks for more, and the broker holds that question for so long; the
                # next place waits behind it on the same connection. By default half a second, for each site's bodies.
                "fetch.wait.max.ms": 10,
                "queued.max.messages.kbytes": 4 * 1024,
                "fetch.message.max.bytes": 512 * 1024,
            },
        )
        self._thread = threading.Thread(target=self._run, name="bodies", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def fetch(self, wanted: Fetch) -> None:
        self._work.put(wanted)

    def close(self) -> None:
        self._stop.set()
        self._work.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            # Messages would wait for ever for their bodies.
            log.exception("bodies_failed")
            self._fail(f"bodies cannot be read: {type(error).__name__}")

    def _serve(self) -> None:
        while (fetch := self._work.get()) is not None and not self._stop.is_set():
            found: Bodies = {each.key: None for each in fetch.wanted}
            for urgent in (True, False):
                keys = {each.offset: each.key for each in fetch.wanted if each.urgent is urgent}
                for run in _runs(sorted(keys)):
                    for record in self._read(fetch.partition, urgent, run):
                        found[keys[record.offset]] = record
            if not self._stop.is_set():
                self._answer(fetch.ticket, found)

    def _read(self, partition: int, urgent: bool, offsets: list[int]) -> list[LaneRecord]:
        """The records at these offsets, as far as they are there. Waits for a broker that is away."""
        place = TopicPartition(self._cluster.topic(self._lanes[urgent]), partition, offsets[0])
        wanted, last = set(offsets), offsets[-1]
        found: list[LaneRecord] = []
        self._consumer.assign([place])
        position = offsets[0]
        while position <= last and not self._stop.is_set():
            first = self._consumer.poll(_POLL_S)
            if first is None:
                continue
            for message in (first, *self._consumer.consume(_BATCH, 0)):
                position = max(position, self._take(message, urgent, wanted, found))
        self._consumer.unassign()
        return found

    def _take(self, message: Message, urgent: bool, wanted: set[int], found: list[LaneRecord]) -> int:
        """Returns the position behind the record."""
        error = message.error()
        if error is None:
            record = record_of(message, self._cluster)
            if record.offset in wanted:
                try:
                    command = decode(record.value, record.headers)
                except ValueError:
                    command = None  # it could be read when it was taken in; gone for us
                if isinstance(command, MessageQueue):
                    found.append(LaneRecord(urgent, record.offset, command.key, command, record.value or b""))
            return record.offset + 1
        if error.code() == KafkaError._PARTITION_EOF:
            return message.offset() or 0
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return self._behind_the_gap(message, wanted)
        log.warning("bodies_consume_error", error=error.name())
        time.sleep(_AGAIN_S)
        return 0

    def _behind_the_gap(self, message: Message, wanted: set[int]) -> int:
        """Retention has cut off the beginning of what is wanted: go on where the topic begins now."""
        place = TopicPartition(str(message.topic()), message.partition() or 0)
        try:
            low, high = self._consumer.get_watermark_offsets(place, timeout=5.0) or (0, 0)
            log.warning("bodies_gone", partition=place.partition, first_left=low)
            self._consumer.assign([TopicPartition(place.topic, place.partition, low)])
        except KafkaException as error:
            log.warning("bodies_consume_error", error=str(mapped(error)))
            time.sleep(_AGAIN_S)
            return 0
        return low if low < high else max(wanted) + 1


def _runs(offsets: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for offset in offsets:
        if runs and offset - runs[-1][-1] <= _RUN:
            runs[-1].append(offset)
        else:
            runs.append([offset])
    return runs
