"""How large a mail will be, about: what is in its record, and what that names elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from schemas.attachments import Attachment
from schemas.lanes import FromCampaign
from schemas.state import CampaignSet
from sinks.smtp.queue import LaneRecord


def size_of(record: LaneRecord, campaign: Callable[[str], CampaignSet | None]) -> int:
    """In bytes. `campaign` by its key."""
    size, content = record.size, record.command.content
    if content.attachments:
        size += _attached(content.attachments)
    if isinstance(content, FromCampaign):
        known = campaign(f"{record.command.tenant}/{content.campaign_id}")
        if known is not None and known.attachments:
            size += _attached(known.attachments)
        return size
    for claim in (content.claim, content.raw_claim):
        if claim is not None:
            size += claim.size
    return size


def _attached(attachments: Iterable[Attachment]) -> int:
    return sum(each.size for each in attachments) * 11 // 8  # base64 in lines
