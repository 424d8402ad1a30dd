"""SMTP servers on loopback: one listener for each host of the internet file.

Moves bytes between sockets and dialogues and does what the dialogues say: wait, upgrade to TLS, close, cut. What is
said is decided in `dialogue`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast

import structlog

from pipeline.simulator.config import Provider
from pipeline.simulator.dialogue import Dialogue, Signal, Step, Wait
from pipeline.simulator.post import Post

log = structlog.get_logger(__name__)

_HANDSHAKE_SECONDS = 10.0
_SWEEP_SECONDS = 5.0
_MOST_CONNECTIONS = 1000  # of one host, whatever the file allows


class Visit(Post, Protocol):
    """A `Post` for one connection, told when it ends."""

    def leave(self) -> None: ...


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, listener: SmtpListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._dialogue: Dialogue | None = None
        self._visit: Visit | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.active = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast(asyncio.Transport, transport)
        listener = self._listener
        self.active = listener.loop.time()
        if len(listener.connections) >= _MOST_CONNECTIONS:
            self._transport.abort()
            return
        listener.connections.add(self)
        address = transport.get_extra_info("peername")
        self._visit = listener.visit(f"{address[0]}:{address[1]}" if address else "")
        self._dialogue = Dialogue(listener.provider, listener.host, self._visit)
        self._perform(self._dialogue.open())

    def data_received(self, data: bytes) -> None:
        """Answer what the client sent."""
        if self._dialogue is None:
            return
        self.active = self._listener.loop.time()
        self._perform(self._dialogue.receive(data))

    def eof_received(self) -> bool:
        """A client that stops sending has left (it may still be read from, but SMTP has no use for that)."""
        return False

    def pause_writing(self) -> None:
        """A client that does not read its replies is not read from either."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The replies have gone out."""
        if self._transport is not None and self._timer is None and self._upgrade is None:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, by whichever side."""
        if self._timer is not None:
            self._timer.cancel()
        self._listener.connections.discard(self)
        if self._visit is not None:
            self._visit.leave()
        self._transport = self._dialogue = self._visit = None

    def abort(self) -> None:
        """Cut the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _perform(self, steps: list[Step]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        replies: list[bytes] = []
        for n, step in enumerate(steps):
            if isinstance(step, bytes):
                replies.append(step)
                continue
            if replies:
                transport.write(b"".join(replies))
                replies = []
            match step:
                case Wait(seconds):
                    transport.pause_reading()
                    self._timer = self._listener.loop.call_later(seconds, self._go_on, steps[n + 1 :])
                    return
                case Signal.CLOSE:
                    transport.close()
                    return
                case Signal.DROP:
                    transport.abort()
                    return
                case Signal.STARTTLS:
                    transport.pause_reading()
                    self._upgrade = self._listener.loop.create_task(self._secure(transport))
                    return
        if replies:
            transport.write(b"".join(replies))

    def _go_on(self, rest: list[Step]) -> None:
        self._timer = None
        if self._transport is None or self._dialogue is None:
            return
        self._transport.resume_reading()
        self._perform(rest)
        self._perform(self._dialogue.resume())

    async def _secure(self, transport: asyncio.Transport) -> None:
        listener = self._listener
        assert listener.tls is not None
        try:
            secured = await listener.loop.start_tls(
                transport, self, listener.tls, server_side=True, ssl_handshake_timeout=_HANDSHAKE_SECONDS
            )
        except (OSError, ssl.SSLError) as error:
            log.info("simulator.tls.failed", host=listener.host, error=type(error).__name__)
            transport.abort()
            return
        finally:
            self._upgrade = None
        if secured is None or self._dialogue is None:
            transport.abort()
            return
        self._transport = secured
        self._dialogue.secured()


class SmtpListener:
    """One host of a provider, on one port."""

    def __init__(
        self, provider: Provider, host: str, visit: Callable[[str], Visit], tls: ssl.SSLContext | None, idle: float
    ) -> None:
        self.provider = provider
        self.host = host
        self.visit = visit
        self.tls = tls
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self._idle = idle
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, address: str, port: int) -> None:
        """Listen; raises OSError when the port is taken."""
        self._server = await self.loop.create_server(lambda: Connection(self), address, port, backlog=512)
        self._sweep = self.loop.call_later(_SWEEP_SECONDS, self._send_idle_away)

    async def stop(self) -> None:
        """Stop listening and cut what is open."""
        if self._sweep is not None:
            self._sweep.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()

    def _send_idle_away(self) -> None:
        oldest = self.loop.time() - self._idle
        for connection in list(self.connections):
            if connection.active < oldest:
                connection.abort()
        self._sweep = self.loop.call_later(_SWEEP_SECONDS, self._send_idle_away)
