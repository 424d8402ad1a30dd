"""Fixtures of the tests with real services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.smtp_owner.internet import Internet, internet
from tests.smtp_owner.stage import create_topics
from topics.kafka import Cluster
from topics.publisher import Publisher


@pytest.fixture
def cluster(kafka: str, topic_prefix: str) -> Cluster:
    """A prefix of its own with the owner's topics; two partitions of lanes."""
    cluster = Cluster(kafka, prefix=topic_prefix)
    create_topics(cluster)
    return cluster


@pytest.fixture
def world() -> Iterator[Internet]:
    with internet() as world:
        yield world


@pytest.fixture
def publisher(cluster: Cluster) -> Iterator[Publisher]:
    with Publisher(cluster, "plan") as publisher:
        yield publisher
