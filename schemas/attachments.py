"""Files and images that go with a mail: what may be attached, and how much.

The syntax is the model's; what is well formed and yet refused is `refused`. Writing them as MIME parts is the sink's.
"""

from __future__ import annotations

import unicodedata
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.claims import Claim

ATTACHMENTS_MAX = 20
ATTACHED_MAX = (
    15 * 1024 * 1024
)  # bytes of all together: base64 and headers make 21 MiB of them, large providers take 25

# What Gmail refuses to take (support.google.com/mail/answer/6590, as of 2026): a mail with one of these would bounce at
# the largest provider and cost reputation at others, so it is refused before it is accepted.
EXECUTABLE = frozenset(
    (
        *("ade", "adp", "apk", "appx", "appxbundle", "bat", "cab", "chm", "cmd", "com", "cpl", "diagcab", "diagcfg"),
        *("diagpkg", "dll", "dmg", "ex", "ex_", "exe", "hta", "img", "ins", "iso", "isp", "jar", "jnlp", "js", "jse"),
        *("lib", "lnk", "mde", "mjs", "msc", "msi", "msix", "msixbundle", "msp", "mst", "nsh", "pif", "ps1", "scr"),
        *("sct", "shb", "sys", "vb", "vbe", "vbs", "vhd", "vxd", "wsc", "wsf", "wsh", "xll"),
    )
)

# RFC 2045 section 5.1: type, subtype, parameters whose values are tokens. A name belongs into `filename`, and what has
# parts of its own cannot be encoded (RFC 2046 sections 5.1 and 5.2.1).
_WORD = r"[A-Za-z0-9!#$&^_.+-]+"
_TYPE = rf"^(?:application|audio|font|image|model|text|video|x-{_WORD})/{_WORD}(?:; ?[A-Za-z-]{{1,20}}={_WORD}){{0,4}}$"


class AttachmentError(ValueError):
    """Well formed, and not to be sent; the text quotes no name."""


class Attachment(BaseModel):
    """A file: its bytes in base64, or a claim to them. An inline one is an image that the HTML shows by `cid:`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    filename: Annotated[str, Field(min_length=1, max_length=255)]
    content_type: Annotated[str, Field(max_length=128, pattern=_TYPE)] = "application/octet-stream"
    content: Annotated[str | None, Field(max_length=ATTACHED_MAX * 4 // 3 + 4)] = None
    claim: Claim | None = None
    inline: bool = False
    content_id: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")] = None

    @property
    def size(self) -> int:
        """Bytes, decoded."""
        if self.claim is not None:
            return self.claim.size
        content = self.content or ""
        return len(content) * 3 // 4 - content[-2:].count("=")


class AttachmentRequested(Attachment):
    """The same from upstream: an unknown field is an error, and what cannot be decoded is no attachment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.content is None) == (self.claim is None):
            raise ValueError("an attachment needs one of content, claim")
        if self.inline != (self.content_id is not None):
            raise ValueError("inline and content_id belong together: the HTML shows the image as cid:CONTENT_ID")
        # A path is not a name, and a name that reads backwards hides what it is.
        if any(character in "/\\" or unicodedata.category(character)[0] == "C" for character in self.filename):
            raise ValueError("a filename has no path, no control and no invisible characters")
        if self.content is not None:
            decoded(self)
        return self


def decoded(attachment: Attachment) -> bytes:
    """The bytes of one that has them with it. ValueError where they are no base64."""
    try:
        return a2b_base64((attachment.content or "").encode("ascii", "replace"), strict_mode=True)
    except Base64Error:
        raise ValueError("content is not base64 (RFC 4648 section 4, in one line)") from None


def require_allowed(attachments: Iterable[Attachment], *, has_html: bool) -> None:
    """Raises AttachmentError for what is not to be sent."""
    every = tuple(attachments)
    if len(every) > ATTACHMENTS_MAX:
        raise AttachmentError(f"{len(every)} attachments; at most {ATTACHMENTS_MAX} are allowed")
    total = sum(each.size for each in every)
    if total > ATTACHED_MAX:
        raise AttachmentError(f"{total} bytes of attachments; at most {ATTACHED_MAX} are allowed")
    for number, each in enumerate(every):
        # Windows reads "a.exe. " as "a.exe".
        _, dot, extension = each.filename.rstrip(". ").lower().rpartition(".")
        if dot and extension in EXECUTABLE:
            raise AttachmentError(
                f"attachment {number}: .{extension} files are refused, as large providers refuse them"
            )
        if each.inline and not has_html:
            raise AttachmentError(f"attachment {number}: an inline image needs html to show it")
    shown = [each.content_id for each in every if each.content_id]
    if len(set(shown)) < len(shown):
        raise AttachmentError("two attachments have one content_id")
