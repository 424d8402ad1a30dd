"""One thread and one consumer that feed the views of a process.

Reads every partition without a group, from the beginning, and asks for the topics' ends twice a second: only by
comparing its position with an end that was asked for *now* can a reader know that nothing is missing. Reads again from
the beginning when it may have missed a tombstone, or when the topic is not the one it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from topics.errors import Later
from topics.kafka import Cluster
from topics.record import Record, record_of
from topics.registry import DAY_MS, Topic

CHECK_S = 0.5  # between two looks at the ends; a suppression view may be at most 2 s old
MISSED_S = DAY_MS / 1000 / 2  # half of delete.retention.ms: a tombstone that came and went by then would be missed
_ASK_TIMEOUT_S = 1.0
_PARTITIONS_EVERY_S = 60.0
_RETRY_S = 0.5
_DRAIN = 1_000  # records

Place = tuple[str, int]  # topic, partition

log = structlog.get_logger(__name__)

# Counts the time that a suspended machine sleeps, where the system has such a clock: knowledge ages meanwhile.
_CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed() -> float:
    """Seconds on a clock that never goes back nor stops."""
    return time.monotonic() if _CLOCK_ID is None else time.clock_gettime(_CLOCK_ID)


class Fed(Protocol):
    """What the reader needs of a view."""

    topics: tuple[Topic, ...]

    def feed(self, record: Record) -> None: ...
    def caught_up(self, at: float) -> None: ...
    def read_again(self) -> None: ...


class _Reread(Exception):
    """The views must be built anew from the beginning; the text says why."""


class Reader:
    """`add` every view, then `start`. A crash of its thread would let the views age, which their users watch."""

    def __init__(
        self, cluster: Cluster, client_id: str, *, clock: Callable[[], float] = elapsed, check_s: float = CHECK_S
    ) -> None:
        self._cluster = cluster
        self._client_id = client_id
        self._clock = clock
        self._check_s = check_s
        self._views: list[Fed] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"views-{client_id}", daemon=True)

    def add(self, view: Fed) -> None:
        if self._thread.is_alive():
            raise RuntimeError("add views before start")
        self._views.append(view)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            # A group id is required by librdkafka; nothing is committed and nobody joins.
            consumer = self._cluster.consumer(
                f"view-{self._client_id}",
                self._client_id,
                **{"enable.partition.eof": True, "auto.offset.reset": "error", "group.protocol": "classic"},
            )
            try:
                _Pass(self._cluster, consumer, self._views, self._clock, self._check_s).follow(self._stop)
            except _Reread as reason:
                log.warning("views_read_again", client=self._client_id, reason=str(reason))
            except (Later, KafkaException) as error:
                log.warning("views_waiting", client=self._client_id, error=_name(error))
                self._stop.wait(_RETRY_S)
            finally:
                consumer.close()


class _Pass:
    """One reading of the topics from their beginning and onwards."""

    def __init__(
        self, cluster: Cluster, consumer: Consumer, views: list[Fed], clock: Callable[[], float], check_s: float
    ) -> None:
        self._cluster = cluster
        self._consumer = consumer
        self._clock = clock
        self._check_s = check_s
        names = {topic.name for view in views for topic in view.topics}
        self._by_topic = {name: [view for view in views if name in {t.name for t in view.topics}] for name in names}
        self._places = self._find_places()
        self._reached = dict.fromkeys(self._places, 0)
        # Per view: when the ends were asked for, and what they were. A view's next ones wait until it has reached
        # these, or one that is always a little behind would never know where it stands.
        self._ends: dict[int, tuple[float, dict[Place, int]]] = {}
        self._views = views
        self._partitions_at = self._checked_at = self._asked_at = clock()

    def follow(self, stop: threading.Event) -> None:
        for view in self._views:
            view.read_again()
        topic_of = self._cluster.topic
        self._consumer.assign(
            [TopicPartition(topic_of(name), number, OFFSET_BEGINNING) for name, number in self._places]
        )
        self._ask()
        while not stop.is_set():
            due = self._asked_at + self._check_s - self._clock()
            if due <= 0:
                self._check()
                due = self._check_s
            first = self._consumer.poll(due)
            if first is not None:
                self._feed([first, *self._consumer.consume(_DRAIN, 0)])
                self._compare()

    def _feed(self, messages: Iterable[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                record = record_of(message, self._cluster)
                for view in self._by_topic[record.topic]:
                    view.feed(record)
                self._reached[record.topic, record.partition] = record.offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                # Tells the position behind offsets that hold no record any more: compacted away, or markers.
                place = (self._cluster.bare(str(message.topic())), message.partition() or 0)
                self._reached[place] = max(self._reached[place], message.offset() or 0)
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise _Reread(f"offset out of range on {self._cluster.bare(str(message.topic()))}")
            elif error.fatal():
                raise KafkaException(error)
            else:
                log.warning("view_consume_error", error=error.name())

    def _check(self) -> None:
        now = self._clock()
        if now - self._checked_at > MISSED_S:
            raise _Reread(f"no contact for {now - self._checked_at:.0f} s: tombstones may have come and gone")
        if now - self._partitions_at > _PARTITIONS_EVERY_S and self._find_places() != self._places:
            raise _Reread("the number of partitions changed")
        self._ask()
        self._compare()

    def _ask(self) -> None:
        """Where do the topics end? One request to each broker; none answered: the views age."""
        self._asked_at = now = self._clock()
        topic_of = self._cluster.topic
        asked = [TopicPartition(topic_of(name), number, OFFSET_END) for name, number in self._places]
        try:
            answers = self._consumer.offsets_for_times(asked, timeout=_ASK_TIMEOUT_S)
        except KafkaException as error:
            log.debug("view_ends_unknown", error=_name(error))
            return
        if any(answer.error is not None or answer.offset < 0 for answer in answers):
            return
        ends = {(self._cluster.bare(answer.topic), answer.partition): answer.offset for answer in answers}
        for index, view in enumerate(self._views):
            if index not in self._ends:
                names = {topic.name for topic in view.topics}
                self._ends[index] = now, {place: end for place, end in ends.items() if place[0] in names}

    def _compare(self) -> None:
        for index, (asked_at, ends) in list(self._ends.items()):
            if all(self._reached[place] >= end for place, end in ends.items()):
                del self._ends[index]
                self._checked_at = asked_at
                self._views[index].caught_up(asked_at)

    def _find_places(self) -> list[Place]:
        self._partitions_at = self._clock()
        # Of all topics at once: each request waits behind a fetch that waits for records, and the views age meanwhile.
        topics = self._consumer.list_topics(timeout=_ASK_TIMEOUT_S * 5).topics
        found: list[Place] = []
        for name in sorted(self._by_topic):
            topic = topics.get(self._cluster.topic(name))
            if topic is None or not topic.partitions:
                raise Later(f"topic {name} does not exist yet")
            found += [(name, number) for number in sorted(topic.partitions)]
        return found


def _name(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return cause.name() if isinstance(cause, KafkaError) else str(cause)
