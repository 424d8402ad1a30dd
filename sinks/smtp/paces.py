"""How fast a tenant, a source or a campaign may send, over all owners together. Pure.

As with allowances.py nobody deals it out: an owner that needs some draws a stretch of the rate's time line, and the
order of the draws on `mail.allowances` says whose stretch comes when. A stretch begins where the one before it ends, or
when it was drawn if that is later (GCRA, with the log as its state), so what all owners send together follows the rate,
however demand is spread. An owner draws its next stretch while it still uses one: twice as long a one after one that it
used up, as long as it had use for after one that it did not. What it has no mail for is lost; the rate is not exceeded
for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sinks.smtp.allowances import LOOK_S, Answer, Draw

_STRETCH_S: Final = 2.0
_PATIENCE_S: Final = 5.0  # until a draw that was not heard of is made again
_EARLY_S: Final = 0.05  # by which a message may be ahead of its time: nobody looks at it more often
_AHEAD_MAX_S: Final = 30.0  # a clock far ahead must not take the time line with it


@dataclass(slots=True)
class _Stretch:
    messages: int
    next_at: float
    left: int
    ends: float


class _Line:
    __slots__ = ("mine", "tat", "waits_until", "wants")

    def __init__(self) -> None:
        self.tat = 0.0  # where the next stretch begins, as the log has it
        self.mine: deque[_Stretch] = deque()
        self.waits_until = 0.0  # for a draw of its own
        self.wants = 1  # messages of the next stretch


class Paces:
    """`run`: this owner's, of this start. `rate`: of a selector, messages a second; 0: none."""

    def __init__(self, run: str, rate: Callable[[str], float]) -> None:
        self._run = run
        self._rate = rate
        self._lines: dict[str, _Line] = {}

    def ask(self, selector: str, now: float) -> Answer:
        """May one more start? `Answer.draw` may come with either answer."""
        rate = self._rate(selector)
        if not rate:
            return Answer()
        line = self._lines.setdefault(selector, _Line())
        most = max(1, round(rate * _STRETCH_S))
        while line.mine and (line.mine[0].left <= 0 or line.mine[0].ends + _STRETCH_S < now):
            over = line.mine.popleft()
            used = over.messages - over.left
            line.wants = min(most, 2 * over.messages if over.left <= 0 else max(1, used))
        draw = None
        if sum(each.left for each in line.mine) <= line.wants // 2 and now >= line.waits_until:
            line.waits_until = now + _PATIENCE_S
            draw = Draw(selector, 0, line.wants, self._run, now)
        if not line.mine:
            return Answer(now + LOOK_S, draw)
        next_at = line.mine[0].next_at
        return Answer(next_at if next_at > now + _EARLY_S else 0.0, draw)

    def began(self, selector: str, now: float) -> None:
        line, rate = self._lines.get(selector), self._rate(selector)
        if line is not None and line.mine and rate:
            line.mine[0].left -= 1
            line.mine[0].next_at += 1.0 / rate

    def heard(self, draw: Draw, now: float) -> bool:
        """A record of the topic, in its order. True when there is something to start with, now or soon."""
        rate = self._rate(draw.selector)
        if not rate:
            return False
        line = self._lines.setdefault(draw.selector, _Line())
        begins = max(line.tat, min(draw.at, now + _AHEAD_MAX_S))
        line.tat = begins + draw.messages / rate
        if draw.run != self._run:
            return False
        line.mine.append(_Stretch(draw.messages, begins, draw.messages, line.tat))
        line.waits_until = 0.0
        return True
