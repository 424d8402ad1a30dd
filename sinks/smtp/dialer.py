"""Open a session: connect, banner, EHLO, STARTTLS by aiosmtplib, then hand its transport to our own protocol.

Every failure is an outcome that names its stage; aiosmtplib's exceptions end here. Which endpoint, source and TLS mode
to use is decided before (routing.py, the owner's policy); what a refusal means, after.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import cast

import aiosmtplib

from sinks.smtp.dialogue import Features
from sinks.smtp.outcome import Broken, Cause, OpeningFailure, Refused, Stage
from sinks.smtp.reach import Reach
from sinks.smtp.replies import Reply
from sinks.smtp.session import Session, SessionInfo, Timeouts

# RFC 5321 section 4.1.1.1: a server that does not know EHLO says so by one of these, and is asked by HELO.
_NO_EHLO = frozenset((500, 502, 504))
_EHLO_NAME = re.compile(r"[A-Za-z0-9.\-]{1,255}|\[[0-9A-Fa-f.:IPv]{2,50}\]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one MX host."""

    ip: str
    port: int
    mx_host: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are to a peer: the EHLO name, and the source address to bind (None: the system's choice)."""

    ehlo_name: str
    bind_address: str | None = None

    def __post_init__(self) -> None:
        if _EHLO_NAME.fullmatch(self.ehlo_name) is None:
            raise ValueError("the EHLO name is neither a domain nor an address literal")


class TlsMode(StrEnum):
    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # RFC 7435: encrypted where it works, in clear where it does not
    REQUIRED = "required"  # encrypted, whoever the peer is
    VERIFIED = "verified"  # encrypted, and the certificate names the MX host


class Dialer:
    """`authorities` are the roots for VERIFIED; None: the system's."""

    def __init__(self, reach: Reach, timeouts: Timeouts, authorities: ssl.SSLContext | None = None) -> None:
        self._reach = reach
        self._timeouts = timeouts
        self._verified = authorities if authorities is not None else ssl.create_default_context()
        self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE  # RFC 7435: no proof of name is still better than clear text

    async def open(self, endpoint: Endpoint, identity: Identity, tls: TlsMode) -> Session | OpeningFailure:
        """A session that is ready to send, or why there is none. Cancelling it leaves no socket."""
        opening = _Opening(self._reach, self._timeouts, endpoint, identity)
        context = None if tls is TlsMode.NONE else self._verified if tls is TlsMode.VERIFIED else self._unverified
        try:
            async with asyncio.timeout(self._timeouts.opening):
                result = await opening.run(tls, context)
                if (
                    tls is TlsMode.OPPORTUNISTIC
                    and not isinstance(result, Session)
                    and result.stage in (Stage.STARTTLS, Stage.HANDSHAKE)
                ):
                    # RFC 3207 section 4.1 lets us go on in clear; after a broken handshake only a new connection can.
                    note = f"{result.stage} {result.reply.code if isinstance(result, Refused) else result.cause}"
                    result = await opening.run(TlsMode.NONE, None)
                    if isinstance(result, Session):
                        result.info = replace(result.info, tls_fallback=note)
        except TimeoutError:
            return Broken(opening.stage, Cause.TIMEOUT)
        return result


class _Opening:
    def __init__(self, reach: Reach, timeouts: Timeouts, endpoint: Endpoint, identity: Identity) -> None:
        self.stage = Stage.CONNECT
        self._reach = reach
        self._timeouts = timeouts
        self._endpoint = endpoint
        self._identity = identity

    async def run(self, tls: TlsMode, context: ssl.SSLContext | None) -> Session | OpeningFailure:
        self.stage = Stage.CONNECT
        started = time.monotonic()
        connected = await self._connect()
        if not isinstance(connected, socket.socket):
            return connected
        client = aiosmtplib.SMTP(
            hostname=self._endpoint.mx_host,
            local_hostname=self._identity.ehlo_name,
            start_tls=False,
            sock=connected,
            timeout=self._timeouts.banner,
        )
        try:
            failure = await self._greet(client)
            if failure is None and context is not None:
                failure = await self._encrypt(client, tls, context)
            if failure is not None:
                return failure
            return self._hand_over(client, tls, started)
        finally:
            client.close()  # closes nothing once the transport is handed over

    async def _connect(self) -> socket.socket | Broken:
        target = self._reach.target(self._endpoint.ip, self._endpoint.port)
        if target is None:
            return Broken(Stage.CONNECT, Cause.FORBIDDEN)
        sock = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if self._identity.bind_address is not None:
                try:
                    sock.bind((self._identity.bind_address, 0))
                except OSError:
                    sock.close()
                    return Broken(Stage.CONNECT, Cause.SOURCE)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self._timeouts.connect):
                await loop.sock_connect(sock, target)
            if not self._reach.permits(sock.getpeername()[0]):
                sock.close()
                return Broken(Stage.CONNECT, Cause.FORBIDDEN)
        except TimeoutError:
            sock.close()
            return Broken(Stage.CONNECT, Cause.TIMEOUT)
        except OSError:
            sock.close()
            return Broken(Stage.CONNECT, Cause.UNREACHABLE)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _greet(self, client: aiosmtplib.SMTP) -> OpeningFailure | None:
        self.stage = Stage.BANNER
        try:
            await client.connect()
        except aiosmtplib.SMTPException as error:
            return self._failure(error)
        return await self._ehlo(client)

    async def _ehlo(self, client: aiosmtplib.SMTP) -> OpeningFailure | None:
        self.stage = Stage.EHLO
        try:
            await client.ehlo(timeout=self._timeouts.ehlo)
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in _NO_EHLO:
                return self._failure(error)
            try:
                await client.helo(timeout=self._timeouts.ehlo)
            except aiosmtplib.SMTPException as second:
                return self._failure(second)
        except aiosmtplib.SMTPException as error:
            return self._failure(error)
        return None

    async def _encrypt(self, client: aiosmtplib.SMTP, tls: TlsMode, context: ssl.SSLContext) -> OpeningFailure | None:
        self.stage = Stage.STARTTLS
        if not client.supports_extension("starttls"):
            return None if tls is TlsMode.OPPORTUNISTIC else Broken(Stage.STARTTLS, Cause.UNSUPPORTED)
        try:
            await client.starttls(
                tls_context=context, server_hostname=self._endpoint.mx_host, timeout=self._timeouts.starttls
            )
        except aiosmtplib.SMTPReadTimeoutError as error:
            return self._failure(error)
        except aiosmtplib.SMTPTimeoutError:
            return Broken(Stage.HANDSHAKE, Cause.TIMEOUT)
        except aiosmtplib.SMTPServerDisconnected as error:
            self.stage = Stage.HANDSHAKE if "upgrading" in error.message else Stage.STARTTLS
            return self._failure(error)
        except aiosmtplib.SMTPException as error:
            return self._failure(error)
        except (OSError, ValueError):  # ssl.SSLError is the one, a host name that cannot be one the other
            return Broken(Stage.HANDSHAKE, Cause.TLS)
        # RFC 3207 section 4.2: what was learnt in clear is forgotten, and asked again.
        return await self._ehlo(client)

    def _failure(self, error: aiosmtplib.SMTPException) -> OpeningFailure:
        """aiosmtplib's exceptions at a stage, as outcomes. A new kind of them fails a test."""
        match error:
            case aiosmtplib.SMTPResponseException(code=code, message=message) if code > 0:
                reply = Reply(code, tuple(message.encode("utf-8", "surrogateescape").split(b"\n")))
                return Refused(reply, self.stage) if reply.is_negative else Broken(self.stage, Cause.PROTOCOL, reply)
            case aiosmtplib.SMTPResponseException():
                return Broken(self.stage, Cause.PROTOCOL)
            case aiosmtplib.SMTPTimeoutError():
                return Broken(self.stage, Cause.TIMEOUT)
        return Broken(self.stage, Cause.LOST)

    def _hand_over(self, client: aiosmtplib.SMTP, tls: TlsMode, started: float) -> Session | OpeningFailure:
        transport = cast(asyncio.Transport | None, client.transport)  # uvloop's are none by class
        if transport is None or transport.is_closing():
            return Broken(self.stage, Cause.LOST)
        cipher = transport.get_extra_info("cipher")
        source = transport.get_extra_info("sockname")
        info = SessionInfo(
            mx_host=self._endpoint.mx_host,
            peer_ip=self._endpoint.ip,
            peer_port=self._endpoint.port,
            source_ip=source[0] if source else "",
            features=_features(client.esmtp_extensions),
            tls_version=cipher[1] if cipher else "",
            tls_cipher=cipher[0] if cipher else "",
            tls_verified=cipher is not None and tls is TlsMode.VERIFIED,
            opened_at=time.time(),
            connect_ms=(time.monotonic() - started) * 1000.0,
        )
        session = Session(info, self._timeouts)
        transport.set_protocol(session)
        session.connection_made(transport)
        client.transport = client.protocol = None  # it is ours now: nothing that client does may reach it
        return session


def _features(extensions: dict[str, str]) -> Features:
    size = extensions.get("size")
    limits = re.search(r"\bMAILMAX=(\d{1,6})\b", extensions.get("limits", ""), re.IGNORECASE)
    return Features(
        pipelining="pipelining" in extensions,
        eight_bit="8bitmime" in extensions,
        smtputf8="smtputf8" in extensions,
        size=None if size is None else int(size) if size.isascii() and size.isdigit() and len(size) < 19 else 0,
        starttls="starttls" in extensions,
        mail_max=int(limits[1]) if limits else 0,
    )
