"""The model broker keeps the rules of the real one on which the journal's rules rest (DESIGN, rules of the journal)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.broker import Broker, Link
from tests.simulation.clients import Change, Consumer, Outcome, Producer
from tests.simulation.group import Metadata
from tests.simulation.kernel import Kernel, Process, Steps

STATE, LANE = ("state", 0), ("lane", 0)


class Bench:
    def __init__(self) -> None:
        self.kernel = Kernel(1)
        self.broker = Broker(self.kernel, {"state": 2, "lane": 2}, 2)
        self.process = Process("a")

    def start(self, steps: Steps, process: Process | None = None) -> Any:
        return self.kernel.spawn(process or self.process, "test", steps)

    def finish(self, steps: Steps, within: float = 60.0) -> Any:
        """Run the steps to their end and no further."""
        task = self.start(steps)
        limit = self.kernel.now + within
        while not task.done.done and self.kernel.now < limit:
            self.kernel.run(self.kernel.now + 0.01)
        assert task.done.done, "it never came to an end"
        return task.done.value

    def producer(self, name: str = "owner.main.0") -> Producer:
        producer = Producer(self.broker, Link(), name)
        self.finish(producer.init())
        return producer

    def join(self, name: str, process: Process | None = None) -> tuple[Consumer, list[Change]]:
        """A consumer whose application lets go of partitions at once and notes every callback."""
        process = process or Process(name)
        consumer = Consumer(self.broker, Link(), process, name, ("lane",))
        changes: list[Change] = []

        def poll() -> Steps:
            while True:
                found = yield from consumer.poll(1.0, 100)
                if isinstance(found, Change):
                    changes.append(found)
                    consumer.done(found)

        self.kernel.spawn(process, "poll", poll())
        return consumer, changes


@pytest.fixture
def bench() -> Bench:
    return Bench()


def commit(
    bench: Bench, producer: Producer, rows: int = 1, offsets: Metadata | None = None, timeout: float = 5.0
) -> Steps:
    producer.begin()
    for at in range(rows):
        producer.produce(STATE, f"m{at}", b"sending")
    if offsets is not None:
        found = yield from producer.send_offsets({LANE: rows}, offsets)
        if found is not Outcome.OK:
            return found
    return (yield from producer.commit(timeout))


def test_a_committed_transaction_is_read_and_an_aborted_one_is_not(bench: Bench) -> None:
    producer, state = bench.producer(), bench.broker.partitions[STATE]
    assert bench.finish(commit(bench, producer)) is Outcome.OK
    bench.kernel.run(bench.kernel.now + 1)
    producer.begin()
    producer.produce(STATE, "gone", b"x")
    assert bench.finish(producer.flush()) is Outcome.OK
    assert bench.finish(producer.abort()) is Outcome.OK
    bench.kernel.run(bench.kernel.now + 1)
    records, position = state.read(0)
    assert [record.key for record in records] == ["m0"]
    assert position == state.end == 4  # two records, two markers


def test_the_committed_end_stands_still_under_a_hung_transaction_and_the_uncommitted_one_does_not(bench: Bench) -> None:
    producer, state = bench.producer(), bench.broker.partitions[STATE]
    producer.begin()
    producer.produce(STATE, "m", b"x")
    bench.finish(producer.flush())
    assert (state.stable, state.end) == (0, 1)
    bench.kernel.run(bench.kernel.now + 12)
    assert state.stable == state.end == 2
    assert state.read(0)[0] == []
    assert bench.finish(producer.commit(5.0)) is Outcome.FATAL  # its epoch is gone with the time-out


def test_a_second_producer_of_the_same_id_fences_the_first_and_aborts_its_transaction(bench: Bench) -> None:
    first, state = bench.producer(), bench.broker.partitions[STATE]
    first.begin()
    first.produce(STATE, "m", b"x")
    bench.finish(first.flush())
    bench.producer()
    assert bench.finish(first.commit(5.0)) is Outcome.FATAL
    assert state.stable == state.end
    assert state.read(0)[0] == []


def test_an_expelled_member_commits_without_offsets_and_is_refused_with_its_old_metadata(bench: Bench) -> None:
    process = Process("zombie")
    consumer, _ = bench.join("a", process)
    bench.kernel.run(3)
    old = consumer.metadata()
    bench.kernel.freeze(process, 100)
    bench.kernel.run(20)
    bench.join("b")
    bench.kernel.run(23)
    producer = bench.producer()
    assert bench.finish(commit(bench, producer, offsets=old)) is Outcome.ABORT
    assert bench.finish(producer.abort()) is Outcome.OK
    assert bench.finish(commit(bench, producer)) is Outcome.OK


def test_a_member_that_joined_again_has_fresh_metadata_and_the_broker_does_not_ask_who_owns_the_partition(
    bench: Bench,
) -> None:
    process = Process("zombie")
    consumer, changes = bench.join("a", process)
    bench.kernel.run(3)
    assert [change.partitions for change in changes] == [frozenset({0, 1})]
    bench.kernel.freeze(process, 20)
    _, others = bench.join("b")
    bench.kernel.run(30)
    assert [change.kind for change in changes] == ["assigned", "lost", "assigned"]
    assert changes[-1].partitions == frozenset({0})
    assert [change.kind for change in others] == ["assigned", "revoked"]
    producer = bench.producer()
    producer.begin()
    producer.produce(("state", 1), "m", b"x")  # partition 1 is b's
    assert bench.finish(producer.send_offsets({("lane", 1): 1}, consumer.metadata())) is Outcome.OK
    assert bench.finish(producer.commit(5.0)) is Outcome.OK


def test_a_partition_changes_hands_only_when_its_owner_let_go(bench: Bench) -> None:
    process = Process("a")
    consumer = Consumer(bench.broker, Link(), process, "a", ("lane",))
    first = bench.finish(consumer.poll(5.0, 10))
    consumer.done(first)
    _, others = bench.join("b")
    revoked = bench.finish(consumer.poll(5.0, 10))
    assert (revoked.kind, revoked.partitions) == ("revoked", frozenset({1}))
    before = consumer.metadata()
    bench.kernel.run(bench.kernel.now + 10)  # it drains
    assert others == []
    assert bench.finish(commit(bench, bench.producer(), offsets=before)) is Outcome.OK
    consumer.done(revoked)
    bench.kernel.run(bench.kernel.now + 4)
    assert [change.partitions for change in others] == [frozenset({1})]
    assert consumer.metadata().epoch > before.epoch


def test_offsets_are_pending_until_their_transaction_ends(bench: Bench) -> None:
    consumer, _ = bench.join("a")
    bench.kernel.run(3)
    producer, group = bench.producer(), bench.broker.group
    producer.begin()
    assert bench.finish(producer.send_offsets({LANE: 7}, consumer.metadata())) is Outcome.OK
    assert not group.stable([LANE])
    assert group.committed == {}
    assert bench.finish(producer.commit(5.0)) is Outcome.OK
    bench.kernel.run(bench.kernel.now + 1)
    assert group.stable([LANE])
    assert group.committed == {LANE: 7}


def test_a_commit_whose_answer_was_lost_is_told_when_asked_again(bench: Bench) -> None:
    producer, state = bench.producer(), bench.broker.partitions[STATE]
    producer.begin()
    producer.produce(STATE, "m", b"x")
    bench.finish(producer.flush())
    end = bench.broker.coordinator.end
    bench.broker.loss = 1.0
    task = bench.start(producer.commit(2.0))
    end("owner.main.0", 0, True)  # it arrived; the answer did not
    bench.kernel.run(bench.kernel.now + 10)
    assert task.done.value is Outcome.TIMED_OUT
    bench.broker.loss = 0.0
    assert bench.finish(producer.commit(2.0)) is Outcome.OK
    assert [record.key for record in state.read(0)[0]] == ["m"]


def test_a_repeated_write_is_appended_once(bench: Bench) -> None:
    bench.broker.loss = 0.4
    producer, state = bench.producer(), bench.broker.partitions[STATE]
    for _ in range(20):
        assert bench.finish(commit(bench, producer, timeout=300.0), within=600.0) is Outcome.OK
    bench.kernel.run(bench.kernel.now + 5)
    assert len(state.read(0)[0]) == 20


def test_a_dead_member_is_expelled_and_its_partitions_go_on(bench: Bench) -> None:
    process = Process("a")
    bench.join("a", process)
    bench.kernel.run(3)
    _, others = bench.join("b")
    bench.kernel.run(6)
    bench.kernel.kill(process)
    bench.kernel.run(30)
    assert frozenset().union(*(change.partitions for change in others)) == frozenset({0, 1})


def test_compaction_keeps_the_newest_of_each_key_and_all_above_the_stable_offset(bench: Bench) -> None:
    producer, state = bench.producer(), bench.broker.partitions[STATE]
    for _ in range(3):
        bench.finish(commit(bench, producer, rows=2))
        bench.kernel.run(bench.kernel.now + 1)
    producer.begin()
    producer.produce(STATE, "m0", b"x")
    bench.finish(producer.flush())
    state.compact()
    records, position = state.read(0)
    assert [(record.key, record.offset) for record in records] == [("m0", 6), ("m1", 7)]
    assert position == state.stable == 9
    assert state.end == 10


def test_a_broker_that_restarts_expels_nobody_for_its_own_silence(bench: Bench) -> None:
    _, changes = bench.join("a")
    bench.kernel.run(3)
    bench.broker.stop()
    bench.kernel.run(23)
    bench.broker.start()
    bench.kernel.run(40)
    assert [change.kind for change in changes] == ["assigned"]
