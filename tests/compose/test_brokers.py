"""The brokers of the compose file are told what the brokers of the embedded cluster are told."""

from __future__ import annotations

import base64

from tests.compose.brokers import BROKERS, EMBEDDED_ONLY, PLACES, composed, embedded
from tests.compose.model import Compose
from topics.kafka import SESSION_TIMEOUT_MS


def test_the_same_settings_but_for_size_and_place(compose: Compose) -> None:
    ours = embedded()
    for broker in BROKERS:
        theirs = composed(compose, broker)
        assert set(theirs) - set(ours) == set()
        assert set(ours) - set(theirs) == set(EMBEDDED_ONLY)
        differing = {name for name in theirs if theirs[name] != ours[name]}
        assert differing - {"node.id"} == set(PLACES)


def test_three_brokers_that_are_different_and_know_each_other(compose: Compose) -> None:
    ids = {composed(compose, broker)["node.id"]: broker for broker in BROKERS}
    voters = ",".join(f"{number}@{broker}:9093" for number, broker in ids.items())
    for broker in BROKERS:
        told = composed(compose, broker)
        assert told["controller.quorum.voters"] == voters
        assert told["listeners"] == "PLAINTEXT://:9092,CONTROLLER://:9093"
        assert told["advertised.listeners"] == f"PLAINTEXT://{broker}:9092"
        assert told["log.dirs"] == compose.services[broker].volumes[0].target
        assert "localhost:9092" in " ".join(compose.services[broker].healthcheck.test)  # type: ignore[union-attr]


def test_one_cluster_whose_id_kafka_takes(compose: Compose) -> None:
    (text,) = {compose.services[broker].environment["CLUSTER_ID"] for broker in BROKERS}
    assert len(base64.urlsafe_b64decode(text + "==")) == 16
    assert not text.startswith("-")


def test_a_member_is_given_up_after_the_same_time_by_either_protocol() -> None:
    assert embedded()["group.consumer.session.timeout.ms"] == str(SESSION_TIMEOUT_MS)
