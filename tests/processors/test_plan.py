"""What becomes of a requested send: a table over `decide`, and what must hold for every accepted one."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processors.plan.core import Accepted, Decision, Rejected, Rules, Send, Unreadable, Unready, decide
from schemas import ids
from schemas.address import canonical, parse
from schemas.codec import decode, encode
from schemas.envelope import METADATA_MAX, TAGS_MAX, Priority, Stream
from schemas.lanes import FromCampaign, Inline
from schemas.state import CampaignSet, CampaignStatus
from schemas.tenant import StreamPolicy, Tenant

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECRET = b"0123456789abcdef"
TENANT = Tenant(
    name="default",
    sending_domains=("brand.test",),
    return_path_domain="bounces.brand.test",
    tracking_url="https://click.brand.test",
    streams={Stream.MARKETING: StreamPolicy(pool="bulk", expires_after_s=3600)},
)
RULES = Rules({"default": TENANT}, frozenset({"default", "bulk"}), SECRET, partitions=4)
SMALLEST = {
    "recipient": "ann@example.test",
    "from": "News <news@brand.test>",
    "subject": "Hello",
    "text": "Hi Ann",
}


class KnownState:
    def __init__(self, *campaigns: CampaignSet, sites: dict[str, tuple[str, str]] | None = None) -> None:
        self._campaigns = {(item.tenant, item.campaign_id): item for item in campaigns}
        self._sites = sites or {}
        self.former: list[tuple[str, datetime]] = []  # of every domain

    def campaign(self, tenant: str, campaign_id: str) -> CampaignSet | None:
        return self._campaigns.get((tenant, campaign_id))

    def site(self, domain: str) -> tuple[str, str]:
        return self._sites.get(domain, (domain, ""))

    def former_site(self, domain: str, after: datetime) -> str:
        return next((site for site, until in self.former if until > after), "")


def campaign(status: CampaignStatus = CampaignStatus.RUNNING) -> CampaignSet:
    return CampaignSet.from_cause(
        "spring",
        occurred_at=NOW,
        campaign_id="spring",
        status=status,
        pool="bulk",
        from_="News <news@brand.test>",
        subject_template="Hi {{ name }}",
        text="Hi",
        tags=("spring",),
    )


def send(record: Any, *, key: bytes | None = b"order-1", headers: list[tuple[str, bytes]] | None = None) -> Send:
    value = record if isinstance(record, bytes | None) else json.dumps(record).encode()
    return Send(key, value, headers or [], NOW, "mail.sends:0:7")


def decided(
    record: Any, *, known: KnownState | None = None, as_of: datetime = NOW + timedelta(hours=1), **of: Any
) -> Decision:
    return decide(send(record, **of), RULES, known or KnownState(), as_of)


def test_the_smallest_record_is_accepted_with_the_defaults() -> None:
    made = decided(SMALLEST)
    assert isinstance(made, Accepted)
    queue = made.queue
    assert (queue.tenant, queue.stream, queue.pool, queue.recipient_domain) == (
        "default", Stream.TRANSACTIONAL, "default", "example.test",
    )  # fmt: skip
    assert queue.content == Inline(from_="News <news@brand.test>", subject="Hello", text="Hi Ann")
    assert queue.expires_at == NOW + timedelta(days=3)
    assert made.urgent
    assert made.accepted.idempotency_key == "order-1"
    assert made.recipient.address == "ann@example.test"


def test_the_same_record_planned_again_gives_the_same_events() -> None:
    assert decided(SMALLEST) == decided(SMALLEST)


@pytest.mark.parametrize(
    "record",
    [
        SMALLEST,
        SMALLEST | {"tags": ["a", "b"], "metadata": {"k": "v"}, "subject_ref": "u1", "headers": {"X-One": "1"}},
        SMALLEST | {"stream": "marketing", "priority": "high", "send_at": "2026-11-02T12:00:00+02:00"},
        {"recipient": "ann@example.test", "raw": b64encode(b"From: news@brand.test\r\n\r\nHi").decode()},
        {"recipient": "ann@example.test", "campaign_id": "spring", "variables": {"n": [1, {"m": 2.5}]}},
    ],
)
def test_what_is_planned_is_valid(record: dict[str, Any]) -> None:
    key = CAMPAIGN_KEY if "campaign_id" in record else b"order-1"
    made = decided(record, key=key, known=KnownState(campaign(), sites={"example.test": ("google", "google")}))
    assert isinstance(made, Accepted)
    for event in (made.accepted, made.queue, made.recipient, *([made.scheduled] if made.scheduled else [])):
        assert decode(encode(event, source="plan").value) == event
        assert type(event).model_validate(dict(event)) == event


def test_facts_hold_no_address() -> None:
    made = decided(SMALLEST)
    assert isinstance(made, Accepted)
    assert "ann@" not in made.accepted.model_dump_json()


def test_an_address_in_the_key_is_not_kept_and_the_message_is_the_keys() -> None:
    made = decided(SMALLEST, key=b"welcome/ann@example.test")
    assert isinstance(made, Accepted)
    assert made.accepted.idempotency_key == "<address>"
    assert made.accepted.message_id == ids.message_id("default", "welcome/ann@example.test")


def test_a_known_domain_waits_on_the_lane_of_its_site() -> None:
    made = decided(SMALLEST, known=KnownState(sites={"example.test": ("google", "google")}))
    assert isinstance(made, Accepted)
    assert (made.queue.site, made.queue.provider) == ("google", "google")
    assert made.partition == ids.lane_partition("default", "google", 0, 4)


def test_a_site_of_several_shards_has_its_messages_on_several_lanes() -> None:
    rules = replace(RULES, shards=lambda site: 3 if site == "google" else 1)
    known = KnownState(sites={"example.test": ("google", "google")})
    places = set()
    for number in range(40):
        made = decide(send(SMALLEST, key=b"%d" % number), rules, known, NOW)
        assert isinstance(made, Accepted)
        assert made.queue.shard == ids.shard(made.queue.message_id, 3)
        assert made.partition == ids.lane_partition("default", "google", made.queue.shard, 4)
        places.add(made.partition)
    assert len(places) == 3


def test_bulk_mail_takes_pool_and_expiry_of_its_stream_and_no_urgent_lane() -> None:
    made = decided(SMALLEST | {"stream": "marketing"})
    assert isinstance(made, Accepted)
    assert (made.queue.pool, made.queue.expires_at, made.urgent) == ("bulk", NOW + timedelta(hours=1), False)


def test_a_later_send_is_scheduled_and_expires_counted_from_then() -> None:
    made = decided(SMALLEST | {"send_at": "2026-11-02T12:00:00Z"})
    assert isinstance(made, Accepted)
    assert made.scheduled is not None
    assert made.scheduled.send_at == NOW + timedelta(days=1)
    assert made.queue.expires_at == NOW + timedelta(days=4)


CAMPAIGN_RECORD = {
    "recipient": "Ann@Example.test",
    "campaign_id": "spring",
    "variables": {"name": "Ann"},
    "tags": ["vip"],
}
CAMPAIGN_KEY = ids.campaign_key(
    "spring", ids.recipient_id(SECRET, "default", canonical(parse("ann@example.test")))
).encode()


def test_a_campaign_send_travels_as_a_reference() -> None:
    made = decided(CAMPAIGN_RECORD, key=CAMPAIGN_KEY, known=KnownState(campaign()))
    assert isinstance(made, Accepted)
    assert made.queue.content == FromCampaign(campaign_id="spring", variables={"name": "Ann"})
    assert (made.queue.stream, made.queue.pool, made.queue.tags) == (Stream.MARKETING, "bulk", ("spring", "vip"))


@pytest.mark.parametrize(
    ("of_send", "of_campaign", "priority"),
    [(None, None, "normal"), (None, "low", "low"), ("high", "low", "high"), ("normal", "low", "normal")],
)
def test_a_sends_priority_comes_before_its_campaigns(
    of_send: str | None, of_campaign: str | None, priority: str
) -> None:
    known = KnownState(campaign().model_copy(update={"priority": of_campaign and Priority(of_campaign)}))
    made = decided(CAMPAIGN_RECORD | ({"priority": of_send} if of_send else {}), key=CAMPAIGN_KEY, known=known)
    assert isinstance(made, Accepted)
    assert made.queue.priority == priority


def test_a_campaign_just_created_is_waited_for() -> None:
    made = decided(CAMPAIGN_RECORD, key=CAMPAIGN_KEY, as_of=NOW - timedelta(seconds=1))
    assert isinstance(made, Unready)


@pytest.mark.parametrize(
    ("record", "key", "known", "reason"),
    [
        (CAMPAIGN_RECORD, b"spring/other", KnownState(campaign()), "campaign_key"),
        (CAMPAIGN_RECORD | {"tags": ["t"] * TAGS_MAX}, CAMPAIGN_KEY, KnownState(campaign()), "tags"),
        (
            CAMPAIGN_RECORD | {"metadata": {f"k{n}": "v" for n in range(METADATA_MAX)}},
            CAMPAIGN_KEY,
            KnownState(campaign().model_copy(update={"metadata": {"k": "v"}})),
            "metadata",
        ),
        (CAMPAIGN_RECORD, CAMPAIGN_KEY, KnownState(), "unknown_campaign"),
        (CAMPAIGN_RECORD, CAMPAIGN_KEY, KnownState(campaign(CampaignStatus.CANCELLED)), "campaign_closed"),
        (SMALLEST | {"from": "News <news@bank.test>"}, b"k", KnownState(), "from_not_owned"),
        (SMALLEST | {"from": "a@brand.test, b@bank.test"}, b"k", KnownState(), "from"),
        (SMALLEST | {"from": "News <news@sub.brand.test>"}, b"k", KnownState(), "from_not_owned"),
        (SMALLEST | {"reply_to": "nobody"}, b"k", KnownState(), "reply_to"),
        (SMALLEST | {"pool": "gold"}, b"k", KnownState(), "unknown_pool"),
        (SMALLEST | {"headers": {"BCC": "x@y.test"}}, b"k", KnownState(), "reserved_header"),
        (SMALLEST | {"headers": {"Content-Type": "text/plain"}}, b"k", KnownState(), "reserved_header"),
        (
            SMALLEST | {"send_at": "2026-12-02T12:00:00Z", "expires_at": "2026-12-01T12:00:00Z"},
            b"k",
            KnownState(),
            "expiry",
        ),
    ],
)
def test_understood_and_refused(record: Any, key: bytes, known: KnownState, reason: str) -> None:
    made = decided(record, key=key, known=known)
    assert isinstance(made, Rejected)
    assert made.fact.reason == reason


@pytest.mark.parametrize(
    ("ago", "via"),
    [(timedelta(hours=23), "mx-old"), (timedelta(hours=25), "")],
)
def test_within_the_window_after_a_change_of_site_a_send_passes_by_the_old_lane(ago: timedelta, via: str) -> None:
    record = send(SMALLEST)
    known = KnownState(sites={"example.test": ("mx-new", "")})
    known.former = [("mx-old", record.at - ago)]
    made = decide(record, RULES, known, NOW)
    assert isinstance(made, Accepted)
    assert ids.lane_partition("default", "mx-old", 0, 4) != ids.lane_partition("default", "mx-new", 0, 4)
    assert (made.queue.site, made.queue.via) == ("mx-new", via and f"default/{via}#0")
    assert made.queue.key == f"default/{via or 'mx-new'}#0"
    assert made.partition == ids.lane_partition("default", via or "mx-new", 0, 4)


def test_where_both_lanes_are_in_one_partition_there_is_no_detour() -> None:
    record = send(SMALLEST)
    known = KnownState(sites={"example.test": ("mx-new", "")})
    here = ids.lane_partition("default", "mx-new", 0, 4)
    same = next(f"mx-{n}" for n in range(100) if ids.lane_partition("default", f"mx-{n}", 0, 4) == here)
    known.former = [(same, record.at)]
    made = decide(record, RULES, known, NOW)
    assert isinstance(made, Accepted)
    assert made.queue.via == ""


def test_a_refused_key_may_be_accepted_later_so_each_refusal_is_its_own_fact() -> None:
    record = send(SMALLEST | {"pool": "gold"})
    other = Send(record.key, record.value, record.headers, record.at, "mail.sends:0:8")
    one, two = (decide(item, RULES, KnownState(), NOW) for item in (record, other))
    assert isinstance(one, Rejected)
    assert isinstance(two, Rejected)
    assert one.fact.event_id != two.fact.event_id
    assert one.fact.message_id == two.fact.message_id


@pytest.mark.parametrize(
    ("record", "of", "said"),
    [
        (SMALLEST, {"key": None}, "no key"),
        (SMALLEST, {"key": b""}, "no key"),
        (SMALLEST, {"key": b"x" * 513}, "513 bytes"),
        (SMALLEST, {"key": b"\xff"}, "not UTF-8"),
        (b"{nonsense", {}, "JSON"),
        (b"[]", {}, "object"),
        (None, {}, "no value"),
        (SMALLEST | {"schema_version": 2}, {}, "schema_version '2' is not known"),
        (SMALLEST | {"schema_version": 2, "novelty": 1}, {}, "schema_version '2' is not known"),
        (SMALLEST | {"subjct": "x"}, {}, "subjct: Extra inputs are not permitted"),
        (SMALLEST, {"headers": [("ce_type", b"send.imagined")]}, "send.imagined"),
        (SMALLEST | {"recipient": "ann@example.test\r\nBcc: x@y.test"}, {}, "recipient: "),
        (SMALLEST | {"recipient": "nobody"}, {}, "recipient: "),
        (SMALLEST | {"tenant": "stranger"}, {}, "tenant stranger is not configured"),
        (SMALLEST | {"metadata": {"who": "ann@example.test"}}, {}, "an email address is not allowed here"),
        (SMALLEST | {"metadata": {"ann@example.test": "x"}}, {}, "an email address is not allowed here"),
        ({"recipient": "ann@example.test", "from": "news@brand.test"}, {}, "needs from, subject"),
        (SMALLEST | {"campaign_id": "spring"}, {}, "drop subject, text"),
    ],
)
def test_for_the_dead_letters(record: Any, of: dict[str, Any], said: str) -> None:
    made = decided(record, **of)
    assert isinstance(made, Unreadable)
    assert said in made.reason
