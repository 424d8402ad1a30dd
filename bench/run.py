"""One run on started parts: publish, wait until every fact is written, read the story, add up.

A message counts as delivered by its fact (`message.delivered`: the next hop said 250). When the sink has received
exactly as many messages as there are such facts, each for another message, then each arrived once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import TopicPartition

from bench.accounting import Machine, cpu_of, cpu_seconds, memory_of, spent
from bench.internet import Internet
from bench.parts import Running
from bench.watch import Watch
from bench.workload import BODY_BYTES, Content, Mailing, mailing
from pipeline import wiring
from sinks.clickhouse.intake import GROUP as SINK_GROUP
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES, SENDS

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


def deliver(
    parts: Running,
    world: Internet,
    name: str,
    addresses: Iterable[str],
    *,
    content: Content = Content.CAMPAIGN,
    body: int = BODY_BYTES,
    rate: float | None = None,
) -> Outcome:
    """A mailing of that name, which may be used again: `run` of it."""
    fresh = f"{name}-{time.time_ns()}"
    return run(parts, world, mailing(content, fresh, addresses, parts.recipient_secret, body), rate)


def run(parts: Running, world: Internet, mailing: Mailing, rate: float | None = None) -> Outcome:
    """Deliver it, as fast as it goes or at `rate` messages a second. Returns when ClickHouse has the facts too."""
    cluster = wiring.cluster(parts.settings)
    watch = Watch(cluster)
    received = world.received()
    before, since, machine = cpu_of(parts.pids), watch.ends(MESSAGES), Machine.now()
    sink_before = cpu_seconds(world.sink.pid)
    with Publisher(cluster, "bench") as publisher:
        publish(publisher, mailing, rate)
    wait_for_facts(watch, since, 2 * len(mailing.sends))
    idle = machine.idle_share(Machine.now())
    wait_for_sink(watch)
    after = cpu_of(parts.pids)
    story = watch.read(since, watch.ends(MESSAGES))
    watch.close()
    seconds, latencies, delivered = timing(story)
    return Outcome(
        messages=len(mailing.sends),
        delivered=delivered,
        received=world.received() - received,
        seconds=seconds,
        latency=percentiles(latencies),
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


def wait_for_facts(watch: Watch, since: list[TopicPartition], count: int) -> None:
    """Until `count` more records are on the topic of the messages' story, or nothing moves any more."""
    start, seen, moved = sum(place.offset for place in since), 0, time.monotonic()
    while seen < count and time.monotonic() - moved < _STALLED_S:
        time.sleep(_LOOK_S)
        now = sum(place.offset for place in watch.ends(MESSAGES)) - start
        if now > seen:
            seen, moved = now, time.monotonic()


def wait_for_sink(watch: Watch) -> None:
    deadline = time.monotonic() + _STALLED_S
    while any(watch.lag(SINK_GROUP, topic) for topic in (MESSAGES, ATTEMPTS)) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def timing(story: list[dict[str, object]]) -> tuple[float, list[float], int]:
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


def percentiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return (values[0],) * 3
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]
