"""Facts go out in batches: each acked as a whole before the next, and all of it again when something of it failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from sinks.smtp import facts, reporting
from sinks.smtp.commands import Publish
from sinks.smtp.reporting import Facts
from sinks.smtp.state import Kind, Phase, Result, State
from tests.smtp_owner.world import START, command
from topics.errors import Broken
from topics.fake import FakeCluster
from topics.publisher import BatchPublisher
from topics.registry import ATTEMPTS, MESSAGES

DELIVERED = Result(Kind.DELIVERED, 2_000, 1_000, 250, "2.0.0")


def owed(ticket: int) -> Publish:
    """An attempt and an end."""
    state = State(Phase.ENDED, False, 1, "", 1, 1, 2, int(START), int(START), DELIVERED)
    return Publish(ticket, facts.owed(command(f"m{ticket}"), state))


class Desk:
    """What an agent does with `Facts`, by hand."""

    def __init__(self) -> None:
        self.cluster = FakeCluster("in-memory")
        self.cluster.create(ATTEMPTS, MESSAGES)
        self.failures: list[str] = []
        self.publisher = BatchPublisher(self.cluster, "smtp/1")
        self._woken = threading.Semaphore(0)
        self.facts = Facts(self.publisher, self._woken.release, self.failures.append)

    def give(self, *tickets: int) -> None:
        for ticket in tickets:
            self.facts.publish(owed(ticket))
        self.facts.send()

    def settled(self) -> list[tuple[int, bool]]:
        assert self._woken.acquire(timeout=30)
        found = self.facts.settled()
        self.facts.send()
        return found

    @property
    def written(self) -> int:
        return sum(log.end for log in self.cluster.broker.logs.values())

    def close(self) -> None:
        self.facts.close()
        if self.cluster.broker.up:
            self.publisher.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def test_what_comes_together_is_acked_together(desk: Desk) -> None:
    desk.give(1, 2, 3)
    assert desk.settled() == [(1, True), (2, True), (3, True)]
    assert desk.written == 6


def test_what_comes_meanwhile_is_the_next_batch(desk: Desk) -> None:
    desk.cluster.broker.stop()
    desk.give(1)
    desk.give(2)
    desk.give(3)
    desk.cluster.broker.start()
    assert desk.settled() == [(1, True)]
    assert desk.settled() == [(2, True), (3, True)]


def test_a_failure_is_of_the_whole_batch_and_not_of_the_next(desk: Desk) -> None:
    desk.cluster.broker.refuses[desk.cluster.topic(ATTEMPTS)] = KafkaError.NOT_ENOUGH_REPLICAS
    desk.give(1, 2)
    assert desk.settled() == [(1, False), (2, False)]
    desk.cluster.broker.refuses.clear()
    desk.give(1, 2)
    assert desk.settled() == [(1, True), (2, True)]
    assert desk.failures == []


def test_a_client_that_can_never_write_again_ends_the_owner(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fatal(error: KafkaError) -> Exception:
        return Broken(error.name())

    monkeypatch.setattr("topics.publisher.mapped", fatal)
    desk.cluster.broker.refuses[desk.cluster.topic(ATTEMPTS)] = KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    desk.give(1)
    assert desk.settled() == [(1, False)]
    assert desk.failures == ["facts: OUT_OF_ORDER_SEQUENCE_NUMBER"]


def test_a_publisher_that_takes_no_more_ends_the_owner(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fact: object) -> None:
        raise Broken("_FATAL")

    monkeypatch.setattr(desk.publisher, "publish", refuse)
    desk.give(1)
    assert desk.failures == ["facts: _FATAL"]


def test_too_much_unacked_is_a_crowd(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "CROWDED", 5)
    desk.cluster.broker.stop()
    desk.give(1)
    desk.give(2)
    assert not desk.facts.crowded
    desk.give(3)
    assert desk.facts.crowded
    desk.cluster.broker.start()
    desk.settled()
    assert not desk.facts.crowded
    desk.settled()


def test_it_ends_also_while_the_broker_is_away(desk: Desk) -> None:
    desk.cluster.broker.stop()
    desk.give(1)
    desk.facts.close()
    assert desk.written == 0
