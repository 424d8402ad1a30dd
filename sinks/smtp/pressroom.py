"""Processes that compose and sign messages (press.py), so that neither the event loop nor one core does it all.

Threads would share one interpreter lock with the loop: RSA and hashing let go of it, and wait for milliseconds to have
it back. Here orders are handed out, answers passed on, and a process that dies is replaced: what it had not begun goes
to the next one, what it may have died of is held, so that one message cannot end one process after another at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import structlog

from schemas.lanes import FromCampaign
from schemas.state import CampaignSet
from sinks.smtp.compose import Missing
from sinks.smtp.press import BATCH, Frames, Order, Printed, Setup, framed
from sinks.smtp.queue import LaneRecord

_STILLBORN: Final = 3  # processes in a row that end before their first message
_CLOSE_S: Final = 5.0
_FOLLOW_S: Final = 5.0
_CODE: Final = Path(__file__).resolve().parents[2]  # so that the processes run what we run

log = structlog.get_logger(__name__)


class Pressroom:
    """On the event loop. `done` is called with what is composed, by the numbers given to `order`."""

    def __init__(
        self,
        setup: Setup,
        campaign: Callable[[str], CampaignSet | None],
        done: Callable[[Printed], None],
        fail: Callable[[str], None],
        processes: int,
    ) -> None:
        """`campaign` finds by `tenant/campaign_id`; `fail` is told when no process can be kept alive."""
        self._setup = setup
        self._signers = dict(setup.signers)  # as the presses know them
        self._campaign = campaign
        self._done = done
        self._fail = fail
        self._count = processes
        self._presses: list[_Press] = []
        self._waiting: list[Order] = []  # while no process lives
        self._stillborn = 0
        self._replacing: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for _ in range(self._count):
            await self._add()
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """The mapping of signers that we were given may change: a key was rotated."""
        while True:
            await asyncio.sleep(_FOLLOW_S)
            self.follow()

    def follow(self) -> None:
        signers = dict(self._setup.signers)
        if signers != self._signers:
            self._signers = signers
            for press in self._presses:
                press.write(framed(signers))

    def order(self, number: int, record: LaneRecord) -> None:
        campaign: CampaignSet | None = None
        match record.command.content:
            case FromCampaign(campaign_id=name):
                campaign = self._campaign(f"{record.command.tenant}/{name}")
                if campaign is None:
                    missing: Printed = [(number, Missing("unknown_campaign"))]
                    asyncio.get_running_loop().call_soon(self._done, missing)
                    return
        self._give(Order(number, record.value, record.urgent, campaign))

    @property
    def pids(self) -> list[int]:
        return [press.child.pid for press in self._presses]

    async def close(self) -> None:
        """Whoever still waits for a message waits in vain."""
        if self._following is not None:
            self._following.cancel()
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        presses, self._presses = self._presses, []
        for press in presses:
            press.leave()
        for press in presses:
            await asyncio.to_thread(press.end)

    def _give(self, order: Order) -> None:
        if not self._presses:
            self._waiting.append(order)
            return
        # With others, up to what is signed in one go: alone a message costs twice as much. Urgent ones wait for nobody.
        filling = [] if order.urgent else [press for press in self._presses if press.load() < BATCH]
        chosen = max(filling, key=_Press.load) if filling else min(self._presses, key=_Press.load)
        chosen.take(order)

    async def _add(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "sinks.smtp.press", str(theirs.fileno())]
            child = await asyncio.to_thread(
                subprocess.Popen, argv, cwd=_CODE, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        press = _Press(child, self._printed, self._ended)
        await asyncio.get_running_loop().create_unix_connection(lambda: press, sock=ours)
        press.write(framed(self._setup))
        self._presses.append(press)
        waiting, self._waiting = self._waiting, []
        for order in waiting:
            self._give(order)

    def _printed(self, printed: Printed) -> None:
        self._stillborn = 0
        self._done(printed)

    def _ended(self, press: _Press) -> None:
        if press not in self._presses:
            return  # we are closing
        self._presses.remove(press)
        self._stillborn += not press.has_printed
        left = list(press.orders.values())
        log.error("press_ended", orders=len(left))
        replacing = asyncio.get_running_loop().create_task(self._replace(press))
        self._replacing.add(replacing)
        replacing.add_done_callback(self._replacing.discard)
        for order in left[BATCH:]:
            self._give(order)
        if suspects := left[:BATCH]:
            self._done([(order.number, Missing("composing_failed")) for order in suspects])

    async def _replace(self, press: _Press) -> None:
        await asyncio.to_thread(press.end)
        if self._stillborn < _STILLBORN:
            await self._add()
        else:
            self._fail("composing processes end as soon as they begin")


class _Press(asyncio.Protocol):
    """Our end of one process."""

    def __init__(
        self, child: subprocess.Popen[bytes], printed: Callable[[Printed], None], ended: Callable[[_Press], None]
    ) -> None:
        self.child = child
        self.orders: dict[int, Order] = {}  # that are not answered, oldest first
        self.has_printed = False
        self._printed = printed
        self._ended = ended
        self._frames = Frames()
        self._campaigns: dict[str, str] = {}  # version that the process knows, by key
        self._unsent: list[Order] = []
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        for printed in self._frames.feed(data):
            self.has_printed = True
            for number, _ in printed:
                del self.orders[number]
            self._printed(printed)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._ended(self)

    def load(self) -> int:
        return len(self.orders)

    def take(self, order: Order) -> None:
        """Sent with all others of this turn of the loop: a frame costs more than a message in it."""
        self.orders[order.number] = order
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send)
        self._unsent.append(order)

    def _send(self) -> None:
        orders, self._unsent = self._unsent, []
        self.write(framed([self._as_known(order) for order in orders]))

    def _as_known(self, order: Order) -> Order:
        campaign = order.campaign
        if campaign is None or self._campaigns.get(campaign.key) != campaign.event_id:
            if campaign is not None:
                self._campaigns[campaign.key] = campaign.event_id
            return order
        return order._replace(campaign=None)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def end(self) -> None:
        """Its socket is closed: it ends when its message is composed. Blocks until then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(_CLOSE_S)
        self.child.kill()
        self.child.wait()
