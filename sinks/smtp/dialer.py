"""Open a session: connect, banner, EHLO, STARTTLS by aiosmtplib, then hand its transport to our own protocol.

Every failure is an outcome that names its stage; aiosmtplib's exceptions end here. Which endpoint and source to use,
and what TLS must prove, is decided before (routing.py, tls_policies.py); what a refusal means, after.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import aiosmtplib

from sinks.smtp.connecting import connect
from sinks.smtp.dane import authenticates
from sinks.smtp.dialogue import Features
from sinks.smtp.outcome import Broken, Cause, OpeningFailure, Refused, Stage
from sinks.smtp.reach import Reach
from sinks.smtp.relays import Login, Relay
from sinks.smtp.replies import Reply
from sinks.smtp.session import Session, SessionInfo, Timeouts
from sinks.smtp.sources import Source
from sinks.smtp.tls import DAY_S, Demand, HostMemory, Rung, TlsFailure, TlsMode, failure_of, rungs

# RFC 5321 section 4.1.1.1: a server that does not know EHLO says so by one of these, and is asked by HELO.
_NO_EHLO = frozenset((500, 502, 504))
_BROKEN_TLS_S: Final = 3 * DAY_S  # for which a host is asked for nothing better than what it could do
_BUSY_TLS_S: Final = 3600.0  # 4xx to STARTTLS: it says itself that it will pass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one MX host, or of a relay."""

    ip: str
    port: int
    mx_host: str
    relay: Relay | None = None


class Dialer:
    """`authorities` are the roots for certificates; None: the system's. `timeouts`: where `open` is given none."""

    def __init__(self, reach: Reach, timeouts: Timeouts, authorities: ssl.SSLContext | None = None) -> None:
        self._reach = reach
        self._timeouts = timeouts
        self._memory = HostMemory(time.monotonic)
        self._verified = authorities if authorities is not None else ssl.create_default_context()
        self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE  # RFC 7435: no proof of name is still better than clear text

    async def open(
        self, endpoint: Endpoint, source: Source, demand: Demand, timeouts: Timeouts | None = None
    ) -> Session | OpeningFailure:
        """A session that is ready to send, or why there is none. Cancelling it leaves no socket."""
        timeouts = timeouts or self._timeouts
        reach = self._reach if endpoint.relay is None else self._reach.named()
        opening = _Opening(reach, timeouts, endpoint, source, demand)
        try:
            async with asyncio.timeout(timeouts.opening):
                return await self._climb_down(opening, f"{endpoint.mx_host}:{endpoint.port}", demand)
        except TimeoutError:
            return Broken(opening.stage, Cause.TIMEOUT)

    async def _climb_down(self, opening: _Opening, host: str, demand: Demand) -> Session | OpeningFailure:
        """The best that the host can do, as far down as the demand allows. After a broken handshake only a new
        connection can go on (RFC 3207 section 4.1).
        """
        best, known = self._memory.best(host)
        left = list(rungs(demand.mode, best))
        opening.failure = known if demand.mode in (TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED) else ""
        fell = 0.0  # for how long to remember
        while True:
            rung = left.pop(0)
            result = await opening.run(rung, self._context(rung))
            if isinstance(result, Session):
                if fell:
                    self._memory.note(host, rung, opening.failure, fell)
                return result
            if result.stage not in (Stage.STARTTLS, Stage.HANDSHAKE) or not left:
                return result
            if not opening.untrusted:
                # It is not the certificate: encryption with whomever fails the same.
                left = [rung for rung in left if rung is Rung.CLEAR]
                if not left:
                    return result
            later = isinstance(result, Refused) and result.reply.code < 500
            fell = _BUSY_TLS_S if later else _BROKEN_TLS_S

    def _context(self, rung: Rung) -> ssl.SSLContext | None:
        match rung:
            case Rung.VERIFIED:
                return self._verified
            case Rung.UNVERIFIED:
                return self._unverified
            case Rung.CLEAR:
                return None


class _Opening:
    def __init__(self, reach: Reach, timeouts: Timeouts, endpoint: Endpoint, source: Source, demand: Demand) -> None:
        self.stage = Stage.CONNECT
        self.failure = ""  # of TLS, so far
        self.untrusted = False  # the last failure was the certificate's alone
        self._reach = reach
        self._timeouts = timeouts
        self._endpoint = endpoint
        self._source = source
        self._demand = demand

    async def run(self, rung: Rung, context: ssl.SSLContext | None) -> Session | OpeningFailure:
        self.stage = Stage.CONNECT
        self.untrusted = False
        started = time.monotonic()
        connected = await connect(
            self._reach, self._endpoint.ip, self._endpoint.port, self._source, self._timeouts.connect
        )
        if isinstance(connected, Broken):
            return connected
        client = aiosmtplib.SMTP(
            hostname=self._endpoint.mx_host,
            local_hostname=self._source.ehlo_name,
            start_tls=False,
            sock=connected,
            timeout=self._timeouts.banner,
        )
        try:
            failure = await self._greet(client)
            if failure is None and context is not None:
                failure = await self._encrypt(client, context)
            if failure is None and (relay := self._endpoint.relay) is not None and relay.login is not None:
                failure = await self._log_in(client, relay.login, rung)
            if failure is not None:
                return failure
            if self._demand.mode is TlsMode.DANE and not self._is_named(client):
                self.failure = TlsFailure.VALIDATION
                return Broken(Stage.HANDSHAKE, Cause.TLS, failure=self.failure)
            return self._hand_over(client, rung, started)
        finally:
            client.close()  # closes nothing once the transport is handed over

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

    async def _encrypt(self, client: aiosmtplib.SMTP, context: ssl.SSLContext) -> OpeningFailure | None:
        self.stage = Stage.STARTTLS
        if not client.supports_extension("starttls"):
            self.failure = TlsFailure.NOT_SUPPORTED
            if self._demand.mode is TlsMode.OPPORTUNISTIC:
                return None
            return Broken(Stage.STARTTLS, Cause.UNSUPPORTED, failure=self.failure)
        failure = await self._starttls(client, context)
        if failure is not None:
            return failure
        # RFC 3207 section 4.2: what was learnt in clear is forgotten, and asked again.
        return await self._ehlo(client)

    async def _starttls(self, client: aiosmtplib.SMTP, context: ssl.SSLContext) -> OpeningFailure | None:
        unless, self.failure = self.failure, TlsFailure.VALIDATION
        try:
            await client.starttls(
                tls_context=context, server_hostname=self._endpoint.mx_host, timeout=self._timeouts.starttls
            )
        except aiosmtplib.SMTPReadTimeoutError as error:
            return self._failure(error)
        except aiosmtplib.SMTPTimeoutError:
            return Broken(Stage.HANDSHAKE, Cause.TIMEOUT, failure=self.failure)
        except aiosmtplib.SMTPServerDisconnected as error:
            self.stage = Stage.HANDSHAKE if "upgrading" in error.message else Stage.STARTTLS
            return self._failure(error)
        except aiosmtplib.SMTPException as error:
            return self._failure(error)
        except (OSError, ValueError) as error:  # ssl.SSLError is the one, a host name that cannot be one the other
            self.untrusted = isinstance(error, ssl.SSLCertVerificationError)
            self.failure = failure_of(error)
            return Broken(Stage.HANDSHAKE, Cause.TLS, failure=self.failure)
        self.failure = unless
        return None

    async def _log_in(self, client: aiosmtplib.SMTP, login: Login, rung: Rung) -> OpeningFailure | None:
        """RFC 4954. The server's words are not kept: they may repeat what it was told."""
        self.stage = Stage.AUTH
        if rung is not Rung.VERIFIED or client.get_transport_info("cipher") is None:
            return Broken(Stage.AUTH, Cause.TLS)
        offered = client.server_auth_methods
        if "plain" not in offered and "login" not in offered:
            return Broken(Stage.AUTH, Cause.UNSUPPORTED)
        ask = client.auth_plain if "plain" in offered else client.auth_login
        try:
            await ask(login.username, login.password, timeout=self._timeouts.ehlo)
        except aiosmtplib.SMTPException as error:
            failure = self._failure(error)
            if isinstance(failure, Refused):
                return Refused(failure.reply.without_text(), Stage.AUTH)
            return Broken(failure.stage, failure.cause)
        return None

    def _is_named(self, client: aiosmtplib.SMTP) -> bool:
        shown = client.get_transport_info("ssl_object")
        chain = _chain(shown) if isinstance(shown, ssl.SSLObject) else []
        return authenticates(self._demand.tlsa, chain, self._endpoint.mx_host, datetime.now(UTC))

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

    def _hand_over(self, client: aiosmtplib.SMTP, rung: Rung, started: float) -> Session | OpeningFailure:
        transport = cast(asyncio.Transport | None, client.transport)  # uvloop's are none by class
        if transport is None or transport.is_closing():
            return Broken(self.stage, Cause.LOST)
        cipher = transport.get_extra_info("cipher")
        local = transport.get_extra_info("sockname")
        info = SessionInfo(
            mx_host=self._endpoint.mx_host,
            peer_ip=self._endpoint.ip,
            peer_port=self._endpoint.port,
            source_ip=local[0] if local else "",
            source=self._source.name,
            features=_features(client.esmtp_extensions),
            tls_version=cipher[1] if cipher else "",
            tls_cipher=cipher[0] if cipher else "",
            tls_verified=cipher is not None and (rung is Rung.VERIFIED or self._demand.mode is TlsMode.DANE),
            tls_policy=self._demand.policy,
            tls_failure=self.failure,
            opened_at=time.time(),
            connect_ms=(time.monotonic() - started) * 1000.0,
        )
        session = Session(info, self._timeouts)
        transport.set_protocol(session)
        session.connection_made(transport)
        client.transport = client.protocol = None  # it is ours now: nothing that client does may reach it
        return session


def _chain(shown: ssl.SSLObject) -> list[bytes]:
    """The certificates as the peer showed them (DER), its own first."""
    public = getattr(shown, "get_unverified_chain", None)  # from Python 3.13 on
    if public is not None:
        return list(public())
    inner: Any = getattr(shown, "_sslobj", None)  # where it is before that, and only there
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain() or ()]


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
