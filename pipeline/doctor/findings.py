"""What was found, as one line: how grave it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_SHOWN: Final = 160  # characters of a stranger's text


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """`asset`: what it is about. `todo` is empty when there is nothing to do."""

    level: Level
    check: str
    asset: str
    said: str
    todo: str = ""


def ok(check: str, asset: str, said: str) -> Finding:
    return Finding(Level.OK, check, asset, said)


def warning(check: str, asset: str, said: str, todo: str) -> Finding:
    return Finding(Level.WARNING, check, asset, said, todo)


def error(check: str, asset: str, said: str, todo: str) -> Finding:
    return Finding(Level.ERROR, check, asset, said, todo)


def quoted(text: str | bytes) -> str:
    """What a stranger's DNS says, safe to print, and not for ever."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    cut = decoded[:_SHOWN] + ("…" if len(decoded) > _SHOWN else "")
    return "".join(c if c.isprintable() else "·" for c in cut)
