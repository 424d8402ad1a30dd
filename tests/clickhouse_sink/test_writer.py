"""The order of the four steps, and what is in the tables after a death between any two of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from sinks.clickhouse import writer as module
from sinks.clickhouse.core import READ, table_of
from sinks.clickhouse.intake import GROUP, Intake
from sinks.clickhouse.writer import WAIT_S, Writer
from tests.clickhouse_sink.doubles import FakeStore, MarkedConsumer, SinkCluster
from tests.clickhouse_sink.history import Story, numbered
from tests.waiting import wait_until
from topics.deadletters import DeadLetters
from topics.publisher import Publisher
from topics.registry import BY_NAME, MESSAGES, TOPICS

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
STEPS = ["before mark", "after mark", "before insert", "after insert", "before done", "after done"]


class Died(BaseException):
    """kill -9: no handler of ours runs on."""


@dataclass
class Stage:
    """A broker and tables that outlive any number of sinks."""

    cluster: SinkCluster
    store: FakeStore = field(default_factory=FakeStore)
    now: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.store.step = self.cluster.step
        self.publisher = Publisher(self.cluster, "test")

    def sink(self) -> Sink:
        return Sink(self)

    def append(self, count: int, broken: int = 0) -> None:
        """Facts of `count` messages on all topics, spread over their partitions."""
        story = Story(AT, seed=len(self.cluster.broker.logs) + self.appended).campaign(count)
        self.appended += 1
        for one in numbered(story.events):
            value = one.value or b""
            if broken and one.topic == MESSAGES.name:
                value, broken = b'{"broken":1,' + value[1:], broken - 1
            number = one.offset % BY_NAME[one.topic].embedded
            self.cluster.broker.append(self.cluster.topic(one.topic), number, one.key, value, one.headers)

    appended: int = 0

    def written(self) -> Counter[tuple[str, int, int]]:
        """How often each record is in the tables, by its place in Kafka."""
        return Counter(
            (table, int(row["kafka_partition"]), int(row["kafka_offset"]))
            for table, rows in self.store.tables.items()
            for row in rows
        )

    def on_topics(self) -> set[tuple[str, int, int]]:
        read = {self.cluster.topic(topic): table_of(topic.name) for topic in READ}
        return {
            (read[name], number, offset)
            for (name, number), log in self.cluster.broker.logs.items()
            if name in read
            for offset in log.offsets
        }

    def all_once(self) -> None:
        assert self.written() == Counter(dict.fromkeys(self.on_topics(), 1))


class Sink:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.intake = Intake(stage.cluster, READ)
        self.consumer = cast("MarkedConsumer", self.intake._consumer)
        deadletters = DeadLetters(stage.publisher, GROUP)
        self.writer = Writer(self.intake, stage.store, deadletters, stage.publisher.flush, clock=lambda: stage.now)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.writer.turn(self.stage.stop)

    def settle(self) -> None:
        """Until all there is has been written: the clock goes on by itself."""
        for _ in range(8):
            self.turn()
            self.stage.now += WAIT_S

    def die(self) -> None:
        self.consumer.expel()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # Real waits of the fake broker: what is waited for here is there already, or never comes.
    for name in ("_IDLE_S", "_REREAD_S", "_BACKOFF_FIRST_S", "_BACKOFF_MAX_S", "WAIT_S"):
        monkeypatch.setattr(module, name, 0.002)


@pytest.fixture
def stage(topic_prefix: str) -> Iterator[Stage]:
    cluster = SinkCluster("in-memory", prefix=topic_prefix)
    cluster.create(*TOPICS)
    made = Stage(cluster)
    yield made
    made.publisher.close()


def test_everything_is_written_once_and_marked_done(stage: Stage) -> None:
    stage.append(60)
    sink = stage.sink()
    sink.settle()
    stage.all_once()
    for (name, number), log in stage.cluster.broker.logs.items():
        if BY_NAME[stage.cluster.bare(name)] in READ and log.end:
            assert stage.cluster.broker.groups[stage.cluster.group(GROUP)].committed[name, number] == log.end
            assert stage.cluster.metadata[name, number] == ""


def test_mark_then_insert_then_done(stage: Stage) -> None:
    seen: list[str] = []
    stage.cluster.watch.append(seen.append)
    stage.append(1)
    stage.sink().settle()
    inserts = seen.count("after insert")
    assert seen == [*STEPS[:2], *["before insert", "after insert"] * inserts, *STEPS[4:]]
    marks = stage.cluster.commits[0]
    assert all(text.startswith("last=") for _offset, text in marks.values())


def test_records_wait_for_company_until_a_second_has_passed(stage: Stage) -> None:
    stage.append(1)
    sink = stage.sink()
    sink.turn(5)
    assert not stage.store.blocks
    stage.append(1)
    sink.turn(5)
    stage.now += WAIT_S
    sink.turn()
    stage.all_once()
    assert max(Counter(block.table for block in stage.store.blocks).values()) == 1


def test_a_full_buffer_does_not_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 50)
    stage.append(60)
    stage.sink().turn(3)
    assert sum(len(block.rows) for block in stage.store.blocks) >= 50


def test_a_failed_insert_commits_nothing_and_loses_nothing(stage: Stage) -> None:
    stage.append(30)
    stage.store.up = False
    sink = stage.sink()
    failing = threading.Thread(target=sink.settle)
    failing.start()
    wait_until(lambda: len(stage.store.blocks) >= 5, what="five tries")
    assert all(text for commit in stage.cluster.commits for _offset, text in commit.values()), "done was committed"
    assert not stage.store.tables
    stage.store.up = True
    failing.join()
    stage.all_once()


def test_an_insert_whose_answer_was_lost_is_repeated_under_the_same_token(stage: Stage) -> None:
    stage.append(30)
    stage.store.answers = False
    sink = stage.sink()
    failing = threading.Thread(target=sink.settle)
    failing.start()
    wait_until(lambda: len(stage.store.blocks) >= 5, what="five tries")
    stage.store.answers = True
    failing.join()
    stage.all_once()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("occurrence", [1, 2, 4])
def test_a_death_at_any_step_neither_loses_nor_doubles_a_row(stage: Stage, step: str, occurrence: int) -> None:
    """The fake tables fold nothing: what is doubled here, a token has let through."""
    count = Counter[str]()

    def kill(name: str) -> None:
        count[name] += 1
        if name == step and count[name] == occurrence:
            raise Died

    stage.cluster.watch.append(kill)
    died = False
    for _ in range(6):
        stage.append(15)  # more has come before the next one starts: the blocks must be the same all the same
        sink = stage.sink()
        try:
            sink.settle()
        except Died:
            died = True
            sink.die()
        else:
            sink.intake.close()
    assert died
    stage.all_once()


def test_a_row_that_cannot_be_read_is_left_out_again_after_a_death(stage: Stage) -> None:
    stage.append(40, broken=3)
    done: list[str] = []

    def kill(name: str) -> None:
        done.append(name)
        if name == "before done" and done.count(name) == 1:
            raise Died

    stage.cluster.watch.append(kill)
    sink = stage.sink()
    with pytest.raises(Died):
        sink.settle()
    sink.die()
    stage.sink().settle()
    assert max(stage.written().values()) == 1
    # The dead letters themselves are on a topic that is written, too.
    letters = stage.store.tables["deadletters"]
    ours = {(row["partition"], row["offset"]) for row in letters if row["group"] == GROUP}
    assert len(ours) == 3
    assert len(stage.store.tables["messages"]) == len([b for b in _values(stage, MESSAGES.name) if b"broken" not in b])


def test_another_sink_takes_up_what_a_lost_partition_began(stage: Stage) -> None:
    """Two sinks share the partitions; one is expelled while it inserts, and comes back."""
    stage.append(40)
    first = stage.sink()
    first.turn()
    second: list[Sink] = []

    def expel(name: str) -> None:
        if name == "after insert" and not second:
            first.consumer.expel()
            second.append(stage.sink())
            second[0].turn()

    stage.cluster.watch.append(expel)
    stage.now += WAIT_S
    for _ in range(20):
        first.turn()
        if second:
            second[0].turn()
        stage.now += WAIT_S
    assert set(stage.written()) == stage.on_topics(), "something was lost"


def test_a_partition_that_went_away_is_not_written_by_its_old_owner(stage: Stage) -> None:
    first = stage.sink()
    first.turn()
    stage.append(40)
    first.turn()  # in hand, not written
    second = stage.sink()
    for _ in range(10):
        first.turn()
        second.turn()
        stage.now += WAIT_S
    stage.all_once()


def test_records_that_kafka_has_forgotten_are_not_waited_for(stage: Stage) -> None:
    stage.append(40)
    stage.store.up = False
    sink = stage.sink()
    failing = threading.Thread(target=sink.settle)
    failing.start()
    wait_until(lambda: stage.store.blocks, what="a try")
    stage.stop.set()
    failing.join()
    sink.die()
    for (name, _number), log in stage.cluster.broker.logs.items():
        if name == stage.cluster.topic(MESSAGES):  # retention took the end of what was begun
            del log.messages[-2:], log.offsets[-2:]
    stage.stop.clear()
    stage.store.up = True
    stage.sink().settle()
    stage.all_once()


def test_an_idle_sink_sleeps(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.append(5)
    sink = stage.sink()
    sink.settle()
    before = sink.consumer.waits
    sink.turn(10)
    assert sink.consumer.waits - before == 10, "one wait for each turn, of a second when not in a test"


def test_poisoned_topics_stop_the_sink_and_keep_their_place(stage: Stage) -> None:
    for offset in range(200):
        stage.cluster.broker.append(stage.cluster.topic(MESSAGES), 0, b"k", b"%d" % offset, [])
    sink = stage.sink()
    with pytest.raises(Exception, match="could not be handled"):
        sink.settle()
    group = stage.cluster.broker.groups[stage.cluster.group(GROUP)]
    assert group.committed[stage.cluster.topic(MESSAGES), 0] == 0


def _values(stage: Stage, topic: str) -> list[bytes]:
    name = stage.cluster.topic(topic)
    return [
        cast("Any", message).value()
        for (found, _), log in stage.cluster.broker.logs.items()
        if found == name
        for message in log.messages
    ]
