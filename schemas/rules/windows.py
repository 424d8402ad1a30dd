"""Delivery windows: on which days, at which hours and by whose clock mail may go. Pure.

Decides how a window is written and, of any moment, when it is open next. Who has one, and what waits for it, is said
by others. Hours are what a clock on a wall there shows: when it is put forward or back, a window is open for an hour
less or more, or opens where the clock jumps into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 24 * 60  # minutes
_LEAST: Final = 30  # minutes: what waits is let go over the first few
_HOURS: Final = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
# Days to look ahead for an opening: a week, and another where a country left a day out (Samoa had no 30 December 2011).
_AHEAD: Final = 15

_Text = Annotated[str, Field(min_length=1, max_length=64)]


class Window(BaseModel):
    """`days` as "mon-fri" or "tue,thu"; `hours` as "08:00-20:00", over midnight too: a day's hours are then those that
    begin on it; `zone` as "Europe/Berlin".
    """

    # In events too, where others are ignored: without a term that is not known, mail could go when it must not.
    model_config = ConfigDict(frozen=True, extra="forbid")

    days: _Text = "mon-sun"
    hours: _Text = "00:00-24:00"
    zone: _Text

    @field_validator("days")
    @classmethod
    def _known_days(cls, value: str) -> str:
        parse_days(value)
        return value

    @field_validator("hours")
    @classmethod
    def _known_hours(cls, value: str) -> str:
        parse_hours(value)
        return value

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        parse_zone(value)
        return value

    def opens_at(self, moment: float) -> float:
        """`moment` itself while the window is open, else when it opens next. Seconds since the epoch."""
        return _schedule(self.days, self.hours, self.zone).opens_at(moment)


def parse_days(text: str) -> frozenset[int]:
    """0 is Monday. Raises ValueError."""
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (name.strip() for name in part.partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f'days are written as "mon-fri" or "mon,wed,sat", of {", ".join(DAYS)}')
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 + 1 if dash else 1
        found.update((begin + number) % 7 for number in range(length))
    return frozenset(found)


def parse_hours(text: str) -> tuple[int, int]:
    """From and until which minute of the day; until the same or an earlier one: of the day after. Raises ValueError."""
    found = _HOURS.fullmatch(text.strip())
    if found is None:
        raise ValueError('hours are written as "08:00-20:00"')
    begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if begin >= _DAY or end > _DAY or int(found[2]) > 59 or int(found[4]) > 59:
        raise ValueError("hours go from 00:00 to 24:00")
    if (end - begin) % _DAY < _LEAST and end - begin != _DAY:
        raise ValueError(f'hours of less than {_LEAST} minutes; all day is "00:00-24:00"')
    return begin, end


def parse_zone(text: str) -> ZoneInfo:
    """Raises ValueError."""
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):  # a path, a folder, no such zone
        raise ValueError('not a time zone that is known here; they are written as "Europe/Berlin" or "UTC"') from None


@dataclass(frozen=True, slots=True)
class _Schedule:
    days: frozenset[int]
    begin: int
    end: int
    zone: ZoneInfo

    def opens_at(self, moment: float) -> float:
        if self._is_open(moment):
            return moment
        # A closed window opens where the clock shows its first minute, or jumps into it.
        return min(at for at in self._candidates(moment) if at > moment and self._is_open(at))

    def _is_open(self, moment: float) -> bool:
        here = datetime.fromtimestamp(moment, self.zone)
        minute, day = here.hour * 60 + here.minute, here.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)

    def _candidates(self, moment: float) -> Iterator[float]:
        today = datetime.fromtimestamp(moment, self.zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        for number in range(-1, _AHEAD):
            midnight = today + timedelta(days=number)  # by the wall clock
            start = midnight + timedelta(minutes=self.begin)
            yield start.timestamp()
            yield start.replace(fold=1).timestamp()  # the clock may show it twice
            yield from self._jumps(midnight.timestamp(), (midnight + timedelta(days=1)).timestamp())

    def _jumps(self, low: float, high: float) -> Iterator[float]:
        """When within these hours the clock is put forward or back: at a full minute."""
        first, last = int(low // 60), int(high // 60)
        before = self._offset(first)
        if self._offset(last) == before:
            return
        while last - first > 1:
            middle = (first + last) // 2
            if self._offset(middle) == before:
                first = middle
            else:
                last = middle
        yield last * 60.0

    def _offset(self, minute: int) -> timedelta | None:
        return datetime.fromtimestamp(minute * 60, UTC).astimezone(self.zone).utcoffset()


@lru_cache(maxsize=1024)
def _schedule(days: str, hours: str, zone: str) -> _Schedule:
    return _Schedule(parse_days(days), *parse_hours(hours), parse_zone(zone))
