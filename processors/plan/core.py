"""Decide whether a requested send becomes a message, and on which lane it waits.

Pure and without state: what is known of tenants, campaigns and sites comes in, and the record's own time is the time of
acceptance, so that a record planned again gives the same events with the same ids. Repeats are not recognised here:
the owner of the lane drops them. Nothing is resolved by DNS: a domain that nobody has learned yet is its own site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol

from processors.plan.content import Refused, claims_of, content_of, require_content
from schemas import ids
from schemas.address import Address, AddressError, canonical, parse
from schemas.claims import Claim
from schemas.codec import Undecodable, decode_send
from schemas.envelope import METADATA_MAX, TAGS_MAX, MailEvent, Priority, Stream
from schemas.lanes import MessageQueue
from schemas.messages import MessageAccepted, MessageRejected, MessageScheduled
from schemas.redact import redact
from schemas.sends import SendRequested
from schemas.state import CampaignSet, CampaignStatus, RecipientSeen
from schemas.tenant import Tenant

Headers = list[tuple[str, bytes]]

MAX_KEY = 512  # bytes of an idempotency key
RESERVED_HEADERS = frozenset(
    {
        "bcc",
        "cc",
        "date",
        "dkim-signature",
        "feedback-id",
        "from",
        "list-id",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "message-id",
        "mime-version",
        "received",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
        "x-mailriver-id",
    }
)


@dataclass(frozen=True, slots=True)
class Send:
    """A record of `mail.sends`: `at` is the broker's time, `position` is topic:partition:offset."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    at: datetime
    position: str


class Known(Protocol):
    """What `plan` knows of the present state."""

    def campaign(self, tenant: str, campaign_id: str) -> CampaignSet | None: ...

    def site(self, domain: str) -> tuple[str, str]:
        """(site, provider) of a domain; (domain, "") when nobody has learned it yet."""
        ...

    def former_site(self, domain: str, after: datetime) -> str:
        """The site that the domain had at that time, if it has another since; else empty."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator configured. `partitions` is that of the lanes, `shards` how many lanes a site has."""

    tenants: Mapping[str, Tenant]
    pools: frozenset[str]
    recipient_secret: bytes
    partitions: int
    shards: Callable[[str], int] = lambda site: 1


_ABOUT = {"idempotency_key", *MailEvent.model_fields} - {"event_id", "type", "schema_version", "occurred_at"}


@dataclass(frozen=True, slots=True)
class Accepted:
    accepted: MessageAccepted
    scheduled: MessageScheduled | None
    queue: MessageQueue
    urgent: bool
    partition: int
    claims: tuple[Claim, ...] = ()  # to be kept until the message has expired

    @property
    def recipient(self) -> RecipientSeen:
        """Whose address the recipient_id stands for."""
        queue = self.queue
        return RecipientSeen.from_checked(
            queue.recipient_id,
            occurred_at=queue.occurred_at,
            tenant=queue.tenant,
            recipient_id=queue.recipient_id,
            address=queue.recipient,
        )

    def refused(self, reason: str, detail: str, position: str) -> Rejected:
        """What was found out after the decision: the same message, not accepted."""
        told = self.accepted.model_dump(include=_ABOUT)
        at = self.accepted.occurred_at
        return Rejected(MessageRejected.from_cause(position, occurred_at=at, reason=reason, detail=detail, **told))


@dataclass(frozen=True, slots=True)
class Rejected:
    """Understood, and refused: the app learns it from the fact."""

    fact: MessageRejected


@dataclass(frozen=True, slots=True)
class Unreadable:
    """For the dead letters: it names no message that a fact could be about."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unready:
    """It names a campaign that the view may not have seen yet: look again soon."""

    reason: str


Decision = Accepted | Rejected | Unreadable | Unready


def decide(send: Send, rules: Rules, known: Known, known_as_of: datetime) -> Decision:
    """`known_as_of`: up to which time the campaign view has surely read everything."""
    if not send.key:
        return Unreadable("no key: the record key is the idempotency key, any text that names this send")
    if len(send.key) > MAX_KEY:
        return Unreadable(f"the key has {len(send.key)} bytes; at most {MAX_KEY} are allowed")
    try:
        key = send.key.decode()
        request = decode_send(send.value, send.headers)
        recipient = parse(request.recipient)
    except UnicodeDecodeError:
        return Unreadable("the key is not UTF-8")
    except Undecodable as error:
        return Unreadable(str(error))
    except AddressError as error:
        return Unreadable(f"recipient: {error}")
    tenant = rules.tenants.get(request.tenant)
    if tenant is None:
        return Unreadable(f"tenant {request.tenant} is not configured")
    campaign = known.campaign(tenant.name, request.campaign_id) if request.campaign_id else None
    if request.campaign_id and campaign is None and known_as_of <= send.at:
        return Unready(f"campaign {request.campaign_id} is not known yet")
    return _message(send, key, request, recipient, tenant, campaign, rules, known)


def _message(
    send: Send,
    key: str,
    request: SendRequested,
    recipient: Address,
    tenant: Tenant,
    campaign: CampaignSet | None,
    rules: Rules,
    known: Known,
) -> Accepted | Rejected:
    site, provider = known.site(recipient.domain)
    stream = request.stream or (campaign.stream if campaign else Stream.TRANSACTIONAL)
    policy = tenant.policy(stream)
    pool = request.pool or (campaign.pool if campaign else policy.pool)
    message_id = ids.message_id(tenant.name, send.key or b"")
    tags = (campaign.tags if campaign else ()) + request.tags
    metadata = {**(campaign.metadata if campaign else {}), **request.metadata}
    common = {
        "tenant": tenant.name,
        "stream": stream,
        "campaign_id": request.campaign_id,
        "message_id": message_id,
        "recipient_id": ids.recipient_id(rules.recipient_secret, tenant.name, canonical(recipient)),
        "subject_ref": request.subject_ref,
        "recipient_domain": recipient.domain,
        "provider": provider,
        "pool": pool,
        # Cut for the fact that says that they are too many.
        "tags": tags[:TAGS_MAX],
        "metadata": dict(islice(metadata.items(), METADATA_MAX)),
        # Facts are kept for years: an address in the key goes, the message_id made of the whole key stays.
        "idempotency_key": redact(key, limit=MAX_KEY),
    }
    try:
        _check(request, tenant, campaign, pool, rules, key, str(common["recipient_id"]))
        _check_labels(tags, metadata)
    except Refused as refused:
        # Its cause is the position: the same key may be refused today and accepted tomorrow.
        fact = MessageRejected.from_cause(
            send.position, occurred_at=send.at, reason=refused.reason, detail=refused.detail, **common
        )
        return Rejected(fact)
    expires_at = request.expires_at or (request.send_at or send.at) + timedelta(
        seconds=campaign.expires_after_s if campaign else policy.expires_after_s
    )
    shown_key = common.pop("idempotency_key")
    when = {"send_at": request.send_at, "expires_at": expires_at}
    accepted = MessageAccepted.from_checked(
        message_id, occurred_at=send.at, idempotency_key=shown_key, **when, **common
    )
    shard = ids.shard(message_id, rules.shards(site))
    partition, via = ids.lane_partition(pool, site, shard, rules.partitions), ""
    # A repeat is known where the message went: on the lane of the site that the domain had when the window began.
    if former := known.former_site(recipient.domain, send.at - timedelta(seconds=tenant.duplicate_window_s)):
        number = ids.shard(message_id, rules.shards(former))
        if (first := ids.lane_partition(pool, former, number, rules.partitions)) != partition:
            partition, via = first, ids.lane_key(pool, former, number)
    queue = MessageQueue.from_checked(
        message_id,
        occurred_at=send.at,
        via=via,
        recipient=str(recipient),
        idempotency_key=shown_key,
        site=site,
        shard=shard,
        content=content_of(request),
        headers=request.headers,
        accepted_at=send.at,
        priority=request.priority or (campaign.priority if campaign else None) or Priority.NORMAL,
        **when,
        **common,
    )
    later = request.send_at is not None and request.send_at > send.at
    return Accepted(
        accepted=accepted,
        scheduled=MessageScheduled.from_checked(message_id, occurred_at=send.at, send_at=request.send_at, **common)
        if later
        else None,
        queue=queue,
        urgent=not stream.is_bulk,
        partition=partition,
        claims=claims_of(request, campaign),
    )


def _check(
    request: SendRequested,
    tenant: Tenant,
    campaign: CampaignSet | None,
    pool: str,
    rules: Rules,
    key: str,
    recipient_id: str,
) -> None:
    """Raise Refused for what is well formed and yet may not be mailed."""
    if pool not in rules.pools:
        raise Refused("unknown_pool", f"pool {pool} is not configured")
    for name in request.headers:
        if name.lower() in RESERVED_HEADERS or name.lower().startswith("content-"):
            raise Refused("reserved_header", f"{name} is written by mailriver")
    if request.campaign_id is not None:
        if campaign is None:
            raise Refused("unknown_campaign", f"there is no campaign {request.campaign_id}")
        if campaign.status in (CampaignStatus.CANCELLED, CampaignStatus.FINISHED):
            raise Refused("campaign_closed", f"campaign {request.campaign_id} is {campaign.status}")
        if key != ids.campaign_key(request.campaign_id, recipient_id):
            # The key makes a campaign's second start harmless, so it may not be chosen freely.
            raise Refused("campaign_key", "the key of a campaign's send is campaign_id/recipient_id")
    require_content(request, campaign, tenant)
    if request.expires_at is not None and request.send_at is not None and request.expires_at <= request.send_at:
        raise Refused("expiry", "expires_at is not after send_at")


def _check_labels(tags: tuple[str, ...], metadata: dict[str, str]) -> None:
    """The campaign's and the send's own together; each may have as many."""
    for what, limit, found in (("tags", TAGS_MAX, len(tags)), ("metadata", METADATA_MAX, len(metadata))):
        if found > limit:
            raise Refused(what, f"with the campaign's these are {found}; at most {limit} are allowed")
