"""The at-least-once batch loop: take records, handle them, wait until their facts are acked, then let the offsets go.

Decides order, repetition and what a failure means for a batch; what to do with a record is left to `handle`. In this
order, because a crash between two steps must repeat work, never skip it: the facts are out before the offset says
"done", and a repeat makes the same facts with the same ids.

Urgent topics (`….urgent`) have a consumer and a group of their own (`GROUP.urgent`), looked at before every batch. With
one consumer for both, urgent records queue up behind whatever the client has fetched ahead of the bulk topics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas.codec import Undecodable
from topics.deadletters import DeadLetters
from topics.errors import Broken, Later, Never, mapped
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import Record, record_of
from topics.registry import MAX_READ, Topic

__all__ = ["Broken", "Later", "Loop", "Never", "Record", "run"]

Handle = Callable[[Sequence[Record]], None]
"""Gets a batch, in order of offset within a partition. Publishes facts through the loop's publisher, on the loop's
thread. May see any record again, at once or after a crash. Raises `Later` or `Never`; `Undecodable` is a `Never`."""

BATCH = 500
URGENT = ".urgent"
_WAIT_S = 0.2  # idle wait for records; one that arrives ends it, and so a stop is seen within it
_WAIT_URGENT_S = 0.05  # idle wait on the urgent topics, and so what the others may wait for their turn
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
_LAG_EVERY_S = 5.0

log = structlog.get_logger(__name__)


def run(
    cluster: Cluster,
    group: str,
    topics: Sequence[Topic],
    handle: Handle,
    stop: threading.Event,
    *,
    publisher: Publisher,
    ready: Callable[[], None] | None = None,
    batch: int = BATCH,
) -> None:
    """Run a `Loop` until `stop` is set. Raises `Poisoned`, `Broken`, and what else `handle` raises."""
    Loop(cluster, group, topics, handle, publisher=publisher, ready=ready, batch=batch).run(stop)


class Loop:
    """One thread, the caller's. `lag` and `turned_at` may be read from others, to see that it lives."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topics: Sequence[Topic],
        handle: Handle,
        *,
        publisher: Publisher,
        ready: Callable[[], None] | None = None,
        batch: int = BATCH,
        deadletters: DeadLetters | None = None,
    ) -> None:
        self._handle = handle
        self._publisher = publisher
        self._batch = batch
        self._deadletters = deadletters or DeadLetters(publisher, group)
        urgent = [topic for topic in topics if topic.name.endswith(URGENT)]
        others = [topic for topic in topics if topic not in urgent]
        self._inlets = [
            _Inlet(cluster, name, chosen) for name, chosen in ((group + URGENT, urgent), (group, others)) if chosen
        ]
        self._ready = ready
        self._busy = False
        self.lag = 0  # records behind, as of a few seconds ago
        self.turned_at = time.monotonic()  # when the loop last came round
        self._lag_at = self.turned_at

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._turn(stop)
        finally:
            for inlet in self._inlets:
                inlet.close()

    def _turn(self, stop: threading.Event) -> None:
        """One batch of the first inlet that has records."""
        wait = 0.0 if self._busy else (_WAIT_S if len(self._inlets) == 1 else _WAIT_URGENT_S)
        for inlet in self._inlets:
            inlet.commit()  # what could not be committed before
            records = inlet.take(self._batch, wait)
            self._tell()
            if records:
                self._busy = True
                if self._insist(inlet, records, stop):
                    inlet.commit()
                return
            wait = 0.0  # waiting is done at the first inlet only
        self._busy = False

    def _tell(self) -> None:
        self.turned_at = time.monotonic()
        if self._ready is not None and all(inlet.assigned for inlet in self._inlets):
            self._ready()
            self._ready = None
        if self.turned_at - self._lag_at >= _LAG_EVERY_S:
            self._lag_at = self.turned_at
            self.lag = sum(inlet.lag() for inlet in self._inlets)

    def _insist(self, inlet: _Inlet, records: list[Record], stop: threading.Event) -> bool:
        """Work until the batch is done; False when stopped before. While it must wait, it stays in its group."""
        backoff = _BACKOFF_FIRST_S
        while records:
            try:
                self._work(records)
            except Later as later:
                log.warning("later", group=inlet.group, reason=str(later), wait_s=backoff)
                if inlet.hold(backoff, stop):
                    return False
                # Partitions taken away meanwhile are their new owner's work.
                records = [record for record in records if inlet.owns(record)]
                backoff = min(backoff * 2, _BACKOFF_MAX_S)
            else:
                self._deadletters.passed(len(records))
                inlet.done(records)
                return True
        return True

    def _work(self, records: list[Record]) -> None:
        """Handle and see the facts acked; dead-letter what never will be. Halves the batch to find it."""
        fit = []
        for record in records:
            if record.size <= MAX_READ:
                fit.append(record)
            else:
                self._deadletters.put(record, f"{record.size} bytes: more than the {MAX_READ} that are read")
        pending = [fit]
        while pending:
            part = pending.pop()
            if not part:
                continue
            try:
                self._handle(part)
                self._publisher.flush()
            except (Never, Undecodable) as never:
                culprit = getattr(never, "record", None)
                at = next((index for index, record in enumerate(part) if record is culprit), None)
                if at is None and len(part) > 1:
                    half = len(part) // 2
                    pending += [part[half:], part[:half]]  # the last is next: order within a partition holds
                    continue
                self._deadletters.put(part[at or 0], str(never))
                pending += [part[(at or 0) + 1 :], part[: at or 0]]
        self._publisher.flush()  # the dead letters


class _Inlet:
    """A consumer with the records it has handed out, and the offsets that are done but not yet committed."""

    def __init__(self, cluster: Cluster, group: str, topics: Sequence[Topic]) -> None:
        self.group = group
        self.assigned = False
        self._cluster = cluster
        self._owned: set[tuple[str, int]] = set()
        self._done: dict[tuple[str, int], int] = {}
        self._consumer = cluster.consumer(group, group)
        self._consumer.subscribe(
            [cluster.topic(topic) for topic in topics],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def take(self, limit: int, wait: float) -> list[Record]:
        """Up to `limit` records; waits up to `wait` seconds for the first."""
        # poll() returns with the first record, consume() only when it has all or the time is over.
        first = self._consumer.poll(wait)
        if first is None:
            return []
        return list(self._records([first, *self._consumer.consume(limit - 1, 0)]))

    def done(self, records: Sequence[Record]) -> None:
        for record in records:
            self._done[record.topic, record.partition] = record.offset + 1

    def commit(self) -> None:
        """Let go what is done. A failure is logged and made good with the next call: it can only lead to repeats."""
        if not self._done:
            return
        offsets = [TopicPartition(self._cluster.topic(t), p, offset) for (t, p), offset in self._done.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            failure = mapped(error)
            if isinstance(failure, Broken):
                raise failure from None
            log.warning("commit_failed", group=self.group, error=str(failure))
        else:
            self._done.clear()

    def hold(self, seconds: float, stop: threading.Event) -> bool:
        """Wait while staying in the group, taking no records. True when stopped."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            # Anew in each round: an assignment in between comes unpaused. Paused records are fetched again on resume.
            self._consumer.pause(self._consumer.assignment())
            message = self._consumer.poll(min(left, _WAIT_S))
            if message is not None and message.error() is None:
                # Handed out in the moment of an assignment: put it back.
                self._consumer.seek(
                    TopicPartition(str(message.topic()), message.partition() or 0, message.offset() or 0)
                )
        self._consumer.resume(self._consumer.assignment())
        return stop.is_set()

    def owns(self, record: Record) -> bool:
        return (record.topic, record.partition) in self._owned

    def lag(self) -> int:
        """From the client's own knowledge; asks no broker."""
        behind = 0
        for at in self._consumer.position(self._consumer.assignment()):
            _low, high = self._consumer.get_watermark_offsets(at, cached=True) or (0, 0)
            if at.offset >= 0 and high > at.offset:
                behind += high - at.offset
        return behind

    def close(self) -> None:
        self.commit()
        self._consumer.close()

    def _records(self, messages: Sequence[Message]) -> Iterator[Record]:
        for message in messages:
            error = message.error()
            if error is None:
                yield record_of(message, self._cluster)
            elif error.fatal():
                raise Broken(error.name())
            else:
                log.warning("consume_error", group=self.group, error=error.name())

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.assigned = True
        self._owned |= self._keys(partitions)
        log.info("assigned", group=self.group, partitions=_shown(partitions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.commit()
        self._forget(partitions)
        log.info("revoked", group=self.group, partitions=_shown(partitions))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Another member has them: a commit would be refused, or move its offset.
        self._forget(partitions)
        log.warning("lost", group=self.group, partitions=_shown(partitions))

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for key in self._keys(partitions):
            self._owned.discard(key)
            self._done.pop(key, None)

    def _keys(self, partitions: list[TopicPartition]) -> set[tuple[str, int]]:
        return {(self._cluster.bare(partition.topic), partition.partition) for partition in partitions}


def _shown(partitions: list[TopicPartition]) -> str:
    ordered = sorted((partition.topic, partition.partition) for partition in partitions)
    return "; ".join(
        f"{topic} {','.join(str(number) for _topic, number in group)}"
        for topic, group in groupby(ordered, key=lambda item: item[0])
    )
