"""Fetch what a lane's command names by claim, and attachments with it; blocks, in the processes that compose."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from schemas.attachments import Attachment, decoded
from schemas.claims import Claim, ClaimError
from schemas.lanes import Inline
from schemas.rules.raw_mail import RawMail, decoded_raw, read_raw
from sinks.smtp.attachments import Attached, attached
from topics.claims import Claims, ClaimsAway


class Fetched:
    """Every method raises ClaimsAway where it may succeed later, and ClaimError where bytes are gone or are others."""

    def __init__(self, claims: Claims | None) -> None:
        self._claims = claims

    def content(self, inline: Inline) -> Inline:
        """Content with its texts, for one that is claimed as a whole."""
        if inline.claim is None:
            return inline
        try:
            return Inline.model_validate_json(self._bytes(inline.claim))
        except ValidationError:
            raise ClaimError("a claim that is no content") from None

    def raw(self, inline: Inline) -> RawMail | None:
        """RawMailError for what is not to be sent."""
        if inline.raw_claim is not None:
            return read_raw(self._bytes(inline.raw_claim))
        return read_raw(decoded_raw(inline.raw)) if inline.raw is not None else None

    def attached(self, attachments: Sequence[Attachment]) -> Attached:
        return attached([(each, self._bytes(each.claim) if each.claim else decoded(each)) for each in attachments])

    def _bytes(self, claim: Claim) -> bytes:
        if self._claims is None:
            raise ClaimsAway("no folder for claims is configured")
        return self._claims.get(claim)
