"""What a received mail can turn out to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas.address import Address
from schemas.feedback import ComplaintKind
from schemas.tokens import Link

ReplyKind = Literal["auto_reply", "challenge", "human", "undetermined"]


@dataclass(frozen=True, slots=True)
class Failure:
    """What a report says of one recipient who did not get the mail for good."""

    addresses: tuple[Address, ...]
    """By which the recipient is named; empty when he is not, or in no form that we read."""
    code: int
    enhanced: str
    text: str = field(repr=False)
    """The diagnostic as it came: it may hold addresses."""


@dataclass(frozen=True, slots=True)
class Bounced:
    message_id: str
    failures: tuple[Failure, ...]
    """At least one."""
    reporting_mta: str = ""


@dataclass(frozen=True, slots=True)
class Complained:
    message_id: str
    kind: ComplaintKind
    reporter: str = ""
    user_agent: str = ""
    link: Link | None = None
    """What an unsubscribe token in the complaint says about the message."""


@dataclass(frozen=True, slots=True)
class Replied:
    message_id: str
    kind: ReplyKind


@dataclass(frozen=True, slots=True)
class Aside:
    """Nothing that can be tied to a message, or that asks for a fact. The reason quotes nothing of the mail."""

    reason: str


Finding = Bounced | Complained | Replied | Aside


@dataclass(frozen=True, slots=True)
class MessageRef:
    """What the facts about a message share, as its acceptance said (and `provider` and `pool` as its last attempt)."""

    message_id: str
    recipient_id: str
    recipient_domain: str
    tenant: str
    stream: str
    campaign_id: str | None = None
    provider: str = ""
    pool: str = "default"
    subject_ref: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
