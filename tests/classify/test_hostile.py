"""Whatever comes by mail, reading it is bounded, ends in one fact, and names no message without its token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.classify import mime
from processors.classify.core import decide, read
from processors.classify.findings import Aside, Bounced, Finding
from schemas.codec import decode, encode
from schemas.redact import holds_address
from tests.classify.corpus import KEYRING, MESSAGE, NAMES, OTHER_MESSAGE, SECRET, inbound, ref, text

CORPUS = {name: text(name) for name in NAMES}
SIZE = 512 * 1024
REPORT = b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'


def understood(raw: bytes, rcpt_to: str | None = None) -> Finding:
    """The finding, having checked what holds for every mail."""
    mail = inbound(raw, rcpt_to)
    finding = read(mail, KEYRING)
    for known in (None, ref()):
        event = decide(mail, finding, known, SECRET)
        record = encode(event, source="classify")
        assert decode(record.value, record.headers) == event
        assert len(record.value) < 4_096
        shown = event.model_dump(exclude={"event_id", "message_id"})
        assert not any(isinstance(value, str) and holds_address(value) for value in shown.values())
    assert isinstance(finding, Aside) or finding.message_id in (MESSAGE, OTHER_MESSAGE)
    return finding


def reason(raw: bytes) -> str:
    finding = understood(raw)
    assert isinstance(finding, Aside), finding
    return finding.reason


edits = st.lists(
    st.tuples(
        st.sampled_from(["cut", "repeat", "put", "swap", "drop_line"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 200),
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [b"\r\n", b"\r\n\r\n", b"--", b'"', b"=?utf-8?b?", b"\x00", b"\xff", b": ", b"Action: failed\r\n",
                 b"Content-Type: multipart/mixed; boundary=x\r\n", b"Content-Transfer-Encoding: base64\r\n",
                 b"; boundary=", b"charset=unicode_escape", b"\\x{D800}", b"utf-8;", b"@", b"b+a-"]
            ),
        ),
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


def edited(raw: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    for how, where, length, piece in changes:
        at = int(where * len(raw))
        match how:
            case "cut":
                raw = raw[:at] + raw[at + length :]
            case "repeat":
                raw = raw[:at] + raw[at : at + length] * 3 + raw[at + length :]
            case "put":
                raw = raw[:at] + piece + raw[at:]
            case "swap":
                raw = raw[:at] + raw[at : at + length][::-1] + raw[at + length :]
            case _:
                end = raw.find(b"\n", at)
                raw = raw[: raw.rfind(b"\n", 0, at) + 1] + (raw[end + 1 :] if end >= 0 else b"")
    return raw


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), edits, st.sampled_from([None, "fbl@brand.test"]))
def test_spoilt_reports(name: str, changes: list[tuple[str, float, int, bytes]], rcpt_to: str | None) -> None:
    understood(edited(CORPUS[name], changes), rcpt_to)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2_000))
def test_any_bytes(raw: bytes) -> None:
    understood(raw)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(NAMES), edits)
def test_without_a_token_nothing_is_tied(name: str, changes: list[tuple[str, float, int, bytes]]) -> None:
    unsigned = CORPUS[name].replace(b"b+a-", b"b+z-").replace(b"/u/a-", b"/u/z-")
    assert isinstance(understood(edited(unsigned, changes), "fbl@brand.test"), Aside)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(NAMES), edits)
def test_a_bounce_says_so_by_action_or_by_code(name: str, changes: list[tuple[str, float, int, bytes]]) -> None:
    raw = edited(CORPUS[name], changes)
    finding = understood(raw)
    if isinstance(finding, Bounced):
        parts = mime.open_mail(raw).parts
        quoted = b"\n".join(part.content() for part in parts).lower()
        assert b"failed" in quoted or any(failure.code or failure.enhanced for failure in finding.failures)


def nested(levels: int) -> bytes:
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level) for level in range(levels)
    )
    return head + b"Content-Type: message/delivery-status\r\n\r\nAction: failed\r\n"


def test_nesting_is_followed_a_few_levels_only() -> None:
    assert isinstance(understood(nested(mime.MAX_DEPTH)), Bounced)
    assert not isinstance(understood(nested(mime.MAX_DEPTH + 1)), Bounced)
    assert not isinstance(understood(nested(10_000)), Bounced)


def test_attached_messages_are_not_opened() -> None:
    attached = b"".join(b"Content-Type: message/rfc822\r\n\r\n" for _ in range(10_000))
    assert not isinstance(understood(attached + CORPUS["postfix"]), Bounced)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (REPORT + b"--b\r\n\r\n\r\n" * 100_000, "more than 50 parts"),
        (REPORT + b"--bx\r\n" * 80_000, "too many lines that look like a boundary"),
        (b"X: y\r\n" * 501 + b"\r\n", "more than 500 header fields"),
        (b"X: " + b"y" * 70_000 + b"\r\n\r\n", "more than 65536 bytes of header"),
        (b"X: y\r\n" + b" folded\r\n" * 60_000, "more than 65536 bytes of header"),
        (
            REPORT + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + b"X: y\r\n" * 600,
            "more than 500 header fields",
        ),
    ],
)
def test_what_exceeds_a_limit_is_set_aside(raw: bytes, why: str) -> None:
    assert reason(raw[:SIZE]) == why


@pytest.mark.parametrize(
    "raw",
    [
        REPORT,
        REPORT + b"--b--\r\n",
        REPORT.replace(b'boundary="b"', b"") + CORPUS["postfix"],
        REPORT.replace(b'"b"', b'"' + b"b" * 5_000 + b'"') + b"--" + b"b" * 5_000,
        REPORT.replace(b'"b"', b'"' + b'\\"' * 400),
        REPORT + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + b"Action: failed\r\nbroken" * 0,
        b"Content-Type: ;" + b";a=" * 300 + b'"' * 300 + b"\r\n\r\n",
        b"From: postmaster@x.test\r\nSubject: " + b"=?" * 450 + b"\r\n\r\n" + b"4" * SIZE,
        b"From: postmaster@x.test\r\n\r\n" + b"costs 550 " * 50_000,
        b"From: postmaster@x.test\r\n\r\n" + b"a.a@a." * 80_000,
        b"From: " + b"@" * 60_000 + b"\r\n\r\n",
        b"\r\n" * 200_000,
        b"",
    ],
    ids=range(13),
)
def test_what_is_broken_is_read_as_far_as_it_goes(raw: bytes) -> None:
    assert not isinstance(understood(raw[:SIZE]), Bounced)


def test_a_flood_of_groups_and_failures_is_cut() -> None:
    group = b"Final-Recipient: rfc822; x%d@example.test\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
    status = b"Reporting-MTA: dns; mx.example.test\r\n\r\n" + b"".join(group % number for number in range(10_000))
    finding = understood((REPORT + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + status)[:SIZE])
    assert isinstance(finding, Bounced)
    assert len(finding.failures) == 20


@pytest.mark.parametrize("charset", ["unicode_escape", "idna", "punycode", "utf-7", "zlib", "iso-8859-99", "x" * 900])
def test_strange_charsets_are_read_as_utf_8(charset: str) -> None:
    raw = b"From: MAILER-DAEMON@x.test\r\nContent-Type: text/plain; charset=%b\r\n\r\n550 5.1.1 no such user\r\n"
    finding = understood(raw % charset.encode())
    assert isinstance(finding, Bounced)
    assert finding.failures[0].text == "550 5.1.1 no such user"


@pytest.mark.parametrize("body", [b"!!!!", b"A", b"QUI", b"=" * 900, b"\xff\xfe", b"NTUwIDUuMS4xIG5v\x00IHN1Y2g"])
def test_broken_base64_is_no_harm(body: bytes) -> None:
    head = b"From: MAILER-DAEMON@x.test\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    understood(head + body)
    whole = understood(head + b"NTUwIDUuMS4xIG5vIHN1Y2ggdXNlcg" + body[:0])
    assert isinstance(whole, Bounced)
    assert whole.failures[0].text == "550 5.1.1 no such user"


def test_a_report_s_header_cannot_reach_into_a_fact() -> None:
    status = (
        b"Reporting-MTA: dns; mx.example.test\x00evil <ann@example.test>\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        b"Diagnostic-Code: smtp; 550 5.1.1 \x1b[31m<ann@example.test>\x00\xe2\x80\xae no such user\r\n"
        b"\tBcc: x@y.test\r\n"
    )
    mail = inbound(REPORT + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + status)
    event = decide(mail, read(mail, KEYRING), ref(), SECRET).model_dump()
    assert event["reporting_mta"] == ""
    assert event["diagnostic"] == "550 5.1.1 [31m<address> no such user Bcc: <address>"
