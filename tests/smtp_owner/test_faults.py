"""Owners that leave, die or stop in mid-flight: nothing lost, nothing doubled that is not recorded (P1, P2, P4)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipeline.embedded.kafka import EmbeddedKafka, KafkaPlan, prepare
from schemas import ids
from tests.smtp_owner.conftest import Start
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import Worker, command, config, create_topics, ends, facts, names, queue
from tests.smtp_owner.test_agent import finished
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES

pytestmark = pytest.mark.stack


def judge(cluster: Cluster, world: Internet, sent: list[str], doubtful: int) -> None:
    """Each message ends once. What was received and not told as delivered is told as unknown."""
    expected = {ids.message_id("default", name) for name in sent}
    ended = [fact for fact in facts(cluster, MESSAGES) if fact.type != "message.duplicate"]
    assert sorted(fact.model_dump()["message_id"] for fact in ended) == sorted(expected)
    told = {fact.model_dump()["message_id"] for fact in facts(cluster, ATTEMPTS) if fact.type == "attempt.unknown"}
    delivered = {fact.model_dump()["message_id"] for fact in ended if fact.type == "message.delivered"}
    assert delivered | told == expected
    assert set(world.received) >= delivered
    assert set(world.received) - delivered <= told
    assert max(world.received.values()) == 1, "with give_up no message is transmitted twice"
    assert len(told) <= doubtful


def test_a_clean_leave_doubts_nothing(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    sent = [*names("m", 400)]
    staying, leaving = Worker(config(cluster, world, instance="a")), Worker(config(cluster, world, instance="b"))
    with staying:
        leaving.start()
        queue(publisher, *(command(name, domain=f"d{n % 8}.test") for n, name in enumerate(sent)))
        wait_until(lambda: world.received.total() >= 40, what="the first mails")
        leaving.stop()
        assert leaving.error is None
        finished(cluster, 400)
    judge(cluster, world, sent, doubtful=0)


def test_a_killed_owner_leaves_recorded_doubts(
    cluster: Cluster, world: Internet, publisher: Publisher, start: Start
) -> None:
    sent = [*names("m", 300)]
    child = start("a")
    queue(publisher, *(command(name, domain=f"d{n % 4}.test") for n, name in enumerate(sent)))
    wait_until(lambda: world.received.total() >= 60, what="the first mails")
    world.hold()  # some dots stay unanswered
    wait_until(lambda: world.waiting >= 5, what="dots under way")
    child.kill()
    child.wait(10)
    world.release()
    with Worker(config(cluster, world, instance="b")):
        finished(cluster, 300)
    judge(cluster, world, sent, doubtful=40)
    assert "message.unknown" in ends(cluster)


def test_a_killed_broker_doubts_nothing(world: Internet, tmp_path: Path) -> None:
    sent = [*names("m", 300)]
    with EmbeddedKafka(KafkaPlan(tmp_path), prepare(progress=False)) as broker:
        cluster = Cluster(broker.bootstrap)
        create_topics(cluster)
        with Publisher(cluster, "plan") as publisher, Worker(config(cluster, world)) as worker:
            queue(publisher, *(command(name, domain=f"d{n % 4}.test") for n, name in enumerate(sent[:200])))
            wait_until(lambda: world.received.total() >= 40, what="the first mails")
            broker.kill(0)
            wait_until(broker.ended, what="the broker's end")
            broker.start_broker(0)
            queue(publisher, *(command(name, domain=f"d{n % 4}.test") for n, name in enumerate(sent[200:])))
            finished(cluster, 300, timeout=90)
            assert worker.error is None
        judge(cluster, world, sent, doubtful=0)


def test_a_stopped_owner_comes_back_as_nobody(
    cluster: Cluster, world: Internet, publisher: Publisher, start: Start
) -> None:
    sent = [*names("m", 400)]
    child = start("a")
    queue(publisher, *(command(name, domain=f"d{n % 4}.test") for n, name in enumerate(sent[:200])))
    wait_until(lambda: world.received.total() >= 40, what="the first mails")
    os.kill(child.pid, signal.SIGSTOP)
    heir = Worker(config(cluster, world, instance="b"))
    with heir:
        wait_until(lambda: heir.agent and len(heir.agent.partitions) == 2, timeout=60, what="the take-over")
        os.kill(child.pid, signal.SIGCONT)
        queue(publisher, *(command(name, domain=f"d{n % 4}.test") for n, name in enumerate(sent[200:])))
        finished(cluster, 400)
        judge(cluster, world, sent, doubtful=40)
