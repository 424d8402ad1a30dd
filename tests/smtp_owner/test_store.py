"""Restore and journal against a real broker: what a transaction shows, hides and refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from sinks.smtp.commands import Offset, Record, Transaction
from sinks.smtp.journal import Aborted, Committed, Ended, Journal, Report, Topics
from tests.smtp_owner.stage import create_topics, read
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.registry import LANES, LANES_URGENT, QUEUE
from topics.store import Cancelled, Restored, restore

pytestmark = pytest.mark.stack

GROUP = "smtp.main"
BOTH = (LANES, LANES_URGENT)


@pytest.fixture
def cluster(kafka: str, topic_prefix: str) -> Cluster:
    cluster = Cluster(kafka, prefix=topic_prefix)
    create_topics(cluster, lanes=1)
    return cluster


class Member:
    """A member of the group that polls in the test's own thread."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.assigned: set[str] = set()
        self.lost = False
        self.consumer: Consumer = cluster.consumer(GROUP, name, **{"isolation.level": "read_committed"})
        self.consumer.subscribe(
            [cluster.topic(topic) for topic in BOTH], on_assign=self._on_assign, on_lost=lambda *_: None
        )

    def _on_assign(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        self.assigned |= {place.topic for place in places}

    def join(self) -> Any:
        wait_until(lambda: self.consumer.poll(0.1) or len(self.assigned) == 2, what="the assignment")
        return self.consumer.consumer_group_metadata()


class Writer:
    def __init__(self, cluster: Cluster, instance: str) -> None:
        self.reports: list[Report] = []
        self._number = 0
        self.journal = Journal(cluster, Topics(QUEUE, BOTH, BOTH), GROUP, instance, self.reports.append)
        self.journal.open()

    def write(self, metadata: Any, key: bytes, value: bytes | None, offset: int = 0) -> Report:
        self._number += 1
        offsets = (Offset(0, False, offset), Offset(0, True, 0))
        self.journal.write(Transaction(self._number, (Record(0, key, value),), offsets), metadata)
        wait_until(lambda: len(self.reports) >= self._number, what="the journal's report")
        return self.reports[-1]


@pytest.fixture
def writer(cluster: Cluster) -> Iterator[Writer]:
    writer = Writer(cluster, "1")
    yield writer
    writer.journal.close()


@pytest.fixture
def member(cluster: Cluster) -> Iterator[Member]:
    member = Member(cluster, "a")
    yield member
    member.consumer.close()


def restored(cluster: Cluster) -> Restored:
    return restore(cluster, group=GROUP, state=QUEUE, inputs=BOTH, partition=0)


def begun(cluster: Cluster, name: str, metadata: Any = None) -> Producer:
    """A transaction with a state, and with offsets when given metadata, that nobody ends."""
    settings = {"transaction.timeout.ms": 30_000, "message.timeout.ms": 30_000}
    producer = cluster.producer(name, **{"transactional.id": cluster.transactional_id(name), **settings})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(cluster.topic(QUEUE), b"hung", b"key", 0)
    producer.flush(30)
    if metadata is not None:
        producer.send_offsets_to_transaction([TopicPartition(cluster.topic(LANES), 0, 7)], metadata, 30)
    return producer


class TestRestore:
    def test_of_nothing_begins_at_the_beginning(self, cluster: Cluster) -> None:
        found = restored(cluster)
        assert found.values == {}
        assert found.positions == {LANES: 0, LANES_URGENT: 0}

    def test_folds_to_the_newest_and_forgets_tombstones(self, cluster: Cluster, writer: Writer, member: Member) -> None:
        metadata = member.join()
        for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None), (b"c", b"3")):
            assert isinstance(writer.write(metadata, key, value, 5), Committed)
        found = restored(cluster)
        assert found.values == {b"a": b"2", b"c": b"3"}
        assert found.positions == {LANES: 5, LANES_URGENT: 0}

    def test_waits_for_offsets_that_are_pending(self, cluster: Cluster, member: Member) -> None:
        hung = begun(cluster, "hung", member.join())
        with ThreadPoolExecutor() as pool:
            waiting: Future[Restored] = pool.submit(restored, cluster)
            with pytest.raises(TimeoutError):
                waiting.result(1.5)
            hung.commit_transaction(30)
            found = waiting.result(30)
        assert found.values == {b"key": b"hung"}
        assert found.positions[LANES] == 7

    @pytest.mark.parametrize("end", ["commit", "abort"])
    def test_waits_for_a_transaction_that_hides_the_end(self, cluster: Cluster, end: str) -> None:
        hung = begun(cluster, "hung")
        with ThreadPoolExecutor() as pool:
            waiting: Future[Restored] = pool.submit(restored, cluster)
            with pytest.raises(TimeoutError):
                waiting.result(1.5)
            if end == "commit":
                hung.commit_transaction(30)
            else:
                hung.abort_transaction(30)
            found = waiting.result(30)
        assert found.values == ({b"key": b"hung"} if end == "commit" else {})

    def test_is_given_up_when_the_partition_goes(self, cluster: Cluster) -> None:
        hung = begun(cluster, "hung")
        gone = threading.Event()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(
                restore, cluster, group=GROUP, state=QUEUE, inputs=BOTH, partition=0, cancelled=gone.is_set
            )
            gone.set()
            with pytest.raises(Cancelled):
                waiting.result(30)
        hung.abort_transaction(30)


class TestJournal:
    def test_writes_states_and_offsets_together(self, cluster: Cluster, writer: Writer, member: Member) -> None:
        report = writer.write(member.join(), b"a", b"1", 3)
        assert isinstance(report, Committed)
        committed = member.consumer.committed([TopicPartition(cluster.topic(topic), 0) for topic in BOTH], timeout=10)
        assert [place.offset for place in committed] == [3, 0]
        assert [(record.key, record.value) for record in read(cluster, QUEUE)] == [(b"a", b"1")]

    def test_is_refused_with_the_metadata_of_a_former_assignment(self, cluster: Cluster, writer: Writer) -> None:
        zombie = Member(cluster, "zombie")
        stale = zombie.join()
        zombie.consumer.close()
        heir = Member(cluster, "heir")
        heir.join()
        try:
            assert isinstance(writer.write(stale, b"a", b"1", 3), Aborted)
            assert read(cluster, QUEUE) == []
        finally:
            heir.consumer.close()

    def test_goes_on_after_an_abort(self, cluster: Cluster, writer: Writer) -> None:
        former = Member(cluster, "former")
        stale = former.join()
        former.consumer.close()
        member = Member(cluster, "member")
        fresh = member.join()
        try:
            assert isinstance(writer.write(stale, b"a", b"1"), Aborted)
            assert isinstance(writer.write(fresh, b"a", b"2"), Committed)
        finally:
            member.consumer.close()
        assert [record.value for record in read(cluster, QUEUE)] == [b"2"]

    def test_of_a_name_that_another_process_took_ends(self, cluster: Cluster, writer: Writer, member: Member) -> None:
        metadata = member.join()
        other = Writer(cluster, "1")
        assert isinstance(writer.write(metadata, b"a", b"old"), Ended)
        assert isinstance(other.write(metadata, b"a", b"new"), Committed)
        other.journal.close()
        assert [record.value for record in read(cluster, QUEUE)] == [b"new"]

    def test_that_opens_settles_what_a_dead_process_left(self, cluster: Cluster, member: Member) -> None:
        member.join()
        left = begun(cluster, f"{GROUP}.1")
        assert read(cluster, QUEUE) == []
        writer = Writer(cluster, "1")
        assert restored(cluster).values == {}
        writer.journal.close()
        del left
