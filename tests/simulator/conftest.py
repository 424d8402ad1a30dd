"""A small simulated internet in the test's own event loop, with a tiny sender's side: an inbound host, a tracker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from pipeline.simulator.addresses import Endpoint
from pipeline.simulator.config import Internet, parse
from pipeline.simulator.service import Arrangement, Simulator
from pipeline.simulator.witness import Witness

SMALL = """
[general]
sample_domain = "example.test"
time_scale = 0.01

[[provider]]
name = "plainhost"
domains = ["example.test"]
hosts = [{ name = "mx.plainhost.test" }]
greylist_seconds = 0.0
slow_seconds = 0.05

[[provider]]
name = "narrow"
domains = ["narrow.test"]
hosts = [{ name = "mx.narrow.test" }]
starttls = false
limits = { connections = 1, messages_per_connection = 1, size = 2048 }
people = { dsn = "qmail", complaints_to = "abuse", redacts = true }

[[provider]]
name = "tlsonly"
domains = ["tlsonly.test"]
hosts = [{ name = "mx.tlsonly.test" }, { name = "mx2.tlsonly.test", preference = 20 }]
require_tls = true
ipv6 = true
people = { dsn = "exchange", image_proxy = true, complaints_to = "nobody" }

[[domain]]
name = "nomail.test"
kind = "null-mx"
[[domain]]
name = "implicit.test"
kind = "implicit-mx"
provider = "plainhost"
[[domain]]
name = "gone.test"
kind = "nxdomain"
[[domain]]
name = "brokendns.test"
kind = "servfail"
[[domain]]
name = "silentdns.test"
kind = "timeout"
[[domain]]
name = "closed.test"
kind = "unreachable"
[[domain]]
name = "brand.test"
kind = "sender"
"""

NEWSLETTER = b"""From: News <news@brand.test>\r
To: somebody@example.test\r
Subject: Spring\r
Message-ID: <m1@brand.test>\r
X-Mailriver-ID: id-1\r
List-Unsubscribe: <mailto:u@brand.test>, <https://track.brand.test/u/tok%2Fen?x=1>\r
List-Unsubscribe-Post: List-Unsubscribe=One-Click\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<p>Hello <a href="https://track.brand.test/c/1/abc%2Fdef?n=1&amp;m=2">one</a>\r
<a href="https://track.brand.test/c/2/abc">two</a> <a href="mailto:x@brand.test">mail</a>\r
<img src="https://track.brand.test/o/pixel.gif" width="1"></p>\r
"""


@dataclass
class Sender:
    """What came back to the sending side."""

    mails: list[tuple[str, str, Message]] = field(default_factory=list)  # MAIL FROM, RCPT TO, message
    visits: list[tuple[str, str, str, str, str]] = field(default_factory=list)  # method, host, path, agent, body
    refusals: list[str] = field(default_factory=list)  # replies to say before accepting

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        # aiosmtpd calls the null return path "<>".
        self.mails.append(
            ((envelope.mail_from or "").replace("<>", ""), envelope.rcpt_tos[0], message_from_bytes(content))
        )
        return "250 OK"

    async def visited(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        self.visits.append((request.method, request.host, request.raw_path, request.headers["User-Agent"], body))
        return web.Response(status=302, headers={"Location": "http://198.18.255.255/must-not-be-followed"})


@dataclass
class World:
    """A running simulator and what a test needs around it."""

    simulator: Simulator
    sender: Sender
    data: Path

    def host(self, name: str) -> tuple[str, int]:
        """Where an SMTP host listens."""
        ports: dict[str, int] = orjson.loads((self.data / "ports.json").read_bytes())
        return "127.0.0.1", ports[f"smtp {name}"]

    def port_map(self) -> dict[str, str]:
        """Where an address of the simulated internet really is."""
        found: dict[str, str] = orjson.loads(Path(self.simulator.endpoints["portmap"]).read_bytes())
        return found

    @property
    def witness(self) -> Witness:
        reader = Witness(Path(self.simulator.endpoints["witness"]))
        reader.load()
        return reader

    @property
    def deeds(self) -> list[dict[str, Any]]:
        """What people and machines have done so far."""
        lines = (self.data / "witness" / "deeds.jsonl").read_bytes().splitlines()
        return [orjson.loads(line) for line in lines]


@pytest.fixture
def internet() -> Internet:
    return parse(SMALL, "small.toml")


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncIterator[Callable[[Internet], Awaitable[World]]]:
    """Starts worlds; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(internet: Internet) -> World:
            sender = Sender()
            loop = asyncio.get_running_loop()
            smtp = await loop.create_server(lambda: SMTP(sender, hostname="in.brand.test", loop=loop), "127.0.0.1", 0)
            stack.callback(smtp.close)
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", sender.visited)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            inbound = Endpoint("127.0.0.1", smtp.sockets[0].getsockname()[1])
            tracking = Endpoint("127.0.0.1", runner.addresses[0][1])
            simulator = Simulator(Arrangement(tmp_path / "sim", 7, internet, inbound, tracking))
            await simulator.start()
            stack.push_async_callback(simulator.stop)
            return World(simulator, sender, tmp_path / "sim")

        yield start


@pytest.fixture
async def world(worlds: Callable[[Internet], Awaitable[World]], internet: Internet) -> World:
    return await worlds(internet)
