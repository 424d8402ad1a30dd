"""Localparts that force an outcome at any domain with mailboxes: `bounce+550@…`, `defer+451x2@…`, `open@…`.

Pure. Decides what such a name asks for; `behaviour` and `people` do it. A plus sign and a tag at the end make as many
different addresses as wanted: `open+17@`, `bounce+550+ann@`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """The first word of a magic localpart."""

    ACCEPT = "accept"
    BOUNCE = "bounce"
    BLOCK = "block"
    FULL = "full"
    DEFER = "defer"
    GREYLIST = "greylist"
    SLOW = "slow"
    DROP = "drop"
    LATE = "late"
    COMPLAINT = "complaint"
    OPEN = "open"
    CLICK = "click"
    UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True, slots=True)
class Magic:
    """A forced outcome. `argument` is a reply code, an enhanced status or a place; `times` how often it happens."""

    act: Act
    argument: str = ""
    times: int = 1


_ACTS = {act.value: act for act in Act}
_ARGUMENTS = {
    Act.BOUNCE: (re.compile(r"5\d\d|5\.\d{1,3}\.\d{1,3}"), "550"),
    Act.FULL: (re.compile(r"452|552"), "552"),
    Act.DEFER: (re.compile(r"4\d\d"), "451"),
    Act.DROP: (re.compile(r"rcpt|data|dot"), "dot"),
    Act.LATE: (re.compile(r"[45]\.\d{1,3}\.\d{1,3}"), "5.1.1"),
}
_TIMES = re.compile(r"(.*[^x])x([1-9]\d?)")


def read(localpart: str) -> Magic | None:
    """The outcome that a localpart forces, or None for a plain name. A word that is no argument is a tag."""
    word, _, rest = localpart.lower().partition("+")
    act = _ACTS.get(word)
    if act is None:
        return None
    if act not in _ARGUMENTS:
        return Magic(act)
    pattern, default = _ARGUMENTS[act]
    first = rest.partition("+")[0]
    counted = _TIMES.fullmatch(first) if act in (Act.DEFER, Act.DROP) else None
    argument, times = (counted[1], int(counted[2])) if counted else (first, 1)
    return Magic(act, argument, times) if pattern.fullmatch(argument) else Magic(act, default)
