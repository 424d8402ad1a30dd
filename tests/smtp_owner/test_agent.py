"""The whole queue owner with a real broker and a real SMTP server: from a lane to the mailbox, and to the facts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas import ids
from sinks.smtp.state import Phase
from tests.smtp_owner.internet import Internet, internet
from tests.smtp_owner.stage import Worker, command, config, create_topics, ends, facts, names, queue, states
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES

pytestmark = pytest.mark.stack


@pytest.fixture
def cluster(kafka: str, topic_prefix: str) -> Cluster:
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


def test_mail_is_delivered_and_told_of(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    sent = names("m", 50)
    with Worker(config(cluster, world)):
        queue(publisher, *(command(name) for name in sent))
        wait_until(lambda: world.received.total() >= 50, what="50 mails")
        wait_until(lambda: len(ends(cluster)) == 50, what="50 ends")
        wait_until(
            lambda: all(state.phase >= Phase.DONE for state in states(cluster).values()), what="all states to be done"
        )
    assert world.received == {ids.message_id("default", name): 1 for name in sent}
    assert set(ends(cluster)) == {"message.delivered"}
    attempts = facts(cluster, ATTEMPTS)
    assert {attempt.type for attempt in attempts} == {"attempt.delivered"}
    assert len(attempts) == 50
    made = attempts[0].model_dump()
    assert (made["mx_ip"], made["worker"], made["reply_code"]) == ("198.18.0.1", "1", 250)
    assert "a.test" not in made["reply_text"]
    assert facts(cluster, MESSAGES)
