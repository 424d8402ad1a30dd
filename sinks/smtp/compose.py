"""From a lane's command to the bytes that go over the wire: content, links, signature, envelope.

Decides what a message of ours looks like as a whole; its parts are content.py's, dkim.py's and schemas.tokens'. What
cannot be written ends the message (`Unsendable`); what is only missing here and now (a campaign that is not known
yet, a key) holds it (`Missing`). Neither text quotes content or address.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from schemas.address import Address, AddressError, Mailbox, parse, parse_mailbox
from schemas.attachments import Attachment, AttachmentError, require_allowed
from schemas.claims import ClaimError
from schemas.lanes import FromCampaign, Inline, MessageQueue
from schemas.links import RETURN_PATH, click_url, open_url, unsubscribe_url
from schemas.rules.raw_mail import RawMailError
from schemas.state import CampaignSet
from schemas.tenant import Tenant
from schemas.tokens import Keyring, Kind, Link, LinkKind, ReturnPath
from sinks.smtp import markup
from sinks.smtp.attachments import Attached
from sinks.smtp.claimed import Fetched
from sinks.smtp.content import Bulk, Content, ContentError, RenderContext, Tracking, compile_content
from sinks.smtp.dialogue import Envelope
from sinks.smtp.dkim import DkimError, Signer, Unsigned, hash_body, signed
from sinks.smtp.lines import stuffed
from sinks.smtp.mime import MimeError
from sinks.smtp.raw import RawContent
from topics.claims import Claims, ClaimsAway

_COMPILED: Final = 64  # campaigns kept


class Composed(NamedTuple):
    envelope: Envelope
    wire: bytes


@dataclass(frozen=True, slots=True)
class Unsendable:
    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    cause: str


Composition = Composed | Unsendable | Missing


class Draft(NamedTuple):
    """A message that lacks its signatures."""

    sender: str
    recipient: str
    signatures: list[Unsigned]
    headers: bytes
    body: bytes  # as it goes over the wire


class _Missing(Exception):
    pass


class _Broken(Exception):
    """A message that cannot be written."""


@dataclass(frozen=True, slots=True)
class _Campaign:
    content: Content | RawContent
    from_: Mailbox
    reply_to: Mailbox | None
    attached: Attached | None = None


class Composer:
    def __init__(
        self,
        tenants: Mapping[str, Tenant],
        keyring: Keyring,
        signers: Mapping[str, Signer | None],
        campaign: Callable[[str], CampaignSet | None],
        claims: Claims | None = None,
    ) -> None:
        """`signers` by From domain, or by `tenant/domain` for a tenant's own; None: mail of that domain goes unsigned.
        It may change while it is in use. `campaign` finds by `tenant/campaign_id`.
        """
        self._tenants = tenants
        self._keyring = keyring
        self._signers = signers
        self._campaign = campaign
        self._fetched = Fetched(claims)
        self._compiled: OrderedDict[str, _Campaign | str] = OrderedDict()  # why not, for one that cannot be
        self._hashed: tuple[bytes, bytes] = (b"", b"")  # the last body, and its hash

    def draft(self, command: MessageQueue) -> Draft | Unsendable | Missing:
        """What becomes a message by `finished`."""
        try:
            return self._draft(command)
        except _Missing as missing:
            return Missing(str(missing))
        except ClaimsAway:
            return Missing("claims_away")
        except (
            *(_Broken, ContentError, AddressError, DkimError),
            *(ClaimError, AttachmentError, RawMailError, MimeError),
        ) as error:
            return Unsendable(str(error)[:200])

    def _draft(self, command: MessageQueue) -> Draft:
        tenant = self._tenants.get(command.tenant)
        if tenant is None:
            raise _Missing("unknown_tenant")
        recipient = parse(command.recipient)
        match command.content:
            case Inline() as inline:
                mail = _of_inline(inline, command) if inline.from_ else self._of_claim(inline, command)
                variables: Mapping[str, object] = {}
            case FromCampaign() as of:
                mail = self._of_campaign(f"{command.tenant}/{of.campaign_id}", command)
                variables = of.variables
        if command.content.attachments:
            mail = self._with_attachments(mail, command.content.attachments)
        domain = mail.from_.address.domain
        if domain not in tenant.sending_domains:
            raise _Broken("the From address is not of a domain of the tenant")
        if domain not in self._signers:
            raise _Missing("no_signing_key")
        headers, body = mail.content.render(variables, self._context(command, tenant, mail, recipient))
        signer = self._signers.get(f"{tenant.name}/{domain}") or self._signers[domain]
        unsigned: list[Unsigned] = []
        if signer is not None:
            unsigned = signer.prepare(headers, self._hash(body.canonical), domain=domain, now=int(time.time()))
        token = self._keyring.seal(Kind.RETURN_PATH, ReturnPath(command.message_id))
        sender = f"{RETURN_PATH}{token}@{tenant.return_path_domain}"
        return Draft(sender, str(recipient), unsigned, headers, body.wire)

    def _hash(self, canonical: bytes) -> bytes:
        # A content without variables renders the same object every time.
        known, digest = self._hashed
        if known is not canonical:
            digest = hash_body(canonical)
            self._hashed = (canonical, digest)
        return digest

    def _context(self, command: MessageQueue, tenant: Tenant, mail: _Campaign, recipient: Address) -> RenderContext:
        links = mail.content.links
        wanted: list[tuple[LinkKind, int]] = [(Kind.OPEN, 0), (Kind.UNSUBSCRIBE, 0)]
        wanted += [(Kind.CLICK, number) for number in range(len(links))]
        link = Link(
            message_id=command.message_id,
            recipient_id=command.recipient_id,
            recipient_domain=command.recipient_domain,
            tenant=command.tenant,
            stream=command.stream,
            campaign_id=command.campaign_id,
        )
        opened, unsubscribe, *clicks = self._keyring.seal_links(link, wanted)
        base = tenant.tracking_url
        return RenderContext(
            message_id=command.message_id,
            from_=mail.from_,
            to=Mailbox("", recipient),
            date=command.accepted_at,  # sent again, it is the same message
            reply_to=mail.reply_to,
            tracking=Tracking([click_url(base, token) for token in clicks].__getitem__, open_url(base, opened)),
            unsubscribe_url=unsubscribe_url(base, unsubscribe),
            headers=tuple(command.headers.items()),
            attached=mail.attached,
        )

    def _of_claim(self, inline: Inline, command: MessageQueue) -> _Campaign:
        """A complete message, or content that is kept elsewhere."""
        inline = self._fetched.content(inline)
        if inline.from_:
            return self._with_attachments(_of_inline(inline, command), inline.attachments)
        raw = self._fetched.raw(inline)
        if raw is None:
            raise AddressError("no From", 0)
        from_ = Mailbox("", raw.from_)
        return _Campaign(RawContent(raw, _bulk(command, from_)), from_, None)

    def _with_attachments(self, mail: _Campaign, attachments: Sequence[Attachment]) -> _Campaign:
        if not attachments:
            return mail
        own = self._fetched.attached(attachments)
        return replace(mail, attached=own if mail.attached is None else mail.attached + own)

    def _of_campaign(self, key: str, command: MessageQueue) -> _Campaign:
        campaign = self._campaign(key)
        if campaign is None:
            raise _Missing("unknown_campaign")
        version = f"{campaign.event_id}/{command.stream}"
        compiled = self._compiled.get(version)
        if compiled is None:
            try:
                compiled = self._compile(campaign, command)
            except (ContentError, AddressError, AttachmentError, MimeError) as error:
                compiled = str(error)  # kept too: each of its messages would be a compilation for others to wait for
            self._compiled[version] = compiled
            if len(self._compiled) > _COMPILED:
                self._compiled.popitem(last=False)
        if isinstance(compiled, str):
            raise _Broken(compiled)
        return compiled

    def _compile(self, campaign: CampaignSet, command: MessageQueue) -> _Campaign:
        if campaign.mjml is not None and campaign.html is None:
            raise ContentError("mjml", 0, "published without the html that is compiled from it")
        from_ = parse_mailbox(campaign.from_)
        content = compile_content(campaign.subject_template, campaign.html, campaign.text, bulk=_bulk(command, from_))
        require_allowed(campaign.attachments, has_html=campaign.html is not None)
        reply_to = parse_mailbox(campaign.reply_to) if campaign.reply_to else None
        return self._with_attachments(_Campaign(content, from_, reply_to), campaign.attachments)


def finished(drafts: Sequence[Draft | Unsendable | Missing]) -> list[Composition]:
    """All in one go: that is cheaper (`dkim.signed`)."""
    unsigned = [each for draft in drafts if isinstance(draft, Draft) for each in draft.signatures]
    fields = iter(signed(unsigned))
    return [_composed(draft, fields) if isinstance(draft, Draft) else draft for draft in drafts]


def _composed(draft: Draft, fields: Iterator[bytes]) -> Composed:
    top = b"".join((*islice(fields, len(draft.signatures)), draft.headers, b"\r\n"))
    wire = stuffed(top) + draft.body  # longer than the message by its stuffing: SIZE may be an estimate (RFC 1870)
    return Composed(Envelope(draft.sender, draft.recipient, len(wire), eight_bit=not wire.isascii()), wire)


def _of_inline(inline: Inline, command: MessageQueue) -> _Campaign:
    from_ = parse_mailbox(inline.from_)
    # Clicks are answered from a campaign's link table: a mail of its own has none.
    content = compile_content(
        inline.subject,
        inline.html,
        inline.text or _text_of(inline.html),
        bulk=_bulk(command, from_),
        templated=False,
        track_clicks=False,
    )
    return _Campaign(content, from_, parse_mailbox(inline.reply_to) if inline.reply_to else None)


@lru_cache(maxsize=64)  # apps send one design to many
def _text_of(html: str | None) -> str | None:
    return markup.text_of(html, templated=False) if html else None


def _bulk(command: MessageQueue, from_: Mailbox) -> Bulk | None:
    if not command.stream.is_bulk:
        return None
    domain = from_.address.domain
    return Bulk(f"{command.stream}.{domain}", _feedback_id(command.campaign_id, command.tenant, command.stream, domain))


@lru_cache(maxsize=256)
def _feedback_id(campaign_id: str | None, tenant: str, stream: str, domain: str) -> str:
    """Google's form: three fields by which complaint rates are told, and the sender: 5 to 15 characters, always the
    same. A colon parts them, so none may stand in a name.
    """
    sender = f"{domain}-mail"[:15] if len(domain) < 5 else domain[:15]
    return ":".join(part.replace(":", "-") for part in (campaign_id or "", tenant, stream, sender))
