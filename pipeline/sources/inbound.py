"""Receive mail that comes back: bounces to signed return paths, reports and letters to abuse@ and postmaster@.

Decides which recipients exist, so that nothing is taken that nobody reads, and never answers with a mail of its own (no
backscatter). What a mail says is `classify`'s to find out: it is written to `mail.inbound` as it came, and the peer
gets its 250 when Kafka has acked. A peer that repeats a mail whose 250 was lost writes the same event again, with the
same id.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from schemas.address import AddressError, parse
from schemas.feedback import InboundReceived
from schemas.links import RETURN_PATH
from schemas.tokens import Keyring, Kind, TokenError
from topics.errors import Later, Never
from topics.kafka import Cluster
from topics.publisher import Publisher

ROLE = "inbound"
ROLE_ACCOUNTS = frozenset({"postmaster", "abuse", "fbl"})
"""RFC 5321 section 4.5.1 and RFC 2142 want the first two; feedback loops are registered for the third."""

MAX_MAIL = 4 * 1024 * 1024  # bytes accepted: a bounce may carry the whole mail that it is about
MAX_KEPT = 512 * 1024  # bytes written: reports and headers come first, and a record stays under its readers' limit
MAX_RECIPIENTS = 10  # per mail; a bounce has one
MAX_CONNECTIONS = 200
MAX_CONNECTIONS_PER_PEER = 20
_COMMANDS = 2_000  # of a kind, per connection
_SILENCE = 120.0  # seconds

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InboundConfig:
    cluster: Cluster
    keyring: Keyring
    host: str
    port: int
    hostname: str
    return_path_domains: frozenset[str]
    sending_domains: frozenset[str]


async def serve(config: InboundConfig, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    publisher = Publisher(config.cluster, ROLE)
    reception = Reception(config, publisher)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(_LimitedSMTP, reception, Doorkeeper()), config.host, config.port)
    try:
        ready()
        await stop.wait()
    finally:
        server.close()
        await asyncio.to_thread(publisher.close)


class Reception:
    """aiosmtpd's handler: which recipients exist, and what becomes of a mail."""

    def __init__(self, config: InboundConfig, publisher: Publisher) -> None:
        self.hostname = config.hostname
        self._keyring = config.keyring
        self._return_paths = config.return_path_domains
        self._role_domains = config.return_path_domains | config.sending_domains
        self._publisher = publisher

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 too many recipients"
        if not self.exists(address):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        # RFC 5321 section 2.3.8: CR and LF only together. A mail that is read differently by two servers is an attack.
        pairless = content.replace(b"\r\n", b" ")
        if b"\r" in pairless or b"\n" in pairless or b"\0" in pairless:
            return "554 5.6.0 bare CR, bare LF or NUL in the message"
        try:
            await asyncio.gather(
                *(self._publisher.published(self._event(session, envelope, to, content)) for to in envelope.rcpt_tos)
            )
        except Later:
            return "451 4.3.0 try again later"
        except Never:
            return "554 5.6.0 the message cannot be taken"
        return "250 2.0.0 taken"

    def exists(self, address: str) -> bool:
        """A return path that we signed, or a role account of one of our domains."""
        if address.lower() == "postmaster":  # RFC 5321 section 4.1.1.3: without a domain too
            return True
        try:
            parsed = parse(address)
        except AddressError:
            return False
        if parsed.domain in self._return_paths and parsed.local.startswith(RETURN_PATH):
            try:
                self._keyring.open_token(Kind.RETURN_PATH, parsed.local.removeprefix(RETURN_PATH))
            except TokenError:
                return False
            return True
        return parsed.domain in self._role_domains and parsed.local.lower() in ROLE_ACCOUNTS

    def _event(self, session: Session, envelope: Envelope, rcpt_to: str, content: bytes) -> InboundReceived:
        digest = hashlib.sha256(content).hexdigest()
        return InboundReceived.from_cause(
            f"{digest}/{rcpt_to}",
            occurred_at=datetime.now(UTC),
            mail_from=(envelope.mail_from or "").removeprefix("<>"),  # as aiosmtpd writes the null reverse-path
            rcpt_to=rcpt_to,
            peer_ip=str(session.peer[0]) if session.peer else "",
            helo=str(session.host_name or "")[:255],
            tls=session.ssl is not None,
            sha256=digest,
            size=len(content),
            raw=b64encode(content[:MAX_KEPT]),
        )


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


class _LimitedSMTP(SMTP):
    """aiosmtpd with a limit on connections, which it lacks."""

    def __init__(self, reception: Reception, doorkeeper: Doorkeeper) -> None:
        super().__init__(
            reception,
            data_size_limit=MAX_MAIL,
            enable_SMTPUTF8=True,
            hostname=reception.hostname,
            ident="mailriver",
            timeout=_SILENCE,
            command_call_limit=_COMMANDS,
            loop=asyncio.get_running_loop(),
        )
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
