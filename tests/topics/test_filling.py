"""How long batches fill: little where they are quick, up to a bound where they are slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.filling import Filling

LEAST, MOST = 0.005, 0.05


def busy(took: float, cycles: int = 50) -> tuple[Filling, float]:
    """One batch after the other, each as soon as it may begin."""
    filling, now = Filling(LEAST, MOST), 1000.0
    for _ in range(cycles):
        now += filling.wait(now) + took
        filling.ended(took, now)
    return filling, now


@pytest.mark.parametrize(("took", "fills"), [(0.001, 0.005), (0.004, 0.008), (0.01, 0.02), (0.025, 0.05), (0.2, 0.05)])
def test_it_follows_what_batches_take(took: float, fills: float) -> None:
    filling, now = busy(took)
    assert filling.wait(now) == pytest.approx(fills, rel=0.01)


def test_after_a_pause_nobody_waits_for_company() -> None:
    filling, now = busy(0.02)
    assert filling.wait(now + 0.015) == pytest.approx(0.025, rel=0.01)
    assert filling.wait(now + 1.0) == LEAST


def test_the_first_goes_at_once() -> None:
    assert Filling(LEAST, MOST).wait(5.0) == LEAST


@given(st.lists(st.floats(0, 30), max_size=20), st.floats(0, 1))
def test_it_has_bounds(taken: list[float], pause: float) -> None:
    filling, now = Filling(LEAST, MOST), 0.0
    for took in taken:
        now += took
        filling.ended(took, now)
    assert LEAST <= filling.wait(now + pause) <= MOST
