"""Another number of lane partitions: a generation drains into the next one, live (P1, P2, P4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schemas.messages import MessageEnded
from sinks.smtp.state import Phase
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import Worker, command, config, create_topics, facts, names, queue, read, states
from tests.smtp_owner.test_agent import finished
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import MESSAGES, lanes

pytestmark = pytest.mark.stack

NEXT = lanes(2, partitions=6)


def test_what_waits_moves_to_the_next_generation_and_is_sent_once(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    mails = [command(name, domain=f"d{n % 8}.test") for n, name in enumerate(names("m", 300))]
    later = command("later", send_at=datetime.now(UTC) + timedelta(seconds=20))
    old = config(cluster, world, instance="a")
    create_topics(cluster, NEXT.topics)
    with Worker(old):
        queue(publisher, *mails[:150], later)
        wait_until(lambda: world.received.total() >= 20, what="the first mails")
    with Worker(replace(old, lanes=NEXT), replace(old, successor=NEXT, presses=0)):
        # `plan` goes on to write to the old lanes: they know what was sent, and pass on what they do not know.
        queue(publisher, *mails[150:])
        queue(publisher, *mails[:150], later)
        finished(cluster, 301)
    told = facts(cluster, MESSAGES)
    ended = {fact.message_id: fact for fact in told if isinstance(fact, MessageEnded)}
    assert len([fact for fact in told if isinstance(fact, MessageEnded)]) == 301
    assert ended.keys() == {each.message_id for each in (*mails, later)}
    assert set(world.received.values()) == {1}
    assert len([fact for fact in told if fact.type == "message.duplicate"]) == 151
    assert later.send_at is not None
    assert ended[later.message_id].occurred_at >= later.send_at
    assert len({record.partition for record in read(cluster, NEXT.ordinary)}) > 2, "more partitions than there were"
    assert {state.phase for state in states(cluster).values()} <= {Phase.DONE, Phase.MOVED}
