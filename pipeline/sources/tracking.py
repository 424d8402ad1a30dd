"""Opens, clicks and unsubscribes over HTTP, from signed tokens alone.

Decides what a request means; who it was (a person, a proxy, a scanner) is judged later by `engage`. A redirect leads
only to a link of the campaign's own table, so a forged URL leads nowhere. Nobody is unsubscribed by GET: scanners
follow links.

An unsubscribe is answered when Kafka has acked the suppression. A pixel or a redirect is served in any case, since a
reader must not wait for our broker: a fact that cannot be written is logged and lost.
"""

from __future__ import annotations

import asyncio
import html
import ipaddress
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar

import structlog
from aiohttp import web

from schemas.codec import decode
from schemas.engagement import MessageClicked, MessageOpened
from schemas.feedback import RecipientUnsubscribed
from schemas.links import CLICK_PATH, OPEN_PATH, UNSUBSCRIBE_PATH
from schemas.redact import redact
from schemas.state import CampaignSet, SuppressionReason, SuppressionSet
from schemas.tokens import Keyring, Kind, Link, LinkKind, TokenError
from sinks.smtp.content import ContentError, compile_content
from topics.errors import Later, Never
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import CAMPAIGNS
from topics.view import View

ROLE = "tracking"
MAX_BODY = 4_096  # bytes of a request; a one-click POST has 26
_USER_AGENT = 256  # characters
_READER_WAIT = 2.0  # seconds that a reader waits for our broker at most
_GIF = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)  # one transparent pixel
_PRIVATE = {
    "Cache-Control": "no-store, private, max-age=0",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><body style="font:18px/1.5 sans-serif;max-width:32em;margin:4em auto;padding:0 1em">
<h1 style="font-size:1.4em">{title}</h1>{content}</body></html>"""
_CONFIRM = """<p>No more mail of this kind will be sent to you.</p>
<form method="post"><input type="hidden" name="confirm" value="yes">
<button style="font:inherit;padding:.4em 1em">Unsubscribe</button></form>"""

log = structlog.get_logger(__name__)

E = TypeVar("E", MessageOpened, MessageClicked, RecipientUnsubscribed)


@dataclass(frozen=True, slots=True)
class TrackingConfig:
    cluster: Cluster
    keyring: Keyring
    host: str
    port: int


async def serve(config: TrackingConfig, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    campaigns = View(config.cluster, CAMPAIGNS, _campaign, name=ROLE)
    publisher = Publisher(config.cluster, ROLE)
    runner = web.AppRunner(application(config.keyring, publisher, campaigns.get), access_log=None, keepalive_timeout=15)
    try:
        await asyncio.to_thread(campaigns.wait_ready, 60)
        await runner.setup()
        await web.TCPSite(runner, config.host, config.port).start()
        ready()
        await stop.wait()
    finally:
        await runner.cleanup()
        await asyncio.to_thread(campaigns.close)
        await asyncio.to_thread(publisher.close)


def application(
    keyring: Keyring, publisher: Publisher, campaign: Callable[[str], CampaignSet | None]
) -> web.Application:
    """The routes; `campaign` finds one by `tenant/campaign_id`."""
    tracking = _Tracking(keyring, publisher, campaign)
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_get(OPEN_PATH + "{token}", tracking.opened)  # HEAD too
    app.router.add_get(CLICK_PATH + "{token}", tracking.clicked)
    app.router.add_get(UNSUBSCRIBE_PATH + "{token}", tracking.ask, allow_head=True)
    app.router.add_post(UNSUBSCRIBE_PATH + "{token}", tracking.unsubscribed)
    return app


class _Tracking:
    def __init__(self, keyring: Keyring, publisher: Publisher, campaign: Callable[[str], CampaignSet | None]) -> None:
        self._keyring = keyring
        self._publisher = publisher
        self._campaign = campaign
        self._serial = itertools.count()

    async def opened(self, request: web.Request) -> web.Response:
        link = self._link(request, Kind.OPEN)
        await self._noted(self._fact(MessageOpened, link, **_visitor(request)))
        return web.Response(body=_GIF, content_type="image/gif", headers=_PRIVATE)

    async def clicked(self, request: web.Request) -> web.Response:
        link = self._link(request, Kind.CLICK)
        target = self._target(link)
        if target is None:
            raise _unknown()
        await self._noted(self._fact(MessageClicked, link, link=link.number, **_visitor(request)))
        return web.Response(status=302, headers=_PRIVATE | {"Location": target})

    async def ask(self, request: web.Request) -> web.Response:
        self._link(request, Kind.UNSUBSCRIBE)
        return _page(200, "Unsubscribe?", _CONFIRM)

    async def unsubscribed(self, request: web.Request) -> web.Response:
        link = self._link(request, Kind.UNSUBSCRIBE)
        form = await request.post()
        # RFC 8058 section 3.1: the POST has this key and value, and nothing of it depends on cookies or a login.
        one_click = form.get("List-Unsubscribe") == "One-Click"
        if not one_click and form.get("confirm") != "yes":
            raise web.HTTPBadRequest(text="send List-Unsubscribe=One-Click\n", headers=_PRIVATE)
        now = datetime.now(UTC)
        suppression = SuppressionSet.from_cause(
            f"unsubscribe/{link.message_id}",
            occurred_at=now,
            tenant=link.tenant,
            recipient_id=link.recipient_id,
            scope=link.stream,
            reason=SuppressionReason.UNSUBSCRIBE,
            message_id=link.message_id,
        )
        fact = RecipientUnsubscribed.from_cause(
            link.message_id, occurred_at=now, via="one_click" if one_click else "page", **_common(link)
        )
        try:
            # First what stops the mail, then the fact: each waits for its ack.
            await self._publisher.published(suppression)
            await self._publisher.published(fact)
        except (Later, Never) as error:
            log.error("unsubscribe_not_written", error=str(error))
            raise web.HTTPServiceUnavailable(text="try again in a minute\n", headers={"Retry-After": "60"}) from None
        return _page(200, "You are unsubscribed", "<p>It holds from now on.</p>")

    def _link(self, request: web.Request, kind: LinkKind) -> Link:
        try:
            return self._keyring.open_token(kind, request.match_info["token"])
        except TokenError:
            raise _unknown() from None

    def _target(self, link: Link) -> str | None:
        campaign = self._campaign(f"{link.tenant}/{link.campaign_id}") if link.campaign_id else None
        links = _links(campaign.subject_template, campaign.html, campaign.text) if campaign else ()
        return links[link.number] if link.number < len(links) else None

    def _fact(self, kind: type[E], about: Link, **fields: object) -> E:
        # Each request is a fact of its own, also the second one of the same person.
        cause = f"{about.message_id}/{time.time_ns()}/{next(self._serial)}"
        return kind.from_cause(cause, occurred_at=datetime.now(UTC), **_common(about), **fields)

    async def _noted(self, fact: MessageOpened | MessageClicked) -> None:
        try:
            async with asyncio.timeout(_READER_WAIT):
                await self._publisher.published(fact)
        except (TimeoutError, Later, Never) as error:
            log.error("engagement_not_written", type=fact.type, error=type(error).__name__)


@lru_cache(maxsize=256)
def _links(subject: str, markup: str | None, text: str | None) -> tuple[str, ...]:
    """The campaign's link table, compiled as the owner compiles it."""
    try:
        return compile_content(subject, markup, text).links
    except ContentError:  # the owner could not compile it either, so no mail of it exists
        return ()


def _common(link: Link) -> dict[str, object]:
    return {
        "tenant": link.tenant,
        "stream": link.stream,
        "campaign_id": link.campaign_id,
        "message_id": link.message_id,
        "recipient_id": link.recipient_id,
        "recipient_domain": link.recipient_domain,
    }


def _visitor(request: web.Request) -> dict[str, object]:
    return {
        "user_agent": redact(request.headers.get("User-Agent", ""), limit=_USER_AGENT),
        "network": network(request.remote or "", request.headers.get("X-Forwarded-For", "")),
        "method": request.method,
    }


def network(peer: str, forwarded: str) -> str:
    """The visitor's network, /24 or /48: their address itself is not kept. Empty when it cannot be told.

    Behind a proxy of ours (a private or loopback peer) it is the last address that this proxy wrote down.
    """
    try:
        address = ipaddress.ip_address(peer)
        if address.is_private and forwarded:
            address = ipaddress.ip_address(forwarded.rsplit(",", 1)[-1].strip())
    except ValueError:
        return ""
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def _page(status: int, title: str, content: str) -> web.Response:
    text = _PAGE.format(title=html.escape(title), content=content)
    return web.Response(status=status, text=text, content_type="text/html", headers=_PRIVATE)


def _unknown() -> web.HTTPNotFound:
    # One answer to every bad token: what was wrong with it is nobody's business.
    return web.HTTPNotFound(text="no such link\n", headers=_PRIVATE)


def _campaign(record: Record) -> CampaignSet | None:
    event = decode(record.value, record.headers)
    return event if isinstance(event, CampaignSet) else None
