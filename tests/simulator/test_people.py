"""What people and machines will do: the plan, and the reports that providers write."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from email.policy import default

import pytest

from pipeline.simulator.config import ComplaintsTo, DsnShape, People, load
from pipeline.simulator.people import Kind, plan
from pipeline.simulator.reading import read
from pipeline.simulator.reports import Reporter, Subject, bounce, complaint
from tests.simulator.conftest import NEWSLETTER

ABOUT = Subject("bounce+token@brand.test", "ann@p.test", NEWSLETTER, 1_790_000_000.0)
BY = Reporter("mx.p.test", "dsn-1-0", 1_790_000_060.0)


@pytest.mark.parametrize(
    ("localpart", "kinds"),
    [
        ("accept", []),
        ("late", [Kind.DSN]),
        ("complaint+3", [Kind.COMPLAINT]),
        ("open", [Kind.OPEN]),
        ("click", [Kind.OPEN, Kind.CLICK]),
        ("unsubscribe", [Kind.UNSUBSCRIBE]),
        ("bounce", []),
        ("ann", []),
    ],
)
def test_magic_names_do_what_they_say_and_nothing_else(localpart: str, kinds: list[Kind]) -> None:
    assert [deed.kind for deed in plan(1, People(), "p.test", localpart, "s")] == kinds


def test_a_forced_complaint_arrives_also_from_a_provider_that_reports_to_nobody() -> None:
    people = People(complaints=1.0, complaints_to=ComplaintsTo.NOBODY)
    assert [deed.to for deed in plan(1, people, "p.test", "complaint", "s")] == [ComplaintsTo.RETURN_PATH]
    assert plan(1, people, "p.test", "ann", "s") == ()


def test_a_plan_follows_from_seed_mailbox_and_subject() -> None:
    people = People(opens=0.5, clicks=0.5, prefetch=0.5, scans=0.5, unsubscribes=0.5)

    def plans(seed: int, subject: str) -> list[object]:
        return [plan(seed, people, "p.test", f"person{n}", subject) for n in range(100)]

    assert plans(1, "s") == plans(1, "s")
    assert plans(1, "s") != plans(2, "s")
    assert plans(1, "s") != plans(1, "t")


def test_who_clicks_has_opened_and_who_bounced_reads_nothing() -> None:
    people = People(opens=0.5, clicks=0.5, late_bounces=0.3, scans=1.0)
    for n in range(300):
        deeds = plan(1, people, "p.test", f"person{n}", "s")
        kinds = [deed.kind for deed in deeds]
        if Kind.CLICK in kinds:
            assert kinds.index(Kind.OPEN) < kinds.index(Kind.CLICK)
        if Kind.DSN in kinds:
            assert kinds == [Kind.DSN]
        assert [deed.delay for deed in deeds] == sorted(deed.delay for deed in deeds)


def test_nobody_reacts_at_the_sample_domain() -> None:
    internet = load()
    sample = internet.provider_of(internet.general.sample_domain)
    assert sample is not None
    assert not any(plan(1, sample.people, "example.test", f"person{n}", "s") for n in range(500))


def inside(message: Message) -> list[Message]:
    """The parts of a multipart or of a message part."""
    found = message.get_payload()
    assert isinstance(found, list)
    return [part for part in found if isinstance(part, Message)]


@pytest.mark.parametrize("shape", [shape for shape in DsnShape if shape is not DsnShape.QMAIL])
def test_a_standard_bounce_is_read_by_an_independent_parser(shape: DsnShape) -> None:
    report = bounce(shape, "5.2.2", ABOUT, BY)
    message = message_from_bytes(report, policy=default)
    assert message.defects == []
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["To"] == "bounce+token@brand.test"
    assert message["Auto-Submitted"] == "auto-replied"
    text, status, original = inside(message)
    assert b"ann@p.test" in text.get_payload(decode=True)
    about_message, about_recipient = inside(status)
    assert about_message["Reporting-MTA"] == "dns; mx.p.test"
    assert about_recipient["Final-Recipient"] == "rfc822; ann@p.test"
    assert (about_recipient["Action"], about_recipient["Status"]) == ("failed", "5.2.2")
    assert original.get_content_type() == "text/rfc822-headers"
    assert b"X-Mailriver-ID: id-1" in report
    assert report.count(b"\r\n") == report.count(b"\n") == report.count(b"\r")
    assert report.isascii()


def test_a_delay_is_reported_as_one() -> None:
    assert b"Action: delayed\r\nStatus: 4.4.1" in bounce(DsnShape.POSTFIX, "4.4.1", ABOUT, BY)


def test_the_qmail_bounce_is_plain_text() -> None:
    message = message_from_bytes(bounce(DsnShape.QMAIL, "5.1.1", ABOUT, BY), policy=default)
    assert message.get_content_type() == "text/plain"
    assert "<ann@p.test>:" in message.get_content()
    assert "X-Mailriver-ID: id-1" in message.get_content()


def test_a_complaint_is_a_feedback_report() -> None:
    message = message_from_bytes(complaint(ABOUT, "abuse@brand.test", BY, redacts=False), policy=default)
    assert message.defects == []
    assert message.get_param("report-type") == "feedback-report"
    _, feedback, original = inside(message)
    assert feedback.get_content_type() == "message/feedback-report"
    text = feedback.as_string()
    assert "Feedback-Type: abuse" in text
    assert "Original-Mail-From: <bounce+token@brand.test>" in text
    assert "Original-Rcpt-To: <ann@p.test>" in text
    assert inside(original)[0]["X-Mailriver-ID"] == "id-1"


def test_a_redacted_complaint_does_not_name_the_person() -> None:
    about = Subject(ABOUT.mail_from, "somebody@example.test", NEWSLETTER, ABOUT.arrived)
    report = complaint(about, "abuse@brand.test", BY, redacts=True)
    assert b"somebody@example.test" not in report
    assert b"X-Mailriver-ID: id-1" in report


def test_a_hostile_subject_cannot_add_a_header_to_a_report() -> None:
    raw = b"Subject: a\x00\x1b[2Jb\rBcc: victim@brand.test\r\n\r\n"
    for report in (
        bounce(DsnShape.EXCHANGE, "5.1.1", Subject("a@b.test", "x@p.test", raw, 0.0), BY),
        complaint(Subject("a@b.test", "x@p.test", raw, 0.0), "a@b.test", BY, redacts=False),
    ):
        message = message_from_bytes(report)
        assert message["Bcc"] is None
        assert message["Subject"].isprintable()


def test_a_letter_is_read_as_its_reader_sees_it() -> None:
    letter = read(NEWSLETTER)
    assert letter.links == ("https://track.brand.test/c/1/abc%2Fdef?n=1&m=2", "https://track.brand.test/c/2/abc")
    assert letter.images == ("https://track.brand.test/o/pixel.gif",)
    assert letter.one_click == "https://track.brand.test/u/tok%2Fen?x=1"


@pytest.mark.parametrize(
    "header",
    [b"", b"List-Unsubscribe-Post: yes\r\n", b"List-Unsubscribe-Post: List-Unsubscribe=One-Click; x\r\n"],
)
def test_without_its_exact_header_there_is_no_one_click(header: bytes) -> None:
    # RFC 8058 section 3.1.
    raw = b"List-Unsubscribe: <https://t.test/u>\r\n" + header + b"\r\n"
    assert read(raw).one_click == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\nContent-Type: multipart/mixed\r\n" * 3000,
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2000)),
        b"Content-Type: text/html; charset=no-such\r\n\r\n<a href='https:\xff//a.test/'>",
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
        b"Content-Type: text/html\r\n\r\n" + b"<" * 100_000,
        b"Content-Type: text/html\r\n\r\n" + b"<a href=javascript:alert(1)><a href='https://a.test/ x'>",
    ],
)
def test_hostile_mail_is_read_without_harm(raw: bytes) -> None:
    assert read(raw).links == ()


def test_a_flood_of_links_is_bounded() -> None:
    raw = b"Content-Type: text/html\r\n\r\n" + b"".join(b"<a href='https://a.test/%d'>" % n for n in range(5000))
    assert len(read(raw).links) == 100
