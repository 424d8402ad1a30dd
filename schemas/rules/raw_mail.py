"""Read a complete message that an app hands over: its fields apart, its body as it is; or say why it is not sent.

Pure. Accepted is what every reader understands the same way: one From with one mailbox, no field twice that may occur
once, ASCII header fields, CRLF alone for line ends, lines within the limit. Nothing is repaired but LF line ends of a
message that has no others. Which fields are replaced is the sink's, whether the From is the tenant's is its reader's.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from dataclasses import dataclass

from schemas.address import Address, AddressError, parse

RAW_MAX = 20 * 1024 * 1024  # bytes; with base64 and headers, large providers take 25 MiB
_HEADER_MAX = 64 * 1024
_FIELDS_MAX = 200
_LINE_MAX = 998  # RFC 5322 section 2.1.1, without CRLF

# RFC 5322 section 2.2: printable ASCII but the colon. No white space before the colon, which section 4.5 lets old mail
# have: readers disagree on what it names.
_FIELD = re.compile(rb"([!-9;-~]{1,76}):(.*)", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# RFC 5322 section 3.6, RFC 2045 section 3, RFC 2183: at most once. A reader may take the first, another the last.
_ONCE = frozenset(
    (
        *(
            "date",
            "from",
            "sender",
            "reply-to",
            "to",
            "cc",
            "bcc",
            "message-id",
            "in-reply-to",
            "references",
            "subject",
        ),
        *("mime-version", "content-type", "content-transfer-encoding", "content-disposition", "content-id"),
        *("list-id", "list-unsubscribe", "list-unsubscribe-post", "feedback-id"),
    )
)

# A mailbox with a name: a quoted string, or words, encoded ones (RFC 2047) among them.
_MAILBOX = re.compile(r"""(?:"(?:[^"\\]|\\[ -~])*"|[^"<>@,;:()\\]*)\s*<([^<>]+)>""")


class RawMailError(ValueError):
    """Not sent as it is; `line` counts from 1, 0 where none applies. The text quotes nothing."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class Field:
    name: str  # in lower case
    data: bytes  # as it was written, with its folds and its CRLF

    @property
    def value(self) -> str:
        """Unfolded (RFC 5322 section 2.2.3)."""
        return self.data.partition(b":")[2].decode("ascii").replace("\r\n", "").strip(" \t")


@dataclass(frozen=True, slots=True)
class RawMail:
    fields: tuple[Field, ...]
    body: bytes  # in CRLF, and ending in it
    from_: Address

    @property
    def eight_bit(self) -> bool:
        return not self.body.isascii()

    def has(self, name: str) -> bool:
        return any(field.name == name for field in self.fields)


def decoded_raw(text: str) -> bytes:
    """The message from its base64. Raises RawMailError."""
    try:
        return a2b_base64(text.encode("ascii", "replace"), strict_mode=True)
    except Base64Error:
        raise RawMailError("not base64 (RFC 4648 section 4, in one line)") from None


def read_raw(data: bytes) -> RawMail:
    """Raises RawMailError for what is not to be sent."""
    if len(data) > RAW_MAX:
        raise RawMailError(f"a message of {len(data)} bytes; at most {RAW_MAX} are allowed")
    message = _in_crlf(data)
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    lines = message.split(b"\r\n")
    if max(map(len, lines)) > _LINE_MAX:
        raise RawMailError(
            f"more than {_LINE_MAX} bytes", next(n for n, x in enumerate(lines, 1) if len(x) > _LINE_MAX)
        )
    end = lines.index(b"")  # the end of the header: at the latest the one behind the last CRLF
    fields = _fields(lines[:end])
    body = b"\r\n".join(lines[end + 1 :])
    return RawMail(fields, body or b"\r\n", _sender(fields))


def _in_crlf(data: bytes) -> bytes:
    # RFC 5321 section 2.3.8: CR and LF only together. A message in LF alone is one from a Unix file; a message with
    # both is one that servers would cut up differently.
    if b"\0" in data:
        raise RawMailError("NUL", _line_of(data, data.index(b"\0")))
    if b"\r" not in data:
        return data.replace(b"\n", b"\r\n")
    pairless = data.replace(b"\r\n", b" ")  # a tenth of the time of looking for a bare one
    if b"\r" in pairless or b"\n" in pairless:
        bare = re.search(rb"\r(?!\n)|(?<!\r)\n", data)
        assert bare is not None
        raise RawMailError("a bare CR or LF among CRLF line ends", _line_of(data, bare.start()))
    return data


def _line_of(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _fields(lines: list[bytes]) -> tuple[Field, ...]:
    if sum(map(len, lines)) > _HEADER_MAX:
        raise RawMailError(f"a header of more than {_HEADER_MAX} bytes")
    found: list[tuple[str, list[bytes]]] = []
    for number, line in enumerate(lines, 1):
        if not line.isascii():
            raise RawMailError("a header field that is not ASCII: encode it (RFC 2047, RFC 2231)", number)
        if _CONTROL.search(line):
            raise RawMailError("a control character in a header field", number)
        if line.startswith((b" ", b"\t")):
            # RFC 5322 section 3.2.2: a folded line of white space alone would end the header for some.
            if not found or not line.strip():
                raise RawMailError("a continuation of nothing, or by nothing", number)
            found[-1][1].append(line)
            continue
        match = _FIELD.fullmatch(line)
        if match is None:
            raise RawMailError("not a header field: a name, a colon, a value", number)
        name = match[1].decode("ascii").lower()
        if name in _ONCE and any(known == name for known, _ in found):
            raise RawMailError("a field for the second time that may be there once", number)
        found.append((name, [line]))
    if len(found) > _FIELDS_MAX:
        raise RawMailError(f"more than {_FIELDS_MAX} header fields")
    return tuple(Field(name, b"\r\n".join([*data, b""])) for name, data in found)


def _sender(fields: tuple[Field, ...]) -> Address:
    address = None
    for field in fields:
        # RFC 5322 section 3.6.2: Sender is who sent it, when From is somebody else. Here nobody sends for others.
        if field.name in ("from", "sender"):
            each = _mailbox(field)
            if address is not None and each.domain != address.domain:
                raise RawMailError("From and Sender are of different domains")
            address = each if address is None or field.name == "from" else address
    if not any(field.name == "from" for field in fields) or address is None:
        raise RawMailError("no From")
    return address


def _mailbox(field: Field) -> Address:
    text = field.value
    named = _MAILBOX.fullmatch(text)
    try:
        return parse(named[1] if named else text)
    except AddressError as error:
        raise RawMailError(f"{field.name}: {error}; one mailbox, without comments") from None
