"""Operators' controls: what a selector means, which control decides, and which events count at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ids
from schemas.envelope import Stream
from schemas.lanes import Inline, MessageQueue
from schemas.rules.controls import IN_FORCE_MAX, PURGED_FOR, ControlError, Controls, read
from schemas.rules.register import Register
from schemas.rules.selector import SelectorError, parse
from schemas.signing import is_genuine, signed
from schemas.state import ControlSet
from schemas.tokens import Keyring

AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
NOW = AT.timestamp()
HOUR = 3_600.0
POOLS = {"default": ("a", "b"), "other": ("b",), "third": ()}
KEYRING = Keyring({"a": b"k" * 32, "b": b"l" * 32}, "a")


def message(**fields: Any) -> MessageQueue:
    values: dict[str, Any] = {
        "stream": Stream.MARKETING, "campaign_id": "spring", "recipient_domain": "example.test", "provider": "google",
        "site": "google", "pool": "default", "tenant": "default", "accepted_at": AT - timedelta(hours=1),
    }  # fmt: skip
    return MessageQueue.from_cause(
        "m", occurred_at=AT, message_id=ids.message_id("default", "m"), recipient_id="r", recipient="ann@example.test",
        idempotency_key="m", content=Inline(from_="news@brand.test", subject="Hello"),
        expires_at=AT + timedelta(days=1), **{**values, **fields},
    )  # fmt: skip


def event(action: str = "suspend", selector: dict[str, str] | None = None, **fields: Any) -> ControlSet:
    values: dict[str, Any] = {"control_id": "c-1", "reason": "wrong link", "occurred_at": AT, **fields}
    if action in ("purge", "move"):
        values.setdefault("until", AT + timedelta(hours=1))
    at = values.pop("occurred_at")
    chosen = {"campaign": "spring"} if selector is None else selector
    if action in ("purge", "move"):
        chosen = {"accepted_before": AT.isoformat(), **chosen}
    return ControlSet.from_cause(
        f"{values['control_id']}/{action}/{at}", occurred_at=at, action=action, selector=chosen, **values
    )


def in_force(*events: ControlSet) -> Controls:
    return Controls(control for each in events if (control := read(each, POOLS)) is not None)


class TestSelector:
    @pytest.mark.parametrize(
        ("given", "canonical"),
        [
            ({"stream": "marketing", "provider": "Google"}, "provider=google stream=marketing"),
            ({"domain": "EXAMPLE.test"}, "domain=example.test"),
            ({"domain": "bücher.test"}, "domain=xn--bcher-kva.test"),
            ({"campaign": "Spring"}, "campaign=Spring"),
            ({"all": "yes"}, "all=yes"),
            ({"source": "a", "site": "Google"}, "site=google source=a"),
            ({"accepted_before": "2026-11-02T10:00:00+01:00"}, "accepted_before=2026-11-02T09:00:00+00:00"),
        ],
    )
    def test_has_one_canonical_text(self, given: dict[str, str], canonical: str) -> None:
        found = parse(given)
        assert str(found) == canonical
        assert parse(found.as_dict()) == found

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({}, "no term"),
            ({"recipient": "x"}, "'recipient' is not a term"),
            ({"all": "yes", "pool": "a"}, "all stands alone"),
            ({"pool": ""}, "pool: 1 to 255"),
            ({"pool": "x" * 256}, "pool: 1 to 255"),
            ({"tenant": "a\nb"}, "tenant: 1 to 255"),
            ({"domain": "no domain"}, "domain: "),
            ({"stream": "spam"}, "stream: one of transactional"),
            ({"accepted_before": "yesterday"}, "accepted_before: not a time"),
            ({"accepted_before": "2026-11-02T10:00:00"}, "without an offset"),
        ],
    )
    def test_that_is_none_is_refused(self, given: dict[str, str], said: str) -> None:
        with pytest.raises(SelectorError, match=said):
            parse(given)

    @pytest.mark.parametrize(
        ("given", "matches"),
        [
            ({"provider": "google"}, True),
            ({"provider": "yahoo"}, False),
            ({"provider": "google", "tenant": "default", "stream": "marketing"}, True),
            ({"provider": "google", "tenant": "other"}, False),
            ({"campaign": "spring"}, True),
            ({"campaign": "autumn"}, False),
            ({"domain": "example.test"}, True),
            ({"site": "google", "pool": "default"}, True),
            ({"pool": "other"}, False),
            ({"all": "yes"}, True),
            ({"accepted_before": (AT - timedelta(minutes=59)).isoformat()}, True),
            ({"accepted_before": (AT - timedelta(hours=1)).isoformat()}, False),
        ],
    )
    def test_matches_what_has_all_of_it(self, given: dict[str, str], matches: bool) -> None:
        assert parse(given).matches(message()) is matches

    def test_of_a_campaign_does_not_match_mail_of_none(self) -> None:
        assert not parse({"campaign": "spring"}).matches(message(campaign_id=None))

    @pytest.mark.parametrize(
        ("given", "covers", "concerns"),
        [
            ({"all": "yes"}, True, True),
            ({"site": "google"}, True, True),
            ({"provider": "google"}, True, True),
            ({"pool": "default", "site": "google"}, True, True),
            ({"pool": "other"}, False, False),
            ({"site": "yahoo"}, False, False),
            ({"site": "google", "campaign": "spring"}, False, True),
            ({"site": "google", "accepted_before": AT.isoformat()}, False, True),
            ({"provider": "yahoo"}, False, True),
            ({"domain": "example.test"}, False, True),
        ],
    )
    def test_says_what_it_means_for_a_lane(self, given: dict[str, str], covers: bool, concerns: bool) -> None:
        found = parse(given)
        assert found.covers("default", "google") is covers
        assert found.may_concern("default", "google") is concerns


class TestWhichDecides:
    def test_none_when_none_is_in_force(self) -> None:
        assert not Controls()
        assert Controls().of(message(), NOW) is None
        assert Controls().closing("default/google#0", NOW) is None
        assert not Controls().reviews("default/google#0", NOW)

    def test_a_suspension_until_its_time(self) -> None:
        controls = in_force(event(until=AT + timedelta(hours=1)))
        assert controls.of(message(), NOW) is not None
        assert controls.of(message(campaign_id="autumn"), NOW) is None
        assert controls.of(message(), NOW + HOUR) is None
        assert controls.next_at(NOW) == NOW + HOUR

    def test_a_suspension_of_a_lane_closes_it(self) -> None:
        controls = in_force(event(selector={"provider": "google"}, until=AT + timedelta(hours=1)))
        assert controls.closing("default/google#3", NOW) is not None
        assert controls.closing("default/yahoo#0", NOW) is None
        assert controls.closing("default/google#3", NOW + HOUR) is None
        assert in_force(event()).closing("default/google#0", NOW) is None
        assert in_force(event("purge", {"site": "google"})).closing("default/google#0", NOW) is None

    def test_a_purge_before_a_move_before_a_suspension(self) -> None:
        suspend = event(control_id="s", selector={"provider": "google"})
        move = event("move", {"pool": "default"}, control_id="m", arguments={"pool": "other"})
        purge = event("purge", {"campaign": "spring"}, control_id="p")
        for events in ((suspend, move, purge), (purge, move, suspend)):
            found = in_force(*events).of(message(), NOW)
            assert found is not None
            assert found.control_id == "p"
        found = in_force(suspend, move).of(message(), NOW)
        assert found is not None
        assert found.control_id == "m"

    def test_of_two_purges_the_one_that_ends_first(self) -> None:
        late = event("purge", control_id="late", until=AT + timedelta(hours=2))
        soon = event("purge", {"pool": "default"}, control_id="soon", until=AT + timedelta(hours=1))
        for events in ((late, soon), (soon, late)):
            found = in_force(*events).of(message(), NOW)
            assert found is not None
            assert found.control_id == "soon"

    def test_a_purge_also_long_after_its_grace_and_not_for_ever(self) -> None:
        controls = in_force(event("purge"))
        after = NOW + HOUR
        assert not controls.reviews("default/google#0", NOW)
        assert controls.reviews("default/google#0", after)
        assert controls.of(message(), after + PURGED_FOR.total_seconds() - 1) is not None
        assert controls.of(message(), after + PURGED_FOR.total_seconds()) is None

    def test_a_purge_spares_what_was_accepted_later(self) -> None:
        assert in_force(event("purge")).of(message(accepted_at=AT), NOW) is None

    def test_a_move_takes_a_message_once_and_a_later_move_takes_it_back(self) -> None:
        there = event("move", {"pool": "default"}, control_id="there", arguments={"pool": "other"})
        later = AT + timedelta(minutes=5)
        back = event("move", {"pool": "other"}, control_id="back", arguments={"pool": "default"}, occurred_at=later)
        controls = in_force(there, back)
        first = controls.of(message(), NOW)
        assert first is not None
        assert (first.control_id, first.pool) == ("there", "other")
        second = controls.of(message(pool="other", moved_at=AT), NOW)
        assert second is not None
        assert (second.control_id, second.pool) == ("back", "default")
        assert controls.of(message(moved_at=later), NOW) is None

    def test_a_move_is_reviewed_on_the_lanes_concerned_until_its_time(self) -> None:
        controls = in_force(event("move", {"pool": "default"}, arguments={"pool": "other"}))
        assert controls.reviews("default/google#0", NOW)
        assert not controls.reviews("third/google#0", NOW)
        assert not controls.reviews("default/google#0", NOW + HOUR)

    @settings(deadline=None)
    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from(["provider", "pool", "tenant", "campaign"]), st.sampled_from("xy"), min_size=1
            ),
            max_size=8,
        ),
        st.dictionaries(st.sampled_from(["provider", "pool", "tenant", "campaign_id"]), st.sampled_from("xyz")),
    )
    def test_the_index_finds_what_comparing_all_would(
        self, selectors: list[dict[str, str]], fields: dict[str, str]
    ) -> None:
        events = [event(selector=chosen, control_id=f"c-{number}") for number, chosen in enumerate(selectors)]
        command = message(**fields)
        found = in_force(*events).of(command, NOW)
        assert (found is not None) == any(parse(chosen).matches(command) for chosen in selectors)
        assert found is None or found.selector.matches(command)

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (event("purge", until=None), "a purge needs a time"),
            (event("trace", {"site": "google"}), "a trace needs a time"),
            (event("trace", {"tenant": "default"}, until=AT), "of one domain or site"),
            (event("trace", {"site": "google", "stream": "marketing"}, until=AT), "of one domain or site"),
            (event("trace", {"site": "google"}, until=AT + timedelta(hours=2)), "at most 1:00:00"),
            (event("move"), "a move needs the pool"),
            (event("move", arguments={"pool": "a/b"}), "a move needs the pool"),
            (event("move", arguments={"pool": 7}), "a move needs the pool"),
            (event("move", arguments={"pool": "mars"}), "pool mars is not configured"),
            (event(selector={"source": "c"}), "no pool sends from c"),
            (event(selector={"source": "a", "tenant": "default"}), "suspended as a whole"),
            (event(selector={"source": "a", "accepted_before": AT.isoformat()}), "suspended as a whole"),
            (event(selector={"planet": "mars"}), "'planet' is not a term"),
            (event().model_copy(update={"action": "purge", "until": AT}), "a purge needs accepted_before"),
        ],
    )
    def test_what_nobody_can_carry_out_is_refused(self, wrong: ControlSet, said: str) -> None:
        with pytest.raises(ControlError, match=said):
            read(wrong, POOLS)

    @pytest.mark.parametrize("action", ["resume", "unpurge", "unmove"])
    def test_what_takes_a_control_back_sets_none(self, action: str) -> None:
        assert read(event(action), POOLS) is None


class TestSources:
    def test_a_suspended_source_stops_no_message_and_no_lane(self) -> None:
        controls = in_force(event(selector={"source": "a"}, until=AT + timedelta(hours=1)))
        assert controls.source_until("a", "google", NOW) == NOW + HOUR
        assert controls.source_until("b", "google", NOW) == 0.0
        assert controls.source_until("a", "google", NOW + HOUR) == 0.0
        assert not controls
        assert controls.of(message(), NOW) is None
        assert controls.closing("default/google#0", NOW) is None
        assert controls.next_at(NOW) == NOW + HOUR

    def test_at_a_site_it_is_suspended_there_alone(self) -> None:
        for term in ("site", "provider"):
            controls = in_force(event(selector={"source": "a", term: "google"}))
            assert controls.source_until("a", "google", NOW) == inf
            assert controls.source_until("a", "yahoo", NOW) == 0.0

    def test_what_waits_is_of_each_source_of_its_pool(self) -> None:
        moves = in_force(event("move", {"source": "a"}, arguments={"pool": "third"}))
        assert moves.of(message(), NOW) is not None
        assert moves.of(message(pool="other"), NOW) is None
        assert moves.reviews("default/google#0", NOW)
        assert not moves.reviews("other/google#0", NOW)
        purges = in_force(event("purge", {"source": "b", "tenant": "default"}))
        assert purges.of(message(pool="other"), NOW) is not None
        assert purges.of(message(pool="third"), NOW) is None
        assert purges.of(message(tenant="x"), NOW) is None

    def test_before_the_pools_are_known_it_means_nothing(self) -> None:
        assert not parse({"source": "a"}).matches(message())
        assert not parse({"source": "a"}).covers("default", "google")


def test_a_trace_watches_and_decides_nothing() -> None:
    controls = in_force(event("trace", {"site": "google"}, until=AT + timedelta(minutes=5)))
    assert not controls
    assert controls.of(message(), NOW) is None
    assert controls.closing("default/google#0", NOW) is None
    assert not controls.reviews("default/google#0", NOW)
    assert controls.watching(message(), NOW) is not None
    assert controls.watching(message(site="yahoo"), NOW) is None
    assert controls.watching(message(), NOW + 300) is None


class TestSignature:
    def test_holds_over_a_trip_through_json(self) -> None:
        found = ControlSet.model_validate_json(signed(event(until=AT), KEYRING).model_dump_json())
        assert is_genuine(found, KEYRING)

    @pytest.mark.parametrize(
        "change",
        [
            {"action": "purge"}, {"selector": {"all": "yes"}}, {"reason": "other"}, {"control_id": "c-2"},
            {"until": None}, {"occurred_at": AT + timedelta(seconds=1)}, {"arguments": {"pool": "x"}}, {"by": "eve"},
            {"tenant": "other"}, {"signature": ""}, {"signature": "a-"}, {"signature": "ü-ü"},
        ],
    )  # fmt: skip
    def test_covers_what_matters(self, change: dict[str, Any]) -> None:
        found = signed(event(until=AT + timedelta(hours=1)), KEYRING).model_copy(update=change)
        assert not is_genuine(found, KEYRING)

    def test_by_a_retired_key_holds_and_by_a_strange_one_does_not(self) -> None:
        found = signed(event(), Keyring({"b": b"l" * 32}, "b"))
        assert is_genuine(found, KEYRING)
        assert not is_genuine(found, Keyring({"a": b"k" * 32}, "a"))
        assert not is_genuine(found, Keyring({"b": b"m" * 32}, "b"))

    def test_is_not_looked_for_in_what_we_never_write(self) -> None:
        assert not is_genuine(event(arguments={"n": 2**70}), KEYRING)


class TestRegister:
    def register(self) -> Register:
        return Register(KEYRING, POOLS)

    def offer(self, register: Register, *events: ControlSet) -> list[str]:
        return [register.offer(signed(each, KEYRING), NOW) for each in events]

    def test_keeps_the_newest_of_each_control(self) -> None:
        register = self.register()
        later = AT + timedelta(minutes=1)
        said = self.offer(register, event(), event("resume", occurred_at=later))
        assert said == ["", ""]
        assert not register.in_force()

    def test_an_old_event_that_comes_again_changes_nothing(self) -> None:
        register = self.register()
        later = AT + timedelta(minutes=1)
        said = self.offer(register, event(), event("resume", occurred_at=later), event())
        assert said == ["", "", "older than what is known of the control"]
        assert not register.in_force()

    def test_refuses_what_is_not_signed(self) -> None:
        register = self.register()
        assert register.offer(event(), NOW) == "not signed by this installation"
        assert not register.in_force()

    def test_refuses_a_pool_that_is_not_configured(self) -> None:
        register = self.register()
        assert self.offer(register, event("move", arguments={"pool": "mars"})) == ["pool mars is not configured"]
        assert self.offer(register, event("move", arguments={"pool": "other"})) == [""]

    def test_drops_what_is_over(self) -> None:
        register = self.register()
        self.offer(
            register, event(until=AT - timedelta(seconds=1)), event(control_id="c-2", until=AT + timedelta(hours=1))
        )
        assert [each.control_id for each in register.in_force().all] == ["c-2"]
        assert register.forget(NOW + HOUR)
        assert not register.forget(NOW + HOUR)
        assert not register.in_force()

    def test_has_a_limit(self) -> None:
        register = self.register()
        said = self.offer(register, *(event(control_id=f"c-{number}") for number in range(IN_FORCE_MAX + 1)))
        assert set(said[:-1]) == {""}
        assert "in force already" in said[-1]
        assert self.offer(register, event("resume", control_id="c-0", occurred_at=AT + timedelta(minutes=1))) == [""]
