"""The whole queue owner with a real broker and a real SMTP server: from a lane to the mailbox, and to the facts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas import ids
from schemas.state import SuppressionReason, SuppressionSet
from sinks.smtp.state import Phase
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import Worker, command, config, ends, facts, names, queue, read, states
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, DEADLETTERS, LANES, MESSAGES, SITES, TALLIES

pytestmark = pytest.mark.stack


def finished(cluster: Cluster, count: int, timeout: float = 60.0) -> None:
    """Wait until so many messages have ended, and all facts are acknowledged."""
    wait_until(lambda: len(ends(cluster)) >= count, timeout=timeout, what=f"{count} ends")
    wait_until(
        lambda: all(state.phase >= Phase.DONE for state in states(cluster).values()), what="all states to be done"
    )


def test_mail_is_delivered_and_told_of(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    sent = names("m", 50)
    with Worker(config(cluster, world)):
        queue(publisher, *(command(name) for name in sent))
        finished(cluster, 50)
        wait_until(lambda: read(cluster, TALLIES), what="tallies")
    assert world.received == {ids.message_id("default", name): 1 for name in sent}
    assert ends(cluster) == ["message.delivered"] * 50
    attempts = facts(cluster, ATTEMPTS)
    assert [attempt.type for attempt in attempts] == ["attempt.delivered"] * 50
    made = attempts[0].model_dump()
    assert (made["mx_ip"], made["worker"], made["reply_code"]) == ("198.18.0.1", "1", 250)
    # A domain that was not known is learned, and its messages moved to the lane of its site.
    sites = {record.key: record for record in read(cluster, SITES)}
    assert list(sites) == [b"a.test"]
    assert made["site"].startswith("mx-")
    # Fewer connections than messages.
    assert len({attempt.model_dump()["session_id"] for attempt in attempts}) <= 20


def test_replies_lead_to_retry_or_bounce(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    world.answers["later@a.test"] = ["451 4.7.1 greylisted, come back"]
    world.answers["gone@a.test"] = ["550 5.1.1 gone@a.test: no such user"]
    with Worker(config(cluster, world)):
        queue(publisher, command("later"), command("gone"), command("fine"))
        finished(cluster, 3)
    found = {fact.model_dump()["message_id"]: fact for fact in facts(cluster, MESSAGES)}
    by_name = {name: found[ids.message_id("default", name)].model_dump() for name in ("later", "gone", "fine")}
    assert (by_name["later"]["type"], by_name["later"]["attempts"]) == ("message.delivered", 2)
    assert (by_name["gone"]["type"], by_name["gone"]["bounce_class"]) == ("message.bounced", "InvalidRecipient")
    assert "gone@" not in by_name["gone"]["reply_text"]
    assert sorted(fact.type for fact in facts(cluster, ATTEMPTS)) == [
        "attempt.bounced",
        "attempt.deferred",
        "attempt.delivered",
        "attempt.delivered",
    ]
    assert "gone" not in [recipient.partition("@")[0] for recipient in world.recipients]


def test_a_suppressed_recipient_gets_nothing(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    unwanted = command("unwanted")
    publisher.publish(
        SuppressionSet.from_cause(
            "1",
            occurred_at=datetime.now(UTC),
            recipient_id=unwanted.recipient_id,
            reason=SuppressionReason.COMPLAINT,
        )
    )
    publisher.flush(30)
    with Worker(config(cluster, world)):
        queue(publisher, unwanted, command("wanted"))
        finished(cluster, 2)
    assert sorted(ends(cluster)) == ["message.delivered", "message.suppressed"]
    assert list(world.recipients) == ["wanted@a.test"]


def test_a_repeat_is_delivered_once_also_after_a_restart(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    with Worker(config(cluster, world)):
        queue(publisher, command("one"), command("one"))
        finished(cluster, 1)
    with Worker(config(cluster, world)):
        queue(publisher, command("one"), command("two"))
        finished(cluster, 2)
        wait_until(
            lambda: [fact.type for fact in facts(cluster, MESSAGES)].count("message.duplicate") == 2,
            what="both duplicates",
        )
    assert world.recipients == {"one@a.test": 1, "two@a.test": 1}


def test_what_nobody_can_read_is_set_aside(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    with Worker(config(cluster, world)):
        publisher.send(LANES, b"a", b"{nonsense", partition=0)
        queue(publisher, command("one"))
        finished(cluster, 1)
        wait_until(lambda: read(cluster, DEADLETTERS), what="the dead letter")
    assert world.recipients == {"one@a.test": 1}


def test_urgent_mail_passes_what_waits(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    world.hold()
    with Worker(config(cluster, world)) as worker:
        queue(publisher, *(command(name) for name in names("m", 60)))
        wait_until(lambda: world.waiting >= 10, what="all connections to be taken")
        queue(publisher, command("now"), urgent=True)
        agent = worker.agent
        assert agent is not None
        # All have left the lane of their domain for that of their site.
        wait_until(lambda: agent.depth.messages == agent.depth.marks == 61, what="61 messages in the queue")
        world.release()
        wait_until(lambda: "now@a.test" in world.recipients, what="the urgent mail")
        before = list(world.recipients).index("now@a.test")
        finished(cluster, 61)
    assert before <= 25
