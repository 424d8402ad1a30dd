"""Sentinels of the registry: whoever adds a topic, an event type or a role meets them."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.families import EVENTS, SEND
from topics.registry import (
    BY_NAME,
    BY_TYPE,
    LANES_URGENT,
    MAX_READ,
    MAX_RECORD,
    SENDS_URGENT,
    TOPICS,
    Cleanup,
    Topic,
)

ROLES = frozenset(
    {"upstream", "plan", "smtp", "classify", "suppress", "engage", "score", "shape", "tracking", "inbound", "monitors"}
    | {"clickhouse", "webhook", "cli"}
)
TWINS = (SENDS_URGENT, LANES_URGENT)


def test_each_event_type_has_exactly_one_topic_urgent_twins_apart() -> None:
    homes = Counter(kind for topic in TOPICS if topic not in TWINS for kind in topic.types)
    assert homes == dict.fromkeys([*EVENTS, SEND], 1)
    assert set(BY_TYPE) == {*EVENTS, SEND}


@pytest.mark.parametrize("twin", TWINS, ids=lambda topic: topic.name)
def test_an_urgent_twin_is_like_its_topic(twin: Topic) -> None:
    plain = BY_NAME[twin.name.removesuffix(".urgent")]
    assert (twin.key, twin.types, twin.embedded, twin.production, twin.keep_ms, twin.readers) == (
        (plain.key, plain.types, plain.embedded, plain.production, plain.keep_ms, plain.readers)
    )


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_is_declared_in_full(topic: Topic) -> None:
    assert topic.writers
    assert set(topic.writers) | set(topic.readers) <= ROLES
    assert topic.key
    assert 1 <= topic.embedded <= topic.production
    assert (topic.keep_ms == -1) == (topic.cleanup is Cleanup.COMPACT)
    assert BY_NAME[topic.name] is topic
    assert topic.name.startswith("mail.")


def test_topics_that_meet_in_one_owner_have_equal_partitions() -> None:
    lanes = [topic for topic in TOPICS if topic.name.startswith(("mail.lanes.", "mail.queue."))]
    assert len({(topic.embedded, topic.production) for topic in lanes}) == 1


def test_names_are_unique_and_limits_nest() -> None:
    assert len(BY_NAME) == len(TOPICS)
    assert MAX_READ < MAX_RECORD


def test_settings_are_what_the_broker_calls_them() -> None:
    assert BY_NAME["mail.messages"].config() == {
        "cleanup.policy": "delete",
        "max.message.bytes": str(MAX_RECORD),
        "retention.ms": str(400 * 86_400_000),
    }
    assert BY_NAME["mail.recipients"].config() == {
        "cleanup.policy": "compact",
        "max.message.bytes": str(MAX_RECORD),
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "86400000",
        "delete.retention.ms": "86400000",
    }
