"""Attachments on the wire, read back by the standard library."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.attachments import Attachment
from sinks.smtp.attachments import Attached, attached
from sinks.smtp.lines import lines
from tests.smtp_wire.verifiers import unstuffed

TEXT = (b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n", b"Hi\r\n")
BOTH = (
    b'Content-Type: multipart/alternative;\r\n boundary="=_a"\r\n',
    b"--=_a\r\nContent-Type: text/plain\r\n\r\nHi\r\n--=_a\r\nContent-Type: text/html\r\n\r\n<p>Hi\r\n--=_a--\r\n",
)
PDF = Attachment(filename="a.pdf", content_type="application/pdf", content="")
LOGO = Attachment(filename="logo.png", content_type="image/png", content="", inline=True, content_id="logo@b.test")
NAME = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn"), exclude_characters="/\\"), min_size=1, max_size=120
)


def read(parts: Attached, text: tuple[bytes, bytes] = TEXT) -> EmailMessage:
    ends, body = parts.around(text[0], lines(text[1]))
    mail = message_from_bytes(b"MIME-Version: 1.0\r\n" + ends + b"\r\n" + unstuffed(body.wire), policy=policy.SMTP)
    assert isinstance(mail, EmailMessage)
    assert not [defect for part in mail.walk() for defect in part.defects]
    assert body == lines(unstuffed(body.wire))
    return mail


def tree(mail: EmailMessage) -> object:
    kind = mail.get_content_type()
    return {kind: [tree(cast(EmailMessage, part)) for part in mail.iter_parts()]} if mail.is_multipart() else kind


@pytest.mark.parametrize(
    ("parts", "text", "shape"),
    [
        ([PDF], TEXT, {"multipart/mixed": ["text/plain", "application/pdf"]}),
        (
            [LOGO],
            BOTH,
            {"multipart/related": [{"multipart/alternative": ["text/plain", "text/html"]}, "image/png"]},
        ),
        (
            [PDF, LOGO, PDF],
            BOTH,
            {
                "multipart/mixed": [
                    {"multipart/related": [{"multipart/alternative": ["text/plain", "text/html"]}, "image/png"]},
                    "application/pdf",
                    "application/pdf",
                ]
            },
        ),
    ],
)
def test_the_shape_of_a_mail(parts: list[Attachment], text: tuple[bytes, bytes], shape: object) -> None:
    mail = read(attached([(each, b"data") for each in parts]), text)
    assert tree(mail) == shape
    plain = mail.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().strip() == "Hi"


def test_a_related_mail_names_the_type_of_its_root() -> None:
    mail = read(attached([(LOGO, b"x")]), BOTH)
    assert mail.get_param("type") == "multipart/alternative"
    image = list(mail.iter_parts())[1]
    assert image["Content-ID"] == "<logo@b.test>"
    assert image.get_content_disposition() == "inline"


@settings(max_examples=200, deadline=None)
@given(name=NAME, data=st.binary(max_size=500))
def test_any_name_and_any_bytes_arrive(name: str, data: bytes) -> None:
    each = PDF.model_copy(update={"filename": name})
    (part,) = read(attached([(each, data)])).iter_attachments()
    assert part.get_filename() == name.strip()  # the library's own strip
    assert part.get_content() == data
    assert max(map(len, part.as_bytes().split(b"\r\n"))) <= 100


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a.pdf", b'filename="a.pdf"'),
        ('a "b".pdf', b'filename="a \\"b\\".pdf"'),
        ("é.pdf", b"filename*=utf-8''%C3%A9.pdf"),
        ("x" * 70, b"filename*0*=utf-8''" + b"x" * 60 + b";\r\n filename*1*=" + b"x" * 10 + b"\r\n"),
    ],
)
def test_a_name_on_the_wire(name: str, written: bytes) -> None:
    assert written in attached([(PDF.model_copy(update={"filename": name}), b"")]).files[0].wire


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b"--=_mixed-", b"--=_a--\r\n", b"\r\n", b"x", b"=_"]), max_size=12).map(b"".join))
def test_no_content_closes_a_part(data: bytes) -> None:
    parts = list(read(attached([(PDF, data), (PDF, data)]), BOTH).iter_attachments())
    assert [part.get_content() for part in parts] == [data, data]


def test_the_parameters_of_a_type_are_kept() -> None:
    each = PDF.model_copy(update={"content_type": "text/calendar; method=REQUEST;charset=utf-8"})
    (part,) = read(attached([(each, b"BEGIN:VCALENDAR")])).iter_attachments()
    assert (part.get_content_type(), part.get_param("method"), part.get_content_charset()) == (
        "text/calendar", "REQUEST", "utf-8",
    )  # fmt: skip
