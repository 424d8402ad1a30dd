"""What an embedded broker is told: server properties, logging, Java options. Pure: text from a cluster's description.

Tuned for a laptop with two cores that also runs everything else: few threads, small buffers, 256 MB of heap, time-outs
short enough that a killed process is noticed within seconds. A production cluster keeps Kafka's own defaults.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

MAX_BATCH = 4 * 1024 * 1024  # bytes: what is larger is refused to the producer
INTERNAL_PARTITIONS = 8  # of each internal topic; the default of 50 makes every start and restart pay for empty logs

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Distribution:
    """A runnable Kafka: verified files in the cache."""

    version: str
    java: Path
    jars: tuple[Path, ...]  # class path order
    aot: Path | None  # Java's ahead-of-time cache; without it a start takes seconds longer


@dataclass(frozen=True, slots=True)
class Node:
    """One broker, which is a controller too."""

    index: int
    home: Path  # holds log/ (the records), its configuration and its logs
    client_port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """All brokers of one embedded Kafka."""

    cluster_id: str
    nodes: tuple[Node, ...]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{node.client_port}" for node in self.nodes)


def cluster_id(number: UUID) -> str:
    """Kafka's form of a UUID: 22 characters of URL-safe base64."""
    # The first bit is cleared: the text must not begin with a dash, which Kafka's tools take for an option.
    octets = bytes([number.bytes[0] & 0x7F]) + number.bytes[1:]
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def server_properties(node: Node, cluster: Cluster) -> str:
    """`server.properties` of one node. The broker must run with `node.home` as its working directory.

    Paths are relative: Kafka reads this file as Latin-1 and splits `log.dirs` at commas, a home folder may hold either.
    """
    replicas = len(cluster.nodes)
    # Three replicas with two in sync: one broker may die under acks=all and no acked record is lost.
    in_sync = 2 if replicas == 3 else 1
    voters = ",".join(f"{each.index}@127.0.0.1:{each.controller_port}" for each in cluster.nodes)
    client = f"PLAINTEXT://127.0.0.1:{node.client_port}"
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": node.index,
        # Static voters: ports may change between two runs, and a dynamic quorum would keep the old ones in its log.
        "controller.quorum.voters": voters,
        "listeners": f"{client},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": client,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": "log",
        # Topics are declared in the registry and created by us.
        "auto.create.topics.enable": "false",
        "num.partitions": 4,
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": INTERNAL_PARTITIONS,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": INTERNAL_PARTITIONS,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": INTERNAL_PARTITIONS,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Sizes.
        "message.max.bytes": MAX_BATCH,
        "replica.fetch.max.bytes": MAX_BATCH,
        "socket.request.max.bytes": 16 * _MIB,
        "queued.max.request.bytes": 64 * _MIB,  # requests wait in the heap
        "log.segment.bytes": 128 * _MIB,
        "log.index.size.max.bytes": _MIB,  # enough for such a segment; each is mapped whole into memory
        # A stack that was off for a month must not find its consumers sent back to the start.
        "offsets.retention.minutes": 90 * 24 * 60,
        # A killed member is noticed after the session time-out that it asked for, from 3 s on.
        "group.min.session.timeout.ms": 3_000,
        "group.initial.rebalance.delay.ms": 100,
        "group.consumer.min.session.timeout.ms": 3_000,
        # Longer than the 10 s in which a queue owner may write a final dot after its commit: an owner that was stopped
        # and wakes up must be past that time before another one has its messages.
        "group.consumer.session.timeout.ms": 15_000,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.heartbeat.interval.ms": 1_000,  # also how fast a KIP-848 rebalance goes
        # A killed worker's open transaction holds its readers until this looks; the default looks every 10 s.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
        # A broker that died is replaced as leader, and may register again, after its session: 9 s by default.
        "broker.session.timeout.ms": 4_000,
        "broker.heartbeat.interval.ms": 1_000,
        # Few threads.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.replica.fetchers": 1,
        "num.recovery.threads.per.data.dir": 2,
        "background.threads": 2,
        "log.cleaner.threads": 1,
        "log.cleaner.dedupe.buffer.size": 16 * _MIB,
        # The controller writes an empty record this often when idle; the default is 500 ms, each with an fsync.
        "metadata.max.idle.interval.ms": 10_000,
        "metadata.log.segment.bytes": 16 * _MIB,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def log4j2_properties() -> str:
    """Logging of one node: `server.log` in its working directory, at most 3 files of 8 MB."""
    return """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=server.log
appender.file.filePattern=server.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{ISO8601} %p %c{1} %m%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=8MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
logger.settings.name=org.apache.kafka.common.config
logger.settings.level=warn
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""


# The same for every start: an AOT cache only fits the options that it was made with.
JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",  # the smallest collector; a pause of this heap is short
    "-XX:TieredStopAtLevel=1",  # C1 only: the second compiler would fight the rest of the stack for two cores
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",  # a broker that is only half alive is worse than one that is started again
    "-XX:ErrorFile=hs_err.log",
    "-Djava.awt.headless=true",
    "-Djava.io.tmpdir=tmp",  # native libraries are unpacked there; kill -9 leaves them, the next start clears them
    "-Djdk.nio.maxCachedBufferSize=262144",  # large requests must not stay as buffers of every thread
    "-Dlog4j2.disableJmx=true",
    "-Dlog4j2.configurationFile=log4j2.properties",
)


def java_command(distribution: Distribution, main: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command line of a Kafka tool or of the broker itself."""
    cache = [f"-XX:AOTCache={distribution.aot}"] if distribution.aot is not None else []
    classes = ":".join(str(jar) for jar in distribution.jars)
    return [str(distribution.java), *JAVA_OPTIONS, *cache, *options, "-cp", classes, main, *arguments]
