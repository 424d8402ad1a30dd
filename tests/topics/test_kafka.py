from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from structlog.testing import capture_logs

from topics.kafka import Cluster, GroupProtocol, Security, logged_once_per_state
from topics.registry import SENDS

NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_librdkafka_takes_our_settings(protocol: GroupProtocol) -> None:
    """It refuses a client whose settings it does not know, or that contradict each other."""
    cluster = Cluster(NOWHERE, group_protocol=protocol)
    assert isinstance(cluster.producer("test"), Producer)
    consumer = cluster.consumer("group", "test", **{"isolation.level": "read_committed"})
    assert isinstance(consumer, Consumer)
    consumer.close()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_what_promises_rest_on(protocol: GroupProtocol) -> None:
    cluster = Cluster(NOWHERE, group_protocol=protocol)
    producer = cluster.producer_config("test")
    consumer = cluster.consumer_config("group", "test")
    assert (producer["acks"], producer["enable.idempotence"]) == ("all", True)
    assert (consumer["enable.auto.commit"], consumer["auto.offset.reset"]) == (False, "earliest")
    assert (consumer.get("group.remote.assignor") or consumer.get("partition.assignment.strategy")) == "range"


def test_the_prefix_is_on_every_name_and_comes_off_again() -> None:
    cluster = Cluster(NOWHERE, prefix="blue.")
    assert cluster.topic(SENDS) == cluster.topic("mail.sends") == "blue.mail.sends"
    assert cluster.bare("blue.mail.sends") == "mail.sends"
    assert cluster.group("plan") == cluster.transactional_id("plan") == "blue.plan"
    assert cluster.consumer_config("plan", "test")["group.id"] == "blue.plan"


def test_secrets_are_read_when_needed_and_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2 \n")
    security = Security("SCRAM-SHA-512", "mailriver", file, tls=True, ca=tmp_path / "ca.pem")
    cluster = Cluster(NOWHERE, security=security)
    assert security.config() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "mailriver",
        "sasl.password": "hunter2 ",
        "ssl.ca.location": str(tmp_path / "ca.pem"),
    }
    assert "hunter2" not in repr(cluster)
    assert cluster.client_config("test")["sasl.password"] == "hunter2 "
    file.write_text("changed")
    assert security.config()["sasl.password"] == "changed"


@pytest.mark.parametrize(
    ("security", "protocol"),
    [
        (Security(), "PLAINTEXT"),
        (Security(tls=True), "SSL"),
        (Security(tls=True, cert=Path("c"), key=Path("k")), "SSL"),
    ],
)
def test_the_protocol_follows_from_what_is_given(security: Security, protocol: str) -> None:
    assert security.config()["security.protocol"] == protocol


@pytest.mark.parametrize(
    "fields",
    [
        {"sasl_mechanism": "PLAIN"},
        {"username": "u", "password_file": Path("p")},
        {"tls": True, "cert": Path("c")},
        {"ca": Path("ca")},
    ],
)
def test_half_given_security_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"SASL|certificate"):
        Security(**fields)  # type: ignore[arg-type]  # the cases are of many types


def test_an_error_is_logged_once_per_state_without_addresses() -> None:
    now = [0.0]
    on_error = logged_once_per_state("plan", lambda: now[0])
    down = KafkaError(KafkaError._ALL_BROKERS_DOWN, "broker 10.1.2.3 is down")
    with capture_logs() as logs:
        on_error(down)
        on_error(down)
        on_error(KafkaError(KafkaError._AUTHENTICATION))
        on_error(down)
        now[0] = 61.0
        on_error(down)
    assert [entry["error"] for entry in logs] == ["_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_ALL_BROKERS_DOWN"]
    assert "10.1.2.3" not in str(logs)
