"""Decide when an address stops receiving mail, and when it may again.

Pure: time is the event's own, so a replay gives the same answer. Kafka and the table are in agent.py. Unsubscribes and
manual suppressions are not decided here: their source writes them before it says yes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.feedback import BounceReceived, ComplaintKind, ComplaintReceived
from schemas.state import SuppressionReason, SuppressionSet

ADDRESS_IS_GONE = frozenset({"InvalidRecipient", "InactiveMailbox", "BadDomain"})
"""Bounce classes that speak of the address. A permanent refusal for content or reputation says nothing about it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Soft bounces on `soft_days` different days within `window` suppress for `rest`."""

    soft_days: int = 5
    window: timedelta = timedelta(days=30)
    rest: timedelta = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of a recipient: the days with a soft bounce, and what suppresses them for good."""

    soft: tuple[str, ...] = ()  # ISO dates, ascending
    active: SuppressionReason | None = None


Feedback = BounceReceived | ComplaintReceived


def decide(history: History, event: Feedback, policy: Policy) -> tuple[History, tuple[SuppressionSet, ...]]:
    """The recipient's new history, and the suppression that follows, if any."""
    match event:
        case _ if history.active is not None:
            return history, ()  # already suppressed for good: a repeat adds nothing
        case ComplaintReceived(kind=ComplaintKind.NOT_SPAM):
            return history, ()  # RFC 6430 section 3.2: a report that the mail was wanted
        case ComplaintReceived():
            return _for_good(history, event, SuppressionReason.COMPLAINT)
        case BounceReceived() if event.disposition == "permanent":
            if event.bounce_class in ADDRESS_IS_GONE:
                return _for_good(history, event, SuppressionReason.HARD_BOUNCE)
            return history, ()
        case BounceReceived() if event.bounce_class == "MailboxFull":
            return _soft(history, event, policy)
    return history, ()


def _for_good(
    history: History, event: Feedback, reason: SuppressionReason
) -> tuple[History, tuple[SuppressionSet, ...]]:
    return replace(history, active=reason), (_suppression(event, reason, None),)


def _soft(history: History, event: Feedback, policy: Policy) -> tuple[History, tuple[SuppressionSet, ...]]:
    day = event.occurred_at.date()
    oldest = (day - policy.window).isoformat()
    days = tuple(sorted({one for one in history.soft if one >= oldest} | {day.isoformat()}))
    if len(days) < policy.soft_days:
        return replace(history, soft=days), ()
    until = event.occurred_at + policy.rest
    return replace(history, soft=()), (_suppression(event, SuppressionReason.SOFT_BOUNCES, until),)


def _suppression(event: Feedback, reason: SuppressionReason, until: datetime | None) -> SuppressionSet:
    return SuppressionSet.from_cause(
        f"{reason}/{event.event_id}",
        occurred_at=event.occurred_at,
        tenant=event.tenant,
        recipient_id=event.recipient_id,
        scope="*",
        reason=reason,
        message_id=event.message_id,
        until=until,
    )
