"""Operators' controls with a real broker and a real SMTP server: what they hold back, and let go again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import ids
from schemas.codec import decode
from schemas.lanes import FromCampaign
from schemas.rules.windows import DAYS, Window
from schemas.signing import signed
from schemas.state import CampaignSet, CampaignStatus, ControlSet
from schemas.tracing import SessionTraced
from sinks.smtp.sources import Pool, Source
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import KEYRING, Worker, command, config, ends, facts, names, queue, read
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES, TRACES

POOL = Pool((Source("mta.brand.test"),))
pytestmark = pytest.mark.stack


def control(publisher: Publisher, action: str, selector: dict[str, str], *, sign: bool = True, **fields: Any) -> None:
    now = datetime.now(UTC)
    values: dict[str, Any] = {"control_id": "c-1", "reason": "wrong link", **fields}
    event = ControlSet.from_cause(
        f"{values['control_id']}/{now}", occurred_at=now, action=action, selector=selector, **values
    )
    publisher.publish(signed(event, KEYRING) if sign else event)
    publisher.flush(30)


def campaign(publisher: Publisher, **fields: Any) -> None:
    """`spring`, in another version each time."""
    now = datetime.now(UTC)
    event = CampaignSet.from_cause(
        str(now), occurred_at=now, campaign_id="spring", from_="news@brand.test", subject_template="Hello", **fields
    )
    publisher.publish(event)
    publisher.flush(30)


def parked(worker: Worker, count: int) -> None:
    agent = worker.agent
    assert agent is not None
    wait_until(lambda: agent.depth.parked == count, what=f"{count} parked messages")


def ended(cluster: Cluster, count: int) -> None:
    wait_until(lambda: len(ends(cluster)) >= count, timeout=60, what=f"{count} ends")


def test_a_suspension_holds_over_a_restart_and_a_resumption_lets_all_go(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    control(publisher, "suspend", {"tenant": "default"})
    with Worker(config(cluster, world)) as worker:
        queue(publisher, *(command(name) for name in names("m", 20)))
        parked(worker, 20)
    with Worker(config(cluster, world)) as worker:
        parked(worker, 20)
        assert not world.received
        assert not ends(cluster)
        control(publisher, "resume", {"tenant": "default"})
        ended(cluster, 20)
    assert ends(cluster) == ["message.delivered"] * 20


def test_a_suspended_site_gets_no_connection(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    control(publisher, "suspend", {"site": "a.test"})
    with Worker(config(cluster, world)) as worker:
        queue(publisher, command("one"), command("two", domain="b.test"))
        ended(cluster, 1)
        parked(worker, 1)
        assert list(world.recipients) == ["two@b.test"]


def test_a_purge_waits_and_can_be_taken_back(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    control(publisher, "suspend", {"all": "yes"}, control_id="all")
    with Worker(config(cluster, world)) as worker:
        queue(publisher, command("gone"), command("back", domain="b.test"))
        parked(worker, 2)
        now = datetime.now(UTC)
        before = {"accepted_before": now.isoformat()}
        control(publisher, "purge", {"domain": "a.test", **before}, control_id="p1", until=now + timedelta(seconds=3))
        control(publisher, "purge", {"domain": "b.test", **before}, control_id="p2", until=now + timedelta(hours=1))
        ended(cluster, 1)
        assert now + timedelta(seconds=3) <= datetime.now(UTC)
        control(publisher, "unpurge", {"domain": "b.test", **before}, control_id="p2")
        control(publisher, "resume", {"all": "yes"}, control_id="all")
        ended(cluster, 2)
    found = {event.model_dump()["message_id"]: event.model_dump() for event in facts(cluster, MESSAGES)}
    gone = found[ids.message_id("default", "gone")]
    assert (gone["type"], gone["cancelled_by"], gone["attempts"]) == ("message.cancelled", "p1 wrong link", 0)
    assert found[ids.message_id("default", "back")]["type"] == "message.delivered"
    assert list(world.recipients) == ["back@b.test"]


def test_waiting_messages_move_to_another_pool(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    world.answers["m0@a.test"] = ["451 4.7.1 later"]
    settings = config(cluster, world, pools={"default": POOL, "other": POOL}, retry_scale=1.0)
    with Worker(settings):
        queue(publisher, command("m0"))
        wait_until(lambda: facts(cluster, ATTEMPTS), what="a deferral")
        now = datetime.now(UTC)
        control(
            publisher, "move", {"pool": "default", "accepted_before": now.isoformat()},
            until=now + timedelta(hours=1), arguments={"pool": "other"},
        )  # fmt: skip
        ended(cluster, 1)  # in the other pool it is tried at once, not after the minute of its schedule
    end = facts(cluster, MESSAGES)[0].model_dump()
    assert (end["type"], end["pool"], end["attempts"]) == ("message.delivered", "other", 2)


def test_what_is_not_signed_counts_for_nothing(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    control(publisher, "suspend", {"all": "yes"}, sign=False)
    with Worker(config(cluster, world)):
        queue(publisher, command("one"))
        ended(cluster, 1)
    assert ends(cluster) == ["message.delivered"]


def test_a_paused_campaign_waits_without_a_fact_and_goes_on(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    campaign(publisher, status=CampaignStatus.PAUSED)
    with Worker(config(cluster, world)) as worker:
        queue(publisher, command("one", campaign_id="spring"))
        parked(worker, 1)
        assert not facts(cluster, MESSAGES)
        campaign(publisher, status=CampaignStatus.RUNNING)
        ended(cluster, 1)
    assert ends(cluster) == ["message.delivered"]


def test_mail_that_is_here_before_its_campaign_goes_as_soon_as_that_is(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    """Not when the schedule of deferrals says: `plan` knew the campaign, and we read it a moment later."""
    with Worker(config(cluster, world, retry_scale=1.0)) as worker:
        content = FromCampaign(campaign_id="spring")
        queue(publisher, command("one", campaign_id="spring").model_copy(update={"content": content}))
        parked(worker, 1)
        campaign(publisher, text="Hi")
        ended(cluster, 1)
    assert ends(cluster) == ["message.delivered"]


def test_mail_whose_campaign_never_comes_can_be_purged(cluster: Cluster, world: Internet, publisher: Publisher) -> None:
    with Worker(config(cluster, world)) as worker:
        content = FromCampaign(campaign_id="lost")
        queue(publisher, command("one", campaign_id="lost").model_copy(update={"content": content}))
        parked(worker, 1)
        now = datetime.now(UTC)
        control(publisher, "purge", {"domain": "a.test", "accepted_before": now.isoformat()}, until=now)
        ended(cluster, 1)
    assert ends(cluster) == ["message.cancelled"]


def test_a_campaign_outside_its_window_waits_without_a_fact_until_it_has_another(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    campaign(publisher, window=Window(days=DAYS[(datetime.now(UTC).weekday() + 3) % 7], zone="UTC"))
    with Worker(config(cluster, world)) as worker:
        queue(publisher, command("one", campaign_id="spring"))
        parked(worker, 1)
        assert not facts(cluster, MESSAGES)
        campaign(publisher)
        ended(cluster, 1)
    assert ends(cluster) == ["message.delivered"]


def test_a_watched_domain_shows_its_dialogue_and_no_address(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    world.answers["gone@a.test"] = ["550 5.1.1 gone@a.test: no such user"]
    control(publisher, "trace", {"domain": "a.test"}, until=datetime.now(UTC) + timedelta(minutes=1))
    with Worker(config(cluster, world)):
        queue(publisher, command("gone"), command("other", domain="b.test"))
        ended(cluster, 2)
        wait_until(lambda: "no such user" in str(read(cluster, TRACES)), what="the reply")
    events = [decode(record.value, record.headers) for record in read(cluster, TRACES)]
    seen = [line for event in events if isinstance(event, SessionTraced) for line in event.lines]
    assert any(line.startswith("* mx.a.test [198.18.0.1] from [") for line in seen)
    assert "> RCPT TO:<address>" in seen
    assert "< 550 5.1.1 <address>: no such user" in seen
    assert not any("gone" in line or "brand.test" in line or "Hello" in line for line in seen)
    assert {event.recipient_domain for event in events if isinstance(event, SessionTraced)} == {"a.test"}
