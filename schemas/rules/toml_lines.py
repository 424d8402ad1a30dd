"""On which line each table and key of a TOML document stands: the standard library's parser does not tell.

For messages to people, so it may be approximate: what it does not find is looked for one level up. Pure.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from typing import Any, Final

Path = tuple[str | int, ...]

_HEADER: Final = re.compile(r"\s*(\[\[?)[^\[\]=]+\]\]?\s*(#.*)?")
_KEY: Final = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\n]*"))*)\s*="""
)


def lines(text: str) -> dict[Path, int]:
    """Line numbers, from 1, of a document that is known to be TOML."""
    found: dict[Path, int] = {}
    table: Path = ()
    counts: Counter[Path] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            names = _names(line.partition("#")[0] if '"' not in line else line)
            if names is None:
                continue
            if header[1] == "[[":
                table = (*names, counts[names])
                counts[names] += 1
            else:
                table = names
            found.setdefault(table, number)
        elif (key := _KEY.match(line)) and (names := _names(f"{key[1]} = 0")) is not None:
            found.setdefault((*table, *names), number)
    return found


def nearest(found: dict[Path, int], path: Path) -> int:
    while path:
        if path in found:
            return found[path]
        path = path[:-1]
    return 1


def _names(fragment: str) -> Path | None:
    """The path of one header or key, as the parser reads it."""
    try:
        here: Any = tomllib.loads(fragment)
    except tomllib.TOMLDecodeError:
        return None  # within a text of several lines
    names: list[str] = []
    while here:
        if isinstance(here, list):
            here = here[0]
            continue
        if not isinstance(here, dict):
            break
        name, here = next(iter(here.items()))
        names.append(name)
    return tuple(names)
