"""A record as our code sees it: its topic without the prefix, and nothing of the client library."""

from __future__ import annotations

from typing import NamedTuple, cast

from confluent_kafka import Message

from topics.kafka import Cluster


class Record(NamedTuple):
    topic: str  # as in the registry
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None  # None: a tombstone
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int  # Kafka's: when the producer made it, milliseconds since 1970; -1 when the record has none

    @property
    def position(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        size = len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value or b"")
        return size


def record_of(message: Message, cluster: Cluster) -> Record:
    """`message` must carry no error."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    headers = cast(
        "list[tuple[str, bytes | None]]", message.headers() or []
    )  # what consumers get, whatever the stub says
    return Record(
        cluster.bare(topic), partition, offset, message.key(), message.value(), headers, message.timestamp()[1]
    )
