"""Regular expressions from configuration: bounded in length and in the work that any text can make of them.

Texts come from strangers, patterns from an operator who did not have a stranger in mind. A pattern is taken when the
number of ways in which it can be tried at one place of a text is small, whatever the text: no repeat of what can match
in more than one way (`(a+)*`), no back-references or look-around, and few variable repeats in a row. Pure.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

LENGTH_MAX: Final = 400
TEXT_MAX: Final = 512  # of a reply, as facts keep it
_WAYS_MAX: Final = 10_000

# Python's own parser: what a pattern means is not guessed at here. It has no public name.
_parser: Any = importlib.import_module("re._parser")


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, to be searched for in any case. Raises ValueError that says what to write instead."""
    if len(pattern) > LENGTH_MAX:
        raise ValueError(f"the pattern is longer than {LENGTH_MAX} characters")
    try:
        tree = _parser.parse(pattern)
        found = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    except (RecursionError, OverflowError):
        raise ValueError("no regular expression: nested too deep, or repeated too often") from None
    ways = _ways(tree)
    if ways > _WAYS_MAX:
        raise ValueError(r"the pattern can be tried in too many ways: write \d{1,3} for \d+, .{0,40} for .*")
    if found.search(""):
        raise ValueError("the pattern matches everything")
    return found


def _ways(sequence: Any) -> int:
    """In how many ways a sequence can be tried at one place, at most."""
    ways = 1
    for code, argument in sequence:
        ways = min(ways * _ways_of(str(code), argument), _WAYS_MAX * TEXT_MAX)
    return ways


def _ways_of(code: str, argument: Any) -> int:
    match code:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = argument
            of_one = _ways(inner)
            if of_one > 1 and int(most) > 1:
                raise ValueError("a repeat of something that can match in several ways, such as (a+)* or (a|b)*")
            return (min(int(most), TEXT_MAX) - min(int(least), TEXT_MAX) + 1) * of_one
        case "SUBPATTERN":
            return _ways(argument[3])
        case "BRANCH":
            return sum(_ways(branch) for branch in argument[1])
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "AT":
            return 1
    raise ValueError("look-around, back-references and conditions are not taken")
