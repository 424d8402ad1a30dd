"""Sources of a pool with real workers: mail keeps its addresses, and a broken source is nobody's attempt."""

from __future__ import annotations

import pytest

from schemas.attempts import AttemptHeld, AttemptMade
from schemas.operations import AuditFound
from tests.smtp_owner.conftest import Start
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import Worker, command, config, ends, facts, names, pools, queue
from tests.smtp_owner.test_agent import finished
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, AUDITS

pytestmark = pytest.mark.stack
ADDRESSES = ("127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14")
NOT_OURS = "192.0.2.77"


def made(cluster: Cluster) -> list[AttemptMade]:
    return [fact for fact in facts(cluster, ATTEMPTS) if isinstance(fact, AttemptMade)]


def test_mail_keeps_its_addresses_when_a_worker_dies(
    cluster: Cluster, world: Internet, publisher: Publisher, start: Start
) -> None:
    first = start("a", *ADDRESSES)
    start("b", *ADDRESSES)
    queue(publisher, *(command(name, domain=f"d{n % 16}.test") for n, name in enumerate(names("m", 200))))
    wait_until(lambda: set(world.callers) == set(ADDRESSES), what="mail from all four addresses")
    first.kill()
    first.wait(10)
    before = dict(world.callers)
    queue(publisher, *(command(name, domain=f"e{n % 40}.test") for n, name in enumerate(names("n", 200))))
    finished(cluster, 400)
    assert set(world.callers) == set(ADDRESSES)
    assert all(world.callers[address] > before[address] for address in ADDRESSES)
    assert {attempt.source for attempt in made(cluster) if attempt.type == "attempt.delivered"} == set(ADDRESSES)


def test_a_source_that_cannot_be_bound_costs_no_attempt(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    with Worker(config(cluster, world, pools=pools(NOT_OURS, ADDRESSES[0]))):
        queue(publisher, *(command(name, domain=f"d{n % 16}.test") for n, name in enumerate(names("m", 100))))
        finished(cluster, 100)
        wait_until(lambda: facts(cluster, AUDITS), what="the alarm")
    assert set(world.callers) == {ADDRESSES[0]}
    assert {(attempt.type, attempt.attempt) for attempt in made(cluster)} == {("attempt.delivered", 1)}
    alarms = [fact for fact in facts(cluster, AUDITS) if isinstance(fact, AuditFound)]
    assert [(alarm.asset, alarm.check, alarm.result) for alarm in alarms] == [
        *((f"source/{NOT_OURS}", "source", "fail"),),
    ]
    assert alarms[0].detail.startswith("bind: ")


def test_without_any_source_mail_waits_untried(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    with Worker(config(cluster, world, pools=pools(NOT_OURS))):
        queue(publisher, command("m"))
        wait_until(lambda: made(cluster), what="the hold")
    held = made(cluster)[0]
    assert isinstance(held, AttemptHeld)
    assert (held.cause, held.attempt) == ("source_address", 1)
    assert ends(cluster) == []
    assert not world.received
