"""The sink's two sides in memory: a broker that keeps the metadata of commits, and tables that know tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, TopicPartition

from sinks.clickhouse.core import Block
from sinks.clickhouse.tables import Unreadable
from topics.errors import Later
from topics.fake import FakeBroker, FakeCluster, FakeConsumer

Commit = dict[tuple[str, int], tuple[int, str]]


@dataclass(frozen=True, slots=True)
class SinkCluster(FakeCluster):
    metadata: dict[tuple[str, int], str] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    watch: list[Callable[[str], None]] = field(default_factory=list)  # called with the name of each step

    def consumer(self, group: str, client_id: str, **extra: Any) -> Consumer:
        return cast("Consumer", MarkedConsumer(self, self.broker, self.consumer_config(group, client_id, **extra)))

    def step(self, name: str) -> None:
        for watcher in self.watch:
            watcher(name)


class MarkedConsumer(FakeConsumer):
    """Committed offsets with their metadata; a member that lost a partition cannot commit it."""

    def __init__(self, cluster: SinkCluster, broker: FakeBroker, config: dict[str, Any]) -> None:
        super().__init__(broker, config)
        self._cluster = cluster
        self.waits = 0

    def poll(self, timeout: float = 0) -> Any:
        self.waits += 1
        return super().poll(timeout)

    def consume(self, num_messages: int = 1, timeout: float = 0) -> Any:
        self.waits += bool(timeout)
        return super().consume(num_messages, timeout)

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        self._cluster.step(f"before {_kind(offsets)}")
        super().commit(offsets=offsets, asynchronous=asynchronous)

    def _answer_commit(self, offsets: list[TopicPartition]) -> None:
        if any(self._group.owners.get((at.topic, at.partition)) is not self for at in offsets):
            self._on_commit(KafkaError(KafkaError.ILLEGAL_GENERATION), offsets)
            return
        super()._answer_commit(offsets)
        if self._broker.up:
            marks = {(at.topic, at.partition): (at.offset, at.metadata or "") for at in offsets}
            self._cluster.metadata.update({place: text for place, (_offset, text) in marks.items()})
            self._cluster.commits.append(marks)
            self._cluster.step(f"after {_kind(offsets)}")

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        found = []
        with self._broker.changed:
            self._need_broker()
            for at in partitions:
                offset = self._group.committed.get((at.topic, at.partition), OFFSET_INVALID)
                found.append(
                    TopicPartition(
                        at.topic, at.partition, offset, self._cluster.metadata.get((at.topic, at.partition), "")
                    )
                )
        return found


def _kind(offsets: Sequence[TopicPartition]) -> str:
    return "mark" if any(at.metadata for at in offsets) else "done"


@dataclass
class FakeStore:
    """Tables by name. Drops a block with a known token, as ClickHouse; cannot read a row with the field `broken`."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    blocks: list[Block] = field(default_factory=list)  # every try
    up: bool = True
    answers: bool = True  # False: the block goes in, and the answer is lost
    step: Callable[[str], None] = lambda _name: None

    def insert(self, block: Block) -> None:
        self.step("before insert")
        self.blocks.append(block)
        if not self.up:
            raise Later("ClickHouse is away")
        if not self.reads(block.table, block.body):
            raise Unreadable("INCORRECT_DATA")
        if block.token not in self.tokens:
            self.tokens.add(block.token)
            self.tables.setdefault(block.table, []).extend(orjson.loads(line) for line in block.body.splitlines())
        if not self.answers:
            raise Later("the answer was lost")
        self.step("after insert")

    def reads(self, table: str, body: bytes) -> bool:
        return all("broken" not in orjson.loads(line) for line in body.splitlines())
