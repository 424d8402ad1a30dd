"""Opens, clicks and unsubscribes: what a request becomes, and what it can never become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from pipeline.sources.tracking import application, network
from schemas.engagement import MessageClicked, MessageOpened
from schemas.envelope import Event
from schemas.feedback import RecipientUnsubscribed
from schemas.state import CampaignSet, SuppressionSet
from schemas.tokens import Keyring, Kind, Link, LinkKind
from topics.errors import Later

KEYRING = Keyring({"a": b"k" * 32}, "a")
LINK = Link(
    "0f0e0d0c-0b0a-5908-8706-050403020100", "r" * 26, "example.test", "default", "marketing", "spring", number=1
)
CAMPAIGN = CampaignSet.from_cause(
    "spring",
    occurred_at=datetime(2026, 11, 1, tzinfo=UTC),
    campaign_id="spring",
    from_="News <news@brand.test>",
    subject_template="Hi",
    html='<p><a href="https://brand.test/one">1</a> <a href="https://brand.test/two?x=1">2</a></p>',
)


class RecordingPublisher:
    """The real one's interface, as far as the source uses it; `failure` is what becomes of each event."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failure: Exception | None = None

    async def published(self, event: Event) -> None:
        if self.failure is not None:
            raise self.failure
        self.events.append(event)


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
async def client(publisher: RecordingPublisher) -> AsyncIterator[TestClient[Any, Any]]:
    app = application(KEYRING, publisher, {"default/spring": CAMPAIGN}.get)  # type: ignore[arg-type]  # a fake by shape
    async with TestClient(TestServer(app)) as client:
        yield client


def token(kind: LinkKind, link: Link = LINK) -> str:
    return KEYRING.seal(kind, link)


async def test_a_pixel_is_an_open(client: TestClient[Any, Any], publisher: RecordingPublisher) -> None:
    answer = await client.get(f"/o/{token(Kind.OPEN)}", headers={"User-Agent": "Mozilla ann@example.test"})
    assert (answer.status, answer.content_type) == (200, "image/gif")
    (fact,) = publisher.events
    assert isinstance(fact, MessageOpened)
    assert (fact.message_id, fact.campaign_id, fact.recipient_domain) == (LINK.message_id, "spring", "example.test")
    assert "ann@" not in fact.user_agent


async def test_each_open_is_a_fact_of_its_own(client: TestClient[Any, Any], publisher: RecordingPublisher) -> None:
    for _ in range(2):
        await client.get(f"/o/{token(Kind.OPEN)}")
    assert len({fact.event_id for fact in publisher.events}) == 2


async def test_a_click_leads_to_the_link_of_the_campaign(
    client: TestClient[Any, Any], publisher: RecordingPublisher
) -> None:
    answer = await client.get(f"/c/{token(Kind.CLICK)}", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "https://brand.test/two?x=1")
    (fact,) = publisher.events
    assert isinstance(fact, MessageClicked)
    assert fact.link == 1
    assert "brand.test/two" not in fact.model_dump_json()


async def test_a_head_is_noted_as_one(client: TestClient[Any, Any], publisher: RecordingPublisher) -> None:
    await client.head(f"/c/{token(Kind.CLICK)}", allow_redirects=False)
    assert [fact.method for fact in publisher.events if isinstance(fact, MessageClicked)] == ["HEAD"]


@pytest.mark.parametrize(
    "path",
    [
        "/o/a-nonsense",
        f"/o/{token(Kind.CLICK)}",
        f"/c/{token(Kind.OPEN)}",
        f"/u/{token(Kind.OPEN)}",
        f"/c/{token(Kind.CLICK, Link(LINK.message_id, 'r', 'e.test', 'default', 'marketing', 'spring', number=7))}",
        f"/c/{token(Kind.CLICK, Link(LINK.message_id, 'r', 'e.test', 'default', 'marketing', 'other'))}",
        f"/c/{token(Kind.CLICK, Link(LINK.message_id, 'r', 'e.test', 'default', 'marketing'))}",
    ],
)
async def test_what_we_did_not_sign_leads_nowhere(
    client: TestClient[Any, Any], publisher: RecordingPublisher, path: str
) -> None:
    answer = await client.get(path, allow_redirects=False)
    assert (answer.status, publisher.events) == (404, [])


async def test_nobody_is_unsubscribed_by_following_a_link(
    client: TestClient[Any, Any], publisher: RecordingPublisher
) -> None:
    answer = await client.get(f"/u/{token(Kind.UNSUBSCRIBE)}")
    assert "<form" in await answer.text()
    assert publisher.events == []


@pytest.mark.parametrize(
    ("form", "via"), [({"List-Unsubscribe": "One-Click"}, "one_click"), ({"confirm": "yes"}, "page")]
)
async def test_one_post_unsubscribes(
    client: TestClient[Any, Any], publisher: RecordingPublisher, form: dict[str, str], via: str
) -> None:
    answer = await client.post(f"/u/{token(Kind.UNSUBSCRIBE)}", data=form)
    assert answer.status == 200
    suppression, fact = publisher.events
    assert isinstance(suppression, SuppressionSet)
    assert (suppression.key, suppression.active) == (f"default/marketing/{'r' * 26}", True)
    assert isinstance(fact, RecipientUnsubscribed)
    assert fact.via == via


async def test_a_post_without_the_words_of_rfc_8058_is_refused(
    client: TestClient[Any, Any], publisher: RecordingPublisher
) -> None:
    answer = await client.post(f"/u/{token(Kind.UNSUBSCRIBE)}", data={"x": "y"})
    assert (answer.status, publisher.events) == (400, [])


async def test_an_unsubscribe_that_kafka_did_not_take_is_not_confirmed(
    client: TestClient[Any, Any], publisher: RecordingPublisher
) -> None:
    publisher.failure = Later("no broker")
    answer = await client.post(f"/u/{token(Kind.UNSUBSCRIBE)}", data={"List-Unsubscribe": "One-Click"})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")


async def test_a_reader_is_served_without_a_broker(client: TestClient[Any, Any], publisher: RecordingPublisher) -> None:
    publisher.failure = Later("no broker")
    assert (await client.get(f"/o/{token(Kind.OPEN)}")).status == 200


async def test_a_large_post_is_cut_off(client: TestClient[Any, Any]) -> None:
    answer = await client.post(f"/u/{token(Kind.UNSUBSCRIBE)}", data={"List-Unsubscribe": "x" * 10_000})
    assert answer.status == 413


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.77", "", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "", "2001:db8:1::/48"),
        ("10.0.0.2", "198.51.100.9, 203.0.113.77", "203.0.113.0/24"),
        ("9.9.9.9", "203.0.113.77", "9.9.9.0/24"),
        ("127.0.0.1", "nonsense", ""),
        ("", "", ""),
    ],
)
def test_only_the_network_is_kept(peer: str, forwarded: str, expected: str) -> None:
    assert network(peer, forwarded) == expected
