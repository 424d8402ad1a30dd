"""An SMTP sink of ours, for what Debian's cannot do: STARTTLS, answers that take their time, first attempts put off.

    python -m bench.sink 127.0.0.1:2500 --tls CERT.pem --delay 0.1 --defer 0.05

Takes whatever comes and keeps none of it. Writes how many sessions are open and how many messages were taken (`mesg=N`,
as `smtp-sink` does). Who is put off is decided by the address, and only once: so every message arrives, by one attempt
or by two.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_END = b"\r\n.\r\n"
_SAY_S = 0.05
_SHARE = 10_000  # steps of a share


@dataclass(slots=True)
class Manners:
    """How the sink answers. `delay` in seconds, `defer` a share of addresses; both 0: at once, and yes."""

    tls: ssl.SSLContext | None = None
    delay: float = 0.0
    defer: float = 0.0
    taken: int = 0
    sessions: int = 0  # open now
    deferred: set[bytes] = field(default_factory=set)

    def puts_off(self, rcpt: bytes) -> bool:
        """Only the first attempt, and only of those whom the hash of their address picks."""
        if zlib.crc32(rcpt) % _SHARE >= self.defer * _SHARE or rcpt in self.deferred:
            return False
        self.deferred.add(rcpt)
        return True


class Dialogue:
    """What is answered to what. Pure but for the counts."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._buffer = bytearray()
        self._data = False
        self._recipients = 0
        self.secure = False
        self.starttls = False
        self.over = False

    def receive(self, data: bytes) -> bytes:
        """The answers to what is complete."""
        self._buffer += data
        answers: list[bytes] = []
        while not (self.over or self.starttls) and (part := self._part()) is not None:
            answers.append(self._answer(part))
        return b"".join(answers)

    def encrypted(self) -> None:
        # RFC 3207 section 4.2: nothing that came in clear counts any more.
        self._buffer.clear()
        self.secure, self.starttls, self._recipients = True, False, 0

    def _part(self) -> bytes | None:
        end = _END if self._data else b"\r\n"
        at = self._buffer.find(end)
        if at < 0:
            return None
        part = b"" if self._data else bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return part

    def _answer(self, line: bytes) -> bytes:
        if self._data:
            self._data, self._recipients = False, 0
            self._manners.taken += 1
            return b"250 2.0.0 Ok\r\n"
        match line[:4].upper():
            case b"EHLO":
                starttls = b"250-STARTTLS\r\n" if self._manners.tls is not None and not self.secure else b""
                return b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n" + starttls + b"250 ENHANCEDSTATUSCODES\r\n"
            case b"RCPT":
                if self._manners.puts_off(line):
                    return b"450 4.7.1 come back later\r\n"
                self._recipients += 1
                return b"250 2.1.5 Ok\r\n"
            case b"DATA":
                if not self._recipients:
                    return b"554 5.5.1 no valid recipients\r\n"
                self._data = True
                return b"354 go on\r\n"
            case b"STAR" if self._manners.tls is not None and not self.secure:
                self.starttls = True
                return b"220 2.0.0 go on\r\n"
            case b"QUIT":
                self.over = True
                return b"221 2.0.0 bye\r\n"
            case b"HELO" | b"MAIL" | b"RSET" | b"NOOP":
                return b"250 2.0.0 Ok\r\n"
        return b"502 5.5.1 no such command\r\n"


class _Connection(asyncio.Protocol):
    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._dialogue = Dialogue(manners)
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._manners.sessions += 1
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        # The three-way handshake has a round trip of its own.
        self._later(2, lambda: self._transport.write(b"220 sink ESMTP\r\n"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._manners.sessions -= 1

    def data_received(self, data: bytes) -> None:
        answers = self._dialogue.receive(data)
        if self._dialogue.starttls:
            self._transport.pause_reading()  # what comes next is the handshake's
            self._later(2, lambda: self._encrypt(answers))
        elif answers:
            self._later(1, lambda: self._say(answers))

    def _say(self, answers: bytes) -> None:
        self._transport.write(answers)
        if self._dialogue.over:
            self._transport.close()

    def _later(self, trips: int, call: Callable[[], None]) -> None:
        if self._manners.delay:
            asyncio.get_running_loop().call_later(self._manners.delay * trips, call)
        else:
            call()

    def _encrypt(self, answers: bytes) -> None:
        self._transport.write(answers)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands())

    async def _shake_hands(self) -> None:
        loop, context = asyncio.get_running_loop(), self._manners.tls
        assert context is not None
        try:
            secured = await loop.start_tls(self._transport, self, context, server_side=True)
        except (OSError, ssl.SSLError):  # a peer that does not like our certificate, and comes again
            self._transport.close()
            return
        assert secured is not None
        self._dialogue.encrypted()
        self._transport = secured


async def serve(host: str, port: int, manners: Manners) -> None:
    listening = await asyncio.get_running_loop().create_server(lambda: _Connection(manners), host, port, backlog=1000)
    told = ""
    async with listening:
        while True:
            if (now := f"sess={manners.sessions} mesg={manners.taken}") != told:
                told = now
                print(told, flush=True)
            await asyncio.sleep(_SAY_S)


def self_signed(path: Path) -> Path:
    """Self-signed, as with many an MX host: it encrypts, and proves nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("listen", metavar="HOST:PORT")
    parser.add_argument("--tls", type=Path, metavar="PEM", help="key and certificate: offers STARTTLS")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds until an answer")
    parser.add_argument("--defer", type=float, default=0.0, help="share of addresses whose first attempt gets a 450")
    options = parser.parse_args()
    context = None
    if options.tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls)
    host, _, port = options.listen.rpartition(":")
    uvloop.run(serve(host, int(port), Manners(context, options.delay, options.defer)))


if __name__ == "__main__":
    main()
