"""See to it that what a lane's command names by claim is kept until nobody needs it, and that large content goes by
claim: lanes stay small, and their owners' memory with them.

Bytes are in place before the command is published. What a send claims and nobody has kept is refused: the app learns
of it, where the lane's owner could only give up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from schemas.attachments import Attachment, decoded
from schemas.claims import CHECKED_IN_ABOVE, Claim, ClaimError
from schemas.lanes import FromCampaign, Inline
from schemas.rules.raw_mail import decoded_raw
from topics.claims import Claims

_AFTER_EXPIRY: Final = timedelta(days=1)
_STEP_S: Final = 3_600  # a campaign's claims are prolonged once in an hour, not with each of a million sends
_REMEMBERED: Final = 10_000


class Claiming:
    def __init__(self, claims: Claims | None) -> None:
        self._claims = claims
        self._kept: OrderedDict[str, datetime] = OrderedDict()

    def keep(self, claims: Iterable[Claim], expires_at: datetime) -> None:
        """Raises ClaimError for what is not there, ClaimsAway when nobody can tell."""
        until = _until(expires_at)
        for claim in claims:
            if self._claims is None:
                raise ClaimError("a claim, and no folder for claims is configured")
            if self._kept.get(claim.sha256, until - _AFTER_EXPIRY) < until:
                self._claims.keep(claim, until)
                self._kept[claim.sha256] = until
                self._kept.move_to_end(claim.sha256)
                if len(self._kept) > _REMEMBERED:
                    self._kept.popitem(last=False)

    def checked_in(self, content: Inline | FromCampaign, expires_at: datetime) -> Inline | FromCampaign:
        """What to publish for content of a record of more than CHECKED_IN_ABOVE bytes; raises ClaimsAway."""
        if self._claims is None:
            return content
        until = _until(expires_at)
        attachments = tuple(self._attachment(each, self._claims, until) for each in content.attachments)
        content = content.model_copy(update={"attachments": attachments})
        if isinstance(content, FromCampaign):
            return content
        if content.raw is not None:
            claim = self._claims.put(decoded_raw(content.raw), until)
            return content.model_copy(update={"raw": None, "raw_claim": claim})
        if len(content.text or "") + len(content.html or "") > CHECKED_IN_ABOVE:
            # Attachments stay: their sizes say how large the mail will be.
            texts = content.model_copy(update={"attachments": ()}).model_dump_json().encode()
            return Inline(from_="", subject="", claim=self._claims.put(texts, until), attachments=attachments)
        return content

    def _attachment(self, attachment: Attachment, claims: Claims, until: datetime) -> Attachment:
        if attachment.content is None:
            return attachment
        claim = claims.put(decoded(attachment), until)
        return attachment.model_copy(update={"content": None, "claim": claim})


def _until(expires_at: datetime) -> datetime:
    late = expires_at + _AFTER_EXPIRY
    return late + timedelta(seconds=_STEP_S - late.timestamp() % _STEP_S)
