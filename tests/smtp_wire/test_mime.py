from __future__ import annotations

from binascii import a2b_qp
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.utils import getaddresses, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.address import Address, Mailbox
from sinks.smtp import mime

# Everything that may stand in a header value, and what makes trouble in it.
VISIBLE = st.text(
    st.one_of(
        st.sampled_from(" =?_.\"\\<>,;:()@'&éßΩ漢😀-"),
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\x85"),
    ),
    max_size=120,
)
ANN = Address("ann", "example.test")


def parsed(block: bytes) -> EmailMessage:
    message = message_from_bytes(block + b"\r\n", policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def read(field: bytes, name: str) -> str:
    """The value as the older, lenient reader of the standard library sees it: the newer one reformats."""
    raw: Message = message_from_bytes(field + b"\r\n", policy=policy.compat32)
    assert raw.keys() == [name]
    value = str(raw[name]).replace("\r\n", "")
    return str(make_header(decode_header(value)))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("Hello", b"Subject: Hello\r\n"),
        ("", b"Subject: \r\n"),
        ("Grüße aus Köln", b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=\r\n"),
        ("漢字", b"Subject: =?utf-8?b?5ryi5a2X?=\r\n"),
        ("say =?utf-8?q?hi?=", b"Subject: =?utf-8?q?say_=3D=3Futf-8=3Fq=3Fhi=3F=3D?=\r\n"),
        ("a\tb", b"Subject: a b\r\n"),
        ("x" * 40 + " " + "y" * 40, b"Subject: " + b"x" * 40 + b"\r\n " + b"y" * 40 + b"\r\n"),
    ],
)
def test_a_subject_on_the_wire(text: str, field: bytes) -> None:
    assert mime.unstructured("Subject", text) == field


@given(VISIBLE)
def test_a_subject_reads_as_it_was_written(text: str) -> None:
    field = mime.unstructured("Subject", text)
    assert read(field, "Subject").strip(" ") == text.strip(" ")
    assert all(len(line) <= 78 or b" " not in line[9:].strip() for line in field.split(b"\r\n"))


@given(VISIBLE)
def test_encoded_words_fit_their_lines(text: str) -> None:
    for line in mime.unstructured("Subject", "é" + text).split(b"\r\n"):
        assert len(line) <= 76
        assert all(len(word) <= 75 for word in line.split(b" "))


@pytest.mark.parametrize(
    "bad", ["\r", "\n", "\r\nBcc: x@y.test", "\0", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028"]
)
def test_what_could_end_a_line_is_refused(bad: str) -> None:
    with pytest.raises(mime.MimeError) as caught:
        mime.unstructured("Subject", f"Hello{bad}there")
    assert "Hello" not in str(caught.value)
    with pytest.raises(mime.MimeError):
        mime.mailboxes("To", [Mailbox(f"Ann{bad}", ANN)])
    with pytest.raises(mime.MimeError):
        mime.structured("List-Unsubscribe", [f"<https://x.test/{bad}>"])


def test_half_a_character_is_refused() -> None:
    with pytest.raises(mime.MimeError):
        mime.unstructured("Subject", "\ud800")


def test_a_word_longer_than_a_line_is_carried_in_pieces() -> None:
    field = mime.unstructured("Subject", "x" * 3000)
    assert max(map(len, field.split(b"\r\n"))) <= 76
    assert read(field, "Subject") == "x" * 3000


def test_a_token_is_never_cut() -> None:
    with pytest.raises(mime.MimeError):
        mime.structured("List-Unsubscribe", ["<https://x.test/" + "a" * 1000 + ">"])
    with pytest.raises(mime.MimeError):
        mime.structured("Feedback-ID", ["a b"])


@pytest.mark.parametrize(
    ("box", "field"),
    [
        (Mailbox("", ANN), b"To: ann@example.test\r\n"),
        (Mailbox("Ann Lee", ANN), b"To: Ann Lee <ann@example.test>\r\n"),
        (Mailbox("Brand, Inc.", ANN), b'To: "Brand, Inc." <ann@example.test>\r\n'),
        (Mailbox('A "B" \\', ANN), b'To: "A \\"B\\" \\\\" <ann@example.test>\r\n'),
        (Mailbox("Zoë", ANN), b"To: =?utf-8?q?Zo=C3=AB?= <ann@example.test>\r\n"),
        (Mailbox("", Address("a b", "x.test")), b'To: "a b"@x.test\r\n'),
        (Mailbox("", Address("ü", "x.test")), "To: ü@x.test\r\n".encode()),
    ],
)
def test_a_mailbox_on_the_wire(box: Mailbox, field: bytes) -> None:
    assert mime.mailboxes("To", [box]) == field


@given(st.lists(VISIBLE, min_size=1, max_size=4))
def test_names_of_mailboxes_add_no_address(names: list[str]) -> None:
    boxes = [Mailbox(name, Address(f"user{at}", "example.test")) for at, name in enumerate(names)]
    raw = str(message_from_bytes(mime.mailboxes("To", boxes) + b"\r\n", policy=policy.compat32)["To"])
    assert [address for _, address in getaddresses([raw])] == [str(box.address) for box in boxes]


def test_no_mailbox_is_no_field() -> None:
    with pytest.raises(mime.MimeError):
        mime.mailboxes("To", [])


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), st.integers(-12, 12))
def test_a_date_reads_as_it_was_written(moment: datetime, offset: int) -> None:
    aware = moment.replace(microsecond=0, tzinfo=timezone(timedelta(hours=offset)))
    field = mime.date("Date", aware).decode()
    assert parsedate_to_datetime(field.removeprefix("Date: ").strip()) == aware.astimezone(UTC)


@given(st.text(max_size=300))
def test_both_encodings_of_text_decode_to_it(text: str) -> None:
    data = mime.crlf(text)
    encoders: dict[str, Callable[[bytes], bytes]] = {"quoted-printable": mime.quoted_printable, "base64": mime.base64}
    for encoding, encode in encoders.items():
        part = parsed(f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n".encode())
        part.set_payload(encode(data).decode("ascii"))
        assert part.get_payload(decode=True) == data
        assert max(map(len, encode(data).split(b"\r\n"))) <= 76


@pytest.mark.parametrize("last", ["", "x", "é"])
@pytest.mark.parametrize("length", range(60, 90))
def test_a_soft_line_break_fits_after_any_piece(length: int, last: str) -> None:
    data = ("é" + "x" * length + last).encode()
    coded = mime.quoted_printable(data)
    assert max(map(len, (coded + b"=").split(b"\r\n"))) <= 76
    assert a2b_qp(coded + b"=\r\n" + b"next") == data + b"next"


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb"])
def test_every_line_end_becomes_crlf(text: str) -> None:
    assert mime.crlf(text) == b"a\r\nb"


@pytest.mark.parametrize("data", [b"\x80", b"\0", b"--=_x", b"\x1b"])
def test_what_cannot_stand_as_it_is(data: bytes) -> None:
    assert not mime.is_plain(data)


@given(st.lists(st.integers(0, 2200), max_size=8), st.booleans())
def test_short_lines_are_told_from_long_ones(lengths: list[int], ended: bool) -> None:
    data = b"\r\n".join(b"x" * length for length in lengths) + b"\r\n" * ended
    assert mime.has_short_lines(data) == (max(map(len, data.split(b"\r\n"))) <= mime.LINE_MAX)


@pytest.mark.parametrize("length", [997, 998, 999, 1000])
@pytest.mark.parametrize("before", [b"", b"x\r\n", b"y" * 998 + b"\r\n"])
def test_the_longest_line_is_998(length: int, before: bytes) -> None:
    for end in (b"", b"\r\n", b"\r\nz\r\n"):
        assert mime.has_short_lines(before + b"x" * length + end) == (length <= 998)


class TestTheLastLook:
    NAMES = (b"From", b"Subject")
    HEADERS = b"From: a@b.test\r\nSubject: x\r\n y\r\n"

    def look(self, headers: bytes, body: bytes) -> None:
        mime.require_fields(headers, self.NAMES)
        mime.require_lines("body", body)

    def test_the_message_that_was_meant_passes(self) -> None:
        self.look(self.HEADERS, b"Hi\r\n" * 400)

    @pytest.mark.parametrize(
        ("headers", "body"),
        [
            (HEADERS + b"Bcc: x@y.test\r\n", b""),
            (HEADERS.replace(b"Subject", b"Sender"), b""),
            (HEADERS.replace(b"\r\n y", b"\r\n\r\ny"), b""),
            (HEADERS.replace(b"x\r\n", b"x\n"), b""),
            (HEADERS, b"a\nb\r\n"),
            (HEADERS, b"a\rb\r\n"),
            (HEADERS, b"a\n\rb\r\n"),
            (HEADERS, b"a\0b\r\n"),
            (HEADERS, b"a" * 999 + b"\r\n"),
            (HEADERS, b"a\r\nb"),
        ],
    )
    def test_any_other_is_stopped(self, headers: bytes, body: bytes) -> None:
        with pytest.raises(mime.MimeError):
            self.look(headers, body)
