"""Composing in other processes: what goes out comes back, and a process that dies takes little with it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.lanes import FromCampaign, Inline, MessageQueue
from schemas.state import CampaignSet
from schemas.tenant import Tenant
from schemas.tokens import Keyring
from sinks.smtp import press
from sinks.smtp.compose import Composed, Composition, Draft, Missing, Unsendable, finished
from sinks.smtp.dkim import Algorithm, Signer, create_key_file
from sinks.smtp.press import BATCH, Order, Printed, Setup
from sinks.smtp.pressroom import Pressroom
from sinks.smtp.queue import LaneRecord
from tests.smtp_owner.world import command
from tests.waiting import until_async

TENANT = Tenant(
    sending_domains=("brand.test",), return_path_domain="bounces.brand.test", tracking_url="https://click.brand.test"
)


def record(queued: MessageQueue) -> LaneRecord:
    return LaneRecord(False, 0, queued.key, queued, queued.model_dump_json().encode())


def mail(name: str, text: str = "Hello") -> LaneRecord:
    return record(command(name, content=Inline(from_="news@brand.test", subject="Hello", text=text)))


class Room:
    """A pressroom, and what it has printed."""

    def __init__(self, signers: dict[str, Signer | None], processes: int = 1) -> None:
        self.printed: dict[int, Composition] = {}
        self.campaigns: dict[str, CampaignSet] = {}
        self.failures: list[str] = []
        setup = Setup({"default": TENANT}, Keyring({"a": b"k" * 32}, "a"), signers)
        self.press = Pressroom(setup, self.campaigns.get, self._done, self.failures.append, processes)

    def _done(self, printed: Printed) -> None:
        self.printed.update(printed)

    async def one(self, number: int, ordered: LaneRecord) -> Composition:
        self.press.order(number, ordered)
        await until_async(lambda: number in self.printed, what=f"message {number}")
        return self.printed[number]

    @property
    def child(self) -> int:
        return self.press.pids[0]


@pytest.fixture
async def room(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    key = create_key_file(tmp_path_factory.mktemp("dkim") / "e1.pem", "e1", Algorithm.ED25519)
    room = Room({"brand.test": Signer([key])})
    await room.press.start()
    yield room
    await room.press.close()


async def test_messages_come_back_composed_and_signed(room: Room) -> None:
    found = [await room.one(number, mail(f"p{number}")) for number in range(20)]
    for number, composed in enumerate(found):
        assert isinstance(composed, Composed)
        assert composed.envelope.recipient == f"p{number}@a.test"
        assert composed.wire.startswith(b"DKIM-Signature: v=1; a=ed25519-sha256;")


async def test_many_at_once_each_come_back_once(room: Room) -> None:
    for number in range(100):
        room.press.order(number, mail(f"p{number}", "x" * 50_000))  # more than a socket's buffer holds
    await until_async(lambda: len(room.printed) == 100, what="all of them")
    assert all(isinstance(each, Composed) for each in room.printed.values())


async def test_few_go_to_one_process_since_together_they_cost_less() -> None:
    room = Room({"brand.test": None}, processes=2)
    await room.press.start()
    first, second = room.press.pids
    try:
        os.kill(second, signal.SIGSTOP)
        for number in range(BATCH):
            room.press.order(number, mail(f"p{number}"))
        await until_async(lambda: len(room.printed) == BATCH, what="all, by the first process")
        os.kill(second, signal.SIGCONT)
        os.kill(first, signal.SIGSTOP)
        for number in range(100, 100 + 2 * BATCH):
            room.press.order(number, mail(f"p{number}"))
        await until_async(lambda: len(room.printed) == 2 * BATCH, what="the rest of them, by the second")
    finally:
        for pid in (first, second):
            os.kill(pid, signal.SIGCONT)
        await room.press.close()


async def test_a_campaign_is_handed_over_and_a_newer_version_of_it_too(room: Room) -> None:
    of_campaign = record(command("ann", content=FromCampaign(campaign_id="c1"), campaign_id="c1"))
    assert await room.one(1, of_campaign) == Missing("unknown_campaign")
    for number, subject in ((2, "First"), (3, "Second")):
        version = CampaignSet.from_cause(
            subject, occurred_at=of_campaign.command.occurred_at, campaign_id="c1", from_="news@brand.test",
            subject_template=subject, text="Hello",
        )  # fmt: skip
        room.campaigns["default/c1"] = version
        composed = await room.one(number, of_campaign)
        assert isinstance(composed, Composed)
        assert f"Subject: {subject}\r\n".encode() in composed.wire


async def test_what_cannot_be_written_is_said_and_what_breaks_ends_one_message_only(room: Room) -> None:
    foreign = record(command("ann", content=Inline(from_="news@other.test", subject="Hello", text="Hello")))
    assert await room.one(1, foreign) == Unsendable("the From address is not of a domain of the tenant")
    broken = LaneRecord(False, 0, foreign.lane, foreign.command, b"{}")
    assert await room.one(2, broken) == Unsendable("internal error")
    assert isinstance(await room.one(3, mail("bob")), Composed)


async def test_an_urgent_one_waits_behind_no_others() -> None:
    room = Room({"brand.test": None}, processes=2)
    await room.press.start()
    first, _ = room.press.pids
    try:
        os.kill(first, signal.SIGSTOP)
        for number in range(3):
            room.press.order(number, mail(f"p{number}"))
        await room.one(10, replace(mail("receipt"), urgent=True))
        assert set(room.printed) == {10}
    finally:
        os.kill(first, signal.SIGCONT)
        await room.press.close()


def test_what_breaks_in_signing_ends_one_message_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(drafts: Sequence[Draft | Unsendable | Missing]) -> list[Composition]:
        assert not any(isinstance(each, Draft) and each.recipient == "bad@a.test" for each in drafts)
        return finished(drafts)

    monkeypatch.setattr(press, "finished", broken)
    setup = Setup({"default": TENANT}, Keyring({"a": b"k" * 32}, "a"), {"brand.test": None})
    orders = [Order(number, mail(name).value, False) for number, name in enumerate(("ann", "bad", "bob"))]
    (_, ann), (_, bad), (_, bob) = press.Press(setup).print(orders)
    assert isinstance(ann, Composed)
    assert bad == Unsendable("internal error")
    assert isinstance(bob, Composed)


async def test_a_process_that_dies_is_replaced_and_nothing_waits_for_ever(room: Room) -> None:
    assert isinstance(await room.one(1, mail("ann")), Composed)
    dead = room.child
    os.kill(dead, signal.SIGSTOP)  # so that it holds what it was given
    for number in range(10, 40):
        room.press.order(number, mail(f"p{number}"))
    os.kill(dead, signal.SIGKILL)
    await until_async(lambda: len(room.printed) == 31, what="every answer")
    held = [number for number, each in room.printed.items() if each == Missing("composing_failed")]
    assert held == list(range(10, 18))  # what it may have died of
    assert sum(isinstance(each, Composed) for each in room.printed.values()) == 23
    assert room.child != dead
    assert not room.failures


async def test_processes_that_never_print_are_not_started_for_ever(room: Room) -> None:
    for _ in range(3):
        await until_async(lambda: bool(room.press.pids), what="a process")
        dead = room.child
        os.kill(dead, signal.SIGKILL)
        await until_async(lambda: dead not in room.press.pids, what="its end")  # noqa: B023 - asked at once
    await until_async(lambda: room.failures, what="the failure")
    assert room.failures == ["composing processes end as soon as they begin"]


async def test_a_signal_meant_for_all_does_not_end_it(room: Room) -> None:
    assert isinstance(await room.one(1, mail("ann")), Composed)
    for ctrl_c in (signal.SIGINT, signal.SIGTERM):
        os.kill(room.child, ctrl_c)
    assert isinstance(await room.one(2, mail("bob")), Composed)


async def test_a_rotated_key_signs_without_a_new_process(tmp_path: Path) -> None:
    signers: dict[str, Signer | None] = {"brand.test": None}
    room = Room(signers)
    await room.press.start()
    try:
        before = await room.one(1, mail("ann"))
        signers["brand.test"] = Signer([create_key_file(tmp_path / "e2.pem", "e2", Algorithm.ED25519)])
        room.press.follow()
        after = await room.one(2, mail("ann"))
        assert isinstance(before, Composed)
        assert isinstance(after, Composed)
        assert b"DKIM-Signature" not in before.wire
        assert b"s=e2;" in after.wire
        pid = room.child
        os.kill(pid, signal.SIGKILL)
        await until_async(lambda: room.press.pids not in ([], [pid]), what="another process")
        replaced = await room.one(3, mail("ann"))
        assert isinstance(replaced, Composed)
        assert b"s=e2;" in replaced.wire
    finally:
        await room.press.close()
