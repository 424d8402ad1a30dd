"""What a tenant, a source or a campaign may send on a day, over all owners: a cap that is never exceeded. Pure.

Whose it is says a selector, as overrides have them: `tenant:acme`, `source:a1`, `campaign:acme/spring`.
Nobody deals it out. An owner that needs some draws a portion: a record on `mail.allowances`, a topic of one partition,
whose order all owners read. A draw gets what the draws before it have left of the cap, so each owner knows, without
asking, what it was given, and all that is given together is never above the cap. What an owner was given and has not
used when it ends is lost for the day: nobody knows how much of it was sent. Portions shrink as the cap comes near.

    ask(selector, now)      may one more start? If not, until when to wait; perhaps with a draw to be published
    began(selector, now)    one has started: counted, whatever comes of it
    heard(draw)             a record of the topic, in its order; True when there is something to start with now
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

DAY_S: Final = 86_400
LOOK_S: Final = 0.25  # until who waits for a draw asks again
_PATIENCE_S: Final = 5.0  # until a draw that was not heard of is made again
_PORTION: Final = 100  # of the cap, at most
_PORTION_MAX: Final = 1_000
_OF_THE_REST: Final = 8  # as many owners as this still find something when little is left


@dataclass(frozen=True, slots=True)
class Draw:
    """Of a selector's day, or (day 0) of a rate from a moment on."""

    selector: str
    day: int
    messages: int
    run: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`until` 0: it may start."""

    until: float = 0.0
    draw: Draw | None = None


_YES: Final = Answer()


class _Day:
    __slots__ = ("drawn", "left", "waits_until")

    def __init__(self) -> None:
        self.drawn = 0  # by all, given or not
        self.left = 0  # of what this owner was given
        self.waits_until = 0.0  # for a draw of its own


class Allowances:
    """`run`: this owner's, of this start. `cap`: of a selector, a day; 0: none."""

    def __init__(self, run: str, cap: Callable[[str], int]) -> None:
        self._run = run
        self._cap = cap
        self._days: dict[tuple[str, int], _Day] = {}

    def ask(self, selector: str, now: float) -> Answer:
        cap = self._cap(selector)
        if not cap:
            return _YES
        number = int(now // DAY_S)
        day = self._day(selector, number)
        if day.left > 0:
            return _YES
        if day.drawn >= cap:
            return Answer((number + 1) * DAY_S)
        if now < day.waits_until:
            return Answer(min(day.waits_until, now + LOOK_S))
        day.waits_until = now + _PATIENCE_S
        rest = cap - day.drawn
        portion = max(1, min(cap // _PORTION, _PORTION_MAX, rest // _OF_THE_REST))
        return Answer(now + LOOK_S, Draw(selector, number, portion, self._run))

    def began(self, selector: str, now: float) -> None:
        if self._cap(selector):
            # A message that was asked about before midnight and starts after it is of the new day.
            self._day(selector, int(now // DAY_S)).left -= 1

    def heard(self, draw: Draw) -> bool:
        day = self._day(draw.selector, draw.day)
        given = max(0, min(draw.messages, self._cap(draw.selector) - day.drawn))
        day.drawn += draw.messages
        if draw.run != self._run:
            return False
        day.left += given
        day.waits_until = 0.0
        return True

    def _day(self, selector: str, number: int) -> _Day:
        found = self._days.get((selector, number))
        if found is None:
            for old in [key for key in self._days if key[1] < number - 1]:
                del self._days[old]
            found = self._days[selector, number] = _Day()
        return found
