"""The contract: whatever uses `cluster` runs against the broker in memory and against a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # exported without saying so

from tests.topics.driving import Stage
from topics.fake import FakeCluster
from topics.kafka import Cluster
from topics.registry import DEADLETTERS, MESSAGES, SENDS, SENDS_URGENT, SITES, SUPPRESSIONS, UNSUBSCRIBES

USED = (SENDS, SENDS_URGENT, MESSAGES, SUPPRESSIONS, SITES, UNSUBSCRIBES, DEADLETTERS)


@pytest.fixture
def fake(topic_prefix: str) -> FakeCluster:
    cluster = FakeCluster("in-memory", prefix=topic_prefix)
    cluster.create(*USED)
    return cluster


@pytest.fixture(params=["fake", pytest.param("consumer", marks=pytest.mark.stack)])
def cluster(request: pytest.FixtureRequest, topic_prefix: str) -> Cluster:
    if request.param == "fake":
        return request.getfixturevalue("fake")  # type: ignore[no-any-return]  # pytest cannot say its type
    cluster = Cluster(request.getfixturevalue("kafka"), prefix=topic_prefix, group_protocol=request.param)
    new = [NewTopic(cluster.topic(topic), topic.embedded, 1) for topic in USED]
    client = cluster.admin("tests")  # kept: its end would cut the requests off
    for future in client.create_topics(new).values():
        future.result()
    return cluster


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Stage]:
    with Stage(cluster) as stage:
        yield stage


@pytest.fixture
def fake_stage(fake: FakeCluster) -> Iterator[Stage]:
    with Stage(fake) as stage:
        yield stage
