"""Receive mail that comes back: bounces to signed return paths, reports and letters to abuse@ and postmaster@.

Decides which recipients exist, so that nothing is taken that nobody reads, and never answers with a mail of its own (no
backscatter). What a mail says is `classify`'s to find out: it is written to `mail.inbound` as it came, and the peer
gets its 250 when Kafka has acked. A peer that repeats a mail whose 250 was lost writes the same event again, with the
same id.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from pipeline.sources.listener import Doorkeeper, Listener
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

MAX_KEPT = 512 * 1024  # bytes written: reports and headers come first, and a record stays under its readers' limit
MAX_RECIPIENTS = 10  # per mail; a bounce has one

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
    server = await loop.create_server(partial(Listener, reception, Doorkeeper()), config.host, config.port)
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

    async def take(self, session: Session, envelope: Envelope, content: bytes) -> str:
        # RFC 5321 section 2.3.8: CR and LF only together. A mail that is read differently by two servers is an attack.
        pairless = content.replace(b"\r\n", b" ")
        if b"\r" in pairless or b"\n" in pairless or b"\0" in pairless:
            return "554 5.6.0 bare CR, bare LF or NUL in the message"
        try:
            for event in self._events(session, envelope, content):  # a bounce has one
                await self._publisher.published(event)
        except Later:
            return "451 4.3.0 try again later"
        except Never:
            return "554 5.6.0 the message cannot be taken"
        return "250 2.0.0 taken"

    async def handle_exception(self, error: Exception) -> str:
        """What nobody expected is our fault, and no reason for the peer to give its mail up, as aiosmtpd's 500 is."""
        log.error("session_failed", exc_info=error)
        return "451 4.3.0 try again later"

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

    def _events(self, session: Session, envelope: Envelope, content: bytes) -> Iterator[InboundReceived]:
        digest = hashlib.sha256(content).hexdigest()
        for rcpt_to in envelope.rcpt_tos:
            yield InboundReceived.from_checked(
                f"{digest}/{rcpt_to}",
                occurred_at=datetime.now(UTC),
                mail_from=_text(envelope.mail_from).removeprefix("<>"),  # as aiosmtpd writes the null reverse-path
                rcpt_to=rcpt_to,
                peer_ip=str(session.peer[0]) if session.peer else "",
                helo=_text(session.host_name)[:255],
                tls=session.ssl is not None,
                sha256=digest,
                size=len(content),
                raw=content[:MAX_KEPT],
            )


def _text(given: str | None) -> str:
    """As an event can hold it: of bytes that are no UTF-8 aiosmtpd makes surrogates, which JSON has no form for."""
    return (given or "").encode(errors="replace").decode()
