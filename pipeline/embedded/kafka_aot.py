"""Java's ahead-of-time cache: made once per set of jars, Java and options, by watching one broker start and work.

It more than halves the time of a start. It is an extra: where it cannot be made, that is noted and the broker runs
without; a cache whose bytes changed on the disk is not used, since Java trusts what it maps into memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

import structlog
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from pipeline.embedded.kafka_broker import Broker, KafkaStartFailed, wait_ready
from pipeline.embedded.kafka_config import JAVA_OPTIONS, Cluster, Distribution, Node, cluster_id
from pipeline.embedded.kafka_lock import file_sha256
from pipeline.embedded.ports import free_ports

_log = structlog.get_logger(__name__)

_START_LIMIT = 60.0  # seconds for a start without the cache, on a slow machine
_WRITE_LIMIT = 180.0  # seconds for Java to write the cache when the broker stops
_KEPT = 3  # caches of other virtual environments or Java versions; about 65 MB each


def existing(distribution: Distribution, folder: Path) -> Path | None:
    """The intact cache that fits this distribution, if it was made before."""
    cache = _place(distribution, folder)
    seal = cache.with_suffix(".sha256")
    if cache.is_file() and seal.is_file() and seal.read_text() == file_sha256(cache):
        return cache
    return None


def make(distribution: Distribution, folder: Path) -> Path | None:
    """Make it (10 to 20 s); None when it cannot be made, which is tried only once."""
    cache = _place(distribution, folder)
    given_up = cache.with_suffix(".failed")
    if given_up.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".training-", dir=folder) as training:
            draft = Path(training) / "draft.aot"
            _train(replace(distribution, aot=None), Path(training), draft)
            seal = file_sha256(draft)
            cache.with_suffix(".sha256").unlink(missing_ok=True)
            draft.replace(cache)
            cache.with_suffix(".sha256").write_text(seal)
    except (OSError, KafkaStartFailed, KafkaException) as error:
        _log.warning("kafka_aot_cache_not_made", error=str(error)[:500])
        given_up.write_text(str(error))
        return None
    _forget_old(folder)
    return cache


def discard(cache: Path) -> None:
    """Forget a cache with which a broker did not start, and do not make it again."""
    cache.with_suffix(".failed").write_text("a broker did not start with it, and did without")
    cache.with_suffix(".sha256").unlink(missing_ok=True)
    cache.unlink(missing_ok=True)


def _place(distribution: Distribution, folder: Path) -> Path:
    # What Java compares before it uses a cache: its own build, the class path with sizes and times, some options.
    runtime = distribution.java.parent.parent / "lib" / "modules"
    parts = [str(runtime), *JAVA_OPTIONS]
    for file in (runtime, *distribution.jars):
        facts = os.stat(file)
        parts.append(f"{file} {facts.st_size} {facts.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return folder / f"{digest[:16]}.aot"


def _train(distribution: Distribution, home: Path, output: Path) -> None:
    client, controller = free_ports(2)
    node = Node(0, home / "broker", client, controller)
    broker = Broker(node, Cluster(cluster_id(uuid.uuid4()), (node,)))
    try:
        broker.launch(distribution, options=[f"-XX:AOTCacheOutput={output}"])
        wait_ready([broker], _START_LIMIT)
        _exercise(f"127.0.0.1:{client}")
        broker.stop(_WRITE_LIMIT)
    finally:
        broker.kill()


def _exercise(bootstrap: str) -> None:
    """What the first seconds of our stack do, so that those classes are in the cache too."""
    quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 0}
    admin = AdminClient(quiet)
    for future in admin.create_topics([NewTopic("training", 2, 1)]).values():
        future.result(30)
    producer = Producer(quiet | {"transactional.id": "training", "acks": "all"})
    producer.init_transactions(30)
    for protocol in ("classic", "consumer"):
        producer.begin_transaction()
        producer.produce("training", b"value", b"key")
        producer.flush(30)
        producer.commit_transaction(30)
        group = {"group.id": protocol, "group.protocol": protocol, "auto.offset.reset": "earliest"}
        consumer = Consumer(quiet | group)
        consumer.subscribe(["training"])
        consumer.poll(10)
        consumer.close()


def _forget_old(folder: Path) -> None:
    caches = sorted(folder.glob("*.aot"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in caches[_KEPT:]:
        old.with_suffix(".sha256").unlink(missing_ok=True)
        old.unlink()
