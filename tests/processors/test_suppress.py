"""Which feedback suppresses an address: a table over `decide`, and histories."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from processors.suppress.core import Feedback, History, Policy, decide
from schemas.feedback import BounceReceived, ComplaintKind, ComplaintReceived
from schemas.state import SuppressionReason, SuppressionSet

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
POLICY = Policy(soft_days=3, window=timedelta(days=10), rest=timedelta(days=30))
COMMON = {"message_id": "m", "recipient_id": "r", "recipient_domain": "example.test"}


def bounced(bounce_class: str, disposition: str, day: int = 0, phase: str = "in_session") -> BounceReceived:
    at = START + timedelta(days=day)
    verdict = {"bounce_class": bounce_class, "disposition": disposition, "phase": phase}
    return BounceReceived.from_cause(f"{bounce_class}{day}{phase}", occurred_at=at, **COMMON, **verdict)


def complaint(kind: ComplaintKind) -> ComplaintReceived:
    return ComplaintReceived.from_cause(kind, occurred_at=START, kind=kind, **COMMON)


def folded(events: Sequence[Feedback]) -> tuple[History, list[SuppressionSet]]:
    history, facts = History(), list[SuppressionSet]()
    for event in events:
        history, more = decide(history, event, POLICY)
        facts += more
    return history, facts


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (bounced("InvalidRecipient", "permanent"), SuppressionReason.HARD_BOUNCE),
        (bounced("BadDomain", "permanent"), SuppressionReason.HARD_BOUNCE),
        (bounced("InactiveMailbox", "permanent", phase="async"), SuppressionReason.HARD_BOUNCE),
        (complaint(ComplaintKind.ABUSE), SuppressionReason.COMPLAINT),
        (complaint(ComplaintKind.OTHER), SuppressionReason.COMPLAINT),
        (complaint(ComplaintKind.NOT_SPAM), None),
        (bounced("SpamContent", "permanent"), None),
        (bounced("ReputationBlock", "block"), None),
        (bounced("InvalidRecipient", "undetermined"), None),
        (bounced("MailboxFull", "transient"), None),
    ],
)
def test_what_one_event_does(event: Feedback, reason: SuppressionReason | None) -> None:
    _, facts = folded([event])
    assert [fact.reason for fact in facts] == ([reason] if reason else [])
    assert all(fact.key == "default/*/r" and fact.until is None for fact in facts)


def test_a_redelivered_event_changes_nothing() -> None:
    event = bounced("InvalidRecipient", "permanent")
    once, twice = folded([event]), folded([event, event])
    assert once == twice


def test_a_crash_before_the_state_is_kept_repeats_the_same_facts() -> None:
    event = complaint(ComplaintKind.ABUSE)
    (_, first), (_, again) = decide(History(), event, POLICY), decide(History(), event, POLICY)
    assert [fact.event_id for fact in first] == [fact.event_id for fact in again]


@pytest.mark.parametrize(
    ("days", "suppressed"),
    [((0, 1, 2), True), ((0, 0, 0), False), ((0, 1), False), ((0, 5, 11), False), ((0, 5, 11, 12), True)],
)
def test_full_mailboxes_on_several_days_rest(days: tuple[int, ...], suppressed: bool) -> None:
    _, facts = folded([bounced("MailboxFull", "transient", day) for day in days])
    assert [fact.reason for fact in facts] == ([SuppressionReason.SOFT_BOUNCES] if suppressed else [])
    assert all(fact.until == START + timedelta(days=days[-1] + 30) for fact in facts)


def test_after_its_rest_an_address_starts_anew() -> None:
    history, _ = folded([bounced("MailboxFull", "transient", day) for day in (0, 1, 2)])
    assert history == History()
