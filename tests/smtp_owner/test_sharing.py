"""Limits of a tenant over two running owners, with a real broker: a day's cap and a rate."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas import ids
from schemas.attempts import AttemptDelivered
from schemas.codec import encode
from schemas.operations import AllowanceDrawn
from schemas.rules.shaping import Shaping
from schemas.rules.shaping_file import merged
from sinks.smtp.sharing import Heard
from sinks.smtp.sources import Pool, Source
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import Worker, command, config, ends, facts, queue
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import ALLOWANCES, ATTEMPTS

DOMAINS = [f"{name}.test" for name in "abcdefgh"]


def pool(*names: str) -> dict[str, Pool]:
    return {"default": Pool(tuple(Source("mta.brand.test", name) for name in names))}


def test_a_draw_is_heard_once_and_nonsense_never() -> None:
    def record(offset: int, **fields: Any) -> Record:
        event = AllowanceDrawn.from_cause(str(offset), occurred_at=datetime.now(UTC), run="1", messages=5, **fields)
        encoded = encode(event, source="test")
        value = encoded.value if offset != 2 else encoded.value.replace(b":5,", b":-5,")
        return Record(ALLOWANCES.name, 0, offset, encoded.key, value, [*encoded.headers], 0)

    heard = Heard()
    for offset in (0, 1, 2, 1, 0, 3):
        heard.feed(record(offset, day=offset + 1))
    heard.feed(Record(ALLOWANCES.name, 0, 4, b"x", None, [], 0))
    assert [draw.day for draw in heard.take()] == [1, 2, 4]
    assert heard.take() == []
    heard.read_again()
    heard.feed(record(0, day=1))
    assert heard.take() == []


@pytest.mark.stack
@pytest.mark.parametrize(
    ("limit", "messages"), [("daily = 5", 5), ('message_rate = "1/d"', 1)], ids=["a day's cap", "a rate"]
)
def test_all_owners_together_send_what_is_allowed_and_no_more(
    cluster: Cluster, world: Internet, publisher: Publisher, limit: str, messages: int
) -> None:
    shaping = merged(Shaping(), f"[tenant.default]\n{limit}\n", "mine.toml")
    tenant = config(cluster, world).tenants["default"]
    both = {"default": tenant, "other": tenant}
    one = Worker(config(cluster, world, shaping=shaping, tenants=both, instance="1"))
    two = Worker(config(cluster, world, shaping=shaping, tenants=both, instance="2"))
    with one, two:
        agents = [worker.agent for worker in (one, two) if worker.agent is not None]
        wait_until(lambda: [len(agent.partitions) for agent in agents] == [1, 1], timeout=60, what="a share for each")
        assert {ids.lane_partition("default", domain, 0, 2) for domain in DOMAINS} == {0, 1}
        queue(publisher, *(command(f"m{number}", domain=DOMAINS[number % 8]) for number in range(24)))
        # Another tenant shares sites and sessions, not the limit.
        queue(publisher, *(command(f"o{number}", domain=DOMAINS[number], tenant="other") for number in range(8)))
        wait_until(lambda: len(ends(cluster)) == messages + 8, timeout=60, what="what is allowed")
        wait_until(lambda: sum(agent.depth.messages for agent in agents) == 24 - messages, what="the rest to wait")
        wait_until(lambda: sum(agent.depth.owed for agent in agents) == 0, what="all to be settled")
    assert len([name for name in world.recipients if name.startswith("m")]) == messages
    drawn = [event for event in facts(cluster, ALLOWANCES) if isinstance(event, AllowanceDrawn)]
    assert {event.tenant for event in drawn} == {"default"}


@pytest.mark.stack
def test_a_source_at_its_cap_over_all_owners_leaves_the_mail_to_its_pools_other(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    shaping = merged(Shaping(), "[source.warm]\ndaily = 3\n[default]\nmessages_per_connection = 1\n", "mine.toml")
    both = {"shaping": shaping, "pools": pool("warm", "old")}
    one = Worker(config(cluster, world, instance="1", **both))
    two = Worker(config(cluster, world, instance="2", **both))
    with one, two:
        agents = [worker.agent for worker in (one, two) if worker.agent is not None]
        wait_until(lambda: [len(agent.partitions) for agent in agents] == [1, 1], timeout=60, what="a share for each")
        queue(publisher, *(command(f"m{number}", domain=DOMAINS[number % 8]) for number in range(60)))
        wait_until(lambda: len(ends(cluster)) == 60, timeout=60, what="all mail")
    sent = Counter(event.source for event in facts(cluster, ATTEMPTS) if isinstance(event, AttemptDelivered))
    assert (sent.total(), 1 <= sent["warm"] <= 3) == (60, True), sent
    drawn = [event for event in facts(cluster, ALLOWANCES) if isinstance(event, AllowanceDrawn)]
    assert {event.whose for event in drawn} == {"source:warm"}
