from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable

import pytest
from confluent_kafka import KafkaError

from schemas.codec import decode, header
from tests.topics.driving import LATER, Stage, delivered
from tests.waiting import wait_until
from topics.errors import Broken, Later, Never
from topics.fake import FakeCluster
from topics.kafka import Cluster
from topics.publisher import BatchPublisher, Publisher
from topics.registry import BY_TYPE, DEADLETTERS, MAX_RECORD, MESSAGES, SENDS, SENDS_URGENT


def test_an_event_lands_on_its_topic_under_its_key_with_headers_and_the_time_of_writing(stage: Stage) -> None:
    event = delivered("m1")
    stage.publisher.publish(event)
    stage.publisher.flush()
    [record] = stage.read(MESSAGES, 1)
    assert BY_TYPE[event.type] is MESSAGES
    assert record.key == b"m1"
    assert header(record.headers, "ce_source") == "plan"
    assert decode(record.value, record.headers) == event.model_copy(update={"recorded_at": LATER})


def test_a_time_of_writing_that_is_there_already_stays(stage: Stage) -> None:
    stage.publisher.publish(delivered("m1", recorded_at="2026-11-22T12:30:00Z"))
    stage.publisher.flush()
    [record] = stage.read(MESSAGES, 1)
    assert json.loads(record.value or b"")["recorded_at"] == "2026-11-22T12:30:00Z"


def test_records_of_a_key_keep_their_order(stage: Stage) -> None:
    stage.send(SENDS, *((b"k%d" % (n % 7), b"%d" % n) for n in range(700)))
    by_key: dict[bytes | None, list[int]] = {}
    for record in stage.read(SENDS, 700):
        by_key.setdefault(record.key, []).append(int(record.value or b""))
    assert len(by_key) == 7
    assert all(values == sorted(values) and len(values) == 100 for values in by_key.values())


def test_another_topic_and_partition_can_be_chosen(stage: Stage) -> None:
    stage.publisher.publish(delivered("m1"), topic=SENDS_URGENT, partition=1)
    stage.publisher.flush()
    [record] = stage.read(SENDS_URGENT, 1)
    assert (record.topic, record.partition) == (SENDS_URGENT.name, 1)


def test_bytes_and_tombstones_pass_through(stage: Stage) -> None:
    stage.publisher.send(DEADLETTERS, None, b"\xff\x00", [("a", b"1"), ("a", b"2")])
    stage.publisher.send(DEADLETTERS, b"gone", None)
    stage.publisher.flush()
    first, second = stage.read(DEADLETTERS, 2)
    assert (first.key, first.value, first.headers) == (None, b"\xff\x00", [("a", b"1"), ("a", b"2")])
    assert (second.key, second.value) == (b"gone", None)
    assert first.size == 2 + 2 + 2


async def test_published_returns_with_the_ack(stage: Stage) -> None:
    await asyncio.gather(*(stage.publisher.published(delivered(f"m{n}")) for n in range(20)))
    assert len(stage.read(MESSAGES, 20)) == 20


def test_on_ack_is_told(stage: Stage) -> None:
    told: list[KafkaError | None] = []
    stage.publisher.publish(delivered("m1"), on_ack=told.append)
    stage.publisher.flush()
    assert told == [None]


def test_too_large_is_never(stage: Stage) -> None:
    with pytest.raises(Never, match="SIZE_TOO_LARGE"):
        stage.publisher.send(SENDS, b"k", b"x" * (MAX_RECORD + 1))
    stage.publisher.flush()


async def test_published_raises_what_the_error_means(fake: FakeCluster, fake_stage: Stage) -> None:
    fake.broker.refuses[fake.topic(MESSAGES)] = KafkaError.NOT_ENOUGH_REPLICAS
    with pytest.raises(Later, match="NOT_ENOUGH_REPLICAS"):
        await fake_stage.publisher.published(delivered("m1"))
    fake.broker.refuses[fake.topic(MESSAGES)] = KafkaError.INVALID_RECORD
    with pytest.raises(Never, match="INVALID_RECORD"):
        await fake_stage.publisher.published(delivered("m1"))
    fake_stage.publisher.flush()  # they were told


def test_flush_raises_a_failure_once_and_only_to_the_thread_whose_record_it_was(
    fake: FakeCluster, fake_stage: Stage
) -> None:
    fake.broker.refuses[fake.topic(MESSAGES)] = KafkaError.NOT_ENOUGH_REPLICAS
    publisher = fake_stage.publisher
    elsewhere = threading.Thread(target=lambda: publisher.publish(delivered("m1")))
    elsewhere.start()
    elsewhere.join()
    wait_until(lambda: publisher.outstanding == 0)
    publisher.send(SENDS, b"k", b"v")
    publisher.flush()
    publisher.publish(delivered("m1"))
    with pytest.raises(Later):
        publisher.flush()
    publisher.flush()


def test_flush_gives_up_while_the_broker_is_away_and_nothing_is_lost(fake: FakeCluster, fake_stage: Stage) -> None:
    fake.broker.stop()
    fake_stage.publisher.publish(delivered("m1"))
    with pytest.raises(Later, match="no ack"):
        fake_stage.publisher.flush(0.01)
    fake.broker.start()
    fake_stage.publisher.flush()
    assert len(fake_stage.read(MESSAGES, 1)) == 1


def test_a_full_queue_makes_the_publisher_wait(fake: FakeCluster) -> None:
    publisher = Publisher(fake, "plan", settings={"queue.buffering.max.messages": 10})
    fake.broker.stop()
    sent: list[int] = []

    def send() -> None:
        for number in range(30):
            publisher.send(SENDS, b"k", b"%d" % number)
            sent.append(number)

    thread = threading.Thread(target=send)
    thread.start()
    wait_until(lambda: publisher.outstanding == 10)
    assert len(sent) == 10
    fake.broker.start()
    thread.join(30)
    assert len(sent) == 30
    publisher.close()


async def test_a_full_queue_leaves_the_event_loop_free(fake: FakeCluster) -> None:
    publisher = Publisher(fake, "http", settings={"queue.buffering.max.messages": 1})
    fake.broker.stop()
    waiting = [asyncio.create_task(publisher.published(delivered(f"m{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    fake.broker.start()
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    publisher.close()


async def send(publisher: BatchPublisher) -> None:
    publisher.send(SENDS, b"k", b"2")


async def wait_for(publisher: Publisher) -> None:
    await publisher.published(delivered("m1"))


@pytest.mark.parametrize(("kind", "publish"), [(BatchPublisher, send), (Publisher, send), (Publisher, wait_for)])
async def test_a_queue_that_stays_full_is_later(
    fake: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BatchPublisher],
    publish: Callable[[BatchPublisher], Awaitable[None]],
) -> None:
    monkeypatch.setattr("topics.publisher._FULL_MAX_S", 0.02)
    with kind(fake, "plan", settings={"queue.buffering.max.messages": 1}) as publisher:
        fake.broker.stop()
        publisher.send(SENDS, b"k", b"1")
        with pytest.raises(Later, match="queue is full"):
            await publish(publisher)
        fake.broker.start()
        publisher.flush()  # what was refused is not waited for


def test_a_failing_on_ack_does_not_end_the_reports_of_others(fake_stage: Stage) -> None:
    def fail(_error: KafkaError | None) -> None:
        raise RuntimeError("a caller's bug")

    fake_stage.publisher.publish(delivered("m1"), on_ack=fail)
    fake_stage.publisher.publish(delivered("m2"))
    fake_stage.publisher.flush()


def test_a_closed_publisher_takes_nothing(fake: FakeCluster) -> None:
    publisher = Publisher(fake, "plan")
    publisher.publish(delivered("m1"))
    publisher.close()
    publisher.close()
    with pytest.raises(Broken):
        publisher.publish(delivered("m2"))


def test_close_says_what_was_left_behind(fake: FakeCluster) -> None:
    publisher = Publisher(fake, "plan")
    fake.broker.stop()
    publisher.publish(delivered("m1"))
    with pytest.raises(Later, match="1 records"):
        publisher.close(0.01)


# A publisher of batches


def test_waiting_for_a_batch_ends_its_lingering(cluster: Cluster, stage: Stage) -> None:
    lingering = {"linger.ms": 100_000, "delivery.report.only.error": True}
    with BatchPublisher(cluster, "plan", clock=lambda: LATER, settings=lingering) as publisher:
        for number in range(50):
            publisher.publish(delivered(f"m{number}"))
        publisher.flush(30)
        assert publisher.outstanding == 0
    assert len(stage.read(MESSAGES, 50)) == 50


def test_a_batch_that_failed_is_told_once(fake: FakeCluster) -> None:
    fake.broker.refuses[fake.topic(MESSAGES)] = KafkaError.NOT_ENOUGH_REPLICAS
    with BatchPublisher(fake, "plan") as publisher:
        publisher.publish(delivered("m1"))
        publisher.send(SENDS, b"k", b"v")
        with pytest.raises(Later, match="NOT_ENOUGH_REPLICAS"):
            publisher.flush()
        publisher.flush()


def test_a_batch_outlives_a_broker_that_is_away(fake: FakeCluster, fake_stage: Stage) -> None:
    fake.broker.stop()
    with BatchPublisher(fake, "plan") as publisher:
        publisher.publish(delivered("m1"))
        assert not publisher.settled(0.01)
        fake.broker.start()
        assert publisher.settled(30)
    assert len(fake_stage.read(MESSAGES, 1)) == 1


def test_a_batch_larger_than_the_queue_makes_room_as_it_goes(fake: FakeCluster, fake_stage: Stage) -> None:
    with BatchPublisher(fake, "plan", settings={"queue.buffering.max.messages": 10}) as publisher:
        for number in range(35):
            publisher.send(SENDS, b"k", b"%d" % number)
    assert len(fake_stage.read(SENDS, 35)) == 35


def test_a_closed_publisher_of_batches_takes_nothing(fake: FakeCluster) -> None:
    publisher = BatchPublisher(fake, "plan")
    fake.broker.stop()
    publisher.publish(delivered("m1"))
    with pytest.raises(Later, match="1 records"):
        publisher.close(0.01)
    publisher.close()
    with pytest.raises(Broken):
        publisher.publish(delivered("m2"))
