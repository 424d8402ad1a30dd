"""Read a received mail within limits: its header, and its parts as a flat list.

Decides what is a part and how much of it is looked at; what it means is left to the others. Not the standard library's
parser: that one recurses per level (1,500 levels end it) and opens whatever is attached. Here work and memory are
bounded by the mail's size times a small number, nothing is opened inside an attached message, and what breaks a rule is
read as far as it goes. Only a mail that exceeds a limit is refused, by `Unreadable`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_HEADER: Final = 64 * 1024  # bytes of one header block
MAX_FIELDS: Final = 500  # in one header block
MAX_VALUE: Final = 4_096  # characters of a field; an unsubscribe URL with its token has up to 1,300
MAX_PARTS: Final = 50  # of a mail; a report has three
MAX_DEPTH: Final = 5  # Gmail's reports have three levels
MAX_TEXT: Final = 64 * 1024  # bytes of a part that are read
_MAX_LOOKS: Final = 1_000  # at lines that begin like a boundary
_MAX_BOUNDARY: Final = 200  # RFC 2046 section 5.1.1 says 70
_MAX_TYPE: Final = 1_000  # characters of a Content-Type

_PARAMETER: Final = re.compile(r';\s?([\w-]+)\s?=\s?(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))')
_ENCODED_WORD: Final = re.compile(r"=\?([\w-]{1,40})(?:\*[\w-]{1,20})?\?([bBqQ])\?([^?\s]{0,200})\?=")
_BETWEEN_WORDS: Final = re.compile(r"\?=\s{1,20}=\?")
_NOT_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
# Only what people's mail is written in: among Python's codecs are some that are slow, or no charsets at all.
_CHARSETS: Final = re.compile(
    r"utf-8|us-ascii|iso-8859-\d{1,2}|windows-125\d|cp125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|shift_jis|iso-2022-jp"
    r"|euc-(jp|kr)"
)


class Unreadable(ValueError):
    """The mail exceeds a limit; the text says which one and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Fields in order, names in lower case, values unfolded and on one line."""

    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first value; empty when there is none."""
        return next((value for found, value in self.fields if found == name), "")

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found == name]

    def text(self, name: str) -> str:
        """The first value with its encoded words decoded (RFC 2047), for matching by words only."""
        value = _BETWEEN_WORDS.sub("?==?", self.get(name)[:1_000])
        return _ENCODED_WORD.sub(_word, value)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that holds no others, or an attached message. `kind` is its media type in lower case."""

    kind: str
    charset: str
    headers: Headers
    body: bytes

    def content(self) -> bytes:
        """Its beginning, without the transfer encoding (RFC 2045 section 6)."""
        match self.headers.get("content-transfer-encoding").strip().lower():
            case "base64":
                return _lines(_base64(self.body[: MAX_TEXT * 2]))[:MAX_TEXT]
            case "quoted-printable":
                return _lines(binascii.a2b_qp(self.body[:MAX_TEXT]))
            case _:
                return self.body[:MAX_TEXT]

    def text(self) -> str:
        return _decoded(self.content(), self.charset)


@dataclass(frozen=True, slots=True)
class Mail:
    kind: str
    report: str
    """Which report a multipart/report says it is (RFC 6522); empty for other mail."""
    headers: Headers
    parts: tuple[Part, ...]

    def first(self, *kinds: str) -> Part | None:
        return next((part for part in self.parts if part.kind in kinds), None)


def open_mail(raw: bytes) -> Mail:
    """Raises Unreadable."""
    waiting = [(_lines(raw), 0)]
    top: tuple[str, str, Headers] | None = None
    parts: list[Part] = []
    opened = 0
    while waiting:
        data, depth = waiting.pop()
        opened += 1
        if opened > MAX_PARTS:
            raise Unreadable(f"more than {MAX_PARTS} parts")
        head, body = _divided(data)
        headers = read_fields(head)
        kind, parameters = _content_type(headers)
        if top is None:
            top = kind, parameters.get("report-type", "").lower() if kind == "multipart/report" else "", headers
        boundary = parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
        if kind.startswith("multipart/") and depth < MAX_DEPTH and 0 < len(boundary) <= _MAX_BOUNDARY:
            waiting += [(part, depth + 1) for part in reversed(list(_split(body, boundary)))]
        else:
            parts.append(Part(kind, parameters.get("charset", "").lower(), headers, body))
    assert top is not None
    return Mail(*top, tuple(parts))


def read_fields(block: bytes) -> Headers:
    """The fields of a header, or of a group in a report. Lines that are none are passed over. Raises Unreadable."""
    if len(block) > MAX_HEADER:
        raise Unreadable(f"more than {MAX_HEADER} bytes of header")
    found: list[tuple[str, list[str]]] = []
    for line in block.decode("utf-8", "replace").split("\n"):
        if line[:1] in (" ", "\t"):  # RFC 5322 section 2.2.3: folding
            if found:
                found[-1][1].append(line.strip())
            continue
        name, colon, value = line.partition(":")
        if colon and name and " " not in (name := name.rstrip()):
            if len(found) == MAX_FIELDS:
                raise Unreadable(f"more than {MAX_FIELDS} header fields")
            found.append((name.lower(), [value.strip()]))
    return Headers(tuple((name, " ".join(values)[:MAX_VALUE].strip()) for name, values in found))


def header_of(part: Part) -> Headers:
    """The header of the message that is attached, whole or as its header only."""
    return read_fields(_divided(part.content())[0][:MAX_HEADER])


def groups(part: Part, most: int) -> list[Headers]:
    """The groups of fields, with empty lines between them, of a machine's report (RFC 3464 section 2.1)."""
    blocks = part.content().replace(b"\n \n", b"\n\n").split(b"\n\n", most * 4)[: most * 4]  # not the rest in one
    return [fields for block in blocks if (fields := read_fields(block)).fields][:most]


def _lines(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")


def _divided(data: bytes) -> tuple[bytes, bytes]:
    if data.startswith(b"\n"):
        return b"", data[1:]
    end = data.find(b"\n\n")
    return (data, b"") if end < 0 else (data[:end], data[end + 2 :])


def _split(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """The parts of a multipart (RFC 2046 section 5.1), one more than are allowed at most; a missing end is no harm."""
    delimiter = b"--" + boundary
    start = -1  # of the present part: none before the first delimiter
    at = 0 if body.startswith(delimiter) else _next(body, delimiter, 0)
    yielded = looks = 0
    while at >= 0 and yielded <= MAX_PARTS:
        looks += 1
        if looks > _MAX_LOOKS:
            raise Unreadable("too many lines that look like a boundary")
        end = body.find(b"\n", at)
        rest = body[at + len(delimiter) : end if end >= 0 else len(body)].rstrip(b" \t")
        if rest in (b"", b"--"):  # else it is a longer boundary, of another level
            if start >= 0:
                yield body[start : max(start, at - 1)]
                yielded += 1
            if rest or end < 0:
                return
            start = end + 1
        at = _next(body, delimiter, end) if end >= 0 else -1
    if start >= 0 and yielded <= MAX_PARTS:
        yield body[start:]


def _next(body: bytes, delimiter: bytes, start: int) -> int:
    found = body.find(b"\n" + delimiter, start)
    return found + 1 if found >= 0 else -1


def _content_type(headers: Headers) -> tuple[str, dict[str, str]]:
    value = " ".join(headers.get("content-type")[:_MAX_TYPE].split())
    kind = value.partition(";")[0].strip().lower()
    parameters: dict[str, str] = {}
    for found in _PARAMETER.finditer(value):
        text = re.sub(r"\\(.)", r"\1", found[2]) if found[2] is not None else found[3]
        parameters.setdefault(found[1].lower(), text)
    # RFC 2045 section 5.2: without a type it is plain text.
    return kind if "/" in kind else "text/plain", parameters


def _word(found: re.Match[str]) -> str:
    charset, encoding, text = found[1].lower(), found[2].lower(), found[3].encode("utf-8", "replace")
    if encoding == "q":
        return _decoded(binascii.a2b_qp(text, header=True), charset)
    return _decoded(_base64(text), charset)


def _base64(data: bytes) -> bytes:
    """As far as it goes: what is no base64 is passed over, and a last lone character too."""
    sound = data.translate(None, _NOT_BASE64)
    if len(sound) % 4 == 1:
        sound = sound[:-1]
    return binascii.a2b_base64(sound + b"=" * (-len(sound) % 4))


def _decoded(data: bytes, charset: str) -> str:
    if charset and charset != "utf-8" and _CHARSETS.fullmatch(charset):
        try:
            return data.decode(charset, "replace")
        except LookupError:  # such as iso-8859-99
            pass
    return data.decode("utf-8", "replace")
