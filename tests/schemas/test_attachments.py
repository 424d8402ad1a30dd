"""What may be attached: a table of syntax, a table of policy."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.attachments import (
    ATTACHED_MAX,
    EXECUTABLE,
    Attachment,
    AttachmentError,
    AttachmentRequested,
    decoded,
    require_allowed,
)
from schemas.claims import Claim

CLAIM = {"sha256": "a" * 64, "size": 4}
FILE: dict[str, Any] = {"filename": "a.txt", "content": "QUJD"}


@pytest.mark.parametrize(
    "fields",
    [
        FILE,
        FILE | {"content_type": "text/calendar; method=REQUEST; charset=utf-8"},
        FILE | {"content_type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
        FILE | {"filename": "Rechnung für Zoë 漢字.pdf"},
        FILE | {"inline": True, "content_id": "logo@brand.test"},
        {"filename": "a", "claim": CLAIM},
        {"filename": "a", "content": ""},
    ],
)
def test_what_is_well_formed(fields: dict[str, Any]) -> None:
    AttachmentRequested.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"filename": "a"}, "one of content, claim"),
        (FILE | {"claim": CLAIM}, "one of content, claim"),
        (FILE | {"content": "QUJ"}, "not base64"),
        (FILE | {"content": "QU\nJD"}, "not base64"),
        (FILE | {"content": "é==="}, "not base64"),
        (FILE | {"filename": ""}, "at least 1"),
        (FILE | {"filename": "x" * 256}, "at most 255"),
        (FILE | {"filename": "../a"}, "no path"),
        (FILE | {"filename": "a\\b"}, "no path"),
        (FILE | {"filename": "a\r\nBcc: x@y.test"}, "no control"),
        (FILE | {"filename": "fdp.\u202eexe.a"}, "invisible"),
        (FILE | {"content_type": "text"}, "pattern"),
        (FILE | {"content_type": "text/plain\r\nX: y"}, "pattern"),
        (FILE | {"content_type": 'text/plain; name="a"'}, "pattern"),
        (FILE | {"content_type": "message/rfc822"}, "pattern"),
        (FILE | {"content_type": "multipart/mixed; boundary=a"}, "pattern"),
        (FILE | {"inline": True}, "belong together"),
        (FILE | {"content_id": "a"}, "belong together"),
        (FILE | {"inline": True, "content_id": "a>b"}, "pattern"),
        (FILE | {"name": "a"}, "Extra inputs"),
        ({"filename": "a", "claim": CLAIM | {"sha256": "A" * 64}}, "pattern"),
    ],
)
def test_what_is_not(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AttachmentRequested.model_validate(fields)


@pytest.mark.parametrize("size", range(10))
def test_a_size_is_told_without_decoding(size: int) -> None:
    each = Attachment(filename="a", content=b64encode(b"x" * size).decode())
    assert each.size == len(decoded(each)) == size


def of(filename: str, size: int = 4, **fields: Any) -> Attachment:
    return Attachment(filename=filename, claim=Claim(sha256="a" * 64, size=size), **fields)


@pytest.mark.parametrize(
    ("attachments", "said"),
    [
        ([of("a.txt")] * 21, "21 attachments; at most 20"),
        ([of("a.pdf", ATTACHED_MAX // 2 + 1)] * 2, "bytes of attachments; at most"),
        ([of("ok.pdf"), of("Setup.EXE")], "attachment 1: .exe files are refused"),
        ([of("a.pdf.scr")], ".scr"),
        ([of("a.exe. . ")], ".exe"),
        ([of("a.js")], ".js"),
        ([of("a.png", inline=True, content_id="a")] * 2, "one content_id"),
    ],
)
def test_what_is_refused(attachments: list[Attachment], said: str) -> None:
    with pytest.raises(AttachmentError) as raised:
        require_allowed(attachments, has_html=True)
    assert said in str(raised.value)


def test_an_image_that_nothing_shows_is_refused() -> None:
    with pytest.raises(AttachmentError, match="needs html"):
        require_allowed([of("a.png", inline=True, content_id="a")], has_html=False)


@pytest.mark.parametrize("name", ["a.pdf", "exe", "a.exe.pdf", "a.docx", "a.zip", "a.html", "a"])
def test_the_usual_is_allowed(name: str) -> None:
    require_allowed([of(name)], has_html=False)
    assert "pdf" not in EXECUTABLE
