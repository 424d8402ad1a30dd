"""Cut a SQL text into tokens as ClickHouse's lexer does, and refuse what the two could read differently.

Pure. The gate (clickhouse_gate.py) decides by these tokens, so a text that ClickHouse would cut in another way must not
pass. Therefore, outside quotes, everything is refused that ClickHouse reads as a quote or a comment in a less usual
way: heredocs (`$tag$…$tag$`), typographic quotes, comments within comments, `#` comments, every character that is not
ASCII; and inside quoted identifiers the backslash, which could spell a name in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    WORD = "word"  # a keyword or a bare identifier
    NAME = "name"  # a quoted identifier; `text` is what is between the quotes
    STRING = "string"
    NUMBER = "number"
    SIGN = "sign"  # one character of punctuation


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    text: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """In lower case, for comparison; empty for what cannot name anything."""
        return self.text.lower() if self.kind in (Kind.WORD, Kind.NAME) else ""

    @property
    def sign(self) -> str:
        """Empty for what is no sign: a literal may have any text."""
        return self.text if self.kind is Kind.SIGN else ""


class Unreadable(Exception):
    """The text is not cut for certain as ClickHouse would cut it. The message says where and why."""


_SPACE = re.compile(r"[ \t\r\n\f\v]+")
_LINE_COMMENT = re.compile(r"--[^\n]*")
_BLOCK_COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[0-9][A-Za-z0-9_]*(\.[0-9][A-Za-z0-9_]*)?")
_QUOTED = {
    # A backslash escapes the next character, a doubled quote stands for itself.
    "'": re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\]|\\.|"")*"', re.DOTALL),
    "`": re.compile(r"`(?:[^`\\]|\\.|``)*`", re.DOTALL),
}
_SIGNS = frozenset("()[]{}<>=!+-*/%,.;:?@|^~&")


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text`, one by one, so that what comes after an INSERT's head is never looked at."""
    at = 0
    while at < len(text):
        if (gap := _SPACE.match(text, at) or _LINE_COMMENT.match(text, at)) is not None:
            at = gap.end()
            continue
        if text.startswith("/*", at):
            at = _after_comment(text, at)
            continue
        token = _token(text, at)
        yield token
        at = token.end


def _after_comment(text: str, at: int) -> int:
    comment = _BLOCK_COMMENT.match(text, at)
    if comment is None:
        raise Unreadable(f"comment opened at position {at + 1} is not closed")
    # Versions of ClickHouse differ in whether comments nest.
    if "/*" in comment[1]:
        raise Unreadable(f"comment within a comment at position {at + 1}")
    return comment.end()


def _token(text: str, at: int) -> Token:
    sign = text[at]
    if (quoted := _QUOTED.get(sign)) is not None:
        found = quoted.match(text, at)
        if found is None:
            raise Unreadable(f"quote opened at position {at + 1} is not closed")
        inner = found[0][1:-1]
        if sign == "'":
            return Token(Kind.STRING, inner, at, found.end())
        if "\\" in inner:
            raise Unreadable(f"backslash in the identifier at position {at + 1}")
        return Token(Kind.NAME, inner, at, found.end())
    for kind, pattern in ((Kind.WORD, _WORD), (Kind.NUMBER, _NUMBER)):
        if (found := pattern.match(text, at)) is not None:
            return Token(kind, found[0], at, found.end())
    if sign in _SIGNS:
        return Token(Kind.SIGN, sign, at, at + 1)
    raise Unreadable(f"character {sign!r} at position {at + 1} must be in quotes here")
