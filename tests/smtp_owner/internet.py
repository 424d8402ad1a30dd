"""A small internet for the queue owner: one name server, one SMTP server, and what was really received."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset
from aiosmtpd.smtp import SMTP, Envelope, Session

from sinks.smtp import routing

ADDRESS = "198.18.0.1"
_ZONE = {"MX": "10 mx.{domain}.", "A": ADDRESS}


def site_of(domain: str) -> str:
    """Each domain has a host, and so a site, of its own."""
    return routing.site(domain, routing.Hosts((f"mx.{domain}",)))


@dataclass
class Internet:
    """`received` counts mails by message_id. `answers` gives the reply to the dot (or to RCPT) by recipient."""

    dns: tuple[str, int] = ("127.0.0.1", 0)
    smtp: str = ""
    received: Counter[str] = field(default_factory=Counter)
    recipients: Counter[str] = field(default_factory=Counter)
    callers: Counter[str] = field(default_factory=Counter)  # mails by the address they came from
    begun: list[tuple[float, str]] = field(default_factory=list)  # each MAIL: when, and from which address
    answers: dict[str, list[str]] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: the dot is not answered
    waiting: int = 0
    last: bytes = b""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def hold(self) -> None:
        """Leave dots unanswered until `release`."""
        self.loop.call_soon_threadsafe(self.gate.clear)

    def release(self) -> None:
        self.loop.call_soon_threadsafe(self.gate.set)

    @property
    def ports(self) -> dict[str, str]:
        return {f"{ADDRESS}:25": self.smtp}

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.begun.append((time.time(), str((session.peer or ("",))[0])))
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 go on"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        recipient = envelope.rcpt_tos[0]
        if queued := self.answers.get(recipient):
            return queued.pop(0)
        content = envelope.content or b""
        self.last = content if isinstance(content, bytes) else content.encode()
        self.received[str(message_from_bytes(self.last)["X-Mailriver-ID"])] += 1
        self.recipients[recipient] += 1
        self.callers[str((session.peer or ("",))[0])] += 1
        return "250 2.0.0 taken"


class _NameServer(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        answer = dns.message.make_response(query)
        if kind in _ZONE:
            text = _ZONE[kind].format(domain=question.name.to_text(omit_final_dot=True))
            answer.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, text))
        self._transport.sendto(answer.to_wire(), addr)


@contextmanager
def internet() -> Iterator[Internet]:
    """Serves in a thread of its own."""
    world = Internet()
    loop = world.loop
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers = asyncio.run_coroutine_threadsafe(_serve(world), loop).result(10)
    try:
        yield world
    finally:
        asyncio.run_coroutine_threadsafe(_end(world, *servers), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _serve(world: Internet) -> tuple[asyncio.Server, asyncio.BaseTransport]:
    loop = asyncio.get_running_loop()
    world.gate.set()
    server = await loop.create_server(
        lambda: SMTP(world, hostname="mx.test", loop=loop, enable_SMTPUTF8=True), "127.0.0.1", 0
    )
    world.smtp = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    names, _ = await loop.create_datagram_endpoint(_NameServer, local_addr=("127.0.0.1", 0))
    world.dns = names.get_extra_info("sockname")
    return server, names


async def _end(world: Internet, server: asyncio.Server, names: asyncio.BaseTransport) -> None:
    world.gate.set()
    server.close()
    names.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
