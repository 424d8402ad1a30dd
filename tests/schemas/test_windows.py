"""Delivery windows: how they are written, and when they open, on the days too when the clock is put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.rules.windows import DAYS, Window, parse_days

BERLIN = ZoneInfo("Europe/Berlin")


def opens(text: str, **fields: Any) -> str:
    """Both as the wall clock of the zone shows them."""
    window = Window(**{"zone": "Europe/Berlin", **fields})
    zone = ZoneInfo(window.zone)
    moment = datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()
    return datetime.fromtimestamp(window.opens_at(moment), zone).isoformat(sep=" ", timespec="minutes")


@pytest.mark.parametrize(
    ("moment", "fields", "expected"),
    [
        ("2026-11-23 09:30", {"hours": "08:00-20:00"}, "2026-11-23 09:30+01:00"),  # open
        ("2026-11-23 08:00", {"hours": "08:00-20:00"}, "2026-11-23 08:00+01:00"),
        ("2026-11-23 07:59", {"hours": "08:00-20:00"}, "2026-11-23 08:00+01:00"),
        ("2026-11-23 20:00", {"hours": "08:00-20:00"}, "2026-11-24 08:00+01:00"),
        ("2026-11-20 20:00", {"days": "mon-fri", "hours": "08:00-20:00"}, "2026-11-23 08:00+01:00"),  # a Friday
        ("2026-11-21 12:00", {"days": "mon-fri"}, "2026-11-23 00:00+01:00"),
        ("2026-11-24 12:00", {"days": "tue", "hours": "08:00-09:00"}, "2026-12-01 08:00+01:00"),  # a week
        ("2026-11-23 12:00", {"days": "sat-mon"}, "2026-11-23 12:00+01:00"),
        ("2026-11-24 12:00", {"days": "SAT - MON , wed"}, "2026-11-25 00:00+01:00"),
        # Over midnight: Friday's hours end on Saturday.
        ("2026-11-21 03:00", {"days": "fri", "hours": "22:00-06:00"}, "2026-11-21 03:00+01:00"),
        ("2026-11-21 06:00", {"days": "fri", "hours": "22:00-06:00"}, "2026-11-27 22:00+01:00"),
        ("2026-11-20 03:00", {"days": "fri", "hours": "22:00-06:00"}, "2026-11-20 22:00+01:00"),
        ("2026-11-23 12:00", {"hours": "22:00-00:00"}, "2026-11-23 22:00+01:00"),
        # 29 March 2026: 02:00 is 03:00. 25 October: 03:00 is 02:00 once more.
        ("2026-03-28 21:00", {"hours": "08:00-20:00"}, "2026-03-29 08:00+02:00"),
        ("2026-10-24 21:00", {"hours": "08:00-20:00"}, "2026-10-25 08:00+01:00"),
        ("2026-03-29 01:00", {"hours": "02:30-20:00"}, "2026-03-29 03:00+02:00"),
        ("2026-03-29 01:00", {"hours": "02:00-03:00"}, "2026-03-30 02:00+02:00"),  # hours that are not there
        ("2026-10-25 01:00", {"hours": "02:30-20:00"}, "2026-10-25 02:30+02:00"),  # twice there: at the first
        ("2026-10-25 02:50", {"hours": "01:00-02:45"}, "2026-10-25 02:00+01:00"),  # the clock jumps back into it
        ("2026-11-23 12:00", {"zone": "America/New_York", "hours": "09:00-17:00"}, "2026-11-23 12:00-05:00"),
    ],
)
def test_opens(moment: str, fields: dict[str, Any], expected: str) -> None:
    assert opens(moment, **fields) == expected


def test_a_country_that_leaves_a_day_out() -> None:
    """Samoa had no Friday, 30 December 2011."""
    assert opens("2011-12-29 12:00", days="fri", zone="Pacific/Apia") == "2012-01-06 00:00+14:00"


hours = st.tuples(st.integers(0, 95), st.integers(1, 96)).filter(lambda pair: (pair[1] - pair[0]) % 96 >= 2)


@settings(max_examples=60, deadline=None)
@given(
    days=st.sets(st.sampled_from(DAYS), min_size=1),
    quarters=hours,
    zone=st.sampled_from(
        ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
    ),
    minute=st.integers(0, 366 * 24 * 60),
)
def test_opens_when_the_wall_clock_first_shows_it(
    days: set[str], quarters: tuple[int, int], zone: str, minute: int
) -> None:
    begin, end = (f"{each // 4:02}:{each % 4 * 15:02}" for each in quarters)
    window = Window(days=",".join(days), hours=f"{begin}-{end}", zone=zone)
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    expected = at
    while not shown(expected.astimezone(ZoneInfo(zone)), {DAYS.index(day) for day in days}, quarters):
        expected += timedelta(minutes=15 - expected.minute % 15)
    assert datetime.fromtimestamp(window.opens_at(at.timestamp()), UTC) == expected


def shown(here: datetime, days: set[int], quarters: tuple[int, int]) -> bool:
    begin, end = quarters
    quarter = here.hour * 4 + here.minute // 15
    yesterday = (here.date() - timedelta(days=1)).weekday()
    if begin < end:
        return here.weekday() in days and begin <= quarter < end
    return (here.weekday() in days and quarter >= begin) or (yesterday in days and quarter < end)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"zone": "Europe/Berln"}, "zone"),
        ({"zone": "../../etc/localtime"}, "zone"),
        ({"zone": "Europe"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"zone": "UTC", "days": "mo-fr"}, "days"),
        ({"zone": "UTC", "days": ""}, "days"),
        ({"zone": "UTC", "days": "mon,,tue"}, "days"),
        ({"zone": "UTC", "days": "mon-"}, "days"),
        ({"zone": "UTC", "hours": "8-20"}, "hours"),
        ({"zone": "UTC", "hours": "08:00-24:01"}, "hours"),
        ({"zone": "UTC", "hours": "24:00-08:00"}, "hours"),
        ({"zone": "UTC", "hours": "08:60-09:30"}, "hours"),
        ({"zone": "UTC", "hours": "08:00-08:00"}, "hours"),
        ({"zone": "UTC", "hours": "08:00-08:29"}, "hours"),
        ({"zone": "UTC", "hour": "08:00-20:00"}, "hour"),
        ({}, "zone"),
    ],
)
def test_what_is_no_window_is_refused_by_name(fields: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Window(**fields)
    assert [error["loc"] for error in refused.value.errors()] == [(told,)]


def test_all_day() -> None:
    window = Window(zone="UTC")
    assert parse_days(window.days) == frozenset(range(7))
    assert window.opens_at(1_760_000_000.5) == 1_760_000_000.5
