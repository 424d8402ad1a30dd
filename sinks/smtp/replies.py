"""Read SMTP replies from bytes, strictly and within limits (RFC 5321 section 4.2).

Pure: bytes in, replies out. What a code means at a stage is dialogue.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LINE_MAX = 998  # RFC 5321 section 4.5.3.1.5 says 512; peers are not that strict, and we need a limit, not that one
LINES_MAX = 100

# RFC 3463 section 2, at the start of a reply's text (RFC 2034 section 4).
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)")
# RFC 5321 section 4.2: three digits, the first 2 to 5; what follows is a space, a hyphen or nothing.
_BEGIN = re.compile(rb"[2-5][0-9]{2}(?:[ -]|\Z)")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class ReplyError(ValueError):
    """The peer's bytes are no reply."""


class Reply(NamedTuple):
    """A code and the lines of text after it, as they came. Text costs when it is looked at: most never is."""

    code: int
    lines: tuple[bytes, ...] = (b"",)

    @property
    def enhanced(self) -> str:
        """The enhanced status code, or "". One of another class than the code says nothing, and is ignored."""
        for line in self.lines:
            match = _ENHANCED.match(line.decode("utf-8", "replace"))
            if match and match[1][0] == str(self.code)[0]:
                return match[1]
        return ""

    @property
    def text(self) -> str:
        """The lines as one, without enhanced codes and control characters. It may quote addresses."""
        lines = (_CONTROLS.sub(" ", line.decode("utf-8", "replace")) for line in self.lines)
        return " ".join(_ENHANCED.sub("", line, count=1).strip() for line in lines).strip()

    def without_text(self) -> Reply:
        """Its codes alone."""
        return Reply(self.code, (self.enhanced.encode(),))

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_negative(self) -> bool:
        return self.code >= 400

    @property
    def is_closing(self) -> bool:
        # RFC 5321 section 3.8: 421 may answer any command, and the connection ends.
        return self.code == 421


class ReplyReader:
    """Collects bytes and gives whole replies. After a ReplyError it is not to be fed again."""

    def __init__(self) -> None:
        self._partial = b""
        self._code = b""
        self._lines: list[bytes] = []

    @property
    def pending(self) -> bool:
        """Whether part of a reply has come."""
        return bool(self._partial or self._lines)

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Whole replies, one by one: those before the one that is none come before its ReplyError."""
        *lines, self._partial = (self._partial + data if self._partial else data).split(b"\n")
        for line in lines:
            # A bare LF ends a line too: some peers know no better, and replies carry nobody else's text.
            reply = self._line(line[:-1] if line.endswith(b"\r") else line)
            if reply is not None:
                yield reply
        if len(self._partial) > LINE_MAX:
            raise ReplyError("a line that does not end")

    def _line(self, line: bytes) -> Reply | None:
        if _BEGIN.match(line) is None:
            raise ReplyError("a line without a reply code")
        code, separator = line[:3], line[3:4]
        if len(line) > LINE_MAX:
            raise ReplyError("a line too long")
        # Section 4.2.1: every line of a reply has the same code.
        if self._lines and code != self._code:
            raise ReplyError("a reply of several codes")
        self._lines.append(line[4:])
        if separator == b"-":
            self._code = code
            if len(self._lines) >= LINES_MAX:
                raise ReplyError("a reply that does not end")
            return None
        reply = Reply(int(code), tuple(self._lines))
        self._lines = []
        return reply
