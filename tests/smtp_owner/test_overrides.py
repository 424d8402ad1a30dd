"""What overrides leave of the ceilings, and that they let go in small steps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.smtp.overrides import STEP_S, STEPS, Action, Override, Overrides
from sinks.smtp.policy import Limits, Shape

LANE = "default/yahoo#0"
CEILINGS = Limits(connections=10, messages_per_second=100.0)
FREE = Limits(connections=10)


def override(action: Action, value: float = 0.0, selector: str = "site:default/yahoo", *, at: float = 0.0) -> Override:
    return Override(selector, action, value, at, at + 600)


def holding(*overrides: Override) -> Overrides:
    held = Overrides()
    for each in overrides:
        assert held.put(each, each.since)
    return held


def test_nothing_is_less_without_an_override() -> None:
    assert Overrides().shape(LANE, CEILINGS, 0.0) == Shape(CEILINGS)


@pytest.mark.parametrize("selector", ["site:default/yahoo", "site:yahoo"])
def test_a_site_is_held_until_its_time(selector: str) -> None:
    held = holding(override(Action.SUSPEND, selector=selector))
    assert held.shape(LANE, CEILINGS, 599.0) == Shape(CEILINGS, 600.0, 600.0)
    assert held.shape("default/google#0", CEILINGS, 599.0) == Shape(CEILINGS)
    other_pool = held.shape("other/yahoo#0", CEILINGS, 599.0)
    assert (other_pool.suspended_until == 600.0) is (selector == "site:yahoo")


def test_less_is_what_the_override_says_and_never_more_than_the_ceiling() -> None:
    held = holding(override(Action.LIMIT_RATE, 0.5), override(Action.LIMIT_CONNECTIONS, 2))
    assert held.shape(LANE, CEILINGS, 1.0).limits == Limits(connections=2, messages_per_second=0.5)
    assert held.shape(LANE, FREE, 1.0).limits == Limits(connections=2, messages_per_second=0.5)
    tight = Limits(connections=1, messages_per_second=0.1)
    assert held.shape(LANE, tight, 1.0).limits == tight


@pytest.mark.parametrize("ceilings", [CEILINGS, FREE], ids=["with a rate", "without"])
@pytest.mark.parametrize(
    "held",
    [
        holding(override(Action.SUSPEND)),
        holding(override(Action.LIMIT_RATE, 1.0), override(Action.LIMIT_CONNECTIONS, 1)),
    ],
    ids=["suspended", "slowed"],
)
def test_what_was_taken_comes_back_step_by_step(held: Overrides, ceilings: Limits) -> None:
    now, seen = 600.0, []
    while (shape := held.shape(LANE, ceilings, now)).again_at < 1e9:
        assert now < shape.again_at <= now + STEP_S
        assert shape.suspended_until == 0.0
        seen.append(shape.limits)
        now = shape.again_at
    assert shape == Shape(ceilings)
    assert len(seen) == STEPS - 1
    assert seen[0].messages_per_second <= 1.0 + 100.0 / STEPS
    assert seen[0].connections <= 2
    rates = [limits.messages_per_second for limits in seen]
    assert all(after - before == pytest.approx(100.0 / STEPS) for before, after in pairwise(rates))
    connections = [limits.connections for limits in (*seen, ceilings)]
    assert all(0 <= after - before <= 1 for before, after in pairwise(connections))


def test_the_newest_word_holds_whatever_the_order_of_arrival() -> None:
    old, new = override(Action.LIMIT_RATE, 5.0, at=1.0), override(Action.LIMIT_RATE, 2.0, at=2.0)
    held = holding(new)
    assert not held.put(old, 3.0)
    assert not held.put(new, 3.0)  # our own, as the view tells it
    assert held.shape(LANE, CEILINGS, 3.0).limits.messages_per_second == 2.0


def test_a_lift_ends_what_came_before_it() -> None:
    held = holding(override(Action.SUSPEND, at=1.0), override(Action.LIFT, at=2.0))
    assert held.shape(LANE, CEILINGS, 3.0) == Shape(CEILINGS)
    assert held.in_force(3.0) == []
    assert held.put(override(Action.SUSPEND, at=4.0), 4.0)
    assert held.shape(LANE, CEILINGS, 5.0).suspended_until == 604.0


def test_a_sender_waits_where_it_is_suspended() -> None:
    held = holding(
        override(Action.SUSPEND, selector="tenant:acme>yahoo"),
        override(Action.SUSPEND, selector="campaign:acme/spring"),
    )

    def waits_for(tenant: str, campaign: str | None, site: str, now: float) -> str:
        found = held.of_sender(tenant, campaign, site, now)
        return found.selector if found is not None else ""

    assert waits_for("acme", None, "yahoo", 1.0) == "tenant:acme>yahoo"
    assert waits_for("acme", "autumn", "google", 1.0) == ""
    assert waits_for("acme", "spring", "google", 1.0) == "campaign:acme/spring"
    assert waits_for("other", "spring", "google", 1.0) == ""
    assert waits_for("acme", "spring", "yahoo", 600.0) == ""


def test_a_source_rests_at_a_site_or_everywhere() -> None:
    held = holding(
        override(Action.SUSPEND, selector="source:192.0.2.1>yahoo"),
        override(Action.SUSPEND, selector="source:192.0.2.2"),
    )
    assert [held.source_until("192.0.2.1", site, 1.0) for site in ("yahoo", "google")] == [600.0, 0.0]
    assert [held.source_until("192.0.2.2", site, 1.0) for site in ("yahoo", "google")] == [600.0, 600.0]
    assert held.source_until("192.0.2.2", "yahoo", 601.0) == 0.0


def test_what_is_over_is_forgotten() -> None:
    held = holding(override(Action.SUSPEND), override(Action.SUSPEND, selector="site:google"))
    assert len(held.in_force(1.0)) == 2
    assert len(held.in_force(600 + STEP_S * STEPS)) == 0
    held.put(override(Action.SUSPEND, selector="site:gmx", at=1e6), 1e6)
    assert held.find("site:google", Action.SUSPEND) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Action.SUSPEND, Action.LIMIT_RATE, Action.LIMIT_CONNECTIONS, Action.LIFT]),
            st.floats(0.02, 200.0),
            st.floats(0.0, 2_000.0),
        ),
        max_size=8,
    ),
    st.floats(0.0, 10_000.0),
)
def test_limits_stay_within_the_ceilings_and_recover(found: list[tuple[Action, float, float]], now: float) -> None:
    held = Overrides()
    for action, value, at in found:
        held.put(override(action, value, at=at), at)
    shape = held.shape(LANE, CEILINGS, now)
    assert 1 <= shape.limits.connections <= CEILINGS.connections
    assert 0 < shape.limits.messages_per_second <= CEILINGS.messages_per_second
    assert shape.again_at > now
    assert held.shape(LANE, CEILINGS, 2_600.0 + STEP_S * STEPS) == Shape(CEILINGS)
