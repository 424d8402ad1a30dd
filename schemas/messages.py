"""The story of a message: how it was taken in and its one end. All on `mail.messages`, keyed by message_id."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from schemas.envelope import MailEvent


class MessageAccepted(MailEvent):
    type: Literal["message.accepted"] = "message.accepted"
    idempotency_key: str
    send_at: AwareDatetime | None = None
    expires_at: AwareDatetime


class MessageScheduled(MailEvent):
    """Accepted for a later time: the queue holds it until `send_at`."""

    type: Literal["message.scheduled"] = "message.scheduled"
    send_at: AwareDatetime


class MessageRejected(MailEvent):
    """Refused before acceptance: a send whose content, sender or recipient cannot be mailed. Not an end: it was never
    accepted.
    """

    type: Literal["message.rejected"] = "message.rejected"
    idempotency_key: str
    reason: str
    detail: str = ""


class MessageDuplicate(MailEvent):
    """A repeat of an accepted send inside the duplicate window was dropped."""

    type: Literal["message.duplicate"] = "message.duplicate"
    position: str  # where the repeat stood: topic:partition:offset


class MessageEnded(MailEvent):
    """Base of the seven ends. `attempts` counts those started; the verdict fields repeat the last attempt's."""

    attempts: int = 0
    accepted_at: AwareDatetime
    bounce_class: str = ""
    disposition: str = ""
    reply_code: int = 0
    reply_enhanced: str = ""
    reply_text: str = ""  # redacted

    @property
    def outcome(self) -> str:
        return self.type.removeprefix("message.")


class MessageDelivered(MessageEnded):
    """The next hop answered 250 to the final dot."""

    type: Literal["message.delivered"] = "message.delivered"


class MessageBounced(MessageEnded):
    type: Literal["message.bounced"] = "message.bounced"


class MessageSuppressed(MessageEnded):
    type: Literal["message.suppressed"] = "message.suppressed"
    suppression: str  # the reason of the suppression that held it back


class MessageCancelled(MessageEnded):
    type: Literal["message.cancelled"] = "message.cancelled"
    cancelled_by: str = ""


class MessageExpired(MessageEnded):
    type: Literal["message.expired"] = "message.expired"


class MessageFailed(MessageEnded):
    """No reply ever decided it: content that cannot be rendered, a key that is gone."""

    type: Literal["message.failed"] = "message.failed"
    reason: str


class MessageUnknown(MessageEnded):
    """The final dot was sent, its answer never read, and the stream's policy is not to send again (RFC 1047)."""

    type: Literal["message.unknown"] = "message.unknown"


ENDS = (
    MessageDelivered,
    MessageBounced,
    MessageSuppressed,
    MessageCancelled,
    MessageExpired,
    MessageFailed,
    MessageUnknown,
)
