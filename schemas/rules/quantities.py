"""Rates, times and shares as people write them: `100/min`, `90 min`, `50%`. Pure."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}
_NUMBER: Final = r"(\d{1,9}(?:\.\d{1,6})?)"
_DURATION: Final = re.compile(rf"{_NUMBER}\s*([a-z]+)")
_RATE: Final = re.compile(rf"{_NUMBER}\s*/\s*([a-z]+)")
_SHARE: Final = re.compile(rf"{_NUMBER}\s*%")


def seconds(value: object) -> float:
    """`"90 min"`, or a number of seconds. Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is None or found[2] not in _UNITS:
        raise ValueError('a time is written as "90 min", "2 h" or "30 s"')
    return float(found[1]) * _UNITS[found[2]]


def per_second(value: object) -> float:
    """`"100/min"`, or a number a second. Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _RATE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is None or found[2] not in _UNITS:
        raise ValueError('a rate is written as "100/min", "10/s" or "5000/h"')
    return float(found[1]) / _UNITS[found[2]]


def share(value: object) -> float | None:
    """`"50%"` is 0.5; None for what is no percentage."""
    found = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(found[1]) / 100.0 if found else None


def rate_text(rate: float) -> str:
    """A rate for people, in the largest unit that needs no fraction."""
    if not rate:
        return "no limit"
    for name in ("s", "min", "h", "d"):
        if (count := rate * _UNITS[name]) >= 1 and abs(count - round(count)) < 1e-6 * count:
            return f"{round(count)}/{name}"
    return f"{rate:.4g}/s"


def time_text(duration: float) -> str:
    for name in ("d", "h", "min", "s"):
        if duration >= _UNITS[name] and duration % _UNITS[name] == 0:
            return f"{duration / _UNITS[name]:.0f} {name}"
    return f"{duration:g} s"
