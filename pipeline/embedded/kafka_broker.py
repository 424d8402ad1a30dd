"""One broker process: format its folder once, launch it, know when it serves, end it.

Which brokers there are, and when one is started again, is `kafka.py`'s business.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Collection, Sequence

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.embedded.kafka_config import (
    Cluster,
    Distribution,
    Node,
    java_command,
    log4j2_properties,
    server_properties,
)
from pipeline.embedded.process import Child, last_lines, launch

_log = structlog.get_logger(__name__)

_FORMAT_LIMIT = 60.0  # seconds
_LOOK = 0.05  # seconds between two questions
_CONFIG = "server.properties"


class KafkaStartFailed(Exception):
    """A broker did not come up; the text holds what its log says."""


class BrokerEnded(KafkaStartFailed):
    """Its process ended before it served. `killed`: by SIGKILL, so somebody else's doing."""

    def __init__(self, text: str, killed: bool = False):
        super().__init__(text)
        self.killed = killed


class Broker:
    """The process of one node; may be launched again after it ended."""

    def __init__(self, node: Node, cluster: Cluster):
        self.node = node
        self._cluster = cluster
        self.child: Child | None = None

    def launch(self, distribution: Distribution, options: Sequence[str] = ()) -> None:
        """Write its configuration, format its folder if that was never done, start it. Returns before it serves."""
        home = self.node.home
        if not (home / "log").exists():
            self._format(distribution)
        self._write_configuration()
        command = java_command(distribution, "kafka.Kafka", _CONFIG, options=options)
        self.child = launch(self._name, command, log=home / "stdout.log", env=_environment(), cwd=home)

    def running(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def killed(self) -> bool:
        return self.child is not None and self.child.poll() == -signal.SIGKILL

    def stop(self, limit: float) -> None:
        if self.child is not None and self.running():
            self.child.stop(limit)

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()

    def complaint(self) -> str:
        """The end of what it printed and logged."""
        home = self.node.home
        return f"{last_lines(home / 'stdout.log', 5)}\n{last_lines(home / 'server.log', 10)}".strip()

    @property
    def _name(self) -> str:
        return f"kafka-{self.node.index}"

    def _write_configuration(self) -> None:
        home = self.node.home
        shutil.rmtree(home / "tmp", ignore_errors=True)
        (home / "tmp").mkdir(parents=True)
        (home / _CONFIG).write_text(server_properties(self.node, self._cluster))
        (home / "log4j2.properties").write_text(log4j2_properties())

    def _format(self, distribution: Distribution) -> None:
        # Kafka's own tool: it enables every feature of the release; without it KIP-848 and share groups stay off.
        self._write_configuration()
        home = self.node.home
        draft = home / "draft"  # renamed when complete: a start that was killed here begins anew
        shutil.rmtree(draft, ignore_errors=True)
        settings = (home / _CONFIG).read_text() + "log.dirs=draft\n"
        (home / "format.properties").write_text(settings)
        command = java_command(
            distribution,
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", self._cluster.cluster_id, "--config", "format.properties"),
        )
        child = launch(f"{self._name}-format", command, log=home / "stdout.log", env=_environment(), cwd=home)
        if child.wait(_FORMAT_LIMIT) != 0:
            child.kill()
            raise BrokerEnded(f"{home} could not be formatted:\n{self.complaint()}")
        draft.rename(home / "log")


def wait_ready(brokers: Collection[Broker], limit: float) -> None:
    """Return when each of `brokers` answers clients and is in the cluster; raises KafkaStartFailed."""
    deadline = time.monotonic() + limit
    wanted = {broker.node.index for broker in brokers}
    for broker in brokers:
        while not _serves(broker, wanted):
            if not broker.running():
                raise BrokerEnded(
                    f"broker {broker.node.index} ended while it started:\n{broker.complaint()}", broker.killed()
                )
            if time.monotonic() > deadline:
                raise KafkaStartFailed(
                    f"broker {broker.node.index} does not serve after {limit:.0f} s:\n{broker.complaint()}"
                )
            time.sleep(_LOOK)


def _serves(broker: Broker, wanted: set[int]) -> bool:
    address = ("127.0.0.1", broker.node.client_port)
    try:
        socket.create_connection(address, timeout=1).close()  # first of all: librdkafka waits longer after each refusal
    except OSError:
        return False
    # A broker lists the brokers that the controller lets serve: itself only when it has caught up.
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{broker.node.client_port}", "log_level": 0})
    try:
        return wanted <= set(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def _environment() -> dict[str, str]:
    # Nothing else of ours: JAVA_TOOL_OPTIONS, CLASSPATH or KAFKA_* of the user would change the broker.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TZ") if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}  # few arenas: 80 threads would each hold some memory
