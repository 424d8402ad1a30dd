"""What waits for its delivery window: a campaign's, else its stream's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.attempts import AttemptDelivered
from schemas.envelope import Stream
from schemas.lanes import FromCampaign, MessageQueue
from schemas.rules.windows import Window
from schemas.state import CampaignSet
from schemas.tenant import StreamPolicy, Tenant
from sinks.smtp.commands import GO, Park, Rules, Verdict
from sinks.smtp.policy import Limits
from sinks.smtp.state import Kind, Phase
from sinks.smtp.windows import PART_S, PARTS, Windows, keys_of
from tests.smtp_owner.test_parking import deliver
from tests.smtp_owner.world import DAY, START, World, command

OFFICE = Window(days="mon-fri", hours="08:00-20:00", zone="Europe/Berlin")
NIGHT = Window(hours="22:00-06:00", zone="UTC")
EVENING = datetime(2025, 10, 9, 18, 0, tzinfo=UTC).timestamp()  # 20:00 in Berlin, a Thursday
MORNING = datetime(2025, 10, 10, 6, 0, tzinfo=UTC).timestamp()
SPREAD_S = PARTS * PART_S


def tenant(**windows: Window) -> Tenant:
    return Tenant(
        sending_domains=("brand.test",),
        return_path_domain="bounces.brand.test",
        tracking_url="https://click.brand.test",
        streams={Stream(stream): StreamPolicy(window=window) for stream, window in windows.items()},
    )


def campaign(window: Window | None) -> CampaignSet:
    return CampaignSet.from_cause(
        "c",
        occurred_at=datetime.now(UTC),
        campaign_id="c",
        from_="news@brand.test",
        subject_template="Hi",
        window=window,
    )


class Asked:
    """Rules of a worker, and how often it was asked of which message."""

    def __init__(self, *, stream: Window | None = OFFICE) -> None:
        self.windows = Windows({"default": tenant(**({"marketing": stream} if stream else {}))})
        self.campaign: CampaignSet | None = None
        self.of: list[str] = []
        self.rules = Rules(admit=self.admit, limits=lambda lane: Limits(connections=50))

    def admit(self, command: MessageQueue, now: float) -> Verdict:
        self.of.append(command.idempotency_key)
        return self.windows.admit(command, self.campaign if command.campaign_id else None, now) or GO


def world(asked: Asked, now: float) -> World:
    return World(rules=asked.rules, now=now)


MARKETING: dict[str, Any] = {"stream": Stream.MARKETING, "expires": START + 10 * DAY}
OF_CAMPAIGN: dict[str, Any] = {**MARKETING, "campaign_id": "c", "content": FromCampaign(campaign_id="c")}
NAMES = [f"m{number}" for number in range(60)]


def attempts(playing: World, name: str) -> int:
    state = playing.log.state(name)
    assert state is not None
    return state.attempts


class TestClosed:
    def test_waits_until_it_opens_without_a_write_or_a_second_look(self) -> None:
        asked = Asked()
        playing = world(asked, EVENING)
        playing.add(*NAMES, **MARKETING)
        playing.settle()
        facts, states = list(playing.facts), dict(playing.log.states)
        while playing.now < MORNING - 600:
            playing.tick(600)
        playing.settle()
        assert (playing.facts, playing.log.states) == (facts, states)
        assert sorted(asked.of) == sorted(NAMES)
        assert not playing.open
        assert playing.owner.depth.parked == len(NAMES)

    def test_goes_when_it_opens_part_by_part(self) -> None:
        asked = Asked()
        playing = world(asked, EVENING)
        playing.add(*NAMES, **MARKETING)
        playing.settle()
        gone: list[int] = []
        playing.tick(MORNING - playing.now - 1)
        assert not deliver(playing)
        playing.tick(1)
        while playing.now <= MORNING + SPREAD_S:
            gone.append(len(deliver(playing)))
            playing.tick(PART_S)
        assert sum(gone) == len(NAMES)
        assert max(gone) < len(NAMES) / 3
        assert playing.owner.depth.parked == 0
        assert all(fact.attempt == 1 for fact in playing.facts if isinstance(fact, AttemptDelivered))

    def test_expires_as_ever(self) -> None:
        asked = Asked()
        playing = world(asked, EVENING)
        playing.add("one", **{**MARKETING, "expires": EVENING + 3_600})
        playing.tick(3_700)
        playing.settle()
        assert playing.types() == ["message.expired"]

    def test_after_a_restart_it_still_waits(self) -> None:
        asked = Asked()
        playing = world(asked, EVENING)
        playing.add("one", **MARKETING)
        playing.settle()
        again = World(playing.log, asked.rules, now=EVENING + 60)
        again.settle()
        assert not again.open
        assert again.owner.depth.parked == 1

    def test_a_retry_waits_too(self) -> None:
        asked = Asked()
        playing = world(asked, EVENING - 10)
        playing.add("one", **MARKETING)
        playing.opened()
        playing.ready()
        playing.commit()
        (session,) = playing.dots
        playing.outcome(session, Kind.DEFERRED, code=450)
        playing.settle()
        playing.tick(3_600)
        playing.settle()
        assert playing.owner.depth.parked == 1
        assert attempts(playing, "one") == 1
        playing.tick(MORNING + SPREAD_S - playing.now)
        assert deliver(playing) == ["one"]

    def test_what_is_connecting_when_it_closes_is_not_tried(self) -> None:
        asked = Asked()
        playing = world(asked, EVENING - 10)
        playing.add("one", **MARKETING)
        assert playing.open
        playing.tick(20)
        playing.opened()
        playing.settle()
        assert not playing.started
        assert playing.phase("one") is Phase.QUEUED
        assert attempts(playing, "one") == 0
        assert playing.owner.depth.parked == 1

    def test_holds_up_nothing_else(self) -> None:
        asked = Asked()
        playing = world(asked, EVENING)
        playing.add("one", "two", **MARKETING)
        playing.add("reset", stream=Stream.TRANSACTIONAL)
        assert deliver(playing) == ["reset"]


class TestOpen:
    def test_goes_at_once(self) -> None:
        playing = world(Asked(), EVENING - 3_600)
        playing.add(*NAMES, **MARKETING)
        assert len(deliver(playing)) == len(NAMES)


class TestOfACampaign:
    @pytest.mark.parametrize(("of_campaign", "goes"), [(NIGHT, False), (None, True), (OFFICE, True)])
    def test_its_own_comes_before_the_streams(self, of_campaign: Window | None, goes: bool) -> None:
        asked = Asked()
        asked.campaign = campaign(of_campaign)
        playing = world(asked, EVENING - 3_600)
        playing.add("one", **OF_CAMPAIGN)
        assert bool(deliver(playing)) is goes

    def test_is_asked_about_again_when_the_campaign_is_another(self) -> None:
        asked = Asked(stream=None)
        asked.campaign = campaign(NIGHT)
        playing = world(asked, EVENING)
        playing.add(*NAMES, **OF_CAMPAIGN)
        assert not deliver(playing)
        asked.campaign = campaign(None)
        playing.owner.unpark(keys_of(asked.campaign.key), playing.now)
        playing.obey()
        assert sorted(deliver(playing)) == sorted(NAMES)


def test_what_is_remembered_of_a_window_is_of_this_minute() -> None:
    windows = Windows({"default": tenant(marketing=OFFICE)})
    queued = command("one", **MARKETING)
    assert windows.admit(queued, None, EVENING - 0.1) is None
    found = windows.admit(queued, None, EVENING)
    assert isinstance(found, Park)
    assert MORNING <= found.until < MORNING + SPREAD_S
    assert windows.admit(queued, None, MORNING - 0.1) is not None
    assert windows.admit(queued, None, MORNING) is None
