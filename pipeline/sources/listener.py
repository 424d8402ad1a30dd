"""One connection of an SMTP listener: aiosmtpd within limits, and with an own way of reading a mail.

Decides how many connections there are, where a mail ends, and how large it may be. Commands, their order and their
limits are aiosmtpd's; who may be written to, and what becomes of a mail, is the handler's.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, Protocol

from aiosmtpd.smtp import SMTP, Envelope, Session, syntax

MAX_MAIL = 4 * 1024 * 1024  # bytes accepted, stuffed dots included: a bounce may carry the whole mail it is about
MAX_CONNECTIONS = 200
MAX_CONNECTIONS_PER_PEER = 20
_COMMANDS = 2_000  # of a kind, per connection
_SILENCE = 120.0  # seconds between two commands, which is also what a mail may take to come

_END: Final = b"\r\n.\r\n"
_ALL: Final = 1 << 30  # bytes: more than a stream reader ever holds
# The null reverse-path, or a dot-string at a name, and parameters: what can be read in one way only.
_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+"
_PATH: Final = re.compile(rf"<({_ATOM}(?:\.{_ATOM})*@[\w-]+(?:\.[\w-]+)*)?>(?: (\w.*))?", re.ASCII)


class Handler(Protocol):
    """A handler of aiosmtpd's, with its hooks, that is given whole mails by `take` instead of `handle_DATA`."""

    hostname: str

    async def take(self, session: Session, envelope: Envelope, content: bytes) -> str:
        """The reply to the final dot. `content` is what came, less the dots that transparency adds (RFC 5321 section
        4.5.2): it may hold bare CR, bare LF and NUL.
        """
        ...


class Doorkeeper:
    """How many connections there are, in all and per peer."""

    def __init__(self) -> None:
        self._by_peer: dict[str, int] = {}
        self._all = 0

    def enter(self, peer: str) -> bool:
        """False when one more is too many."""
        if self._all >= MAX_CONNECTIONS or self._by_peer.get(peer, 0) >= MAX_CONNECTIONS_PER_PEER:
            return False
        self._all += 1
        self._by_peer[peer] = self._by_peer.get(peer, 0) + 1
        return True

    def leave(self, peer: str) -> None:
        self._all -= 1
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]


class Listener(SMTP):
    """aiosmtpd with a limit on connections, which it lacks, and quicker where a bounce spent most of its time."""

    def __init__(self, handler: Handler, doorkeeper: Doorkeeper) -> None:
        super().__init__(
            handler,
            data_size_limit=MAX_MAIL,
            enable_SMTPUTF8=True,
            hostname=handler.hostname,
            ident="mailriver",
            timeout=_SILENCE,
            command_call_limit=_COMMANDS,
            loop=asyncio.get_running_loop(),
        )
        self._handler = handler
        self._doorkeeper = doorkeeper
        self._peer: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        if self._peer is None:  # not the second call, after STARTTLS
            if not self._doorkeeper.enter(peer):
                assert isinstance(transport, asyncio.Transport)
                transport.write(b"421 4.7.0 too many connections\r\n")
                transport.close()
                return
            self._peer = peer
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._peer is None:
            return
        self._doorkeeper.leave(self._peer)
        self._peer = None
        super().connection_lost(error)

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:
        assert self.session is not None
        assert self.envelope is not None
        if arg or not self.envelope.rcpt_tos:
            await super().smtp_DATA(arg or "")  # refuses it
            return
        await self.push("354 end with a dot on a line of its own")
        content = await self._content()
        envelope, self.envelope = self.envelope, Envelope()
        if content is None:
            await self.push("552 5.3.4 the message is too large")
        else:
            await self.push(await self._handler.take(self.session, envelope, content))

    async def _content(self) -> bytes | None:
        """A mail up to its end; None when it was larger than MAX_MAIL, and was dropped while it came.

        What the peer sent behind the end is the next command. Nothing but CRLF, dot, CRLF is an end: where a server
        takes another line break for one, a mail can hold a second one that nobody sent (SMTP smuggling).
        """
        # RFC 5321 section 4.1.1.4: where there is no mail, the first CRLF of its end is the one behind DATA.
        received = bytearray(b"\r\n")
        dropped = searched = 0
        while (end := received.find(_END, searched)) < 0:
            if len(received) > MAX_MAIL + len(_END):
                dropped += len(received) - len(_END)
                del received[: -len(_END)]
            searched = max(0, len(received) - len(_END))
            received += await self._reader.read(_ALL)
        if behind := received[end + len(_END) :]:
            self._reader.feed_data(behind)  # as if it came now: the reader is empty
        if dropped + end > MAX_MAIL:
            return None
        # RFC 5321 section 4.5.2: a dot that begins a line was added by the client.
        return bytes(received[: end + 2].replace(b"\r\n.", b"\r\n")[2:])

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """aiosmtpd's, which has the standard library's parser of header fields read each path."""
        plain = _PATH.fullmatch(arg)
        return (plain[1] or "<>", plain[2] or "") if plain else super()._getaddr(arg)
