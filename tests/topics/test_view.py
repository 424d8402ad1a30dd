from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from schemas.codec import decode
from schemas.state import SuppressionSet
from tests.topics.driving import Stage, suppression
from tests.waiting import wait_until
from topics.fake import FakeCluster
from topics.record import Record
from topics.registry import SITES, SUPPRESSIONS, UNSUBSCRIBES, Topic
from topics.view import View
from topics.view_reader import MISSED_S, Reader


def active(record: Record) -> str | None:
    event = decode(record.value, record.headers)
    assert isinstance(event, SuppressionSet)
    return str(event.reason) if event.active else None


def text(record: Record) -> str:
    return (record.value or b"").decode()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Changes:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []

    def __call__(self, key: str, value: str | None) -> None:
        self.seen.append((key, value))


def test_a_view_has_what_was_written_before_and_after_it_began(stage: Stage) -> None:
    stage.publisher.publish(suppression("r1"))
    stage.publisher.publish(suppression("r2"))
    stage.publisher.flush()
    view = stage.view(SUPPRESSIONS, active)
    assert sorted(view.items()) == [("default/*/r1", "manual"), ("default/*/r2", "manual")]
    stage.publisher.publish(suppression("r3"))
    stage.publisher.publish(suppression("r1", cause="2", active=False))
    wait_until(lambda: "default/*/r3" in view and "default/*/r1" not in view)
    assert len(view) == 2
    assert view.get("default/*/r1") is None


def test_a_tombstone_forgets_the_key_and_listeners_hear_each_change(stage: Stage) -> None:
    stage.send(SITES, (b"a.test", b"1"), (b"b.test", b"1"), (b"a.test", None))
    changes = Changes()
    view = stage.view(SITES, text, on_change=changes)
    assert view.items() == [("b.test", "1")]
    stage.send(SITES, (b"b.test", b"2"), (b"never.test", None), (b"b.test", None))
    wait_until(lambda: not len(view))
    assert changes.seen[-2:] == [("b.test", "2"), ("b.test", None)]
    assert ("never.test", None) not in changes.seen


def test_an_empty_topic_is_ready_at_once_and_the_age_stays_young(stage: Stage) -> None:
    view = stage.view(SITES, text)
    first = view._known_at
    assert first is not None
    assert view.age() < 30
    wait_until(lambda: view._known_at != first, what="the end to be asked for again")


def test_views_share_one_thread_and_see_their_own_topics(stage: Stage) -> None:
    before = threading.active_count()
    reader = Reader(stage.cluster, "smtp")
    sites = View(stage.cluster, SITES, text, reader=reader)
    both = View(stage.cluster, [SITES, SUPPRESSIONS], lambda record: record.topic, reader=reader)
    reader.start()
    assert threading.active_count() == before + 1
    stage.send(SITES, (b"a.test", b"1"))
    stage.publisher.publish(suppression("r1"))
    wait_until(lambda: len(both) == 2 and len(sites) == 1)
    assert both.get("default/*/r1") == SUPPRESSIONS.name
    with pytest.raises(RuntimeError):
        View(stage.cluster, SITES, text, reader=reader)
    reader.close()


def test_the_prefix_keeps_installations_apart(fake: FakeCluster, fake_stage: Stage) -> None:
    other = FakeCluster("in-memory", prefix="other.", broker=fake.broker)
    other.create(SITES)
    with Stage(other) as elsewhere:
        elsewhere.send(SITES, (b"a.test", b"1"))
    assert fake_stage.view(SITES, text).items() == []


def test_a_record_that_cannot_be_read_leaves_the_old_value(stage: Stage) -> None:
    stage.publisher.publish(suppression("r1"))
    stage.publisher.flush()
    stage.send(SUPPRESSIONS, (b"default/*/r1", b"nonsense"), (b"\xff", b"{}"))
    view = stage.view(SUPPRESSIONS, active)
    assert view.get("default/*/r1") == "manual"
    assert view.unreadable == 2


def test_a_failing_listener_harms_no_other(fake_stage: Stage) -> None:
    def fail(_key: str, _value: str | None) -> None:
        raise RuntimeError("a caller's bug")

    changes = Changes()
    view = fake_stage.view(SITES, text, on_change=fail)
    view.listen(changes)
    fake_stage.send(SITES, (b"a.test", b"1"))
    wait_until(lambda: changes.seen == [("a.test", "1")])


def test_the_view_ages_while_the_broker_is_away_and_is_young_again_after(fake: FakeCluster, fake_stage: Stage) -> None:
    clock = Clock()
    view = fake_stage.view(SITES, text, clock=clock)
    fake.broker.stop()
    clock.now += 100
    assert view.age() >= 99
    fake.broker.start()
    wait_until(lambda: view.age() < 1)


def test_knowledge_dates_from_the_question_not_from_the_answer() -> None:
    """What is acked between the two is not in the answer."""
    view = _alone(SITES)
    clock: Clock = view._clock  # type: ignore[assignment]  # it is the one given
    clock.now += 3
    view.caught_up(clock.now - 2)
    assert view.age() == 2


def test_before_it_is_ready_a_view_is_infinitely_old() -> None:
    view = _alone(SITES)
    assert view.age() == float("inf")
    assert not view.wait_ready(0)


def test_after_half_of_the_tombstones_life_without_contact_the_view_is_read_again(
    fake: FakeCluster, fake_stage: Stage
) -> None:
    clock, changes = Clock(), Changes()
    fake_stage.send(SITES, (b"a.test", b"1"), (b"b.test", b"1"))
    view = fake_stage.view(SITES, text, clock=clock, on_change=changes)
    fake.broker.stop()
    fake.broker.append(fake.topic(SITES), 0, b"a.test", None, None)
    fake.broker.append(fake.topic(SITES), 0, b"b.test", b"2", None)
    fake.broker.compact(fake.topic(SITES))  # the tombstone has come and gone
    changes.seen.clear()
    clock.now += MISSED_S + 1
    fake.broker.start()
    wait_until(lambda: view.items() == [("b.test", "2")] and view.age() < 10)
    assert sorted(changes.seen, key=str) == [("a.test", None), ("b.test", "2")]


def test_until_it_is_complete_again_readers_see_the_old_entries() -> None:
    changes = Changes()
    view = _alone(SITES, changes)
    view.feed(_record(b"a.test", b"1"))
    view.caught_up(1)
    view.read_again()
    view.feed(_record(b"b.test", b"1"))
    assert view.items() == [("a.test", "1")]
    view.caught_up(2)
    assert view.items() == [("b.test", "1")]
    assert changes.seen == [("a.test", "1"), ("a.test", None), ("b.test", "1")]


def test_a_topic_made_anew_is_read_anew(fake: FakeCluster, fake_stage: Stage) -> None:
    fake_stage.send(SITES, (b"a.test", b"1"), (b"b.test", b"1"))
    view = fake_stage.view(SITES, text)
    fake.create(SITES)
    wait_until(lambda: view.items() == [])
    fake_stage.send(SITES, (b"c.test", b"1"))
    wait_until(lambda: view.items() == [("c.test", "1")])


def test_a_compacted_end_is_an_end(fake: FakeCluster, fake_stage: Stage) -> None:
    """The last offset may hold no record any more: waiting for it would be for ever."""
    fake_stage.send(SITES, (b"a.test", b"1"), (b"b.test", None))
    fake.broker.compact(fake.topic(SITES))
    assert fake_stage.view(SITES, text).items() == [("a.test", "1")]


def test_a_view_waits_for_its_topic_to_be_made(fake: FakeCluster) -> None:
    empty = FakeCluster("in-memory")
    view = View(empty, SITES, text)
    assert not view.wait_ready(0)
    empty.create(SITES)
    assert view.wait_ready(30)
    view.close()


def test_all_topics_are_looked_at_in_one_request(fake: FakeCluster) -> None:
    """One for each, once a minute, each behind a fetch: the views grew too old and delivery stood still for seconds."""
    with closing(Reader(fake, "tests")) as reader:
        views = [View(fake, topic, text, reader=reader) for topic in (SITES, SUPPRESSIONS, UNSUBSCRIBES)]
        reader.start()
        assert all(view.wait_ready(30) for view in views)
    assert fake.broker.metadata_requests == 1


@pytest.mark.stack
def test_a_real_broker_killed_makes_the_view_old_and_its_return_young(tmp_path: Path) -> None:
    from pipeline.embedded.kafka import EmbeddedKafka, KafkaPlan, prepare
    from topics import admin
    from topics.kafka import Cluster

    with EmbeddedKafka(KafkaPlan(tmp_path), prepare(progress=False)) as kafka:
        cluster = Cluster(kafka.bootstrap)
        admin.apply(cluster, admin.Profile.EMBEDDED)
        with Stage(cluster) as stage:
            stage.send(SITES, (b"a.test", b"1"))
            view = stage.view(SITES, text)
            kafka.kill(0)
            wait_until(lambda: view.age() > 2, what="the view to age")
            assert view.get("a.test") == "1"
            stage.publisher.send(SITES, b"b.test", b"1")  # waits in the producer
            kafka.start_broker(0)
            wait_until(lambda: view.get("b.test") == "1" and view.age() < 2, timeout=60, what="the view to come back")


class _NeverStarted(Reader):
    def __init__(self) -> None:
        super().__init__(FakeCluster("in-memory"), "test")


def _alone(topic: Topic | Sequence[Topic], on_change: Changes | None = None) -> View[str]:
    return View(FakeCluster("in-memory"), topic, text, reader=_NeverStarted(), clock=Clock(), on_change=on_change)


def _record(key: bytes, value: bytes | None) -> Record:
    return Record(SITES.name, 0, 0, key, value, [], 0)
