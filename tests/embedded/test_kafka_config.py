"""What an embedded broker is told."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embedded.kafka import KafkaPlan
from pipeline.embedded.kafka_config import Cluster, Distribution, Node, cluster_id, java_command, server_properties
from pipeline.embedded.kafka_lock import KAFKA, LOGGING, read_lock


def cluster(count: int) -> Cluster:
    nodes = (Node(i, Path(f"/home/Jörg, privat/broker-{i}"), 20_000 + i, 21_000 + i) for i in range(count))
    return Cluster("id", tuple(nodes))


def properties(count: int) -> dict[str, str]:
    whole = cluster(count)
    lines = server_properties(whole.nodes[0], whole).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_three_brokers_keep_three_copies_and_one_broker_one() -> None:
    three, one = properties(3), properties(1)
    for factor in ("default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        assert (three[f"{factor}.replication.factor"], one[f"{factor}.replication.factor"]) == ("3", "1")
    for in_sync in ("min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"):
        assert (three[in_sync], one[in_sync]) == ("2", "1")
    assert three["controller.quorum.voters"] == "0@127.0.0.1:21000,1@127.0.0.1:21001,2@127.0.0.1:21002"
    assert cluster(3).bootstrap == "127.0.0.1:20000,127.0.0.1:20001,127.0.0.1:20002"


def test_no_listener_leaves_loopback() -> None:
    assert properties(1)["listeners"] == "PLAINTEXT://127.0.0.1:20000,CONTROLLER://127.0.0.1:21000"


def test_the_file_is_ascii_whatever_the_folder_is_called() -> None:
    assert server_properties(cluster(1).nodes[0], cluster(1)).isascii()


@given(st.uuids())
def test_a_cluster_id_is_what_kafka_takes(number: UUID) -> None:
    text = cluster_id(number)
    assert len(text) == 22
    assert not text.startswith("-")
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_the_aot_cache_is_named_only_when_there_is_one() -> None:
    distribution = Distribution("4.3.1", Path("/java"), (Path("/a.jar"), Path("/b.jar")), aot=None)
    plain = java_command(distribution, "kafka.Kafka", "server.properties")
    assert plain[-4:] == ["-cp", "/a.jar:/b.jar", "kafka.Kafka", "server.properties"]
    assert not any("AOT" in word for word in plain)
    cached = java_command(Distribution("4.3.1", Path("/java"), (), aot=Path("/x.aot")), "kafka.Kafka")
    assert "-XX:AOTCache=/x.aot" in cached


def test_the_lock_is_the_kafka_that_we_say() -> None:
    lock = read_lock()
    coordinates = {jar.coordinate for jar in lock.jars}
    assert lock.version == "4.3.1"
    assert {KAFKA, LOGGING, f"org.apache.logging.log4j:log4j-core:{LOGGING.split(':')[2]}"} <= coordinates
    # Kafka's own parts are all of one release: a resolver once mixed in the clients of another.
    assert {c.split(":")[2] for c in coordinates if c.startswith("org.apache.kafka:")} == {"4.3.1"}
    assert len({jar.filename for jar in lock.jars}) == len(lock.jars) == 46


def test_a_plan_names_a_port_for_each_broker_or_none(tmp_path: Path) -> None:
    assert KafkaPlan(tmp_path, 3, (1, 2, 3)).ports == (1, 2, 3)
    with pytest.raises(ValueError, match="3 brokers need 3 ports"):
        KafkaPlan(tmp_path, 3, (9092,))
