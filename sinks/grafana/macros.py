"""What Grafana's ClickHouse plugin and Grafana itself put into a panel's SQL before it is asked, for tests and exports.

Only the macros that our panels use; one that is not known is an error, so that a panel cannot rely on it unseen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

_VARIABLE: Final = re.compile(r"\$\{(\w+):sqlstring\}")
_MACRO: Final = re.compile(r"\$__(\w+)(?:\((\w+)\))?")


class UnknownMacro(ValueError):
    """The SQL asks for something that is not expanded here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A look at a dashboard: its time range, the width of a point in it, and the variables chosen."""

    since: datetime
    until: datetime
    interval_s: int = 60
    variables: Mapping[str, Sequence[str]] = field(default_factory=dict)


def expand(sql: str, asked: Asked) -> str:
    """The SQL as ClickHouse gets it. Raises UnknownMacro."""
    since, until = (f"toDateTime({int(at.timestamp())})" for at in (asked.since, asked.until))

    def variable(found: re.Match[str]) -> str:
        if found[1] not in asked.variables:
            raise UnknownMacro(f"variable {found[1]}")
        return ",".join("'" + value.replace("'", "''") + "'" for value in asked.variables[found[1]])

    def macro(found: re.Match[str]) -> str:
        match found[1], found[2]:
            case "timeFilter", str(column):
                return f"{column} >= {since} AND {column} <= {until}"
            case "timeInterval", str(column):
                return f"toStartOfInterval(toDateTime({column}), INTERVAL {asked.interval_s} second)"
            case "interval_s", None:
                return str(asked.interval_s)
            case _:
                raise UnknownMacro(found[0])

    # Macros first: what a variable holds is text, never a macro.
    expanded = _VARIABLE.sub(variable, _MACRO.sub(macro, sql))
    if "$" in re.sub("'[^']*'", "", expanded):
        raise UnknownMacro("a dollar sign is left over")
    return expanded
