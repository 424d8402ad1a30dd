"""Claim check: what is too large for a record is kept elsewhere, and the record names it by its hash.

Pure: where bytes are kept is `topics.claims`. The hash is the name, so the same bytes are kept once, a claim can be
checked by whoever reads it, and nobody can put other bytes in their place.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

CHECKED_IN_ABOVE = 256 * 1024  # bytes of content in a record: more goes by claim
CLAIM_MAX = 32 * 1024 * 1024


class ClaimError(ValueError):
    """The bytes of a claim are gone or are others. Never mends itself; the text quotes none of them."""


class Claim(BaseModel):
    """Bytes that are kept elsewhere."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=CLAIM_MAX)]


def claim_of(data: bytes) -> Claim:
    """Raises ClaimError when they are too many."""
    if len(data) > CLAIM_MAX:
        raise ClaimError(f"{len(data)} bytes; a claim has {CLAIM_MAX} at most")
    return Claim(sha256=sha256(data).hexdigest(), size=len(data))


def verified(claim: Claim, data: bytes) -> bytes:
    if len(data) != claim.size or sha256(data).hexdigest() != claim.sha256:
        raise ClaimError(f"claim {claim.sha256[:12]}: what is kept is not what was claimed")
    return data
