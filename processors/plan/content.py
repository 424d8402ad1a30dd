"""What a send asks to be mailed, as its lane carries it; and whether it may be.

Pure. What stands in the record is checked here, so that the app learns at once of what is refused; what it claims is
checked by whoever reads it to send it.
"""

from __future__ import annotations

from functools import lru_cache

from schemas.address import AddressError, parse_mailbox
from schemas.attachments import AttachmentError, require_allowed
from schemas.claims import Claim
from schemas.lanes import FromCampaign, Inline
from schemas.rules.raw_mail import RawMailError, decoded_raw, read_raw
from schemas.sends import SendRequested
from schemas.state import CampaignSet
from schemas.tenant import Tenant


class Refused(Exception):
    """Well formed, and yet not to be mailed: `reason` is a word for programs, `detail` a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def content_of(request: SendRequested) -> Inline | FromCampaign:
    if request.raw is not None or request.raw_claim is not None:
        return Inline(from_="", subject="", raw=request.raw, raw_claim=request.raw_claim)
    if request.campaign_id is not None:
        return FromCampaign(
            campaign_id=request.campaign_id, variables=request.variables, attachments=request.attachments
        )
    return Inline(
        from_=request.from_ or "",
        reply_to=request.reply_to,
        subject=request.subject or "",
        text=request.text,
        html=request.html,
        attachments=request.attachments,
    )


def claims_of(request: SendRequested, campaign: CampaignSet | None) -> tuple[Claim, ...]:
    """What has to be kept for this message, the campaign's part of it included."""
    if request.raw_claim is not None:
        return (request.raw_claim,)
    attachments = request.attachments + (campaign.attachments if campaign else ())
    return tuple(each.claim for each in attachments if each.claim is not None) if attachments else ()


def require_content(request: SendRequested, campaign: CampaignSet | None, tenant: Tenant) -> None:
    """Raises Refused."""
    if request.raw_claim is not None:
        return
    if request.raw is not None:
        _require_owned(_sender_of_raw(request.raw), tenant)
        return
    try:
        _require_owned(_sender(campaign.from_ if campaign else request.from_ or ""), tenant)
    except AddressError as error:
        raise Refused("from", str(error)) from None
    if request.reply_to is not None:
        try:
            parse_mailbox(request.reply_to)
        except AddressError as error:
            raise Refused("reply_to", str(error)) from None
    if request.attachments:
        also = campaign.attachments if campaign else ()
        html = campaign.html if campaign else request.html
        try:
            require_allowed((*also, *request.attachments), has_html=html is not None)
        except AttachmentError as error:
            raise Refused("attachment", str(error)) from None


@lru_cache(maxsize=1_024)  # senders repeat from message to message; each is at most 512 characters long
def _sender(from_: str) -> str:
    return parse_mailbox(from_).address.domain


def _sender_of_raw(raw: str) -> str:
    try:
        return read_raw(decoded_raw(raw)).from_.domain
    except RawMailError as error:
        raise Refused("raw", str(error)) from None


def _require_owned(domain: str, tenant: Tenant) -> None:
    if domain not in tenant.sending_domains:
        raise Refused("from_not_owned", f"{domain} is not a sending domain of tenant {tenant.name}")
