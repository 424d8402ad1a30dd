"""The brokers' settings in docker-compose.kafka.yml beside those of the embedded cluster, and where they may differ."""

from __future__ import annotations

from pathlib import Path

from pipeline.embedded.kafka_config import Cluster, Node, server_properties
from tests.compose.model import Compose

BROKERS = ("kafka-0", "kafka-1", "kafka-2")

# Each broker's own place, or the host's: the same settings with other values.
PLACES = {
    "listeners": "loopback and free ports here, every address of its container there",
    "advertised.listeners": "as listeners",
    "controller.quorum.voters": "as listeners",
    "log.dirs": "a folder here, a volume there",
}
# Set for the embedded cluster alone; production keeps Kafka's own defaults.
EMBEDDED_ONLY = {
    "num.partitions": "no topic is made without saying how many",
    "offsets.topic.num.partitions": "size: a laptop starts 8 empty logs faster than 50",
    "transaction.state.log.num.partitions": "size",
    "share.coordinator.state.topic.num.partitions": "size",
    "socket.request.max.bytes": "size: the heap is 256 MB",
    "queued.max.request.bytes": "size",
    "log.segment.bytes": "size",
    "log.index.size.max.bytes": "size",
    "log.cleaner.dedupe.buffer.size": "size",
    "metadata.log.segment.bytes": "size",
    "metadata.max.idle.interval.ms": "size: fewer writes on a laptop that does nothing",
    "num.network.threads": "size: two cores",
    "num.io.threads": "size",
    "num.replica.fetchers": "size",
    "num.recovery.threads.per.data.dir": "size",
    "background.threads": "size",
    "log.cleaner.threads": "size",
    "group.initial.rebalance.delay.ms": "loopback: a test does not wait 3 s for members that are not coming",
    "broker.session.timeout.ms": "loopback: no network and no long collection of garbage that looks like a death",
    "broker.heartbeat.interval.ms": "loopback",
}


def embedded() -> dict[str, str]:
    """What the first of three embedded brokers is told."""
    nodes = tuple(Node(index, Path(f"/broker-{index}"), 20_000 + index, 21_000 + index) for index in range(3))
    lines = server_properties(nodes[0], Cluster("id", nodes)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def composed(compose: Compose, broker: str) -> dict[str, str]:
    """What the image makes of the variables: KAFKA_A_B is a.b (no setting here has a dash or an underscore)."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in compose.services[broker].environment.items()
        if name.startswith("KAFKA_")
    }
