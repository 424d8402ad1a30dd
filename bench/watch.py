"""What a measurement sees of Kafka: where topics end, how far a group is, what was written, how many transactions."""

from __future__ import annotations

import orjson
from confluent_kafka import Consumer, TopicPartition

from topics.kafka import Cluster
from topics.registry import Topic


class Watch:
    """Positions of the fact topics: where they ended before a run, and how far they are."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._clients: dict[str, Consumer] = {}
        self._reader = self._client("bench")

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def ends(self, topic: Topic | str) -> list[TopicPartition]:
        """Behind the last record of each partition. A text is a topic of the broker's own, without our prefix."""
        name = topic if isinstance(topic, str) else self._cluster.topic(topic)
        partitions = self._reader.list_topics(name, timeout=10).topics[name].partitions
        found = []
        for number in partitions:
            place = TopicPartition(name, number)
            _, place.offset = self._reader.get_watermark_offsets(place, timeout=10)
            found.append(place)
        return found

    def lag(self, group: str, topic: Topic) -> int:
        """Offsets of a topic that a group has not committed."""
        ends = self.ends(topic)
        committed = self._client(group).committed(ends, timeout=10)
        return sum(end.offset - max(0, at.offset) for end, at in zip(ends, committed, strict=True))

    def read(self, since: list[TopicPartition], until: list[TopicPartition]) -> list[dict[str, object]]:
        last = {place.partition: place.offset for place in until}
        self._reader.assign(since)
        left = {place.partition for place in since if place.offset < last[place.partition]}
        found: list[dict[str, object]] = []
        while left:
            for message in self._reader.consume(1000, 0.2):
                if message.error() is None and (value := message.value()) is not None:
                    found.append(orjson.loads(value))
                    if (message.offset() or 0) + 1 >= last[message.partition() or 0]:
                        left.discard(message.partition() or 0)
        self._reader.unassign()
        return found

    def markers(self, since: list[TopicPartition]) -> int:
        """Offsets since then that hold no record: each transaction leaves one on every partition that it wrote to.

        What is read must have come to rest, and not have been compacted.
        """
        self._reader.assign(since)
        position, records = {place.partition: place.offset for place in since}, 0
        resting: set[int] = set()
        while len(resting) < len(since):
            for message in self._reader.consume(10_000, 0.2):
                number = message.partition() or 0
                if message.error() is None:
                    records += 1
                else:  # the end of the partition: it comes with the position there
                    position[number] = message.offset() or 0
                    resting.add(number)
        self._reader.unassign()
        return sum(position[place.partition] - place.offset for place in since) - records

    def _client(self, group: str) -> Consumer:
        if group not in self._clients:
            settings = {"group.protocol": "classic", "enable.partition.eof": True}
            settings["isolation.level"] = "read_uncommitted"
            self._clients[group] = self._cluster.consumer(group, "bench", **settings)
        return self._clients[group]
