"""Attachments as MIME parts, and the multiparts around a mail that has some.

Pure. Parts are encoded when they are given, once for a campaign, and `around` only joins them. What may be attached is
`schemas.attachments`'; a mail without any never comes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote

from schemas.attachments import Attachment
from sinks.smtp import mime
from sinks.smtp.lines import Lines, joined, lines

_PIECE = 60  # characters of a parameter's value in a line

_SAFE = "!#$&+-.^_`{|}~"  # RFC 2231 section 7: attribute-char, beside letters and digits


@dataclass(frozen=True, slots=True)
class Attached:
    """Encoded parts: those that the HTML shows, and the files."""

    shown: tuple[Lines, ...]
    files: tuple[Lines, ...]

    def __add__(self, other: Attached) -> Attached:
        return Attached(self.shown + other.shown, self.files + other.files)

    def around(self, ends: bytes, body: Lines) -> tuple[bytes, Lines]:
        """`ends` is Content-Type and, for a single part, Content-Transfer-Encoding of `body`; both are written anew.

        RFC 2387: what is shown belongs to the text, so it stands with it; RFC 2046 section 5.1.3: files stand beside.
        """
        if self.shown:
            # RFC 2387 section 3.1: the type of the root, here the part that holds the HTML.
            kind = ends.partition(b":")[2].partition(b";")[0].strip()
            ends, body = _multipart(b"related", ends, body, self.shown, b' type="%b";\r\n' % kind)
        if self.files:
            ends, body = _multipart(b"mixed", ends, body, self.files, b"")
        return ends, body


def attached(parts: Sequence[tuple[Attachment, bytes]]) -> Attached:
    """Encode attachments, each with its bytes. MimeError where a name cannot be written."""
    return Attached(
        tuple(lines(_part(each, data)) for each, data in parts if each.inline),
        tuple(lines(_part(each, data)) for each, data in parts if not each.inline),
    )


def _multipart(kind: bytes, ends: bytes, body: Lines, parts: Sequence[Lines], parameters: bytes) -> tuple[bytes, Lines]:
    # As that of the text's parts, "=_" occurs in none of them; and no boundary is the beginning of another.
    boundary = b"=_%b-%b" % (kind, sha256(body.wire).hexdigest()[:24].encode())
    # RFC 2046 section 5.1.1: the CRLF before a delimiter is its own.
    delimiter = lines(b"\r\n--%b\r\n" % boundary)
    pieces = [lines(b"--%b\r\n%b\r\n" % (boundary, ends)), body]
    for part in parts:
        pieces += (delimiter, part)
    fields = b'Content-Type: multipart/%b;\r\n%b boundary="%b"\r\n' % (kind, parameters, boundary)
    return fields, joined([*pieces, lines(b"\r\n--%b--\r\n" % boundary)])


def _part(attachment: Attachment, data: bytes) -> bytes:
    disposition = "inline" if attachment.inline else "attachment"
    kind, *parameters = attachment.content_type.split(";")
    fields = [
        ";\r\n ".join([f"Content-Type: {kind}", *map(str.strip, parameters)]),
        ";\r\n ".join([f"Content-Disposition: {disposition}", *_parameter("filename", attachment.filename)]),
        "Content-Transfer-Encoding: base64",
    ]
    if attachment.content_id is not None:
        # RFC 2392: what the HTML names as cid:X is <X> here.
        fields.append(f"Content-ID: <{attachment.content_id}>")
    return "\r\n".join([*fields, "", ""]).encode("ascii") + mime.base64(data)


def _parameter(name: str, value: str) -> list[str]:
    """RFC 2231: a plain value quoted, any other as percent-encoded UTF-8, in numbered pieces where it is long."""
    if value.isascii() and value.isprintable() and len(value) <= _PIECE and value == value.strip(" "):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return [f'{name}="{escaped}"']
    try:
        coded = [quote(character, safe=_SAFE) for character in value]
    except UnicodeEncodeError:
        raise mime.MimeError(name, "not valid Unicode") from None
    pieces = [""]
    for character in coded:  # no character in two pieces
        if len(pieces[-1]) + len(character) > _PIECE:
            pieces.append("")
        pieces[-1] += character
    pieces[0] = f"utf-8''{pieces[0]}"  # section 4.1: the charset stands in the first piece alone
    if len(pieces) == 1:
        return [f"{name}*={pieces[0]}"]
    return [f"{name}*{number}*={piece}" for number, piece in enumerate(pieces)]
