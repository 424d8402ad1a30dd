"""Complete messages from apps: which are taken, which refused, and that the standard library reads them alike."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.utils import parseaddr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rules import raw_mail
from schemas.rules.raw_mail import RawMailError, decoded_raw, read_raw

FROM = b"From: News <news@brand.test>\r\n"
GOOD = FROM + b"To: ann@example.test\r\nSubject: Hello\r\n there\r\nMIME-Version: 1.0\r\n\r\nHi\r\n"


def test_fields_and_body_are_told_apart() -> None:
    mail = read_raw(GOOD)
    assert [field.name for field in mail.fields] == ["from", "to", "subject", "mime-version"]
    assert mail.fields[2].value == "Hello there"
    assert mail.fields[2].data == b"Subject: Hello\r\n there\r\n"
    assert mail.body == b"Hi\r\n"
    assert str(mail.from_) == "news@brand.test"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (GOOD.replace(b"\r\n", b"\n"), b"Hi\r\n"),  # a Unix file
        (FROM + b"\r\n", b"\r\n"),
        (FROM, b"\r\n"),
        (FROM.rstrip(), b"\r\n"),
        (FROM + b"\r\nHi", b"Hi\r\n"),
        (FROM + b"\r\n\r\n\r\nHi\r\n\r\n", b"\r\n\r\nHi\r\n\r\n"),
        (FROM + b"\r\n" + b"x" * 998 + b"\r\n", b"x" * 998 + b"\r\n"),
        (FROM + b"\r\n\xc3\xa9\r\n", b"\xc3\xa9\r\n"),
    ],
)
def test_line_ends_are_crlf_and_the_rest_is_as_it_was(data: bytes, body: bytes) -> None:
    assert read_raw(data).body == body


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"news@brand.test", "news@brand.test"),
        (b"<news@brand.test>", "news@brand.test"),
        (b'"News, daily" <news@brand.test>', "news@brand.test"),
        (b"=?utf-8?q?Zo=C3=AB?= <news@brand.test>", "news@brand.test"),
        (b"News\r\n <news@BRAND.test>", "news@brand.test"),
        (b'"<a@b.test>" <news@brand.test>', "news@brand.test"),
    ],
)
def test_the_from_is_one_mailbox(value: bytes, address: str) -> None:
    assert str(read_raw(b"From: " + value + b"\r\n\r\nHi\r\n").from_) == address


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no From"),
        (b"\r\n", "no From"),
        (b"\r\n" + GOOD, "no From"),
        (b"To: a@b.test\r\n\r\n", "no From"),
        (b"Sender: news@brand.test\r\n\r\n", "no From"),
        (FROM + FROM + b"\r\n", "line 2: a field for the second time"),
        (FROM + b"fRoM: x@y.test\r\n\r\n", "line 2: a field for the second time"),
        (FROM + b"Subject: a\r\nTo: b@c.test\r\nsubject: b\r\n\r\n", "line 4: a field for the second time"),
        (FROM + b"Sender: x@y.test\r\n\r\n", "From and Sender are of different domains"),
        (b"From: a@b.test, c@b.test\r\n\r\n", "from: "),
        (b"From: A <a@b.test>, C <c@d.test>\r\n\r\n", "from: "),
        (b"From: <a@b.test> <c@d.test>\r\n\r\n", "from: "),
        (b"From: a@b.test (c@d.test)\r\n\r\n", "from: "),
        (b"From: group: a@b.test;\r\n\r\n", "from: "),
        (b"From:\r\n\r\n", "from: "),
        (b'From: "a@b.test\r\n\r\n', "from: "),
        (b"From : news@brand.test\r\n\r\n", "line 1: not a header field"),
        (b"From news@brand.test Sun Nov 22\r\n" + GOOD, "line 1: not a header field"),
        (FROM + b"nonsense\r\n\r\n", "line 2: not a header field"),
        (FROM + b": x\r\n\r\n", "line 2: not a header field"),
        (b" folded\r\n" + GOOD, "line 1: a continuation"),
        (FROM + b"X-A: b\r\n \t\r\nBcc: c@d.test\r\n\r\n", "line 3: a continuation"),
        (FROM + b"Subject: \xc3\xa9\r\n\r\n", "line 2: a header field that is not ASCII"),
        (FROM + b"Subject: a\x1bb\r\n\r\n", "line 2: a control character"),
        (FROM + b"\r\na\0b\r\n", "line 3: NUL"),
        (FROM + b"\r\na\nb\r\n", "line 3: a bare CR or LF"),
        (FROM + b"\r\na\rb\r\n", "line 3: a bare CR or LF"),
        (FROM + b"\r\na\n\rb\r\n", "line 3: a bare CR or LF"),
        (FROM + b"\r\na\r\r\nb\r\n", "line 3: a bare CR or LF"),
        (b"From: news@brand.test\r\rHi", "line 1: a bare CR or LF"),
        (FROM + b"\r\nHi\r\n" + b"x" * 999 + b"\r\n", "line 4: more than 998 bytes"),
        (FROM + b"X-A: " + b"x" * 999 + b"\r\n\r\n", "line 2: more than 998 bytes"),
        (FROM + b"X-A: b\r\n" * 200 + b"\r\n", "more than 200 header fields"),
        (FROM + (b"X-A: " + b"x" * 900 + b"\r\n") * 80 + b"\r\n", "a header of more than 65536 bytes"),
    ],
)
def test_what_readers_could_disagree_on_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(RawMailError) as raised:
        read_raw(data)
    assert str(raised.value).startswith(said)


def test_a_message_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_mail, "RAW_MAX", 100)
    with pytest.raises(RawMailError, match="at most 100"):
        read_raw(FROM + b"\r\n" + b"x" * 100)


def test_an_error_quotes_nothing() -> None:
    with pytest.raises(RawMailError) as raised:
        read_raw(b"From: zoe@example.test, bob@example.test\r\n\r\n")
    assert "zoe" not in str(raised.value)


@pytest.mark.parametrize("text", ["é", "a", "QUJD\n", "QUJ", "Q U"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(RawMailError, match="base64"):
        decoded_raw(text)


PIECES = st.sampled_from(
    [
        *(b"From:", b" a@b.test", b"Sender: c@b.test", b"From: a@b.test\r\n", b"To: x@y.test", b"Bcc: z@y.test"),
        *(b"Subject: s", b"=?utf-8?q?a?=", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t"),
        *(b":", b"<", b">", b'"', b",", b"\xff"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=24).map(b"".join))
def test_whatever_is_taken_reads_the_same_to_the_standard_library(data: bytes) -> None:
    try:
        mail = read_raw(data)
    except RawMailError:
        return
    whole = b"".join(field.data for field in mail.fields) + b"\r\n" + mail.body
    theirs = message_from_bytes(whole, policy=policy.compat32)
    assert [name.lower() for name in theirs.keys()] == [field.name for field in mail.fields]  # noqa: SIM118
    assert parseaddr(str(theirs["From"]))[1] == str(mail.from_)
    assert b"\0" not in whole
    assert b"\n" not in whole.replace(b"\r\n", b"")
    assert read_raw(whole) == mail
