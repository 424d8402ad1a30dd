"""Single rules of reading that the corpus does not bring out."""

from __future__ import annotations

import pytest

from processors.classify.core import decide, read
from processors.classify.findings import Aside, Bounced, Complained, Finding, Replied
from processors.classify.mime import open_mail
from processors.classify.origin import of_return_path, of_unsubscribe_url
from schemas.feedback import BounceReceived, ComplaintReceived, InboundSetAside
from tests.classify.corpus import (
    KEYRING,
    MESSAGE,
    OTHER_MESSAGE,
    RECIPIENT,
    SECRET,
    inbound,
    ref,
    return_path,
    text,
    unsubscribe,
)


def report(fields: str, head: str = "") -> Finding:
    raw = (
        f'{head}Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n--b\n'
        f"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.test\n\n{fields}\n--b--\n"
    )
    return read(inbound(raw.replace("\n", "\r\n").encode()), KEYRING)


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded"])
def test_only_failed_is_a_failure_whatever_the_status(action: str) -> None:
    assert report(f"Action: {action}\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no") == Aside(
        "a delivery report, but of no failure"
    )


def test_a_report_without_a_known_action_is_none() -> None:
    assert isinstance(report("Status: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user"), Aside)
    assert isinstance(report("Action: exploded\nStatus: 5.1.1"), Aside)


@pytest.mark.parametrize(
    ("status", "diagnostic", "code", "enhanced"),
    [
        ("5.1.1", "smtp; 550 5.1.1 unknown", 550, "5.1.1"),
        ("5.0.0", "smtp; 550 5.2.1 disabled", 550, "5.2.1"),  # the reply says more
        ("5.1.1", "smtp; 550 5.7.1 unknown", 550, "5.1.1"),  # the reporter's own judgement
        ("4.4.7", "smtp; 550 5.1.1 unknown", 0, "4.4.7"),  # the milder one
        ("2.0.0", "smtp; 554 no", 554, ""),
        ("5.2.2 (full)", "x-unix; 69", 0, "5.2.2"),
        ("", "550 no such user", 550, ""),
        ("5.1.1", "smtp; host 192.0.2.1 or 5.5.0.1 said nothing", 0, "5.1.1"),
        ("rubbish", "", 0, ""),
        ("5.1.1.1", "smtp; 250 2.0.0 ok", 0, ""),
    ],
)
def test_codes(status: str, diagnostic: str, code: int, enhanced: str) -> None:
    finding = report(f"Action: failed\nStatus: {status}\nDiagnostic-Code: {diagnostic}")
    assert isinstance(finding, Bounced)
    assert (finding.failures[0].code, finding.failures[0].enhanced) == (code, enhanced)


@pytest.mark.parametrize(
    ("final", "disposition"),
    [
        (f"rfc822; {RECIPIENT}", "permanent"),
        (f"RFC822;<{RECIPIENT.upper()}>", "permanent"),  # one person, however written
        ("rfc822; bob@example.test", "undetermined"),
        ("rfc822; ann@other.test", "undetermined"),
        ("rfc822; <bob@example.test>", "undetermined"),
        ("utf-8; \\x{E4}nne@example.test", "undetermined"),
        ("x400; /G=Ann/O=Example", "permanent"),  # names nobody that we know: the token does
        ("rfc822; ann", "permanent"),
    ],
)
def test_a_failure_of_another_address_suppresses_nobody(final: str, disposition: str) -> None:
    finding = report(f"Final-Recipient: {final}\nAction: failed\nStatus: 5.1.1")
    event = decide(inbound(b""), finding, ref(), SECRET)
    assert isinstance(event, BounceReceived)
    assert (event.bounce_class, event.disposition) == ("InvalidRecipient", disposition)


def test_our_recipient_s_failure_is_found_among_others() -> None:
    blocks = [f"Final-Recipient: rfc822; {who}@example.test\nAction: failed\nStatus: 5.{n}.1" for n, who in
              ((2, "bob"), (1, "ann"), (7, "eve"))]  # fmt: skip
    event = decide(inbound(b""), report("\n\n".join(blocks)), ref(), SECRET)
    assert isinstance(event, BounceReceived)
    assert (event.reply_enhanced, event.disposition) == ("5.1.1", "permanent")


def test_the_diagnostic_holds_no_part_of_the_recipient() -> None:
    finding = report(
        "Final-Recipient: rfc822; ann.lee@example.test\nAction: failed\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 5.1.1 mailbox ann.lee unknown"
    )
    event = decide(inbound(b""), finding, ref("ann.lee@example.test"), SECRET)
    assert isinstance(event, BounceReceived)
    assert event.diagnostic == "550 5.1.1 mailbox <address> unknown"


def test_what_no_message_is_known_for_is_set_aside() -> None:
    mail = inbound(text("postfix"))
    event = decide(mail, read(mail, KEYRING), None, SECRET)
    assert isinstance(event, InboundSetAside)
    assert (event.reason, event.sha256) == ("no message of ours is known by that id", mail.sha256)


def test_two_reports_of_one_message_are_one_bounce_and_two_letters_two_replies() -> None:
    def event_id(name: str) -> str:
        mail = inbound(text(name), mail_from="ann@example.test")
        return decide(mail, read(mail, KEYRING), ref(), SECRET).event_id

    assert event_id("postfix") == event_id("exim") == event_id("qmail")
    assert event_id("human") != event_id("stranger")


def test_complaints_differ_by_message_and_kind() -> None:
    def event_id(finding: Finding, message_id: str = MESSAGE) -> str:
        return decide(inbound(b""), finding, ref(message_id=message_id), SECRET).event_id

    abuse = read(inbound(text("arf_yahoo"), "fbl@brand.test"), KEYRING)
    again = read(inbound(text("jmrp"), "fbl@brand.test"), KEYRING)
    wanted = read(inbound(text("arf_not_spam"), "fbl@brand.test"), KEYRING)
    assert event_id(abuse) == event_id(again) != event_id(wanted)
    assert isinstance(decide(inbound(b""), abuse, ref(), SECRET), ComplaintReceived)


def test_a_complaint_sent_to_a_return_path_must_be_of_that_message() -> None:
    assert isinstance(read(inbound(text("arf_yahoo")), KEYRING), Complained)
    elsewhere = read(inbound(text("arf_yahoo"), return_path(OTHER_MESSAGE)), KEYRING)
    assert elsewhere == Aside("a complaint that names several messages")


@pytest.mark.parametrize("kinds", ["", "Feedback-Type: abuse\r\nFeedback-Type: not-spam\r\n"])
def test_a_report_has_one_feedback_type(kinds: str) -> None:
    raw = text("arf_yahoo").replace(b"Feedback-Type: abuse\r\n", kinds.encode())
    assert read(inbound(raw, "fbl@brand.test"), KEYRING) == Aside("a feedback report without one Feedback-Type")


@pytest.mark.parametrize(("written", "kind"), [("Fraud", "fraud"), ("virus", "virus"), ("opt-out", "other")])
def test_feedback_types(written: str, kind: str) -> None:
    raw = text("arf_yahoo").replace(b"Feedback-Type: abuse", f"Feedback-Type: {written}".encode())
    finding = read(inbound(raw, "fbl@brand.test"), KEYRING)
    assert isinstance(finding, Complained)
    assert finding.kind == kind


@pytest.mark.parametrize(
    ("notice", "bounced"),
    [
        ("<ann@example.test>:\n550 5.1.1 no such user\n", True),
        ("Remote host said: 550 no such user\n", True),
        ("Error: 550 no such user\n", True),
        ("We sold 550 pieces of it.\n", False),
        ("--- Below this line is a copy of the message.\n\n550 5.1.1 no\n", False),
        ("Return-Path: <x@y.test>\nX: (#5.1.1)\n", False),
        ("Remote host said: 451 4.3.0 later. Message will be retried.\n", False),
        ("Remote host said: 451 4.3.0 later\n", False),  # no word of giving up
        ("I've given up. Remote host said: 451 4.3.0 later\n", True),
        ("host 10.5.1.1 was not reached\n", False),
        ("2.0.0 ok\n", False),
    ],
)
def test_bounces_in_plain_words_need_a_code_and_an_end(notice: str, bounced: bool) -> None:
    raw = f"From: MAILER-DAEMON@mx.example.test\nSubject: failure notice\n\n{notice}".replace("\n", "\r\n").encode()
    assert isinstance(read(inbound(raw), KEYRING), Bounced if bounced else Aside)


def test_only_a_mail_system_bounces_in_plain_words() -> None:
    body = b"\r\n\r\nRemote host said: 550 5.1.1 no such user\r\n"
    person = b"From: Ann <ann@example.test>\r\nSubject: failure notice"
    assert read(inbound(person + body, mail_from="ann@example.test"), KEYRING) == Replied(MESSAGE, "undetermined")
    assert isinstance(read(inbound(person + body, mail_from=""), KEYRING), Bounced)
    away = b"From: Ann <ann@example.test>\r\nAuto-Submitted: auto-replied\r\nSubject: Re: Spring"
    assert read(inbound(away + body, mail_from=""), KEYRING) == Replied(MESSAGE, "auto_reply")


def test_a_person_s_answer_to_our_own_words_is_no_challenge() -> None:
    def kind(subject: str) -> str:
        raw = f"From: <ann@example.test>\r\nSubject: {subject}\r\n\r\nYes".encode()
        finding = read(inbound(raw, mail_from="ann@example.test"), KEYRING)
        assert isinstance(finding, Replied)
        return finding.kind

    assert kind("Re: Please confirm your address") == "human"
    assert kind("Please confirm your message") == "challenge"
    assert kind("AW: Angebote") == "human"


@pytest.mark.parametrize("field", ["Auto-Submitted: no", "Auto-Submitted: auto-generated; x", "Precedence: bulk"])
def test_rfc_3834_says_who_is_automatic(field: str) -> None:
    raw = f"From: <ann@example.test>\r\nSubject: Re: x\r\n{field}\r\n\r\nYes".encode()
    finding = read(inbound(raw, mail_from="ann@example.test"), KEYRING)
    assert finding == Replied(MESSAGE, "human" if field.endswith("no") else "auto_reply")


def test_tokens_are_found_as_others_write_them() -> None:
    address = return_path()
    for written in (address, f"<{address}>", f"rfc822;{address}", address.upper(), f"x@y.test, {address}"):
        assert of_return_path(written, KEYRING) == MESSAGE
    for spoilt in (f"x{address}", address[:-40] + "a" + address[-39:], address.replace("b+", "b-"), "b+@", ""):
        assert of_return_path(spoilt, KEYRING) is None
    url = unsubscribe()
    assert of_unsubscribe_url(f"<{url[:60]}\r\n {url[60:]}>", KEYRING) is not None  # folded within
    assert of_unsubscribe_url(url.replace("/u/", "/o/"), KEYRING) is None  # a pixel's place
    assert of_unsubscribe_url(url[:-1], KEYRING) is None


def test_the_search_for_tokens_ends() -> None:
    forged = "b+a-" + "a" * 52 + "@x.test "
    assert of_return_path(forged * 4 + return_path(), KEYRING) == MESSAGE
    assert of_return_path(forged * 5 + return_path(), KEYRING) is None


def test_parts() -> None:
    raw = (
        b'Content-Type: multipart/mixed; boundary="a"\r\n\r\npreamble\r\n--a\r\n\r\none\r\n--a \t\r\n'
        b'Content-Type: multipart/alternative; boundary="ab"\r\n\r\n--ab\r\n\r\ntwo\r\n--abc\r\n--ab--\r\nlost'
        b"\r\n--a\r\nContent-Type: TEXT/Html; charset=x\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n"
        b"thr=65e\r\n--a--\r\nend"
    )
    parts = open_mail(raw).parts
    assert [(part.kind, part.text()) for part in parts] == [
        ("text/plain", "one"),
        ("text/plain", "two\n--abc"),
        ("text/html", "three"),
    ]


def test_encoded_words_and_folding() -> None:
    headers = open_mail(
        b"Subject: =?utf-8?Q?R=C3=A9?=\r\n =?iso-8859-1?b?6Q==?= x =?bad?x?y?=\r\nX : 1\r\nX: 2\r\n\r\n"
    ).headers
    assert headers.text("subject") == "Réé x =?bad?x?y?="
    assert headers.all("x") == ["1", "2"]
