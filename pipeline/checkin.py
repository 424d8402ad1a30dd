"""Make a send's record small enough: what a producer does with attachments and messages too large for one.

Kafka refuses records over 1 MiB; base64 of 256 KiB and a text beside it fit.
"""

from __future__ import annotations

import mimetypes
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.claims import CHECKED_IN_ABOVE, ClaimError
from topics.claims import Claims

# A record waits on `mail.sends` for a week; whoever plans it keeps its claims for as long as the message needs.
KEPT = timedelta(days=8)


def attachment(path: Path, claims: Claims | None, room: int, kept: timedelta = KEPT) -> dict[str, Any]:
    """A file as an item of `attachments`: with its bytes when they are `room` at most, else by claim."""
    kind, encoding = mimetypes.guess_type(path.name)
    content_type = kind if kind and not encoding and not kind.startswith(("message/", "multipart/")) else None
    data = path.read_bytes()
    item: dict[str, Any] = {"filename": path.name}
    if content_type:
        item["content_type"] = content_type
    if len(data) <= room:
        return item | {"content": b64encode(data).decode()}
    return item | {"claim": _claimed(data, claims, kept)}


def raw(data: bytes, claims: Claims | None) -> dict[str, Any]:
    """A complete message as fields of a send."""
    if len(data) <= CHECKED_IN_ABOVE:
        return {"raw": b64encode(data).decode()}
    return {"raw_claim": _claimed(data, claims, KEPT)}


def _claimed(data: bytes, claims: Claims | None, kept: timedelta) -> dict[str, Any]:
    if claims is None:
        raise ClaimError(f"{len(data)} bytes are too many for a record: set claims.folder to keep them beside Kafka")
    return claims.put(data, datetime.now(UTC) + kept).model_dump()
