"""Large mail on its way: within a bound, one always, and nobody waits for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.attachments import Attachment
from schemas.claims import Claim
from schemas.lanes import FromCampaign, Inline
from schemas.state import CampaignSet
from sinks.smtp.commands import Rules
from sinks.smtp.policy import Limits
from sinks.smtp.queue import LaneRecord
from sinks.smtp.room import AGAIN_S, LARGE, Room
from sinks.smtp.sizes import size_of
from sinks.smtp.state import Kind
from tests.smtp_owner.world import HELLO, World, command, result

MIB = 1024 * 1024


class TestRoom:
    @given(st.lists(st.tuples(st.integers(1, 20 * MIB), st.booleans()), max_size=50))
    def test_is_kept_to_but_for_one_alone(self, sizes: list[tuple[int, bool]]) -> None:
        room = Room(16 * MIB)
        taken: list[int] = []
        for now, (size, one_ends) in enumerate(sizes):
            if room.has(size, f"lane{size}", now * 10.0):
                taken.append(room.take(size, f"lane{size}"))
            assert room.used == sum(taken)
            assert room.used <= 16 * MIB or sum(map(bool, taken)) == 1
            if one_ends and taken:
                room.give(taken.pop(0))

    def test_small_mail_waits_for_nothing(self) -> None:
        room = Room(MIB)
        room.take(20 * MIB, "a")
        assert room.has(LARGE, "b", 0.0)
        assert not room.has(LARGE + 1, "b", 0.0)
        assert room.take(LARGE, "b") == 0

    def test_who_waits_comes_before_who_comes_again(self) -> None:
        room = Room(10 * MIB)
        taken = room.take(9 * MIB, "a")
        assert not room.has(8 * MIB, "b", 0.0)
        room.give(taken)
        assert not room.has(2 * MIB, "a", 0.5)
        assert room.has(8 * MIB, "b", AGAIN_S)
        room.take(8 * MIB, "b")
        assert room.has(2 * MIB, "a", AGAIN_S)

    def test_who_asks_no_more_is_not_waited_for(self) -> None:
        room = Room(10 * MIB)
        taken = room.take(9 * MIB, "a")
        assert not room.has(8 * MIB, "b", 0.0)
        room.give(taken)
        assert not room.has(8 * MIB, "a", 3 * AGAIN_S)
        assert room.has(8 * MIB, "a", 3 * AGAIN_S + 0.1)


def rules(**fields: Any) -> Rules:
    """What is named large has 4 MiB, of 10 that there are; the rest is as large as its record."""

    def size(record: LaneRecord) -> int:
        return 4 * MIB if record.command.idempotency_key.startswith("large") else record.size

    return Rules(size=size, large_bytes=10 * MIB, limits=lambda lane: Limits(connections=20), **fields)


def under_way(world: World) -> list[str]:
    return sorted(opened.command.idempotency_key for opened in world.open.values())


def test_what_finds_no_room_waits_and_holds_no_other_tenant_up() -> None:
    world = World(rules=rules())
    world.add(*(f"large{number}" for number in range(4)), tenant="acme", urgent=True)
    world.add("a", "b", urgent=True)
    assert under_way(world) == ["a", "b", "large0", "large1"]
    world.opened()
    world.ready()
    world.commit()
    session = next(
        number for number, start in world.started.items() if start.record.command.idempotency_key == "large0"
    )
    world.outcome(session, Kind.DELIVERED)
    world.tick(AGAIN_S)
    names = sorted(start.record.command.idempotency_key for start in world.started.values())
    assert names == ["a", "b", "large1", "large2"]


@pytest.mark.parametrize("how", ["failed", "closed", "abandoned", "lost"])
def test_room_is_given_back_however_it_ends(how: str) -> None:
    world = World(rules=rules(scale=0.0))
    world.add("large0", "large1", "large2", urgent=True)
    assert under_way(world) == ["large0", "large1"]
    for session in list(world.open):
        match how:
            case "failed":
                del world.open[session]
                world.owner.open_failed(session, result(Kind.DEFERRED, world.now), world.now, rest=False)
            case "closed":
                world.opened(session)
                world.started.pop(session)
                world.owner.closed(session, world.now)
            case "abandoned":
                world.owner.pause()
                world.opened(session)
            case "lost":
                world.owner.lost(0)
                world.owner.assigned(0, [], dict(world.read), world.now)
                break
    world.obey()
    world.settle()
    world.owner.resume(world.now)
    world.add("large3", "large4", urgent=True)
    for _ in range(5):
        world.tick(AGAIN_S)
    assert len(under_way(world)) + len(world.started) == 2


def claim(size: int) -> Claim:
    return Claim(sha256="0" * 64, size=size)


def attachment(size: int) -> Attachment:
    return Attachment(filename="a.pdf", claim=claim(size))


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (HELLO, 0),
        (HELLO.model_copy(update={"attachments": (attachment(800), attachment(80))}), 1_210),
        (Inline(from_="", subject="", raw_claim=claim(5_000)), 5_000),
        (Inline(from_="", subject="", claim=claim(5_000), attachments=(attachment(800),)), 6_100),
        (FromCampaign(campaign_id="plain"), 0),
        (FromCampaign(campaign_id="heavy"), 2_200),
        (FromCampaign(campaign_id="heavy", attachments=(attachment(8),)), 2_211),
        (FromCampaign(campaign_id="unknown"), 0),
    ],
)
def test_size_counts_what_a_record_names(content: Inline | FromCampaign, size: int) -> None:
    of: dict[str, Any] = {"from_": "news@brand.test", "subject_template": "Hi", "occurred_at": datetime.now(UTC)}
    campaigns = {
        "default/plain": CampaignSet.from_cause("1", campaign_id="plain", **of),
        "default/heavy": CampaignSet.from_cause("2", campaign_id="heavy", attachments=(attachment(1_600),), **of),
    }
    record = LaneRecord(False, 0, "default/a.test#0", command("one", content=content), bytes(100))
    assert size_of(record, campaigns.get) == size + 100
