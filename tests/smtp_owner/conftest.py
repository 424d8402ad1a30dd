"""Fixtures of the tests with real services."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol

import pytest

from tests.smtp_owner.internet import Internet, internet
from tests.smtp_owner.stage import create_topics
from topics.kafka import Cluster
from topics.publisher import Publisher


@pytest.fixture
def lane_partitions() -> int:
    """Of `cluster`; a test may ask for another number."""
    return 2


@pytest.fixture
def cluster(kafka: str, topic_prefix: str, lane_partitions: int) -> Cluster:
    """A prefix of its own with the owner's topics."""
    cluster = Cluster(kafka, prefix=topic_prefix)
    create_topics(cluster, lanes=lane_partitions)
    return cluster


@pytest.fixture
def world() -> Iterator[Internet]:
    with internet() as world:
        yield world


@pytest.fixture
def publisher(cluster: Cluster) -> Iterator[Publisher]:
    with Publisher(cluster, "plan") as publisher:
        yield publisher


class Start(Protocol):
    def __call__(self, instance: str, *addresses: str, generations: Sequence[int] = (1,)) -> subprocess.Popen[str]: ...


@pytest.fixture
def start(cluster: Cluster, world: Internet) -> Iterator[Start]:
    """Start an owner as a process by its instance name, with these source addresses, and wait until it is ready.

    `generations` of lanes: the newest comes last, the others drain into it.
    """
    with ExitStack() as ends:

        def run(instance: str, *addresses: str, generations: Sequence[int] = (1,)) -> subprocess.Popen[str]:
            given = {
                "bootstrap": cluster.bootstrap,
                "prefix": cluster.prefix,
                "dns": world.dns,
                "smtp": world.smtp,
                "instance": instance,
                "addresses": addresses,
                "generations": generations,
            }
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.smtp_owner.child", json.dumps(given)], stdout=subprocess.PIPE, text=True
            )
            ends.callback(child.wait, 30)
            ends.callback(child.kill)
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            ends.callback(child.stdout.close)
            return child

        yield run
