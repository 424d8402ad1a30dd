"""How an owner follows the operators' controls: records in, verdicts and changes out."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.signing import signed
from schemas.state import ControlSet
from schemas.tokens import Keyring
from sinks.smtp.commands import Move, Park, Refuse
from sinks.smtp.desk import Desk, key_of
from tests.smtp_owner.world import command
from topics.record import Record
from topics.registry import CONTROLS

KEYRING = Keyring({"a": b"k" * 32}, "a")
AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
NOW = AT.timestamp()


def desk(*events: ControlSet | bytes | None) -> Desk:
    """One that has read these."""
    found = Desk(KEYRING, {"default": ("a",), "other": ()}, "w1", lambda: 4)
    for event in events:
        found.feed(record(event))
    found.caught_up(0.0)
    return found


def record(event: ControlSet | bytes | None) -> Record:
    value = encode(event, source="cli").value if isinstance(event, ControlSet) else event
    return Record(CONTROLS.name, 0, 0, b"c-1", value, [], 0)


def control(action: str = "suspend", *, sign: bool = True, **fields: Any) -> ControlSet:
    now = datetime.now(UTC)  # the desk drops what is over by the clock
    values: dict[str, Any] = {"control_id": "c-1", "reason": "why", "selector": {"tenant": "default"}, **fields}
    event = ControlSet.from_cause(str(now), occurred_at=now, action=action, **values)
    return signed(event, KEYRING) if sign else event


def waiting() -> dict[str, str]:
    return {"tenant": "default", "accepted_before": datetime.now(UTC).isoformat()}


def test_a_control_is_obeyed_and_its_change_told() -> None:
    found = desk()
    found.take(NOW)
    assert found.admit(command("m"), NOW) is None
    found.feed(record(control()))
    assert found.admit(command("m"), NOW) == Park(key_of("c-1"))
    changed = found.take(NOW)
    assert changed is not None
    assert (changed.keys, changed.review) == ((key_of("c-1"),), False)
    assert found.take(NOW) is None
    found.feed(record(control("resume")))
    assert found.admit(command("m"), NOW) is None
    changed = found.take(NOW)
    assert changed is not None
    assert changed.keys == (key_of("c-1"),)


def test_a_purge_parks_and_then_refuses_and_says_when() -> None:
    now = time.time()
    found = desk(control("purge", selector=waiting(), until=datetime.now(UTC) + timedelta(minutes=1)))
    parked = found.admit(command("m"), now)
    assert isinstance(parked, Park)
    assert parked.until == pytest.approx(now + 60, abs=5)
    first = found.take(now)
    assert first is not None
    assert not first.review
    assert found.take(now + 30) is None
    over = found.take(now + 70)
    assert over is not None
    assert over.review
    refused = found.admit(command("m"), now + 70)
    assert isinstance(refused, Refuse)
    assert refused.result.reason == "c-1 why"


def test_a_purge_whose_grace_ended_before_the_start_is_seen_to() -> None:
    found = desk(control("purge", selector=waiting(), until=datetime.now(UTC)))
    changed = found.take(time.time() + 1)
    assert changed is not None
    assert changed.review


def test_a_move_goes_to_the_lane_of_the_other_pool() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    found = desk(control("move", selector=waiting(), until=until, arguments={"pool": "other"}))
    moved = found.admit(command("m"), time.time())
    assert isinstance(moved, Move)
    assert moved.to.lane == "other/a.test#0"
    assert moved.to.command.pool == "other"
    assert found.admit(moved.to.command, time.time()) is None


def test_a_suspension_of_a_lane_is_a_gate() -> None:
    found = desk(control(selector={"site": "a.test"}))
    assert found.gate("default/a.test#0", NOW) == Park(key_of("c-1"))
    assert found.gate("default/b.test#0", NOW) is None


def test_a_suspended_source_is_told_once_and_again_when_it_may_go_on() -> None:
    found = desk(control())
    assert (changed := found.take(NOW)) is not None
    assert not changed.sources
    found.feed(record(control(control_id="c-2", selector={"source": "a"})))
    assert (changed := found.take(NOW)) is not None
    assert changed.sources
    assert found.source_until("a", "a.test", NOW) == inf
    found.feed(record(control(control_id="c-3")))
    assert (changed := found.take(NOW)) is not None
    assert not changed.sources
    found.feed(record(control("resume", control_id="c-2", selector={"source": "a"})))
    assert (changed := found.take(NOW)) is not None
    assert changed.sources
    assert found.source_until("a", "a.test", NOW) == 0.0


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"{nonsense", "JSON"),
        (b"{}", "unknown event type"),
        (b'{"type":"' + b"x" * 20_000 + b'"}', "more than"),
        (None, "not a control"),
        (control("resume", sign=False), "not signed"),
        (
            control(
                "move",
                control_id="c-2",
                selector=waiting(),
                until=AT + timedelta(days=9999),
                arguments={"pool": "mars"},
            ),
            "pool mars",
        ),
    ],
)
def test_what_counts_for_nothing_takes_nothing_back_and_is_logged(bad: ControlSet | bytes | None, said: str) -> None:
    found = desk(control())
    found.take(NOW)
    with capture_logs() as logs:
        found.feed(record(bad))
    assert [said in entry["reason"] for entry in logs] == [True]
    assert found.admit(command("m"), NOW) is not None
    assert found.take(NOW) is None


def test_reading_all_again_changes_nothing() -> None:
    set_, lifted = control(), control("resume")
    found = desk(set_, lifted)
    found.read_again()
    for event in (set_, lifted):
        found.feed(record(event))
    found.caught_up(1.0)
    assert found.admit(command("m"), NOW) is None


def test_it_is_of_no_age_before_it_has_read_all() -> None:
    found = Desk(KEYRING, {"default": ()}, "w1", lambda: 4)
    assert found.age == float("inf")
    assert not found.wait_ready(0)
