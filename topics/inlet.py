"""A loop's consumer: hands records out, lets offsets go when told so, and stays in its group while the loop must wait.

Decides what rebalances and failed commits mean; when a record is done is decided by `topics.loop`. All calls come from
the loop's thread, rebalance callbacks included: they run inside `take`, `hold` and `close`, never in a batch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from topics.errors import Broken
from topics.kafka import Cluster
from topics.record import Record, record_of
from topics.registry import Topic

_COMMIT_S = 0.1  # between two commits: a request for each small batch would cost the broker as much as its facts
_HOLD_STEP_S = 0.2  # between two looks at `stop` while waiting
_CLOSE_STEP_S = 0.02
_CLOSE_S = 5.0  # for the answer to the last commit, and again for leaving the group

log = structlog.get_logger(__name__)


def leave(consumer: Consumer, group: str) -> None:
    """Close a consumer, within a limit: leaving waits for a coordinator, long under KIP-848.

    A group that was not told waits for a session time-out.
    """
    leaving = threading.Thread(target=consumer.close, name=f"leave-{group}", daemon=True)
    leaving.start()
    leaving.join(_CLOSE_S)


class Inlet:
    """A consumer with the records it has handed out, and the offsets that are done but not yet committed."""

    def __init__(
        self, cluster: Cluster, group: str, topics: Sequence[Topic], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.group = group
        self.assigned = False
        self._cluster = cluster
        self._owned: set[tuple[str, int]] = set()
        self._done: dict[tuple[str, int], int] = {}
        self._fresh = False  # something is done that no commit has been sent for
        self._in_flight = 0  # commits without an answer yet
        self._clock = clock
        self._commit_from = clock()  # when the next commit may be sent
        self._consumer = cluster.consumer(group, group, on_commit=self._on_commit)
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
        self._fresh = True

    def commit(self) -> None:
        """Let go what is done, when it is time; the broker's answer comes with a later `take`. A failure is logged and
        made good by the next call: it can only lead to repeats, and so can a death before it."""
        if self._done and (self._fresh or not self._in_flight) and self._clock() >= self._commit_from:
            self._send_commit()

    def _send_commit(self) -> None:
        # Not synchronously: without a coordinator that blocks for a session time-out, which is 45 s under KIP-848.
        self._fresh = False
        self._commit_from = self._clock() + _COMMIT_S
        self._in_flight += 1
        offsets = [TopicPartition(self._cluster.topic(t), p, offset) for (t, p), offset in self._done.items()]
        self._consumer.commit(offsets=offsets, asynchronous=True)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._in_flight -= 1
        if error is not None:
            log.warning("commit_failed", group=self.group, error=error.name())
            return
        for part in partitions:
            place = (self._cluster.bare(part.topic), part.partition)
            if part.error is None and self._done.get(place) == part.offset:
                del self._done[place]

    def hold(self, seconds: float, stop: threading.Event) -> bool:
        """Wait while staying in the group, taking no records. True when stopped."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            self.keep_alive(min(left, _HOLD_STEP_S))
        return stop.is_set()

    def keep_alive(self, wait: float = 0.0) -> None:
        """Serve the group without taking a record."""
        held = self._consumer.assignment()
        self._consumer.pause(held)  # what the client has fetched ahead, it drops and fetches again
        message = self._consumer.poll(wait)
        if message is not None and message.error() is None:
            # From a partition that came with this very poll, unpaused: put it back.
            self._consumer.seek(TopicPartition(str(message.topic()), message.partition() or 0, message.offset() or 0))
        self._consumer.resume(self._consumer.assignment())

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
        deadline = time.monotonic() + _CLOSE_S
        while self._done and time.monotonic() < deadline:
            self.commit()
            self.keep_alive(_CLOSE_STEP_S)
        if self._done:
            log.warning("closed_uncommitted", group=self.group)
            self._done.clear()
        leave(self._consumer, self.group)

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
        if self._fresh:
            self._send_commit()  # goes out before the partitions do; to wait for its answer would add nothing
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
