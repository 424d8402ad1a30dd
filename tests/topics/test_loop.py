from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from confluent_kafka import KafkaError

from schemas.codec import Undecodable, decode
from schemas.operations import RecordDeadLettered
from tests.topics.driving import Stage, delivered
from tests.waiting import wait_until
from topics.deadletters import DeadLetters, Poisoned
from topics.errors import Later, Never
from topics.fake import FakeCluster, FakeConsumer
from topics.inlet import Inlet
from topics.loop import Loop, run, waits
from topics.record import Record
from topics.registry import DEADLETTERS, MAX_READ, MESSAGES, SENDS, SENDS_URGENT, UNSUBSCRIBES


def numbered(count: int) -> list[tuple[bytes, bytes]]:
    return [(b"k%d" % n, b"%d" % n) for n in range(count)]


class Handler:
    """Publishes a fact per record, and remembers what it saw."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seen: list[Record] = []

    def __call__(self, records: Sequence[Record]) -> None:
        self.seen.extend(records)
        for record in records:
            self.stage.publisher.publish(delivered(f"m{(record.value or b'').decode()}"))

    @property
    def values(self) -> list[bytes]:
        return [record.value or b"" for record in self.seen]


def dead(stage: Stage, count: int) -> list[RecordDeadLettered]:
    events = [decode(record.value, record.headers) for record in stage.read(DEADLETTERS, count)]
    assert all(isinstance(event, RecordDeadLettered) for event in events)
    return [event for event in events if isinstance(event, RecordDeadLettered)]


def test_every_record_is_handled_and_a_restart_goes_on_behind_them(stage: Stage) -> None:
    stage.send(SENDS, *numbered(50))
    first = Handler(stage)
    running = stage.run([SENDS], first)
    wait_until(lambda: len(first.seen) == 50)
    running.stop()
    stage.send(SENDS, (b"k", b"50"))
    second = Handler(stage)
    stage.run([SENDS], second)
    wait_until(lambda: second.seen)
    assert sorted(first.values) == sorted(value for _key, value in numbered(50))
    assert second.values == [b"50"]
    assert len(stage.read(MESSAGES, 51)) == 51


def test_records_show_the_registry_s_topic_and_their_order_within_a_partition(stage: Stage) -> None:
    stage.send(SENDS, *numbered(100))
    handler = Handler(stage)
    stage.run([SENDS], handler, batch=7)
    wait_until(lambda: len(handler.seen) == 100)
    assert {record.topic for record in handler.seen} == {SENDS.name}
    for number in range(SENDS.embedded):
        offsets = [record.offset for record in handler.seen if record.partition == number]
        assert offsets == list(range(len(offsets)))


def test_a_crash_between_facts_and_offsets_repeats_the_same_facts(stage: Stage) -> None:
    stage.send(SENDS, *numbered(10))

    class Crash(BaseException):
        pass

    class CrashAfterAcks:
        """A publisher whose process dies right after the facts are acked."""

        def settled(self, timeout: float) -> bool:
            stage.publisher.flush(timeout)
            raise Crash

    first = Handler(stage)
    broken = stage.run([SENDS], first, publisher=CrashAfterAcks())  # type: ignore[arg-type]  # as far as used
    wait_until(lambda: not broken.alive)
    with pytest.raises(Crash):
        broken.stop()
    again = Handler(stage)
    stage.run([SENDS], again)
    wait_until(lambda: len(again.seen) == 10)
    facts = stage.read(MESSAGES, len(first.seen) + 10)
    assert first.seen
    assert len({decode(record.value, record.headers).event_id for record in facts}) == 10


def test_offsets_wait_for_the_facts_acks(fake: FakeCluster, fake_stage: Stage) -> None:
    """The order that this loop exists for: no ack, no commit."""
    fake.broker.refuses[fake.topic(MESSAGES)] = KafkaError.NOT_ENOUGH_REPLICAS
    fake_stage.send(SENDS, (b"k", b"1"))
    handler = Handler(fake_stage)
    fake_stage.run([SENDS], handler)
    wait_until(lambda: len(handler.seen) >= 2, what="the batch to be tried again")
    assert fake.broker.groups[fake.group("plan")].committed == {}
    del fake.broker.refuses[fake.topic(MESSAGES)]
    wait_until(lambda: fake.broker.groups[fake.group("plan")].committed)
    assert len(fake_stage.read(MESSAGES, 1)) == 1


def test_later_keeps_the_batch_and_holds_the_others_back(stage: Stage) -> None:
    stage.send(SENDS, *numbered(5))
    calls: list[list[bytes | None]] = []
    open_again = threading.Event()

    def handle(records: Sequence[Record]) -> None:
        calls.append([record.value for record in records])
        if not open_again.is_set():
            raise Later("the store is away")

    stage.run([SENDS], handle)
    wait_until(lambda: len(calls) >= 2)
    stage.send(SENDS, (b"k", b"new"))
    open_again.set()
    wait_until(lambda: any(b"new" in call for call in calls))
    assert calls[0] == calls[1]
    assert b"new" not in calls[0]


def test_a_loop_that_must_wait_can_be_stopped(stage: Stage) -> None:
    stage.send(SENDS, (b"k", b"1"))
    tried = threading.Event()

    def handle(_records: Sequence[Record]) -> None:
        tried.set()
        raise Later("for ever")

    running = stage.run([SENDS], handle)
    assert tried.wait(30)
    running.stop()
    handler = Handler(stage)
    stage.run([SENDS], handler)
    wait_until(lambda: handler.values == [b"1"])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("error", [Never, Undecodable])
def test_what_never_works_is_dead_lettered_and_its_neighbours_go_on(
    stage: Stage, named: bool, error: type[Exception]
) -> None:
    stage.send(SENDS, *numbered(20))
    handler = Handler(stage)
    good: list[bytes] = []

    def handle(records: Sequence[Record]) -> None:
        for record in records:
            if record.value in (b"3", b"4", b"11"):
                reason = f"cannot: ann@example.test\nbecause {record.value!r}"
                raise Never(reason, record) if named and error is Never else error(reason)
        handler(records)
        good.extend(record.value or b"" for record in records)

    stage.run([SENDS], handle)
    wait_until(lambda: len(good) == 17)
    letters = dead(stage, 3)
    assert sorted(letter.record_value for letter in letters) == [b"11", b"3", b"4"]
    assert all("example.test" not in letter.reason and "\n" not in letter.reason for letter in letters)
    assert sorted(good) == sorted(value for _key, value in numbered(20) if value not in (b"3", b"4", b"11"))


def test_what_the_broker_refuses_for_good_is_dead_lettered(fake: FakeCluster, fake_stage: Stage) -> None:
    """A fact that comes back refused, not at once but with the ack."""
    fake.broker.refuses[fake.topic(UNSUBSCRIBES)] = KafkaError.INVALID_RECORD
    fake_stage.send(SENDS, *numbered(8))
    good: list[bytes | None] = []

    def handle(records: Sequence[Record]) -> None:
        for record in records:
            fake_stage.publisher.send(UNSUBSCRIBES if record.value == b"5" else MESSAGES, b"k", record.value)
        good.extend(record.value for record in records)

    fake_stage.run([SENDS], handle)
    [letter] = dead(fake_stage, 1)
    assert (letter.record_value, letter.reason) == (b"5", "INVALID_RECORD")
    wait_until(lambda: {value for _key, value in numbered(8)} <= set(good))


def test_a_record_over_the_limit_is_dead_lettered_unseen(stage: Stage) -> None:
    large = b"x" * (MAX_READ + 1)
    stage.send(SENDS, (b"k", b"1"), (b"k", large), (b"k", b"2"))
    handler = Handler(stage)
    stage.run([SENDS], handler)
    wait_until(lambda: handler.values == [b"1", b"2"])
    [letter] = dead(stage, 1)
    assert letter.record_size == len(large) + 1
    assert letter.record_value == large[: 64 * 1024]
    assert letter.offset == 1


def test_too_many_bad_records_stop_the_consumer_where_it_stands(stage: Stage) -> None:
    stage.send(SENDS, *((b"k", b"bad") for _ in range(30)))

    def handle(_records: Sequence[Record]) -> None:
        raise Never("a bad release")

    letters = DeadLetters(stage.publisher, "plan", limit=5, window=100)
    running = stage.run([SENDS], handle, deadletters=letters, batch=10)
    wait_until(lambda: not running.alive)
    with pytest.raises(Poisoned, match="6 of the last 100 records of group plan"):
        running.stop()
    handler = Handler(stage)
    stage.run([SENDS], handler)
    wait_until(lambda: len(handler.seen) == 30, what="the whole batch to be there still")


def test_a_batch_repeated_for_another_reason_counts_its_bad_records_once(fake: FakeCluster, fake_stage: Stage) -> None:
    fake.broker.refuses[fake.topic(DEADLETTERS)] = KafkaError.NOT_ENOUGH_REPLICAS
    fake_stage.send(SENDS, (b"k", b"bad"))
    tries: list[int] = []

    def handle(_records: Sequence[Record]) -> None:
        tries.append(1)
        raise Never("bad")

    fake_stage.run([SENDS], handle, deadletters=DeadLetters(fake_stage.publisher, "plan", limit=1))
    wait_until(lambda: len(tries) >= 3)
    del fake.broker.refuses[fake.topic(DEADLETTERS)]
    assert dead(fake_stage, 1)[0].reason == "bad"


def test_urgent_records_overtake_a_backlog(stage: Stage) -> None:
    order: list[str] = []

    def handle(records: Sequence[Record]) -> None:
        if not order:
            stage.send(SENDS, *numbered(3_000))
            stage.send(SENDS_URGENT, *((b"u%d" % n, b"%d" % n) for n in range(20)))
        order.extend(record.topic for record in records)

    stage.run([SENDS, SENDS_URGENT], handle, batch=10)
    stage.send(SENDS, (b"k", b"first"))
    wait_until(lambda: len(order) == 3_021, timeout=90)
    # Behind one another they would come last; how soon they are fetched is the machine's affair.
    assert max(index for index, name in enumerate(order) if name == SENDS_URGENT.name) < 2_900


def test_members_share_the_partitions_and_a_leaver_s_are_taken_over(stage: Stage) -> None:
    handlers = [Handler(stage), Handler(stage)]
    loops = [stage.run([SENDS], handler) for handler in handlers]
    stage.send(SENDS, *numbered(40))
    wait_until(lambda: sum(len(handler.seen) for handler in handlers) >= 40)
    loops[0].stop()
    stage.send(SENDS, *((key, value + b"0000") for key, value in numbered(40)))
    wait_until(lambda: sum(value.endswith(b"0000") and len(value) > 4 for value in handlers[1].values) == 40)


def test_a_member_that_was_expelled_commits_nothing_and_drops_the_batch(fake: FakeCluster, fake_stage: Stage) -> None:
    fake_stage.send(SENDS, (b"k", b"1"))
    entered, go = threading.Event(), threading.Event()
    seen: list[bytes | None] = []

    def handle(records: Sequence[Record]) -> None:
        seen.extend(record.value for record in records)
        entered.set()
        assert go.wait(30)

    running = fake_stage.run([SENDS], handle)
    assert entered.wait(30)
    consumer = running.loop._inlets[0]._consumer
    assert isinstance(consumer, FakeConsumer)
    consumer.expel()
    go.set()
    wait_until(lambda: len(seen) == 2, what="the record to come again after the member came back")
    wait_until(lambda: fake.broker.groups[fake.group("plan")].committed)


def test_a_stop_right_behind_a_batch_leaves_nothing_uncommitted(fake: FakeCluster, fake_stage: Stage) -> None:
    stop = threading.Event()
    batches: list[int] = []

    def handle(records: Sequence[Record]) -> None:
        batches.append(len(records))
        if len(batches) == 3:
            stop.set()

    fake_stage.send(SENDS, *numbered(40))
    run(fake, "plan", [SENDS], handle, stop, publisher=fake_stage.publisher, batch=10)
    assert sum(fake.broker.groups[fake.group("plan")].committed.values()) == sum(batches) == 30


def test_a_failed_commit_is_made_good(fake: FakeCluster, fake_stage: Stage) -> None:
    fake_stage.send(SENDS, (b"k", b"1"))

    def handle(_records: Sequence[Record]) -> None:
        fake.broker.stop()

    fake_stage.run([SENDS], handle)
    committed = fake.broker.groups[fake.group("plan")].committed
    wait_until(lambda: not fake.broker.up)
    assert committed == {}
    fake.broker.start()
    wait_until(lambda: committed)


def test_an_error_that_nobody_foresaw_ends_the_loop(stage: Stage) -> None:
    stage.send(SENDS, (b"k", b"1"))

    def handle(_records: Sequence[Record]) -> None:
        raise KeyError("a bug")

    running = stage.run([SENDS], handle)
    wait_until(lambda: not running.alive)
    with pytest.raises(KeyError):
        running.stop()


def test_lag_is_what_is_left_to_read(fake: FakeCluster, fake_stage: Stage) -> None:
    loop = Loop(fake, "plan", [SENDS], lambda _records: None, publisher=fake_stage.publisher, batch=1)
    fake_stage.send(SENDS, *numbered(10))
    stop = threading.Event()
    loop._turn(stop)
    assert sum(inlet.lag() for inlet in loop._inlets) == 9
    stop.set()
    loop.run(stop)


@pytest.mark.parametrize("busy", [True, False])
def test_it_waits_at_one_inlet_at_a_time_and_long_only_when_nothing_comes(busy: bool) -> None:
    for since in (0.0, 0.004, 0.02, 0.9, 5.0, float("inf")):
        for rest in (0.0, 0.02):
            urgent, others = waits(2, busy, since, rest)
            assert min(urgent, others) == 0
            assert others <= 0.005
            assert urgent == (rest if busy or rest else 0.0 if since < 1 else 0.05)
    assert waits(1, busy, 0.0, 0.02) == (0.0 if busy else 0.2,)


def test_offsets_go_at_intervals_and_with_their_partitions(fake: FakeCluster, fake_stage: Stage) -> None:
    now = 100.0
    inlet = Inlet(fake, "plan", [SENDS], clock=lambda: now)
    committed = fake.broker.groups[fake.group("plan")].committed
    fake_stage.send(SENDS, *((b"k", b"%d" % n) for n in range(3)))

    def one() -> int:
        [record] = inlet.take(1, 30)
        inlet.done([record])
        inlet.commit()
        inlet.keep_alive()  # for the answer
        return sum(committed.values())

    assert one() == 1
    assert one() == 1
    now += 0.1
    inlet.commit()
    inlet.keep_alive()
    assert sum(committed.values()) == 2
    assert one() == 2
    inlet._on_revoke(inlet._consumer, inlet._consumer.assignment())
    inlet.keep_alive()
    assert sum(committed.values()) == 3
    inlet.close()


def test_run_is_a_loop_until_stopped(fake: FakeCluster, fake_stage: Stage) -> None:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=run,
        args=(fake, "plan", [SENDS], lambda _records: None, stop),
        kwargs={"publisher": fake_stage.publisher, "ready": ready.set},
    )
    thread.start()
    assert ready.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
