"""Write header fields and text parts as bytes (RFC 5322, 2045, 2047), and look at the finished lines once more.

Pure. Text that could end a line or hide one is refused, never repaired in silence: a name or a subject is somebody
else's text. Which fields and parts a message has is decided by content.py. The standard library writes no message
here: it is slow, and on some versions an encoded word in a Subject came out as a header field of its own.
"""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from schemas.address import Mailbox

LINE_MAX = 998  # RFC 5322 section 2.1.1, without the CRLF
_FOLD_AT = 78
_WORD_MAX = 75  # RFC 2047 section 2: an encoded word
_ENCODED_LINE = 76  # and a line with one

# What a header value may not hold: C0 (tab aside), DEL, C1, and the separators that some parsers take for line ends.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,70}")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_TOKEN = re.compile("[!-~]+")
_WORDS = re.compile(r"(?!.*=\?)[!-~]+(?: [!-~]+)*")
_BASE64_LINE = 57  # bytes that become a line of 76

# RFC 2047 section 5 (3): within a phrase these alone stand for themselves; good everywhere else too.
_Q_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_QP_PLAIN = re.compile(rb"[!-<>-~](?:[ !-<>-~]*[!-<>-~])?|")
_TEXT_BYTES = bytes(range(0x20, 0x7F)) + b"\t\r\n"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class MimeError(ValueError):
    """Text that cannot be written: `where` is the field or part, `reason` says why; neither quotes the text."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


def unstructured(name: str, text: str) -> bytes:
    """A field of free text, folded; as encoded words when plain ASCII cannot carry it."""
    if len(text) + len(name) + 2 <= _FOLD_AT and _WORDS.fullmatch(text):
        return f"{name}: {text}\r\n".encode("ascii")
    value = _clean(name, text).strip(" ")
    # "=?" would be read as an encoded word that nobody meant.
    if value.isascii() and "=?" not in value:
        line = _fold(f"{name}:", value.split(" "))
        if all(len(part) <= LINE_MAX for part in line.split("\r\n")):
            return line.encode("ascii") + b"\r\n"
    return _fold(f"{name}:", _encoded_words(value, _ENCODED_LINE - len(name) - 2), _ENCODED_LINE).encode() + b"\r\n"


def structured(name: str, tokens: Sequence[str]) -> bytes:
    """A field of ASCII tokens, such as URIs in angle brackets, that may be parted by folding and never encoded."""
    if len(tokens) == 1 and len(token := tokens[0]) < LINE_MAX // 2 and _TOKEN.fullmatch(token):
        return f"{name}: {token}\r\n".encode("ascii")
    for token in tokens:
        if not token.isascii() or " " in _clean(name, token) or len(token) > LINE_MAX - 1:
            raise MimeError(name, "a token that cannot be written")
    return _fold(f"{name}:", tokens).encode("ascii") + b"\r\n"


def mailboxes(name: str, boxes: Sequence[Mailbox]) -> bytes:
    """RFC 5322 section 3.4: a list of mailboxes. A UTF-8 local part is written as it is (RFC 6532)."""
    tokens: list[str] = []
    for box in boxes:
        address = _clean(name, str(box.address))
        if box.display_name:
            tokens += _phrase(name, box.display_name)
            tokens.append(f"<{address}>,")
        else:
            tokens.append(f"{address},")
    if not tokens:
        raise MimeError(name, "no mailbox")
    tokens[-1] = tokens[-1][:-1]
    return _fold(f"{name}:", tokens).encode() + b"\r\n"


def date(name: str, moment: datetime) -> bytes:
    """RFC 5322 section 3.3, in UTC; own tables, since strftime follows the locale."""
    return _date(name, int(moment.timestamp()))


@lru_cache(maxsize=64)  # many messages of one second
def _date(name: str, second: int) -> bytes:
    utc = datetime.fromtimestamp(second, UTC)
    day, month = _DAYS[utc.weekday()], _MONTHS[utc.month - 1]
    time = f"{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d}"
    return f"{name}: {day}, {utc.day:02d} {month} {utc.year:04d} {time} +0000\r\n".encode("ascii")


def require_field_name(name: str) -> None:
    if _FIELD_NAME.fullmatch(name) is None:
        raise MimeError("header name", "letters, digits and hyphens only")


def _clean(name: str, text: str) -> str:
    if _FORBIDDEN.search(text):
        raise MimeError(name, "control characters or line ends")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MimeError(name, "not valid Unicode") from None
    return text.replace("\t", " ")


def _fold(start: str, tokens: Sequence[str], width: int = _FOLD_AT) -> str:
    """Join by spaces, a new line before a token that would pass `width`; the first token stays on the field's line."""
    lines: list[str] = []
    line = start
    for index, token in enumerate(tokens):
        # RFC 5322 section 3.2.2: no folded line of white space alone, so never before an empty token.
        if index and token and len(line) + 1 + len(token) > width and not line.isspace():
            lines.append(line)
            line = " " + token
        else:
            line += " " + token
    lines.append(line)
    return "\r\n".join(lines)


def _phrase(field: str, text: str) -> list[str]:
    name = _clean(field, text)
    if not name.isascii() or "=?" in name:
        return _encoded_words(name, _ENCODED_LINE - len(field) - 2)
    if _ATOMS.fullmatch(name):
        return name.split(" ")
    if len(name) > LINE_MAX // 4:
        raise MimeError(field, "a display name of more than 249 characters")
    return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']


def _encoded_words(text: str, first: int) -> list[str]:
    """RFC 2047: Q where most is ASCII and a person may read the source, else B. No character is cut in two.

    The first word has `first` characters at most, the others 75, so that no line passes 76.
    """
    quoted = text.isascii() or sum(_q(character)[1] for character in text) <= len(text.encode()) * 2
    limit = min(first, _WORD_MAX)
    words: list[str] = []
    piece, size = "", 0
    for character in text:
        coded, cost = _q(character) if quoted else (character, len(character.encode()))
        full = size + cost > limit - 12 if quoted else (size + cost + 2) // 3 * 4 > limit - 12
        if full and piece:
            words.append(_word(piece, quoted))
            piece, size, limit = "", 0, _WORD_MAX - 1
        piece += coded
        size += cost
    words.append(_word(piece, quoted))
    return words


def _q(character: str) -> tuple[str, int]:
    if character in _Q_PLAIN:
        return character, 1
    if character == " ":
        return "_", 1
    coded = "".join(f"={byte:02X}" for byte in character.encode())
    return coded, len(coded)


def _word(piece: str, quoted: bool) -> str:
    if quoted:
        return f"=?utf-8?q?{piece}?="
    return f"=?utf-8?b?{b2a_base64(piece.encode(), newline=False).decode()}?="


def crlf(text: str) -> bytes:
    """UTF-8 with CRLF for every kind of line end, so that signer, server and reader see the same lines."""
    data = text.encode("utf-8", "replace")
    if b"\n" not in data and b"\r" not in data:
        return data
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data.replace(b"\n", b"\r\n")


def crlf_each(texts: Sequence[str]) -> list[bytes]:
    """`crlf` of each: all at once, unless a text holds the NUL that parts them here."""
    pieces = crlf("\0".join(texts)).split(b"\0")
    return pieces if len(pieces) == len(texts) else [crlf(text) for text in texts]


def is_plain(data: bytes) -> bool:
    """Whether bytes may stand as they are (7bit), whatever other plain bytes come before and after.

    "=_" is kept for boundaries, as quoted-printable cannot hold it, so no text can end a part.
    """
    return not data.translate(None, _TEXT_BYTES) and b"=_" not in data


def quoted_printable(data: bytes) -> bytes:
    """RFC 2045 section 6.7; `data` is in CRLF. The last line has room for the "=" of a soft line break."""
    if len(data) < _ENCODED_LINE and _QP_PLAIN.fullmatch(data):
        return data
    coded = b2a_qp(data, quotetabs=False, istext=True, header=False)
    # It breaks lines as the data does, and by LF where the data has a single line.
    coded = coded if b"\r\n" in data else coded.replace(b"\n", b"\r\n")
    if len(coded) - coded.rfind(b"\n") - 1 >= _ENCODED_LINE:
        cut = -3 if coded[-3:-2] == b"=" else -1  # never within "=C3"
        coded = coded[:cut] + b"=\r\n" + coded[cut:]
    return coded


def base64(data: bytes) -> bytes:
    """RFC 2045 section 6.8, with a CRLF after each line."""
    lines = [b2a_base64(data[at : at + _BASE64_LINE], newline=False) for at in range(0, len(data), _BASE64_LINE)]
    return b"\r\n".join([*lines, b""])


def require_fields(headers: bytes, names: Sequence[bytes]) -> None:
    """The last look at a block of header fields: exactly those that we meant, and lines that can be sent."""
    found = [line.partition(b":")[0] for line in headers.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    if found != [*names, b""]:
        raise MimeError("headers", "the fields are not those that were meant")
    require_lines("headers", headers)


def require_lines(where: str, data: bytes) -> None:
    """The last look at bytes of a message: whole lines of 998 bytes at most, CRLF only, no NUL."""
    # RFC 5321 section 2.3.8: CR and LF only together. A bare one is what SMTP smuggling is made of. One split and
    # its lines, where counting each kind of end would go through the bytes four times.
    lines = data.split(b"\r\n")
    rest = b" ".join(lines)  # something between them: "\r" before an end and "\n" behind it are no pair
    if b"\r" in rest or b"\n" in rest or b"\0" in rest:
        raise MimeError(where, "a bare CR, LF or NUL")
    if lines[-1]:
        raise MimeError(where, "a last line without its end")
    if max(map(len, lines)) > LINE_MAX:
        raise MimeError(where, f"a line of more than {LINE_MAX} bytes")


def has_short_lines(data: bytes) -> bool:
    """Hops from line end to line end, as far as a line may reach: a tenth of the time of looking at every line."""
    at, end = 0, len(data)
    while end - at > LINE_MAX:
        at = data.rfind(b"\r\n", at, at + LINE_MAX + 2) + 2
        if at == 1:
            return False
    return True
