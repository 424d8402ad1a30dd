"""One run on started parts: publish, wait until every fact is written, read the story, add up.

A message counts as delivered by its fact (`message.delivered`: the next hop said 250). When the sink has received
exactly as many messages as there are such facts, each for another message, then each arrived once.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import datetime

import orjson
from confluent_kafka import Consumer, TopicPartition

from bench.accounting import Machine, cpu_of, cpu_seconds, memory_of, spent
from bench.internet import Internet
from bench.parts import Running
from bench.workload import Mailing
from pipeline import wiring
from sinks.clickhouse.intake import GROUP as SINK_GROUP
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES, SENDS, Topic

_LOOK_S = 0.25
_STALLED_S = 60.0
_SLICE_S = 0.01  # of a run at a given rate: so many messages are published at once


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. Latency is from acceptance (Kafka's time of the send) to the sink's 250, in milliseconds."""

    messages: int
    delivered: int  # different messages with that end
    received: int  # by the sink
    seconds: float  # from the first acceptance to the last delivery
    latency: tuple[float, float, float]  # p50, p95, p99
    cpu: dict[str, float]  # seconds, by part
    sink_cpu: float
    memory: dict[str, float]  # MiB PSS, by part
    idle: float  # share of the machine's time

    @property
    def rate(self) -> float:
        return self.delivered / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        return sum(self.cpu.values()) / self.messages * 1000

    @property
    def each_once(self) -> bool:
        return self.messages == self.delivered == self.received


class Watch:
    """Positions of the fact topics: where they ended before a run, and how far they are."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._reader: Consumer = cluster.consumer("bench", "bench", **{"group.protocol": "classic"})
        self._sink: Consumer = cluster.consumer(SINK_GROUP, "bench-look", **{"group.protocol": "classic"})

    def close(self) -> None:
        self._reader.close()
        self._sink.close()

    def ends(self, topic: Topic) -> list[TopicPartition]:
        name = self._cluster.topic(topic)
        partitions = self._reader.list_topics(name, timeout=10).topics[name].partitions
        found = []
        for number in partitions:
            place = TopicPartition(name, number)
            _, place.offset = self._reader.get_watermark_offsets(place, timeout=10)
            found.append(place)
        return found

    def sink_lag(self, topic: Topic) -> int:
        ends = self.ends(topic)
        committed = self._sink.committed(ends, timeout=10)
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


def run(parts: Running, world: Internet, mailing: Mailing, rate: float | None = None) -> Outcome:
    """Deliver it, as fast as it goes or at `rate` messages a second. Returns when ClickHouse has the facts too."""
    cluster = wiring.cluster(parts.settings)
    watch = Watch(cluster)
    received = world.received()
    before, since, machine = cpu_of(parts.pids), watch.ends(MESSAGES), Machine.now()
    sink_before = cpu_seconds(world.sink.pid)
    with Publisher(cluster, "bench") as publisher:
        publish(publisher, mailing, rate)
    _wait_for_facts(watch, since, 2 * len(mailing.sends))
    idle = machine.idle_share(Machine.now())
    _wait_for_sink(watch)
    after = cpu_of(parts.pids)
    story = watch.read(since, watch.ends(MESSAGES))
    watch.close()
    seconds, latencies, delivered = _timing(story)
    return Outcome(
        messages=len(mailing.sends),
        delivered=delivered,
        received=world.received() - received,
        seconds=seconds,
        latency=_percentiles(latencies),
        cpu=spent(before, after),
        sink_cpu=cpu_seconds(world.sink.pid) - sink_before,
        memory=memory_of(parts.pids),
        idle=idle,
    )


def publish(publisher: Publisher, mailing: Mailing, rate: float | None = None) -> None:
    if mailing.campaign is not None:
        publisher.publish(mailing.campaign)
        publisher.flush()  # the campaign is known before its first send
    began = time.monotonic()
    for number, send in enumerate(mailing.sends):
        if rate is not None:
            ahead = number / rate - (time.monotonic() - began)
            if ahead > _SLICE_S:
                time.sleep(ahead)
        publisher.send(SENDS, send.key, send.value)


def _wait_for_facts(watch: Watch, since: list[TopicPartition], count: int) -> None:
    """Until `count` more records are on the topic of the messages' story, or nothing moves any more."""
    start, seen, moved = sum(place.offset for place in since), 0, time.monotonic()
    while seen < count and time.monotonic() - moved < _STALLED_S:
        time.sleep(_LOOK_S)
        now = sum(place.offset for place in watch.ends(MESSAGES)) - start
        if now > seen:
            seen, moved = now, time.monotonic()


def _wait_for_sink(watch: Watch) -> None:
    deadline = time.monotonic() + _STALLED_S
    while any(watch.sink_lag(topic) for topic in (MESSAGES, ATTEMPTS)) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def _timing(story: list[dict[str, object]]) -> tuple[float, list[float], int]:
    """Seconds from first acceptance to last delivery; the wait of each in ms; how many were delivered."""
    ended = {str(fact["message_id"]): fact for fact in story if fact["type"] == "message.delivered"}
    if not ended:
        return 1.0, [0.0], 0
    accepted = {key: _at(fact["accepted_at"]) for key, fact in ended.items()}
    done = {key: _at(fact["occurred_at"]) for key, fact in ended.items()}
    waits = [(done[key] - accepted[key]) * 1000 for key in ended]
    return max(done.values()) - min(accepted.values()), waits, len(ended)


def _at(text: object) -> float:
    return datetime.fromisoformat(str(text)).timestamp()


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return (values[0],) * 3
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]
