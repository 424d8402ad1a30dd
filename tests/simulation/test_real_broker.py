"""The rules of the model broker on which most hangs, seen on the real one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # exported without saying so

from sinks.smtp.intake import Assigned, Event, Intake, Lost, Polled, Revoked
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import LANES, LANES_URGENT, QUEUE

pytestmark = pytest.mark.stack

GROUP = "smtp.main"
LANE_TOPICS = (LANES, LANES_URGENT)


@pytest.fixture
def cluster(kafka: str, topic_prefix: str) -> Cluster:
    cluster = Cluster(kafka, prefix=topic_prefix)
    admin = cluster.admin("tests")
    for future in admin.create_topics(
        [NewTopic(cluster.topic(topic), 1, 1) for topic in (*LANE_TOPICS, QUEUE)]
    ).values():
        future.result()
    return cluster


def owner(cluster: Cluster, name: str) -> Consumer:
    """A member that has its partitions."""
    consumer: Consumer = cluster.consumer(GROUP, name)
    consumer.subscribe([cluster.topic(topic) for topic in LANE_TOPICS])

    def owns() -> bool:
        consumer.poll(0.1)
        return len(consumer.assignment()) == len(LANE_TOPICS)

    wait_until(owns, what=f"the assignment of {name}")
    return consumer


def transaction(cluster: Cluster, name: str, metadata: Any | None) -> Callable[[], None]:
    """A state, and the lanes' offsets unless `metadata` is None; the call commits it."""
    times = {"transaction.timeout.ms": 30_000, "message.timeout.ms": 30_000}
    producer: Producer = cluster.producer(name, **{"transactional.id": cluster.transactional_id(name), **times})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(cluster.topic(QUEUE), b"state", b"key", 0)
    if metadata is not None:
        offsets = [TopicPartition(cluster.topic(topic), 0, 1) for topic in LANE_TOPICS]
        producer.send_offsets_to_transaction(offsets, metadata, 30)
    return lambda: producer.commit_transaction(30)


def test_a_former_member_commits_without_offsets_and_is_refused_with_them(cluster: Cluster) -> None:
    member = owner(cluster, "a")
    old = member.consumer_group_metadata()
    member.close()
    with pytest.raises(KafkaException) as refused:
        transaction(cluster, "with", old)
    assert refused.value.args[0].txn_requires_abort()
    transaction(cluster, "without", None)()


def test_a_leaving_owner_stays_a_member_while_it_drains(cluster: Cluster) -> None:
    """librdkafka sends no heartbeat in close(): a drain in there would outlast the session, its commits be refused."""
    heard: list[Event] = []
    publisher = Publisher(cluster, "tests")
    intake = Intake(cluster, GROUP, LANE_TOPICS, heard.append, publisher, instance="a")
    intake.start()
    wait_until(lambda: any(isinstance(event, Assigned) for event in heard), what="the assignment")
    closing = threading.Thread(target=intake.close)
    closing.start()
    [revoked] = wait_until(lambda: [event for event in heard if isinstance(event, Revoked)], what="the revocation")
    try:
        seen = len(heard)
        polled = wait_until(
            lambda: [event for event in heard[seen:] if isinstance(event, Polled)], what="a poll in the drain"
        )
        transaction(cluster, "last", polled[-1].metadata)()
        assert not any(isinstance(event, Lost) for event in heard)
    finally:
        revoked.done.set()
        closing.join()
        publisher.close()
    assert isinstance(heard[-1], Lost)
    assert sum(isinstance(event, Revoked) for event in heard) == 1
