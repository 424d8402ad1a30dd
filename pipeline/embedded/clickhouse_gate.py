"""Decide which statements the embedded ClickHouse runs, for whom, and where an INSERT's rows begin.

Pure. This is one of three fences, and each holds without the others where it can:

1. Grants (clickhouse_config.py): ClickHouse itself refuses table functions and engines that reach files, the network or
   programs, users, dictionaries, functions, backups. chdb honours grants, whatever the text looks like.
2. Session settings (clickhouse_engine.py): `readonly=1` for the reader, which ClickHouse then lets nobody change, and
   caps on rows, memory and time, which are settings too.
3. This gate, for what chdb leaves open, found by trying: the scalar function `file()` asks for no grant; INTO OUTFILE
   and FROM INFILE are done by the client half of chdb, which is in our process; KILL needs no grant for queries of the
   same ClickHouse user, and writer and reader share it; a table may name a disk of its own; some engines and settings
   that open files are not covered by grants. It looks at tokens (clickhouse_lexer.py), so case, comments and quotes
   change nothing. Table functions are on its list too, so that a hole in one fence is not a hole in the wall.

A stricter reading than ClickHouse's is meant: what is refused for no good reason can be written in another way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise, zip_longest

from pipeline.embedded.clickhouse_errors import ServerError
from pipeline.embedded.clickhouse_lexer import Kind, Token, Unreadable, tokens
from pipeline.embedded.clickhouse_names import (
    ENGINES,
    FORBIDDEN_CALLS,
    FORBIDDEN_NAMES,
    FORBIDDEN_SEQUENCES,
    FORBIDDEN_WORDS,
    NOT_AN_ENGINE,
    READS,
    REFUSED,
    WRITES,
)


class Shape(Enum):
    ROWS = "rows"  # a SELECT: its result can be streamed
    ANSWER = "answer"  # any other statement: its result, if any, is small
    INSERT = "insert"  # an INSERT whose rows follow the statement


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that may run.

    `sql` is the text for ClickHouse, for ROWS without its FORMAT clause, for INSERT without FORMAT or VALUES; `format`
    is what that clause named, None when there was none; `data_at` is where an INSERT's rows begin in the original text.
    """

    shape: Shape
    sql: str
    format: str | None
    data_at: int
    words: frozenset[str]


_AFTER_FORMAT = re.compile(r"[ \t\r]*;?[ \t\r]*\n?")
_END = Token(Kind.SIGN, "", 0, 0)

VALUES = "Values"


def judge(text: str, *, may_write: bool, parameters: Mapping[str, str]) -> Statement:
    """Read `text` (bytes decoded as Latin-1, so that positions are those of bytes). Raises ServerError."""
    try:
        return _read(text, may_write, parameters)
    except Unreadable as error:
        raise _unreadable(error) from None


def free_of_forbidden(values: str) -> bool:
    """True when the rows of an INSERT … VALUES may be evaluated as expressions, which chdb does where asked to."""
    try:
        _check_names(list(tokens(values)))
    except (Unreadable, ServerError):
        return False
    return True


def _unreadable(error: Unreadable) -> ServerError:
    return ServerError.syntax(f"Syntax error, as the embedded ClickHouse reads it: {error}")


def _read(text: str, may_write: bool, parameters: Mapping[str, str]) -> Statement:
    seen: list[Token] = []
    clause: Token | None = None
    depth = 0
    for token in tokens(text):
        if clause is not None:  # this is the word after FORMAT
            return _insert(text, seen, clause, token, parameters)
        depth += (token.sign == "(") - (token.sign == ")")
        if depth == 0 and token.kind is Kind.WORD and seen and seen[0].name == "insert":
            if not may_write:
                raise ServerError.readonly()
            if token.name == "values":
                return _insert(text, seen, token, None, parameters)
            if token.name == "format":
                clause = token
                continue
        seen.append(token)
    while seen and seen[-1].sign == ";":
        seen.pop()
    if not seen:
        raise ServerError.syntax("Empty query")
    _check(seen, may_write, parameters)
    words, end = frozenset(token.name for token in seen), seen[-1].end
    name, start, stop = _format(seen)
    if _verb(seen) not in ("select", "with", "from"):
        return Statement(Shape.ANSWER, text[:end], name, len(text), words)
    return Statement(Shape.ROWS, text[:start] + text[stop:end], name, len(text), words)


def _insert(
    text: str, head: list[Token], clause: Token, name: Token | None, parameters: Mapping[str, str]
) -> Statement:
    _check(head, True, parameters)
    words = frozenset(token.name for token in head)
    if words & {"select", "with"}:
        # The rows of a SELECT are all there is: data after it would need input().
        raise ServerError.refused("INSERT … SELECT with FORMAT or VALUES at its end")
    if name is None:
        return Statement(Shape.INSERT, text[: clause.start], VALUES, clause.end, words)
    if not name.name:
        raise ServerError.syntax("Syntax error: FORMAT wants a name")
    rest = _AFTER_FORMAT.match(text, name.end)
    # ClickHouse takes the name in any case for some formats only; for VALUES it decides how rows are read.
    form = VALUES if name.name == VALUES.lower() else name.text
    return Statement(Shape.INSERT, text[: clause.start], form, rest.end() if rest else name.end, words)


def _verb(seen: list[Token]) -> str:
    first = next((token for token in seen if token.sign != "("), _END)
    return first.name if first.kind is Kind.WORD else ""


def _check(seen: list[Token], may_write: bool, parameters: Mapping[str, str]) -> None:
    verb = _verb(seen)
    if verb in WRITES and not may_write:
        raise ServerError.readonly()
    if verb in REFUSED:
        raise ServerError.refused(verb.upper())
    if verb not in READS | WRITES:
        raise ServerError.syntax(f"Syntax error: no statement begins with {seen[0].text[:40]!r}")
    if any(token.sign == ";" for token in seen):
        raise ServerError.syntax("Syntax error (Multi-statements are not allowed)")
    _check_names(seen)
    _check_identifiers(seen, parameters)
    if verb in ("create", "alter"):
        _check_engines(seen)


def _check_names(seen: list[Token]) -> None:
    for token, follower in zip_longest(seen, seen[1:], fillvalue=_END):
        if token.kind is Kind.WORD and token.name in FORBIDDEN_WORDS:
            raise ServerError.denied(token.text)
        if token.name in FORBIDDEN_NAMES:
            raise ServerError.denied(f"the name '{token.text}'")
        if token.name in FORBIDDEN_CALLS and follower.sign == "(":
            raise ServerError.denied(f"{token.text}()")
        if (token.name, follower.name) in FORBIDDEN_SEQUENCES:
            raise ServerError.denied(f"{token.text} {follower.text}".upper())


def _check_identifiers(seen: list[Token], parameters: Mapping[str, str]) -> None:
    """`{name:Identifier}`: the parameter's value becomes an identifier."""
    for opening, name, colon, kind in zip(seen, seen[1:], seen[2:], seen[3:], strict=False):
        if (opening.sign, colon.sign, kind.name) == ("{", ":", "identifier"):
            value = parameters.get(name.text, "").strip().lower()
            if value in FORBIDDEN_NAMES | FORBIDDEN_CALLS:
                raise ServerError.denied(f"the name '{value}'")


def _check_engines(seen: list[Token]) -> None:
    for token, follower in pairwise(token for token in seen if token.sign != "="):
        if token.name == "engine" and follower.name and follower.name not in ENGINES | NOT_AN_ENGINE:
            raise ServerError.denied(f"the engine {follower.text}")


def _format(seen: list[Token]) -> tuple[str | None, int, int]:
    """The format that a FORMAT clause at the end names, and where the clause is; an empty place when there is none."""
    for clause, name, follower in reversed(list(zip(seen, seen[1:], [*seen[2:], _END], strict=False))):
        if (
            clause.kind is Kind.WORD
            and clause.name == "format"
            and name.name
            and (follower is _END or follower.name == "settings")
        ):
            return name.text, clause.start, name.end
    return None, seen[-1].end, seen[-1].end
