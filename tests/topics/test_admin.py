from __future__ import annotations

from collections.abc import Mapping

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported without saying so
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tests.waiting import wait_until
from topics.admin import Found, Kind, Profile, apply, compare, partitions, plan, replication
from topics.errors import Later
from topics.kafka import Cluster
from topics.registry import BY_NAME, MESSAGES, QUEUE, SITES, TOPICS, Topic


def as_wanted(topic: Topic, settings: Mapping[str, str] | None = None) -> Found:
    replicas, in_sync = replication(3)
    config = {**topic.config(), "min.insync.replicas": str(in_sync), "segment.ms": "1"}
    return Found(topic.production, replicas, {**config, **(settings or {})})


def obstacles(topic: Topic, found: Found) -> Mapping[str, bool]:
    """What differs, and whether apply leaves it alone."""
    changes = compare([topic], {topic.name: found}, 3, Profile.PRODUCTION)
    return {change.setting or str(change.kind): bool(change.obstacle) for change in changes}


def test_a_broker_as_declared_needs_nothing() -> None:
    assert compare(TOPICS, {topic.name: as_wanted(topic) for topic in TOPICS}, 3, Profile.PRODUCTION) == []


def test_a_missing_topic_is_created_with_the_profile_s_partitions() -> None:
    [change] = compare([MESSAGES], {}, 1, Profile.EMBEDDED)
    assert (change.kind, change.wanted, change.obstacle) == (Kind.CREATE, "1 partitions, 1 replicas", "")


@pytest.mark.parametrize(("brokers", "expected"), [(1, (1, 1)), (2, (2, 1)), (3, (3, 2)), (7, (3, 2))])
def test_replication_follows_the_brokers(brokers: int, expected: tuple[int, int]) -> None:
    assert replication(brokers) == expected


@pytest.mark.parametrize("count", [1, 24])
def test_partitions_are_shown_and_left(count: int) -> None:
    found = as_wanted(MESSAGES)
    assert obstacles(MESSAGES, Found(count, found.replicas, found.settings)) == {"partitions": True}


def test_replicas_are_shown_and_left_and_no_more_acks_are_asked_for_than_there_are_replicas() -> None:
    found = as_wanted(MESSAGES, {"min.insync.replicas": "1"})
    assert obstacles(MESSAGES, Found(found.partitions, 1, found.settings)) == {"replication": True}


@pytest.mark.parametrize(
    ("topic", "name", "value", "left_alone"),
    [
        (MESSAGES, "retention.ms", "1000", False),
        (MESSAGES, "retention.ms", "-1", True),
        (MESSAGES, "retention.ms", str(500 * 86_400_000), True),
        (MESSAGES, "cleanup.policy", "compact", True),
        (SITES, "cleanup.policy", "delete", True),
        (SITES, "min.compaction.lag.ms", "0", False),
        (QUEUE, "min.compaction.lag.ms", "5000", True),
        (SITES, "delete.retention.ms", "1000", False),
        (SITES, "delete.retention.ms", "999999999", True),
        (MESSAGES, "max.message.bytes", "1000", False),
        (MESSAGES, "min.insync.replicas", "1", False),
    ],
)
def test_a_setting_is_altered_unless_that_destroys_records(
    topic: Topic, name: str, value: str, left_alone: bool
) -> None:
    assert obstacles(topic, as_wanted(topic, {name: value})) == {name: left_alone}


@pytest.mark.stack
def test_plan_apply_plan(kafka: str, topic_prefix: str) -> None:
    cluster = Cluster(kafka, prefix=topic_prefix)
    assert {change.topic for change in plan(cluster, Profile.EMBEDDED)} == set(BY_NAME)
    done = apply(cluster, Profile.EMBEDDED)
    assert [change.kind for change in done] == [Kind.CREATE] * len(TOPICS)
    assert plan(cluster, Profile.EMBEDDED) == apply(cluster, Profile.EMBEDDED) == []
    client = cluster.admin("test")
    seen = client.list_topics(timeout=10).topics
    for topic in TOPICS:
        assert len(seen[cluster.topic(topic)].partitions) == partitions(topic, Profile.EMBEDDED)


@pytest.mark.stack
def test_drift_is_mended_and_what_is_not_ours_stays(kafka: str, topic_prefix: str) -> None:
    cluster = Cluster(kafka, prefix=topic_prefix)
    client = cluster.admin("test")
    name = cluster.topic(MESSAGES)
    client.create_topics([NewTopic(name, 5, 1, config={"segment.ms": "12345678"})])[name].result()
    apply(cluster, Profile.EMBEDDED)
    for setting, value in (("retention.ms", "1000"), ("max.message.bytes", "2000")):
        resource = ConfigResource(ResourceType.TOPIC, name)
        resource.add_incremental_config(ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET))
        client.incremental_alter_configs([resource])[resource].result()
    drift = {Kind.PARTITIONS: True, "retention.ms": False, "max.message.bytes": False}

    def shown() -> dict[str, bool]:
        return {change.setting or change.kind: bool(change.obstacle) for change in plan(cluster, Profile.EMBEDDED)}

    wait_until(lambda: shown() == drift, what="the broker to show what was altered")
    apply(cluster, Profile.EMBEDDED)
    assert [change.kind for change in plan(cluster, Profile.EMBEDDED)] == [Kind.PARTITIONS]
    resource = ConfigResource(ResourceType.TOPIC, name)
    settings = client.describe_configs([resource])[resource].result()
    assert settings["segment.ms"].value == "12345678"
    assert settings["retention.ms"].value == str(MESSAGES.keep_ms)


def test_a_broker_that_is_away_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topics.admin._TIMEOUT_S", 0.2)
    with pytest.raises(Later):
        plan(Cluster("127.0.0.1:1"), Profile.EMBEDDED)
