"""Commands to the queue owners: what `plan` writes on a lane, and what an owner writes when it moves a message to
another.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from schemas import ids
from schemas.attachments import Attachment
from schemas.claims import Claim
from schemas.envelope import NONE_GIVEN, MailEvent, Name, Priority


class Inline(BaseModel):
    """Content that came with the send itself, final text.

    Or, with `from_` and `subject` empty, one of: `raw` or `raw_claim`, a complete message in base64 or by claim;
    `claim`, for the JSON of any other content that is too large for a lane, but for `attachments`. A worker that does
    not know these yet finds no From, and sends nothing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["inline"] = "inline"
    from_: str
    reply_to: str | None = None
    subject: str
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    raw: str | None = None
    raw_claim: Claim | None = None
    claim: Claim | None = None


class FromCampaign(BaseModel):
    """Content compiled once per campaign version (`mail.campaigns`); only what differs travels."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["campaign"] = "campaign"
    campaign_id: Name
    variables: dict[str, Any] = NONE_GIVEN
    attachments: tuple[Attachment, ...] = ()  # beside the campaign's


Content = Annotated[Inline | FromCampaign, Field(discriminator="kind")]
CONTENT: TypeAdapter[Inline | FromCampaign] = TypeAdapter(Content)


class MessageQueue(MailEvent):
    """`message.queue`: take this message into the lane's queue. The address travels here last."""

    type: Literal["message.queue"] = "message.queue"
    recipient: str
    idempotency_key: str
    site: str
    shard: int = 0
    content: Content
    headers: dict[str, str] = NONE_GIVEN
    accepted_at: AwareDatetime
    send_at: AwareDatetime | None = None
    expires_at: AwareDatetime
    priority: Priority = Priority.NORMAL
    attempts: int = 0  # made before a move from another lane
    moved_from: str = ""  # the lane position it came from, empty for a new message
    moved_at: AwareDatetime | None = None  # when the newest control that moved it was set
    rerouted: bool = False  # its site was corrected once
    via: str = ""  # the lane that it passes first, since a repeat of it would be known there

    @property
    def key(self) -> str:
        return self.via or ids.lane_key(self.pool, self.site, self.shard)

    @property
    def subject(self) -> str:
        return self.message_id
