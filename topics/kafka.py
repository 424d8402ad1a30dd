"""How this installation reaches Kafka: names with their prefix, security, and the settings of every client.

Decides what all clients of ours have in common; what a client does is left to publisher, loop, view and the queue
owner's journal. Settings come in as plain values (`pipeline.settings` reads files and environment).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from topics.registry import MAX_RECORD, Topic

GroupProtocol = Literal["consumer", "classic"]
"""`consumer` is KIP-848: the broker computes the assignment and sets the session time-out. `classic` came before."""

# What our brokers set for KIP-848 groups, which cannot choose. A queue owner's transaction time-out and the time within
# which it may write a final dot (10 s) must be shorter.
SESSION_TIMEOUT_MS = 15_000
_LOG_AGAIN_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Security:
    """SASL and TLS of the connection. Holds file names only: the password is read when a client is configured."""

    sasl_mechanism: str = ""  # PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; empty: no SASL
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca: Path | None = None  # PEM; None: the system's
    cert: Path | None = None  # PEM chain of our own certificate (mutual TLS)
    key: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.sasl_mechanism) != bool(self.username and self.password_file):
            raise ValueError("SASL needs a mechanism, a username and a password file together")
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client certificate and its key go together")
        if (self.ca or self.cert) and not self.tls:
            raise ValueError("certificates are given, yet TLS is off")

    def password(self) -> str:
        if self.password_file is None:
            return ""
        # One trailing newline is the editor's, not the password's.
        return self.password_file.read_text(encoding="utf-8").removesuffix("\n")

    def config(self) -> dict[str, Any]:
        """The librdkafka settings; the dict holds the password, so it is never logged."""
        protocol = ("SASL_" if self.sasl_mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        settings: dict[str, Any] = {"security.protocol": protocol}
        if self.sasl_mechanism and self.password_file:
            settings["sasl.mechanism"] = self.sasl_mechanism
            settings["sasl.username"] = self.username
            settings["sasl.password"] = self.password()
        for name, path in (("ca", self.ca), ("certificate", self.cert), ("key", self.key)):
            if path:
                settings[f"ssl.{name}.location"] = str(path)
        return settings


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster as this installation sees it. The prefix lets several installations share one."""

    bootstrap: str  # host:port, separated by commas
    prefix: str = ""
    group_protocol: GroupProtocol = "consumer"
    security: Security | None = None

    def topic(self, topic: Topic | str) -> str:
        """The name on the broker."""
        return self.prefix + (topic if isinstance(topic, str) else topic.name)

    def bare(self, name: str) -> str:
        """The name in the registry of a topic on the broker."""
        return name.removeprefix(self.prefix)

    def group(self, name: str) -> str:
        return self.prefix + name

    def transactional_id(self, text: str) -> str:
        return self.prefix + text

    def client_config(self, client_id: str) -> dict[str, Any]:
        """What every client has; enough for an AdminClient."""
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": client_id,
            # A broker that restarts is back within seconds: librdkafka's 10 s would be most of the outage.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "retry.backoff.ms": 5,
            "retry.backoff.max.ms": 20,
            "socket.keepalive.enable": True,
            "enable.metrics.push": False,  # KIP-714 telemetry wakes idle clients for what nobody asked
            "log_level": 2,  # librdkafka writes to stderr; what matters comes through error_cb
            "error_cb": logged_once_per_state(client_id),
            **(self.security.config() if self.security else {}),
        }

    def producer_config(self, client_id: str, **extra: Any) -> dict[str, Any]:
        """`extra` has librdkafka names with dots as given: `**{"linger.ms": 0}`."""
        return {
            **self.client_config(client_id),
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # as Java and Faust place keys; librdkafka's default is CRC32
            "linger.ms": 5,
            "batch.size": 512 * 1024,
            "compression.type": "lz4",
            "message.max.bytes": MAX_RECORD,
            "message.timeout.ms": 120_000,  # longer than a broker needs to come back after kill -9
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 64 * 1024,
            **extra,
        }

    def consumer_config(self, group: str, client_id: str, **extra: Any) -> dict[str, Any]:
        """A consumer that commits only what it is told to. Give `group` without the prefix.

        For a topic that is written in transactions (only `mail.queue.*` is) add
        `**{"isolation.level": "read_committed"}`.
        """
        settings = {
            **self.client_config(client_id),
            "group.id": self.group(group),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",
            "allow.auto.create.topics": False,
            "group.protocol": self.group_protocol,
            # Bounds memory: librdkafka's default is 64 MiB and 100,000 records for each consumer.
            "queued.max.messages.kbytes": 16 * 1024,
            "queued.min.messages": 10_000,
            "fetch.queue.backoff.ms": 20,  # librdkafka's 1 s leaves a busy consumer idle between two fetches
            "fetch.error.backoff.ms": 100,
        }
        # Range: partition p of every topic of a group goes to one member, so lanes, urgent lanes and queue state meet.
        # The names of the settings differ, and librdkafka refuses the classic ones under KIP-848.
        if self.group_protocol == "classic":
            settings["partition.assignment.strategy"] = "range"
            settings["session.timeout.ms"] = SESSION_TIMEOUT_MS
            settings["heartbeat.interval.ms"] = SESSION_TIMEOUT_MS // 4
        else:
            settings["group.remote.assignor"] = "range"
        return {**settings, **extra}

    # The seam: a fake cluster (topics.fake) overrides these three, and everything above runs in memory.

    def producer(self, client_id: str, **extra: Any) -> Producer:
        return Producer(self.producer_config(client_id, **extra))

    def consumer(self, group: str, client_id: str, **extra: Any) -> Consumer:
        return Consumer(self.consumer_config(group, client_id, **extra))

    def admin(self, client_id: str) -> AdminClient:
        return AdminClient(self.client_config(client_id))


def logged_once_per_state(client_id: str, clock: Callable[[], float] = time.monotonic) -> Callable[[KafkaError], None]:
    """An error_cb that logs an error when it is new, then once a minute at most: librdkafka repeats it all the time.

    Only the code's name is logged: the text holds addresses of hosts.
    """
    seen: dict[int, float] = {}

    def on_error(error: KafkaError) -> None:
        now = clock()
        if now - seen.get(error.code(), float("-inf")) >= _LOG_AGAIN_S:
            seen[error.code()] = now
            log.warning("kafka_error", client=client_id, error=error.name(), fatal=error.fatal())

    return on_error
