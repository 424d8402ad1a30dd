"""How soon a control holds on all owners: two seconds after its acknowledgement no attempt starts that it forbids."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schemas.rules.shaping import Shaping
from schemas.rules.shaping_file import merged
from sinks.smtp.agent import Agent
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import Worker, command, config, ends, pools, queue
from tests.smtp_owner.test_controls import control
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher

HELD_WITHIN_S = 2.0
A, B = "127.0.0.2", "127.0.0.3"
DOMAINS = [f"{name}.test" for name in "abcdefgh"]
SLOWLY = merged(Shaping(), "[default]\nmessage_rate = 10\n", "mine.toml")  # mail flows for a while
pytestmark = pytest.mark.stack


@contextmanager
def two_owners(cluster: Cluster, world: Internet) -> Iterator[list[Agent]]:
    both = [config(cluster, world, shaping=SLOWLY, pools=pools(A, B), instance=name) for name in ("1", "2")]
    with Worker(both[0]) as one, Worker(both[1]) as two:
        agents = [worker.agent for worker in (one, two) if worker.agent is not None]
        wait_until(lambda: [len(agent.partitions) for agent in agents] == [1, 1], timeout=60, what="a share for each")
        yield agents


def begun_after(world: Internet, moment: float, source: str = "") -> list[float]:
    return [at for at, caller in world.begun if at > moment and source in ("", caller)]


def test_after_a_suspension_no_owner_starts_an_attempt(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    with two_owners(cluster, world) as agents:
        queue(publisher, *(command(f"m{number}", domain=DOMAINS[number % 8]) for number in range(480)))
        wait_until(lambda: len(world.begun) >= 60, timeout=60, what="mail to flow")
        control(publisher, "suspend", {"all": "yes"})
        acked = time.time()
        wait_until(
            lambda: sum(agent.depth.messages - agent.depth.parked for agent in agents) == 0,
            timeout=30,
            what="all that is left to wait",
        )
        left = sum(agent.depth.messages for agent in agents)
        assert [agent.depth.parked > 0 for agent in agents] == [True, True]
        assert not begun_after(world, acked + HELD_WITHIN_S)
        before = len(world.begun)
        control(publisher, "resume", {"all": "yes"})
        wait_until(lambda: len(ends(cluster)) == 480, timeout=90, what="all to end")
        assert len(world.begun) - before == left


def test_after_the_suspension_of_a_source_all_goes_from_the_pools_other(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    with two_owners(cluster, world):
        queue(publisher, *(command(f"m{number}", domain=DOMAINS[number % 8]) for number in range(480)))
        wait_until(lambda: len(begun_after(world, 0, A)) >= 20, timeout=60, what="mail from the source")
        control(publisher, "suspend", {"source": A})
        acked = time.time()
        wait_until(lambda: len(ends(cluster)) == 480, timeout=90, what="all to end")
        assert not begun_after(world, acked + HELD_WITHIN_S, A)
        assert begun_after(world, acked + HELD_WITHIN_S, B)
        queue(publisher, command("more"))
        control(publisher, "suspend", {"source": B}, control_id="c-2")
        queue(publisher, *(command(f"n{number}", domain=DOMAINS[number % 8]) for number in range(40)))
        control(publisher, "resume", {"source": A})
        wait_until(lambda: len(ends(cluster)) == 521, timeout=90, what="what the other source may send")
