"""The command that upstream apps publish: send one mail to one recipient.

This is the widest door of the system: a record by any Kafka client, so everything but recipient and content is
optional, and an unknown field is an error that names it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from schemas.attachments import ATTACHMENTS_MAX, AttachmentRequested
from schemas.claims import Claim
from schemas.envelope import NONE_GIVEN, Label, Metadata, Name, Priority, Stream, Tags
from schemas.rules.raw_mail import RAW_MAX

MAX_SUBJECT = 2_000
MAX_BODY = 512 * 1024  # characters of text or html given inline

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,75}$")]
HeaderValue = Annotated[str, Field(max_length=2_000, pattern=r"^[^\r\n\x00]*$")]


class SendRequested(BaseModel):
    """`send.requested` on `mail.sends` or `mail.sends.urgent`; the record key is the idempotency key."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version: ClassVar[int] = 1

    type: Literal["send.requested"] = "send.requested"
    schema_version: int = 1
    recipient: Annotated[str, Field(max_length=512)]
    from_: Annotated[str | None, Field(alias="from", max_length=512)] = None
    reply_to: Annotated[str | None, Field(max_length=512)] = None
    subject: Annotated[str | None, Field(max_length=MAX_SUBJECT)] = None
    text: Annotated[str | None, Field(max_length=MAX_BODY)] = None
    html: Annotated[str | None, Field(max_length=MAX_BODY)] = None
    campaign_id: Name | None = None
    variables: dict[str, Any] = NONE_GIVEN
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=32)] = NONE_GIVEN
    attachments: Annotated[tuple[AttachmentRequested, ...], Field(max_length=ATTACHMENTS_MAX)] = ()
    raw: Annotated[str | None, Field(max_length=RAW_MAX * 4 // 3 + 4)] = None
    raw_claim: Claim | None = None
    tenant: Name = "default"
    stream: Stream | None = None
    pool: Name | None = None
    priority: Priority | None = None
    subject_ref: Label | None = None
    tags: Tags = ()
    metadata: Metadata = NONE_GIVEN
    send_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    requested_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _content_is_one_thing(self) -> Self:
        if self.raw is not None or self.raw_claim is not None:
            return self._raw_alone()
        own = [name for name in ("subject", "text", "html") if getattr(self, name) is not None]
        if self.campaign_id is None:
            if self.from_ is None or self.subject is None or (self.text is None and self.html is None):
                raise ValueError("needs from, subject and one of text, html; or a campaign_id; or raw")
            if self.variables:
                raise ValueError("variables are for campaigns: a send of its own carries its final text")
        elif own:
            raise ValueError(f"a campaign has its own content: drop {', '.join(own)}")
        return self

    def _raw_alone(self) -> Self:
        if self.raw is not None and self.raw_claim is not None:
            raise ValueError("one of raw, raw_claim")
        beside = ("from_", "reply_to", "subject", "text", "html", "campaign_id", "variables", "headers", "attachments")
        if given := [name.rstrip("_") for name in beside if getattr(self, name)]:
            raise ValueError(f"a raw message is complete: drop {', '.join(given)}")
        return self
