"""Replies that set rules off, in running owners with a real broker: an override holds here, is told, holds there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas import ids
from schemas.rules.shaping import Shaping
from schemas.rules.shaping_file import load, merged
from schemas.state import ShapingSet
from sinks.smtp.agent import Agent
from sinks.smtp.routing import Hosts, site
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import Worker, command, config, ends, facts, names, queue
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES, SHAPING

pytestmark = pytest.mark.stack

SITE = site("a.test", Hosts(("mx.a.test",)))
SAMPLES = 'must_match = ["421 4.7.0 slow down"]\nmust_not_match = ["421 closing"]\n'


def shaping(actions: str) -> Shaping:
    rule = f'[[rule]]\nid = "mine"\ntext = "slow down"\n{actions}\n{SAMPLES}'
    return merged(Shaping(), f"version = 3\n{rule}", "mine.toml")


def told(cluster: Cluster) -> list[ShapingSet]:
    return [event for event in facts(cluster, SHAPING) if isinstance(event, ShapingSet)]


def agent_of(worker: Worker) -> Agent:
    assert worker.agent is not None
    return worker.agent


def test_a_site_that_says_so_is_left_alone_and_the_reason_is_told(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    world.answers["first@a.test"] = ["421 4.7.0 slow down, first@a.test"]
    with Worker(config(cluster, world, shaping=shaping('suspend = true\nhold = "7 d"'))):
        queue(publisher, command("first"))
        wait_until(lambda: told(cluster), what="the override to be told")
        queue(publisher, command("next"), command("other", domain="b.test"))
        wait_until(lambda: "other@b.test" in world.recipients, what="the other site's mail")
        assert "next@a.test" not in world.recipients
        (event,) = told(cluster)
        assert (event.selector, event.action, event.rule, event.rule_version) == (
            f"site:default/{SITE}", "suspend", "mine", 3,
        )  # fmt: skip
        assert event.evidence == ("421 4.7.0 slow down, <address>",)
        lift = datetime.now(UTC)
        publisher.publish(
            ShapingSet.from_cause("lift", occurred_at=lift, selector=event.selector, action="lift", until=lift)
        )
        publisher.flush(30)
        wait_until(lambda: len(ends(cluster)) == 3, timeout=60, what="all to be delivered")
    assert set(world.recipients) == {"first@a.test", "next@a.test", "other@b.test"}


def test_a_rate_that_a_reply_asks_for_is_held(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    world.answers["first@a.test"] = ["451 4.7.0 slow down"]
    slow = shaping('rate = "1/d"\nconnections = 1\nhold = "7 d"')
    with Worker(config(cluster, world, shaping=slow)) as worker:
        queue(publisher, command("first"))
        wait_until(lambda: len(told(cluster)) == 2, what="both overrides to be told")
        assert {(event.action, event.value) for event in told(cluster)} == {
            ("limit_rate", 1 / 86_400),
            ("limit_connections", 1.0),
        }
        queue(publisher, *(command(name) for name in names("m", 5)), command("other", domain="b.test"))
        wait_until(lambda: "other@b.test" in world.recipients, what="the other site's mail")
        wait_until(lambda: agent_of(worker).depth.messages - agent_of(worker).depth.owed >= 5, what="the rest to wait")
    # One message was due at once: the rate begins with it.
    assert sum(1 for recipient in world.recipients if recipient.endswith("@a.test")) <= 1


def test_every_owner_obeys_what_one_has_found(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    world.answers["first@a.test"] = ["550 5.7.0 slow down"]
    found = shaping('verdict = "defer"\nsuspend = true\nhold = "7 d"\nscope = "tenant"\neverywhere = true')
    one = Worker(config(cluster, world, shaping=found, instance="1"))
    two = Worker(config(cluster, world, shaping=found, instance="2"))
    with one, two:
        wait_until(lambda: [len(agent_of(each).partitions) for each in (one, two)] == [1, 1], timeout=60, what="shares")
        queue(publisher, command("first"))
        wait_until(lambda: agent_of(one).overrides and agent_of(two).overrides, what="both to know")
        domains = [f"{name}.test" for name in "bcdefgh"]
        assert {ids.lane_partition("default", domain, 0, 2) for domain in domains} == {0, 1}
        queue(publisher, *(command(f"to-{domain}", domain=domain) for domain in domains))
        wait_until(
            lambda: agent_of(one).depth.parked + agent_of(two).depth.parked == len(domains) + 1,
            what="all, and the first again, to be set aside",
        )
        assert min(agent_of(one).depth.parked, agent_of(two).depth.parked) > 0
        # The 550 was about the sender's haste, as the rule says: the message lives.
        (deferred,) = (event.model_dump() for event in facts(cluster, ATTEMPTS))
        assert (deferred["type"], deferred["rule"]) == ("attempt.deferred", "mine")
        assert (deferred["reply_code"], deferred["disposition"]) == (550, "transient")
        assert (facts(cluster, MESSAGES), list(world.recipients)) == ([], [])
        lift = datetime.now(UTC)
        publisher.publish(
            ShapingSet.from_cause("lift", occurred_at=lift, selector="tenant:default", action="lift", until=lift)
        )
        publisher.flush(30)
        wait_until(lambda: len(ends(cluster)) == len(domains) + 1, timeout=60, what="all to be delivered")


def test_a_changed_file_holds_without_a_restart(
    cluster: Cluster, world: Internet, publisher: Publisher, tmp_path: Path
) -> None:
    path = tmp_path / "shaping.toml"
    path.write_text('shipped = false\n[default]\nmessage_rate = "1/d"\n')
    with Worker(config(cluster, world, shaping=load(path), shaping_file=path)):
        queue(publisher, command("one"), command("two"), command("other", domain="b.test"))
        wait_until(lambda: len(world.recipients) >= 2, what="one of each site")
        assert len(set(world.recipients) & {"one@a.test", "two@a.test"}) == 1
        draft = path.with_suffix(".draft")
        draft.write_text("shipped = false\n")
        draft.replace(path)
        wait_until(lambda: len(ends(cluster)) == 3, timeout=60, what="the rest")
    assert len(world.recipients) == 3


def test_an_override_that_was_there_before_is_obeyed_from_the_start(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    now = datetime.now(UTC)
    publisher.publish(
        ShapingSet.from_cause(
            "1",
            occurred_at=now,
            selector=f"site:default/{SITE}",
            action="suspend",
            until=now + timedelta(hours=1),
        )
    )
    publisher.flush(30)
    with Worker(config(cluster, world)):
        queue(publisher, command("one"), command("other", domain="b.test"))
        wait_until(lambda: "other@b.test" in world.recipients, what="the other site's mail")
    assert "one@a.test" not in world.recipients
