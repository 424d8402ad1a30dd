"""The demo's judgement and audience: pure parts, no services."""

from __future__ import annotations

import pytest

from pipeline.demo.audience import people
from pipeline.demo.verdict import compare
from schemas.address import parse


@pytest.mark.parametrize(
    ("statuses", "seen", "lost", "duplicates", "phantom"),
    [
        ({"a": "delivered", "b": "bounced"}, ["a"], (), (), ()),
        ({"a": "delivered"}, [], ("a",), (), ()),
        ({"a": "in_flight"}, [], ("a",), (), ()),
        ({}, [], ("(never accepted)",), (), ()),
        ({"a": "delivered"}, ["a", "a"], (), ("a",), ()),
        ({"a": "suppressed"}, ["a"], (), (), ("a",)),
        ({"a": "delivered"}, ["a", "stranger"], (), (), ("stranger",)),
        ({"a": "unknown"}, ["a"], (), (), ()),
        ({"a": "unknown"}, [], (), (), ()),
    ],
)
def test_the_witness_is_believed(
    statuses: dict[str, str],
    seen: list[str],
    lost: tuple[str, ...],
    duplicates: tuple[str, ...],
    phantom: tuple[str, ...],
) -> None:
    verdict = compare(max(1, len(statuses)), statuses, seen)
    assert (verdict.lost, verdict.duplicates, verdict.phantom) == (lost, duplicates, phantom)
    assert verdict.clean == (not (lost or duplicates or phantom))


@pytest.mark.parametrize("wanted", [1, 2_000, 4_500])
def test_the_audience_is_as_many_different_people_as_asked_for(wanted: int) -> None:
    found = people(wanted)
    assert len({person.email for person in found}) == wanted
    assert all(parse(person.email).domain.endswith(".test") for person in found)
