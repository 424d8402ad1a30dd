"""What comes back about a mail that was handed over: bounces, complaints, unsubscribes, replies; and the raw mail they
came in.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Base64Bytes

from schemas.envelope import Event, RecipientEvent


class InboundReceived(Event):
    """`inbound.received` on `mail.inbound`: one mail to one of our addresses, as it came. Kept for days: it holds
    addresses.
    """

    type: Literal["inbound.received"] = "inbound.received"
    mail_from: str
    rcpt_to: str
    peer_ip: str
    helo: str = ""
    tls: bool = False
    sha256: str  # of the whole mail
    size: int  # bytes of the whole mail
    raw: Base64Bytes  # its beginning: all of it, unless it was longer than the source keeps

    @property
    def key(self) -> str:
        return self.sha256


class BounceReceived(RecipientEvent):
    """A mail was refused for good, in the SMTP session or by a bounce mail later (phase `async`).

    The asynchronous one is the `late_bounce` of a message that was delivered before: never a second end.
    """

    type: Literal["bounce.received"] = "bounce.received"
    phase: Literal["in_session", "async"]
    bounce_class: str
    disposition: str
    reply_code: int = 0
    reply_enhanced: str = ""
    diagnostic: str = ""  # redacted
    reporting_mta: str = ""
    rule: str = ""
    classifier_version: int = 0


class ComplaintKind(StrEnum):
    """RFC 5965 section 7.3 and RFC 6430: the Feedback-Type of a report."""

    ABUSE = "abuse"
    FRAUD = "fraud"
    VIRUS = "virus"
    NOT_SPAM = "not-spam"
    OTHER = "other"


class ComplaintReceived(RecipientEvent):
    type: Literal["complaint.received"] = "complaint.received"
    kind: ComplaintKind = ComplaintKind.ABUSE
    reporter: str = ""  # domain of the feedback source
    user_agent: str = ""


class RecipientUnsubscribed(RecipientEvent):
    type: Literal["recipient.unsubscribed"] = "recipient.unsubscribed"
    via: Literal["one_click", "page", "mail", "api"]


class ReplyReceived(RecipientEvent):
    """A mail from a person or an auto-responder to a return path or reply address (RFC 3834)."""

    type: Literal["reply.received"] = "reply.received"
    kind: Literal["auto_reply", "challenge", "human", "undetermined"]


class InboundSetAside(Event):
    """A received mail that could not be tied to a message or did not prove itself: kept for people to look at."""

    type: Literal["inbound.set_aside"] = "inbound.set_aside"
    sha256: str
    reason: str

    @property
    def key(self) -> str:
        return self.sha256
