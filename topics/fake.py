"""A broker in memory, with the producer and consumer calls that this package uses: for tests without a broker.

It passes the same contract tests as the real one (tests/topics): placing by murmur2, order, groups with range
assignment and committed offsets, compacted topics, a broker that goes away and comes back. It has no transactions and
no admin client. Time passes only in waits, which end when something happens.
"""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from schemas.ids import murmur2
from topics.kafka import Cluster
from topics.registry import MAX_RECORD, Topic

Place = tuple[str, int]
Rebalance = Callable[[Any, list[TopicPartition]], None]


@dataclass(slots=True)
class _Log:
    offsets: list[int] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    end: int = 0

    def at(self, offset: int) -> Message | None:
        """The first record at or behind `offset`."""
        index = bisect_left(self.offsets, offset)
        return self.messages[index] if index < len(self.messages) else None


@dataclass(slots=True)
class _Group:
    members: list[FakeConsumer] = field(default_factory=list)
    owners: dict[Place, FakeConsumer] = field(default_factory=dict)
    committed: dict[Place, int] = field(default_factory=dict)

    def target(self, member: FakeConsumer, logs: dict[Place, _Log]) -> set[Place]:
        """Range: of each topic, the member gets one run of partitions, in the order in which members joined."""
        target: set[Place] = set()
        for topic in member.subscribed:
            members = [other for other in self.members if topic in other.subscribed]
            count = sum(name == topic for name, _number in logs)
            index, (share, extra) = members.index(member), divmod(count, len(members))
            first = index * share + min(index, extra)
            target |= {(topic, number) for number in range(first, first + share + (index < extra))}
        return target


class FakeBroker:
    """Everything is guarded by `changed`; set `up` through `stop` and `start`."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.up = True
        self.logs: dict[Place, _Log] = {}
        self.groups: defaultdict[str, _Group] = defaultdict(_Group)
        self.metadata_requests = 0
        self.refuses: dict[str, int] = {}  # topic on the broker: the error code that its producers get

    def create(self, name: str, partitions: int) -> None:
        """Also makes anew a topic that is there, as deleting and creating does."""
        with self.changed:
            for number in range(partitions):
                self.logs[name, number] = _Log()
            self.changed.notify_all()

    def stop(self) -> None:
        self._set_up(False)

    def start(self) -> None:
        self._set_up(True)

    def compact(self, name: str) -> None:
        """Keep the newest record per key, and no tombstone: as a cleaner that came long after."""
        with self.changed:
            for (topic, _number), log in self.logs.items():
                if topic == name:
                    newest = {message.key(): message for message in log.messages}
                    log.messages = [m for m in log.messages if newest[m.key()] is m and m.value() is not None]
                    log.offsets = [message.offset() or 0 for message in log.messages]

    def append(self, name: str, number: int, key: bytes | None, value: bytes | None, headers: Any) -> Message:
        with self.changed:
            log = self.logs[name, number]
            stamp = (1, int(time.time() * 1000))
            message = Message(name, number, log.end, key, value, headers, None, stamp)
            log.offsets.append(log.end)
            log.messages.append(message)
            log.end += 1
            self.changed.notify_all()
            return message

    def _set_up(self, up: bool) -> None:
        with self.changed:
            self.up = up
            self.changed.notify_all()


@dataclass(frozen=True, slots=True)
class FakeCluster(Cluster):
    broker: FakeBroker = field(default_factory=FakeBroker)

    def create(self, *topics: Topic) -> None:
        for topic in topics:
            self.broker.create(self.topic(topic), topic.embedded)

    def producer(self, client_id: str, **extra: Any) -> Producer:
        return cast("Producer", FakeProducer(self.broker, self.producer_config(client_id, **extra)))

    def consumer(self, group: str, client_id: str, **extra: Any) -> Consumer:
        return cast("Consumer", FakeConsumer(self.broker, self.consumer_config(group, client_id, **extra)))


class FakeProducer:
    def __init__(self, broker: FakeBroker, config: dict[str, Any]) -> None:
        self._broker = broker
        self._room = int(config["queue.buffering.max.messages"])
        self._tells_errors_alone = bool(config.get("delivery.report.only.error"))
        self._queue: deque[tuple[tuple[Any, ...], Any]] = deque()
        self._reporting = 0

    def produce(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int = -1,
        *,
        on_delivery: Any,
        headers: Any = None,
    ) -> None:
        with self._broker.changed:
            if len(self) >= self._room:
                raise BufferError("queue full")
            if len(value or b"") + len(key or b"") > MAX_RECORD:
                raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
            self._queue.append(((topic, partition, key, value, headers), on_delivery))
            self._broker.changed.notify_all()

    def poll(self, timeout: float = 0) -> int:
        with self._broker.changed:
            self._broker.changed.wait_for(lambda: self._queue and self._broker.up, timeout)
            sent = []
            while self._queue and self._broker.up:
                record, on_delivery = self._queue.popleft()
                sent.append((on_delivery, *self._write(*record)))
            self._reporting += len(sent)
        for on_delivery, error, message in sent:
            if error is not None or not self._tells_errors_alone:
                on_delivery(error, message)
            self._reporting -= 1
        return len(sent)

    def flush(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while len(self) and (left := deadline - time.monotonic()) > 0:
            self.poll(left)
        return len(self)

    def __len__(self) -> int:
        return len(self._queue) + self._reporting

    def _write(self, topic: str, partition: int, key: Any, value: Any, headers: Any) -> tuple[KafkaError | None, Any]:
        count = sum(name == topic for name, _number in self._broker.logs)
        code = KafkaError._UNKNOWN_TOPIC if not count else self._broker.refuses.get(topic)
        if code is not None:
            return KafkaError(code), Message(topic)
        if partition < 0:
            partition = random.randrange(count) if key is None else (murmur2(key) & 0x7FFFFFFF) % count
        return None, self._broker.append(topic, partition, key, value, headers)


class FakeConsumer:
    def __init__(self, broker: FakeBroker, config: dict[str, Any]) -> None:
        self._broker = broker
        self._group = broker.groups[config["group.id"]]
        self._tells_eof = bool(config.get("enable.partition.eof"))
        self._resets = config["auto.offset.reset"] == "earliest"
        self._positions: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._told_eof: dict[Place, int] = {}
        self._expelled = False
        self._on_commit = config.get("on_commit", lambda _error, _offsets: None)
        self._sent: deque[list[TopicPartition]] = deque()  # commits that wait for the next poll, as answers do
        self._callbacks: dict[str, Rebalance] = {}
        self.subscribed: tuple[str, ...] = ()

    def subscribe(
        self, topics: Sequence[str], *, on_assign: Rebalance, on_revoke: Rebalance, on_lost: Rebalance
    ) -> None:
        with self._broker.changed:
            self.subscribed = tuple(topics)
            self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}
            self._group.members.append(self)
            self._broker.changed.notify_all()

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        with self._broker.changed:
            self._positions = {
                (part.topic, part.partition): 0 if part.offset in (OFFSET_BEGINNING, OFFSET_INVALID) else part.offset
                for part in partitions
            }

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*place) for place in sorted(self._positions)]

    def poll(self, timeout: float = 0) -> Message | None:
        found = self._take(1, timeout)
        return found[0] if found else None

    def consume(self, num_messages: int = 1, timeout: float = 0) -> list[Message]:
        return self._take(num_messages, timeout)

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        with self._broker.changed:
            self._sent.append(list(offsets))

    def _answer_commit(self, offsets: list[TopicPartition]) -> None:
        error = None
        if not self._broker.up:
            error = KafkaError(KafkaError._WAIT_COORD)
        elif self._expelled:
            error = KafkaError(KafkaError.UNKNOWN_MEMBER_ID)
        else:
            self._group.committed.update({(part.topic, part.partition): part.offset for part in offsets})
        self._on_commit(error, offsets)

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        found = [(part.topic, part.partition) for part in partitions]
        return [TopicPartition(*place, self._positions.get(place, OFFSET_INVALID)) for place in found]

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self._broker.logs[partition.topic, partition.partition].end

    def offsets_for_times(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        with self._broker.changed:
            if not self._broker.changed.wait_for(lambda: self._broker.up, timeout):
                self._need_broker()
            assert all(part.offset == OFFSET_END for part in partitions)
            places = [(part.topic, part.partition) for part in partitions]
            return [TopicPartition(*place, self._broker.logs[place].end) for place in places]

    def list_topics(self, timeout: float) -> Any:
        with self._broker.changed:
            self._need_broker()
            self._broker.metadata_requests += 1
            topics: dict[str, Any] = {}
            for name, number in self._broker.logs:
                topics.setdefault(name, SimpleNamespace(partitions={})).partitions[number] = number
            return SimpleNamespace(topics=topics)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused |= {(part.topic, part.partition) for part in partitions}

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused -= {(part.topic, part.partition) for part in partitions}

    def seek(self, partition: TopicPartition) -> None:
        self._positions[partition.topic, partition.partition] = partition.offset

    def close(self) -> None:
        with self._broker.changed:
            if self in self._group.members:
                self._give_up("revoke", set(self._positions))
                self._group.members.remove(self)
            self._positions = {}
            self._broker.changed.notify_all()

    def expel(self) -> None:
        """What a session time-out does: the group goes on without this member, which learns it by its next poll."""
        with self._broker.changed:
            self._expelled = True
            self._group.members.remove(self)
            self._group.owners = {p: owner for p, owner in self._group.owners.items() if owner is not self}
            self._broker.changed.notify_all()

    def _take(self, limit: int, timeout: float) -> list[Message]:
        with self._broker.changed:
            deadline = time.monotonic() + timeout
            while True:
                while self._sent:
                    self._answer_commit(self._sent.popleft())
                self._rebalance()
                if found := self._ready(limit):
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    return []
                self._broker.changed.wait(left)

    def _ready(self, limit: int) -> list[Message]:
        found: list[Message] = []
        if not self._broker.up:
            return found
        for place in sorted(set(self._positions) - self._paused):
            log = self._broker.logs[place]
            if self._positions[place] > log.end and not self._resets:
                self._positions[place] = 0
                return [Message(*place, error=KafkaError(KafkaError._AUTO_OFFSET_RESET))]
            while len(found) < limit and (message := log.at(self._positions[place])) is not None:
                self._positions[place] = (message.offset() or 0) + 1
                found.append(message)
            at_end = len(found) < limit and log.at(self._positions[place]) is None
            if self._tells_eof and at_end and self._told_eof.get(place) != log.end:
                self._told_eof[place] = self._positions[place] = log.end
                found.append(Message(*place, log.end, error=KafkaError(KafkaError._PARTITION_EOF)))
        return found

    def _rebalance(self) -> None:
        if self._expelled:
            self._give_up("lost", set(self._positions))
            self._expelled = False
            self._group.members.append(self)
        if self not in self._group.members or not self._broker.up:
            return
        target = self._group.target(self, self._broker.logs)
        self._give_up("revoke", set(self._positions) - target)
        gained = {place for place in target if self._group.owners.setdefault(place, self) is self} - set(
            self._positions
        )
        if gained:
            self._positions |= {place: self._group.committed.get(place, 0) for place in gained}
            self._callbacks["assign"](self, [TopicPartition(*place) for place in sorted(gained)])

    def _give_up(self, how: str, places: set[Place]) -> None:
        if not places:
            return
        self._callbacks[how](self, [TopicPartition(*place) for place in sorted(places)])
        for place in places:
            del self._positions[place]
            if self._group.owners.get(place) is self:
                del self._group.owners[place]
        self._broker.changed.notify_all()

    def _need_broker(self) -> None:
        if not self._broker.up:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
