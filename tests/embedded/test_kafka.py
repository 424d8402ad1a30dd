"""The embedded Kafka as a whole: it serves, keeps what it acked through kill -9, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from pipeline.embedded import kafka_aot
from pipeline.embedded.kafka import Distribution, EmbeddedKafka, KafkaPlan, KafkaStartFailed, KafkaUnavailable, prepare
from pipeline.embedded.ports import free_ports, is_free
from tests.embedded.processes import alive
from tests.embedded.test_kafka_jars import configure
from tests.waiting import wait_until

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def distribution() -> Distribution:
    return prepare(progress=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # As users have them: Kafka splits lists at commas and reads its settings as Latin-1.
    return tmp_path_factory.mktemp("Jörg, privat")


@pytest.fixture(scope="module")
def broker(folder: Path, distribution: Distribution) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(KafkaPlan(folder), distribution) as kafka:
        yield kafka


def client(kafka: EmbeddedKafka, **more: str | int | bool) -> dict[str, str | int | float | bool]:
    settings: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
    return settings | {name.replace("_", "."): value for name, value in more.items()}


def create(kafka: EmbeddedKafka, topic: str, replicas: int = 1) -> None:
    admin = AdminClient(client(kafka))
    for future in admin.create_topics([NewTopic(topic, 2, replicas)]).values():
        future.result(30)


class Acks:
    """Produces numbered records and keeps the numbers that were acked."""

    def __init__(self, kafka: EmbeddedKafka, topic: str) -> None:
        self.acked: set[int] = set()
        self._topic = topic
        self._next = 0
        self._producer = Producer(client(kafka, acks="all", enable_idempotence=True, linger_ms=1))

    def send(self, count: int) -> None:
        for number in range(self._next, self._next + count):
            self._producer.produce(self._topic, str(number).encode(), on_delivery=self._note)
        self._next += count
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def some(self, count: int) -> bool:
        self._producer.poll(0.01)
        return len(self.acked) >= count

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.acked.add(int(message.value() or b"-1"))


def read(kafka: EmbeddedKafka, topic: str, count: int, protocol: str = "classic") -> set[int]:
    settings: dict[str, str | int | bool] = {"group_id": f"{topic}-{protocol}", "group_protocol": protocol}
    if protocol == "classic":
        settings["session_timeout_ms"] = 6_000
    consumer = Consumer(client(kafka, auto_offset_reset="earliest", **settings))
    consumer.subscribe([topic])
    seen: set[int] = set()

    def enough() -> bool:
        for message in consumer.consume(1_000, 0.2):
            assert message.error() is None, message.error()
            seen.add(int(message.value() or b"-1"))
        return len(seen) >= count

    wait_until(enough, what=f"{count} records of {topic}")
    consumer.close()
    return seen


def test_it_serves_both_group_protocols_with_short_sessions(broker: EmbeddedKafka) -> None:
    create(broker, "serves")
    acks = Acks(broker, "serves")
    acks.send(100)
    acks.flush()
    assert acks.acked == set(range(100))
    assert read(broker, "serves", 100, "classic") == acks.acked
    assert read(broker, "serves", 100, "consumer") == acks.acked


def test_a_topic_is_never_created_by_the_way(broker: EmbeddedKafka) -> None:
    producer = Producer(client(broker))  # its questions, unlike an admin's, allow the broker to create what they name
    assert producer.list_topics("by-the-way", timeout=10).topics["by-the-way"].error is not None
    assert "by-the-way" not in producer.list_topics(timeout=10).topics


def test_four_mebibytes_are_the_limit(broker: EmbeddedKafka) -> None:
    create(broker, "large")
    errors: list[KafkaError | None] = []
    producer = Producer(client(broker, message_max_bytes=8 * 1024 * 1024))
    for size in (4 * 1024 * 1024 - 1_000, 4 * 1024 * 1024 + 1):
        producer.produce("large", bytes(size), on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(30) == 0
    accepted, refused = errors
    assert accepted is None
    assert refused is not None
    assert refused.code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_the_broker_runs_with_what_we_set(broker: EmbeddedKafka) -> None:
    resource = ConfigResource(ResourceType.BROKER, "0")
    admin = AdminClient(client(broker))
    settings = admin.describe_configs([resource])[resource].result(30)
    expected = {
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.num.partitions": "8",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "group.consumer.session.timeout.ms": "15000",
    }
    assert {name: settings[name].value for name in expected} == expected


def test_records_acked_before_a_kill_are_there_after_it(broker: EmbeddedKafka) -> None:
    create(broker, "killed")
    acks = Acks(broker, "killed")
    acks.send(5_000)
    wait_until(lambda: acks.some(1), what="a first ack")
    before = broker.pids
    broker.kill()
    assert broker.ended() == (0,)
    assert not alive(before[0])
    broker.start_broker(0)
    assert broker.ended() == ()
    assert broker.pids != before
    acks.flush()
    assert acks.acked == set(range(5_000))
    assert read(broker, "killed", 5_000) == acks.acked


def test_a_second_one_on_the_same_folder_is_refused(
    folder: Path, broker: EmbeddedKafka, distribution: Distribution
) -> None:
    with pytest.raises(KafkaStartFailed, match="in use by another"):
        EmbeddedKafka(KafkaPlan(folder), distribution).start()
    assert broker.ended() == ()


def test_a_clean_stop_leaves_no_process_and_no_port_and_keeps_the_data(
    tmp_path: Path, distribution: Distribution
) -> None:
    kafka = EmbeddedKafka(KafkaPlan(tmp_path), distribution)
    kafka.start()
    create(kafka, "kept")
    acks = Acks(kafka, "kept")
    acks.send(10)
    acks.flush()
    first, (pid,) = kafka.bootstrap, kafka.pids
    kafka.stop()
    assert not alive(pid)
    assert is_free(int(first.split(":")[1]))
    assert (tmp_path / "broker-0" / "log" / ".kafka_cleanshutdown").exists()
    kafka.stop()  # does nothing

    with kafka:
        assert kafka.bootstrap == first
        assert read(kafka, "kept", 10) == set(range(10))


def test_a_broker_dies_with_its_parent(tmp_path: Path, distribution: Distribution) -> None:
    program = """
import sys, threading
from pathlib import Path
from pipeline.embedded.kafka import EmbeddedKafka, KafkaPlan, prepare
kafka = EmbeddedKafka(KafkaPlan(Path(sys.argv[1])), prepare(progress=False))
kafka.start()
print("PID", kafka.pids[0], flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = next(int(line.split()[1]) for line in parent.stdout if line.startswith("PID"))
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(pid), timeout=10, what="the broker's end")


def test_three_brokers_keep_acked_records_when_one_is_killed(tmp_path: Path, distribution: Distribution) -> None:
    with EmbeddedKafka(KafkaPlan(tmp_path, brokers=3), distribution) as kafka:
        assert len(kafka.bootstrap.split(",")) == len(kafka.pids) == 3
        create(kafka, "thrice", replicas=3)
        acks = Acks(kafka, "thrice")
        acks.send(2_000)
        wait_until(lambda: acks.some(1), what="a first ack")
        kafka.kill(1)
        acks.send(2_000)
        acks.flush()
        assert kafka.ended() == (1,)
        assert acks.acked == set(range(4_000))
        assert read(kafka, "thrice", 4_000) == acks.acked
        kafka.start_broker(1)
        assert kafka.ended() == ()
        pids = kafka.pids
    assert not any(alive(pid) for pid in pids)
    clean = [(tmp_path / f"broker-{index}" / "log" / ".kafka_cleanshutdown").exists() for index in range(3)]
    assert clean == [True, True, True]


def test_a_folder_belongs_to_one_number_of_brokers(tmp_path: Path, distribution: Distribution) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps({"cluster_id": "x", "brokers": 1}))
    with pytest.raises(KafkaStartFailed, match="belongs to 1 broker"):
        EmbeddedKafka(KafkaPlan(tmp_path, brokers=3), distribution).start()


def test_a_wanted_port_that_is_taken_is_an_error(
    tmp_path: Path, broker: EmbeddedKafka, distribution: Distribution
) -> None:
    taken = int(broker.bootstrap.split(":")[1])
    with pytest.raises(KafkaStartFailed, match=f"port {taken} on 127.0.0.1 is in use"):
        EmbeddedKafka(KafkaPlan(tmp_path, ports=(taken,)), distribution).start()


def test_a_broker_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path, distribution: Distribution) -> None:
    (port,) = free_ports(1)
    broken = replace(distribution, jars=distribution.jars[1:], aot=None)  # without Kafka itself
    kafka = EmbeddedKafka(KafkaPlan(tmp_path, ports=(port,)), broken)
    with pytest.raises(KafkaStartFailed, match="ClassNotFoundException"):
        kafka.start()
    assert kafka.pids == ()
    # A folder whose formatting was cut short is formatted anew.
    with EmbeddedKafka(KafkaPlan(tmp_path, ports=(port,)), distribution) as kafka:
        assert kafka.bootstrap == f"127.0.0.1:{port}"


def with_bad_cache(folder: Path, distribution: Distribution, death: str) -> tuple[Distribution, Path]:
    """A distribution whose broker ends by the shell command `death` when it is started with its AOT cache."""
    java = folder / "java"
    script = f'case "$*" in *AOTCache=*kafka.Kafka*) {death};; esac\nexec {distribution.java} "$@"\n'
    java.write_text(f"#!/bin/sh\n{script}")
    java.chmod(0o755)
    cache = folder / "bad.aot"
    cache.write_bytes(b"not a cache")
    return replace(distribution, java=java, aot=cache), cache


def test_a_kill_at_the_start_is_not_blamed_on_the_aot_cache(tmp_path: Path, distribution: Distribution) -> None:
    killed, cache = with_bad_cache(tmp_path, distribution, "kill -9 $$")
    with pytest.raises(KafkaStartFailed):
        EmbeddedKafka(KafkaPlan(tmp_path / "data"), killed).start()
    assert cache.exists()


def test_a_java_that_dies_of_its_aot_cache_is_started_without_it(tmp_path: Path, distribution: Distribution) -> None:
    crashing, cache = with_bad_cache(tmp_path, distribution, "exit 134")
    with EmbeddedKafka(KafkaPlan(tmp_path / "data"), crashing) as kafka:
        assert kafka.ended() == ()
    assert not cache.exists()
    assert cache.with_suffix(".failed").exists()


def test_an_aot_cache_that_changed_on_the_disk_is_not_used(tmp_path: Path, distribution: Distribution) -> None:
    assert distribution.aot is not None
    folder = tmp_path / "aot"
    shutil.copytree(distribution.aot.parent, folder)
    assert kafka_aot.existing(distribution, folder) == folder / distribution.aot.name
    with (folder / distribution.aot.name).open("r+b") as cache:
        cache.seek(1_000_000)
        cache.write(b"damage")
    assert kafka_aot.existing(distribution, folder) is None


def test_the_second_run_needs_no_registry(
    tmp_path: Path, distribution: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = distribution.jars[0].parent.parent
    (nobody,) = free_ports(1)
    configure(tmp_path, monkeypatch, nobody)  # from here on jgo reaches no registry, and the home is empty
    assert prepare(progress=False, cache=folder.parent) == distribution

    elsewhere = tmp_path / "cache" / folder.name / "jars"
    elsewhere.mkdir(parents=True)
    for jar in distribution.jars[1:]:
        (elsewhere / jar.name).hardlink_to(jar)
    with pytest.raises(KafkaUnavailable, match="MAILRIVER_KAFKA=host:port"):
        prepare(progress=False, cache=tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KafkaUnavailable, match=r"cache folder .*file.* cannot be used"):
        prepare(progress=False, cache=tmp_path / "file")
