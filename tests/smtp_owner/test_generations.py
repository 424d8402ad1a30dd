"""Another number of lane partitions: a generation drains into the next one, live (P1, P2, P4)."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from schemas import ids
from schemas.lanes import MessageQueue
from schemas.messages import MessageEnded
from sinks.smtp.state import Phase
from tests.smtp_owner.conftest import Start
from tests.smtp_owner.internet import Internet, site_of
from tests.smtp_owner.stage import command, create_topics, facts, queue, read, states
from tests.smtp_owner.test_agent import finished
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES, Lanes, lanes

pytestmark = pytest.mark.stack

OLD, NEXT = lanes(1), lanes(2, partitions=24)
_NAMES = [f"d{n}.test" for n in range(300)]
# One whose mail belongs on each of the 24 partitions.
DOMAINS = {ids.lane_partition("default", site_of(each), 0, 24): each for each in _NAMES}.values()


@pytest.mark.parametrize("lane_partitions", [12])
def test_workers_go_from_12_to_24_partitions_one_by_one_while_mail_flows(
    cluster: Cluster, world: Internet, publisher: Publisher, start: Start
) -> None:
    create_topics(cluster, NEXT.topics)
    workers = {name: start(name) for name in "ab"}
    with flowing(publisher) as sent:
        received(world, 200)
        for name, worker in workers.items():
            worker.terminate()
            assert worker.wait(60) == 0
            start(name, generations=(1, 2))
            received(world, world.received.total() + 200)
    # `plan` goes on to write to the old lanes: they know what was sent, and pass on what they do not know.
    repeated = sent[::5]
    queue(publisher, *repeated, lanes=12)
    received(world, len(sent))
    finished(cluster, len(sent))
    moved = read(cluster, NEXT.ordinary)
    wait_until(lambda: phases(cluster, NEXT) == {Phase.DONE: len(moved)}, what="what moved to be done")

    told = facts(cluster, MESSAGES)
    ends = [fact for fact in told if isinstance(fact, MessageEnded)]
    assert sorted(fact.message_id for fact in ends) == sorted(each.message_id for each in sent)
    assert set(world.received.values()) == {1}
    assert len([fact for fact in told if fact.type == "message.duplicate"]) == len(repeated)
    assert "attempt.unknown" not in {fact.type for fact in facts(cluster, ATTEMPTS)}, "they left cleanly"
    not_before = {each.message_id: each.send_at for each in sent if each.send_at is not None}
    assert all(fact.occurred_at >= not_before.get(fact.message_id, fact.occurred_at) for fact in ends)
    assert {record.partition for record in moved} == set(range(24))
    assert phases(cluster, OLD) == {Phase.DONE: len(sent) - len(moved), Phase.MOVED: len(moved)}, "each moved once"


def received(world: Internet, count: int) -> None:
    wait_until(lambda: world.received.total() >= count, timeout=60, what=f"{count} mails")


def phases(cluster: Cluster, generation: Lanes) -> Counter[Phase]:
    return Counter(state.phase for state in states(cluster, generation.state).values())


@contextmanager
def flowing(publisher: Publisher) -> Iterator[list[MessageQueue]]:
    """Mail to each of the sites several times a second, on the old lanes, and some that waits; yields all of it."""
    at = datetime.now(UTC) + timedelta(seconds=30)
    sent: list[MessageQueue] = []
    over = threading.Event()

    def publish() -> None:
        for number in itertools.count():
            waits = {"send_at": at} if number < 10 else {}
            mails = [command(f"m{number}-{each}", domain=each, site=site_of(each), **waits) for each in DOMAINS]
            queue(publisher, *mails, lanes=12)
            sent.extend(mails)
            if number >= 10 and over.wait(0.4):
                return

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    try:
        yield sent
    finally:
        over.set()
        publishing.join()
