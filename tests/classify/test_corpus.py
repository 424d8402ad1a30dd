"""Each mail of the corpus, and the fact that must follow from it."""

from __future__ import annotations

import pytest

from processors.classify.core import decide, read
from processors.classify.findings import Aside
from schemas.codec import encode
from schemas.envelope import Event
from schemas.feedback import BounceReceived, ComplaintReceived, InboundSetAside, ReplyReceived
from schemas.redact import holds_address
from tests.classify.corpus import KEYRING, MESSAGE, NAMES, RECIPIENT, SECRET, inbound, ref, text

UMLAUT = "änne@example.test"
FBL = "fbl@brand.test"


def fact(name: str, *, rcpt_to: str | None = None, mail_from: str = "", recipient: str = RECIPIENT) -> Event:
    mail = inbound(text(name, recipient), rcpt_to, mail_from)
    finding = read(mail, KEYRING)
    return decide(mail, finding, None if isinstance(finding, Aside) else ref(recipient), SECRET)


BOUNCES = {
    # name: class, disposition, code, enhanced, reporting MTA
    "postfix": ("InvalidRecipient", "permanent", 550, "5.1.1", "mx1.example.test"),
    "postfix_expired": ("NoAnswerFromHost", "transient", 0, "4.4.1", "mx1.example.test"),
    "exim": ("InvalidRecipient", "permanent", 550, "5.0.0", "mx2.example.test"),
    "exchange": ("InvalidRecipient", "permanent", 550, "5.1.10", "am6pr05mb1234.eurprd05.prod.example.test"),
    "exchange_full": ("MailboxFull", "transient", 554, "5.2.2", "ex01.corp.example.test"),
    "gmail": ("InvalidRecipient", "permanent", 550, "5.1.1", "googlemail.test"),
    "qmail": ("InvalidRecipient", "permanent", 0, "5.1.1", ""),
    "qmail_remote": ("MailboxFull", "transient", 552, "5.2.2", ""),
    "sendmail": ("InvalidRecipient", "permanent", 550, "5.1.1", "mx3.example.test"),
    "yahoo": ("InvalidRecipient", "permanent", 554, "", ""),
    "domino": ("InvalidRecipient", "permanent", 0, "5.1.1", "hub01.example.test"),
    "apple_block": ("PolicyRelated", "block", 554, "5.7.1", "mr1.icloud.test"),
    "repackaged": ("BlocklistBlock", "block", 554, "5.7.1", "gateway.example.test"),
    "forwarded": ("InvalidRecipient", "undetermined", 0, "5.1.1", "mx1.other.test"),
    "list_members": ("InvalidRecipient", "permanent", 550, "5.1.1", "mx1.example.test"),
    "eai": ("InvalidRecipient", "permanent", 550, "5.1.1", "mx.example.test"),
    "eai_ascii": ("InvalidRecipient", "permanent", 550, "5.1.1", "mx.example.test"),
}


@pytest.mark.parametrize("name", BOUNCES)
def test_a_failure_report_is_one_late_bounce(name: str) -> None:
    event = fact(name, recipient=UMLAUT if name.startswith("eai") else RECIPIENT)
    assert isinstance(event, BounceReceived), event
    found = (event.bounce_class, event.disposition, event.reply_code, event.reply_enhanced, event.reporting_mta)
    assert found == BOUNCES[name]
    assert event.phase == "async"
    assert event.message_id == MESSAGE
    assert (event.stream, event.provider, event.pool, event.tags) == ("marketing", "orchard", "warm", ("letter",))
    assert event.event_id == BounceReceived.from_cause(f"{MESSAGE}/async", occurred_at=event.occurred_at, phase="async",
        bounce_class="", disposition="", message_id="m", recipient_id="r", recipient_domain="d").event_id  # fmt: skip


def test_the_rule_says_that_it_was_another_address() -> None:
    event = fact("forwarded")
    assert isinstance(event, BounceReceived)
    assert event.rule.endswith("/other_address")
    same = fact("postfix")
    assert isinstance(same, BounceReceived)
    assert "other_address" not in same.rule


COMPLAINTS = {
    "arf_yahoo": ("abuse", "arf.mail.yahoo.test", "Yahoo!-Mail-Feedback/2.0"),
    "arf_redacted": ("abuse", "isp.test", "SomeGenerator/1.0 (contact <address>)"),
    "arf_not_spam": ("not-spam", "arf.mail.yahoo.test", "X/1"),
    "jmrp": ("abuse", "hotmail.test", ""),
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_a_complaint_is_tied_by_token(name: str) -> None:
    event = fact(name, rcpt_to=FBL, mail_from="feedback@isp.test")
    assert isinstance(event, ComplaintReceived), event
    assert (event.kind, event.reporter, event.user_agent) == COMPLAINTS[name]
    assert event.message_id == MESSAGE


REPLIES = {
    "out_of_office": "auto_reply",
    "abwesenheit": "auto_reply",
    "absence": "auto_reply",
    "read_receipt": "auto_reply",
    "challenge": "challenge",
    "human": "human",
    "stranger": "undetermined",
}


@pytest.mark.parametrize("name", REPLIES)
def test_an_answer_is_a_reply(name: str) -> None:
    event = fact(name, mail_from="ann@example.test")
    assert isinstance(event, ReplyReceived), event
    assert event.kind == REPLIES[name]
    assert event.message_id == MESSAGE


SET_ASIDE = {
    "postfix_delayed": (None, "a delivery report, but of no failure"),
    "postfix_delivered": (None, "a delivery report, but of no failure"),
    "text_delay": (None, "a bounce without a failure that we can read"),
    "html_only": (None, "a bounce without a failure that we can read"),
    "arf_auth_failure": (FBL, "a report of a failed authentication"),
    "arf_unsigned": (FBL, "a complaint that names no message of ours"),
    "arf_two_messages": (FBL, "a complaint that names several messages"),
}


@pytest.mark.parametrize("name", SET_ASIDE)
def test_what_proves_nothing_is_set_aside(name: str) -> None:
    rcpt_to, reason = SET_ASIDE[name]
    event = fact(name, rcpt_to=rcpt_to)
    assert isinstance(event, InboundSetAside), event
    assert event.reason == reason


def test_every_mail_of_the_corpus_is_expected() -> None:
    assert {*BOUNCES, *COMPLAINTS, *REPLIES, *SET_ASIDE} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_fact_holds_an_address(name: str) -> None:
    for rcpt_to in (None, FBL):
        record = encode(
            fact(name, rcpt_to=rcpt_to, recipient=UMLAUT if name.startswith("eai") else RECIPIENT), source="t"
        )
        shown = record.value.decode().replace("\\", "")
        assert not holds_address(shown), shown
        assert "ann@" not in shown
        assert "änne" not in shown


@pytest.mark.parametrize("name", [*BOUNCES, *REPLIES])
@pytest.mark.parametrize(
    "rcpt_to",
    ["postmaster@brand.test", "abuse@brand.test", "b+a-mfrggzdfmztwq2lknnwg23tpoaytembrgi3tinbtgm@brand.test"],
)
def test_without_a_signed_return_path_no_bounce_and_no_reply(name: str, rcpt_to: str) -> None:
    # Also where the report quotes our mail, with its tokens.
    mail = inbound(text(name), rcpt_to, "ann@example.test")
    assert isinstance(read(mail, KEYRING), Aside)


def test_mail_of_ours_sent_to_postmaster_is_no_complaint() -> None:
    assert isinstance(fact("jmrp", rcpt_to="postmaster@brand.test"), InboundSetAside)
    assert isinstance(fact("jmrp", rcpt_to="Abuse@brand.test"), ComplaintReceived)
