"""The wiring: what is asked, what waits, what is written, and in which order; on the broker in memory."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta

import pytest
import structlog
from confluent_kafka import KafkaError

from processors.classify.agent import LEAST_PATIENCE_S, PATIENCE_S, Classifier, ClassifyConfig, run
from processors.classify.findings import MessageRef
from schemas import ids
from schemas.codec import decode, encode
from schemas.envelope import Event
from schemas.feedback import BounceReceived, ComplaintReceived, InboundSetAside, ReplyReceived
from schemas.operations import RecordDeadLettered
from schemas.tokens import Keyring
from tests.classify.corpus import AT, KEYRING, MESSAGE, OTHER_MESSAGE, SECRET, inbound, ref, return_path, text
from tests.topics.driving import delivered
from tests.waiting import wait_until
from topics.errors import Later, Never
from topics.fake import FakeCluster
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import BOUNCES, COMPLAINTS, DEADLETTERS, INBOUND, REPLIES, Topic

FACTS = (BOUNCES, COMPLAINTS, REPLIES)
LONG_AGO = AT + timedelta(hours=1)


class Known:
    """What ClickHouse knows."""

    def __init__(self, *message_ids: str) -> None:
        self.messages = set(message_ids)
        self.asked: list[set[str]] = []

    def __call__(self, message_ids: Collection[str]) -> Mapping[str, MessageRef]:
        self.asked.append(set(message_ids))
        return {one: ref(message_id=one) for one in message_ids if one in self.messages}


class Clocks:
    def __init__(self, now: datetime = AT) -> None:
        self.now = now
        self.seconds = 1_000.0

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster("in-memory")
    cluster.create(INBOUND, *FACTS, DEADLETTERS)
    return cluster


@pytest.fixture
def publisher(cluster: FakeCluster) -> Iterator[Publisher]:
    with Publisher(cluster, "classify", settings={"linger.ms": 0}) as publisher:
        yield publisher


def classifier(cluster: FakeCluster, publisher: Publisher, known: Known, clocks: Clocks) -> Classifier:
    config = ClassifyConfig(cluster, KEYRING, known, SECRET)
    return Classifier(config, publisher, clock=lambda: clocks.now, monotonic=lambda: clocks.seconds)


def record(event: Event, offset: int = 0) -> Record:
    encoded = encode(event, source="inbound")
    return Record(INBOUND.name, 0, offset, encoded.key, encoded.value, [*encoded.headers], 1_793_600_000_000)


def written(cluster: FakeCluster, *topics: Topic) -> list[Event]:
    return [
        decode(message.value(), message.headers())  # type: ignore[arg-type]  # the stub knows text headers only
        for topic in topics or FACTS
        for number in range(topic.embedded)
        for message in cluster.broker.logs[cluster.topic(topic), number].messages
    ]


BOUNCE = inbound(text("postfix"))
COMPLAINT = inbound(text("arf_yahoo"), "fbl@brand.test")
REPLY = inbound(text("human"), mail_from="ann@example.test")
LETTER = inbound(b"Subject: hello\r\n\r\n", "postmaster@brand.test")


def test_each_mail_becomes_one_fact_and_a_bad_record_hurts_no_neighbour(cluster: FakeCluster) -> None:
    known, stop, ready = Known(MESSAGE), threading.Event(), threading.Event()
    config = ClassifyConfig(cluster, KEYRING, known, SECRET)
    thread = threading.Thread(target=run, args=(config, stop, ready.set))
    with Publisher(cluster, "inbound", settings={"linger.ms": 0}) as source:
        source.publish(BOUNCE)
        source.send(INBOUND, b"x", b"{broken")
        for mail in (COMPLAINT, REPLY, LETTER):
            source.publish(mail)
        source.publish(delivered("m1"), topic=INBOUND)
        source.flush()
    thread.start()
    try:
        wait_until(lambda: len(written(cluster)) >= 4 and len(written(cluster, DEADLETTERS)) >= 2, what="all facts")
        assert ready.is_set()
        group, bare = cluster.broker.groups[cluster.group("classify")], cluster.topic(INBOUND)
        ends = {(bare, number): cluster.broker.logs[bare, number].end for number in range(INBOUND.embedded)}
        wait_until(lambda: {**dict.fromkeys(ends, 0), **group.committed} == ends, what="the offsets")
    finally:
        stop.set()
        thread.join(30)
    facts = {type(event) for event in written(cluster)}
    assert facts == {BounceReceived, ComplaintReceived, ReplyReceived, InboundSetAside}
    dead = [event.reason for event in written(cluster, DEADLETTERS) if isinstance(event, RecordDeadLettered)]
    assert len(dead) == 2
    assert "message.delivered is not read here" in dead


def test_one_question_for_a_batch_and_none_when_nothing_is_named(cluster: FakeCluster, publisher: Publisher) -> None:
    known = Known(MESSAGE)
    handle = classifier(cluster, publisher, known, Clocks()).handle
    handle([record(BOUNCE, 0), record(REPLY, 1), record(LETTER, 2)])
    assert known.asked == [{MESSAGE}]
    handle([record(LETTER, 3)])
    assert len(known.asked) == 1


def test_a_bad_record_is_named_before_anything_is_written(cluster: FakeCluster, publisher: Publisher) -> None:
    bad = Record(INBOUND.name, 0, 1, b"k", b"{", [], 0)
    with pytest.raises(Never) as caught:
        classifier(cluster, publisher, Known(MESSAGE), Clocks()).handle([record(BOUNCE), bad])
    publisher.flush()
    assert caught.value.record is bad
    assert written(cluster) == []


def test_a_message_that_is_not_known_yet_is_waited_for_and_its_neighbours_are_not_held(
    cluster: FakeCluster, publisher: Publisher
) -> None:
    known, clocks = Known(MESSAGE), Clocks()
    handle = classifier(cluster, publisher, known, clocks).handle
    fresh = inbound(text("exim"), return_path(OTHER_MESSAGE))
    batch = [record(BOUNCE, 0), record(fresh, 1), record(LETTER, 2)]
    for _ in range(3):
        with pytest.raises(Later):
            handle(batch)
        clocks.passes(30)
    assert [event.key for event in written(cluster) if isinstance(event, BounceReceived)] == [ref().recipient_id]
    assert len(written(cluster)) == 2  # once each
    known.messages.add(OTHER_MESSAGE)
    handle(batch)
    publisher.flush()
    messages = [event.message_id for event in written(cluster) if isinstance(event, BounceReceived)]
    assert sorted(messages) == sorted([MESSAGE, OTHER_MESSAGE])
    assert len(written(cluster)) == 3


def test_neighbours_whose_facts_were_not_acked_are_written_again(cluster: FakeCluster, publisher: Publisher) -> None:
    known = Known(MESSAGE)
    handle = classifier(cluster, publisher, known, Clocks()).handle
    batch = [record(BOUNCE, 0), record(inbound(text("exim"), return_path(OTHER_MESSAGE)), 1)]
    cluster.broker.refuses[cluster.topic(BOUNCES)] = KafkaError.NOT_ENOUGH_REPLICAS
    with pytest.raises(Later, match="NOT_ENOUGH_REPLICAS"):
        handle(batch)
    cluster.broker.refuses.clear()
    with pytest.raises(Later, match="not known yet"):
        handle(batch)
    assert len(written(cluster)) == 1


@pytest.mark.parametrize(
    ("age", "expected"),
    [(0.0, PATIENCE_S), (PATIENCE_S - 30, 30.0), (3_600.0, LEAST_PATIENCE_S), (-3_600.0, PATIENCE_S)],
)
def test_patience_ends(cluster: FakeCluster, publisher: Publisher, age: float, expected: float) -> None:
    clocks = Clocks(AT + timedelta(seconds=age))
    handle = classifier(cluster, publisher, Known(), clocks).handle
    for _ in range(int(expected)):
        with pytest.raises(Later):
            handle([record(BOUNCE)])
        clocks.passes(1)
    handle([record(BOUNCE)])
    publisher.flush()
    (event,) = written(cluster)
    assert isinstance(event, InboundSetAside)
    assert event.reason == "no message of ours is known by that id"


def test_who_was_waited_for_in_vain_is_not_waited_for_again(cluster: FakeCluster, publisher: Publisher) -> None:
    known, clocks = Known(), Clocks(LONG_AGO)
    handle = classifier(cluster, publisher, known, clocks).handle
    with pytest.raises(Later):
        handle([record(BOUNCE)])
    clocks.passes(LEAST_PATIENCE_S)
    handle([record(BOUNCE)])
    handle([record(inbound(text("exim")), 1)])  # at once
    known.messages.add(MESSAGE)
    handle([record(inbound(text("qmail")), 2)])  # but it is still asked for
    publisher.flush()
    kinds = [event.type for event in written(cluster, BOUNCES)]
    assert sorted(kinds) == ["bounce.received", "inbound.set_aside", "inbound.set_aside"]


def test_a_complaint_needs_no_answer_when_its_token_says_it_all(cluster: FakeCluster, publisher: Publisher) -> None:
    classifier(cluster, publisher, Known(), Clocks()).handle([record(COMPLAINT)])
    publisher.flush()
    (event,) = written(cluster, COMPLAINTS)
    assert isinstance(event, ComplaintReceived)
    known = ref()
    assert (event.recipient_id, event.stream, event.campaign_id) == (known.recipient_id, "marketing", "spring-2026")


def test_while_nothing_can_be_told_all_wait(cluster: FakeCluster, publisher: Publisher) -> None:
    def away(message_ids: Collection[str]) -> Mapping[str, MessageRef]:
        raise Later("ClickHouse does not answer")

    handle = Classifier(ClassifyConfig(cluster, KEYRING, away, SECRET), publisher).handle
    with pytest.raises(Later, match="does not answer"):
        handle([record(LETTER, 0), record(BOUNCE, 1)])
    publisher.flush()
    assert written(cluster) == []


class BrokenKeyring(Keyring):
    def open_token(self, kind: object, text: str) -> object:  # type: ignore[override]  # what no type checker lets through
        raise RuntimeError("ann@example.test")


def test_a_fault_of_our_reader_stops_nobody_and_tells_no_address(cluster: FakeCluster, publisher: Publisher) -> None:
    config = ClassifyConfig(cluster, BrokenKeyring({"a": b"k" * 32}, "a"), Known(), SECRET)
    with structlog.testing.capture_logs() as logs:
        Classifier(config, publisher).handle([record(BOUNCE)])
    publisher.flush()
    (event,) = written(cluster)
    assert isinstance(event, InboundSetAside)
    assert event.reason == "a mail that our reader failed on"
    assert [entry["event"] for entry in logs] == ["mail_not_read"]
    assert "ann@" not in str(logs)


def test_a_repeat_makes_the_same_facts(cluster: FakeCluster, publisher: Publisher) -> None:
    batch = [record(mail, number) for number, mail in enumerate((BOUNCE, COMPLAINT, REPLY, LETTER))]
    for _ in range(2):
        classifier(cluster, publisher, Known(MESSAGE), Clocks()).handle(batch)
    publisher.flush()
    events = written(cluster)
    assert len(events) == 8
    assert len({event.event_id for event in events}) == 4
    assert ids.event_id("bounce.received", f"{MESSAGE}/async") in {event.event_id for event in events}
