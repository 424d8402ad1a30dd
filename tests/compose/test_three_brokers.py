"""The brokers' settings of the compose file at work: three embedded brokers, one of them killed while mail goes out.

P1 on three brokers: two of three copies are acked, so the death of one broker loses nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported without saying so
    AdminClient,
    ConfigResource,
    ResourceType,
)

from pipeline import wiring
from pipeline.embedded.stack import Stack, StackPlan, running
from pipeline.simulator.witness import Witness
from tests.compose.brokers import BROKERS, PLACES, composed
from tests.compose.model import Compose
from tests.stack.questions import Questions
from tests.waiting import wait_until
from topics.publisher import Publisher
from topics.registry import SENDS, TOPICS

pytestmark = pytest.mark.stack

MAILS = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(StackPlan(tmp_path_factory.mktemp("three"), brokers=3, progress=False)) as stack:
        yield stack


@pytest.fixture(scope="module")
def ask(stack: Stack) -> Questions:
    return Questions(stack)


def admin(stack: Stack) -> AdminClient:
    return wiring.cluster(stack.settings).admin("test")


def described(stack: Stack, kind: ResourceType, name: str) -> dict[str, str]:
    client = admin(stack)  # kept: the answer comes only as long as it lives
    (future,) = client.describe_configs([ConfigResource(kind, name)], request_timeout=30).values()
    entries: dict[str, Any] = future.result()
    return {entry.name: entry.value for entry in entries.values()}


def test_a_broker_takes_every_setting_of_the_compose_file(stack: Stack, compose: Compose) -> None:
    """A misspelt one would be dropped without a word."""
    effective = described(stack, ResourceType.BROKER, "0")
    told = composed(compose, BROKERS[0])
    assert set(told) - set(effective) == set()
    assert {name: effective[name] for name in told if name not in PLACES} == {
        name: value for name, value in told.items() if name not in PLACES
    }


def test_every_topic_has_three_copies_of_which_two_must_be_written(stack: Stack) -> None:
    found = admin(stack).list_topics(timeout=30).topics
    for topic in TOPICS:
        assert {len(partition.replicas) for partition in found[topic.name].partitions.values()} == {3}, topic.name
    assert described(stack, ResourceType.TOPIC, SENDS.name)["min.insync.replicas"] == "2"


def test_a_broker_dies_between_mails_and_nothing_is_lost(stack: Stack, ask: Questions) -> None:
    run = f"three-{uuid.uuid4().hex[:8]}"
    witness = Witness(Path(stack.simulator["witness"]))

    def arrived() -> list[str]:
        return [entry.mailriver_id for entry in witness.load() if run in entry.subject]

    def publish(publisher: Publisher, numbers: range) -> None:
        for number in numbers:
            send = {
                "recipient": f"ann.{number}@{stack.simulator['sample_domain']}",
                "from": "News <news@brand.test>",
                "subject": f"{run} {number}",
                "text": "Good morning.",
            }
            publisher.send(SENDS, f"{run}/{number}".encode(), orjson.dumps(send))

    with Publisher(wiring.cluster(stack.settings), "test") as publisher:
        publish(publisher, range(MAILS // 2))
        wait_until(lambda: len(arrived()) > 5, timeout=90, what="the first mails")
        stack.kill_broker()
        publish(publisher, range(MAILS // 2, MAILS))
        publisher.flush()  # acked by the two that are left, or by all three when it is back

    count = "SELECT status, count() AS mails FROM v_messages WHERE startsWith(idempotency_key, {run:String}) GROUP BY 1"
    wait_until(
        lambda: ask.rows(count, run=f"{run}/") == [{"status": "delivered", "mails": MAILS}],
        timeout=120,
        what="all mails delivered, and in the views",
    )
    seen = arrived()
    assert len(set(seen)) == MAILS
    assert len(seen) == MAILS  # no worker died: nobody gets a mail twice
    wait_until(lambda: len(admin(stack).list_topics(timeout=30).brokers) == 3, timeout=90, what="the broker's return")
