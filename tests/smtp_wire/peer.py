"""A scripted SMTP server on a real loopback socket: well behaved but where the script says otherwise."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any, TypeVar

import trustme
import uvloop

from sinks.smtp.dialer import Dialer, Endpoint
from sinks.smtp.outcome import OpeningFailure, Stage
from sinks.smtp.reach import SinkReach
from sinks.smtp.session import Session, Timeouts
from sinks.smtp.sources import Source
from sinks.smtp.tls import Demand, TlsMode

T = TypeVar("T")
IP, MX = "198.18.0.10", "mx.example.test"
SHORT = Timeouts(connect=0.4, banner=0.4, ehlo=0.4, starttls=0.4, mail=0.4, rcpt=0.4, data=0.4, block=0.4, dot=0.4)
PATIENT = Timeouts()


class Fault(Enum):
    FIN = auto()
    RST = auto()
    SILENCE = auto()
    DRIP = auto()  # a byte at a time, never a whole reply


Answer = bytes | Fault
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
REPLIES: Mapping[Stage, bytes] = {
    Stage.BANNER: b"220 mx.example.test ESMTP\r\n",
    Stage.EHLO: b"250-mx.example.test\r\n250-PIPELINING\r\n250-LIMITS MAILMAX=3\r\n250 SIZE 1000000\r\n",
    Stage.STARTTLS: b"220 go\r\n",
    Stage.AUTH: b"235 2.7.0 welcome\r\n",
    Stage.MAIL: b"250 2.1.0 ok\r\n",
    Stage.RCPT: b"250 2.1.5 ok\r\n",
    Stage.DATA: b"354 go\r\n",
    Stage.DOT: b"250 2.0.0 queued\r\n",
}
_VERBS = {b"EHLO": Stage.EHLO, b"HELO": Stage.EHLO, b"STAR": Stage.STARTTLS, b"MAIL": Stage.MAIL}
_VERBS |= {b"RCPT": Stage.RCPT, b"DATA": Stage.DATA, b"AUTH": Stage.AUTH}


def run(loop: str, main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main)


@dataclass
class Peer:
    """`script` says what to answer at a stage in place of REPLIES; BODY is what to do once 354 is out."""

    script: Mapping[Stage, Answer] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    broken_handshake: bool = False
    mechanisms: str = ""  # of AUTH, offered over TLS alone
    buffer: int = 16 * 1024 * 1024  # bytes that it reads ahead
    commands: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    callers: list[str] = field(default_factory=list)  # addresses that connected
    port: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.callers.append(writer.get_extra_info("peername")[0])
        encrypted = refused = False
        try:
            await self._answer(writer, Stage.BANNER)
            while line := await reader.readline():
                self.commands.append(line.rstrip())
                stage = _VERBS.get(line[:4].upper())
                match stage:
                    case None:
                        writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")
                    case Stage.EHLO if self.tls is not None and not encrypted and Stage.EHLO not in self.script:
                        writer.write(REPLIES[Stage.EHLO].replace(b"250 SIZE", b"250-STARTTLS\r\n250 SIZE"))
                    case Stage.EHLO if self.mechanisms and encrypted:
                        offer = b"250-AUTH %s\r\n250 SIZE" % self.mechanisms.encode()
                        writer.write(REPLIES[Stage.EHLO].replace(b"250 SIZE", offer))
                    case Stage.AUTH if line.startswith(b"AUTH LOGIN"):
                        writer.write(b"334 UGFzc3dvcmQ6\r\n")
                        self.commands.append((await reader.readline()).rstrip())
                        await self._answer(writer, stage)
                    case Stage.RCPT | Stage.DATA if refused:
                        writer.write(b"503 5.5.1 bad sequence\r\n")
                        continue
                    case _:
                        await self._answer(writer, stage)
                answered = self.script.get(stage, REPLIES.get(stage, b"")) if stage else b""
                refused = refused or (isinstance(answered, bytes) and answered[:1] in (b"4", b"5"))
                if stage is Stage.STARTTLS and answered == REPLIES[Stage.STARTTLS] and self.tls is not None:
                    if Stage.HANDSHAKE in self.script:
                        await reader.read(1)  # what comes before the client's hello is thrown away by it
                        await self._answer(writer, Stage.HANDSHAKE)
                        await reader.read()  # until the client gives up
                        return
                    if self.broken_handshake:
                        await reader.read(1)
                        writer.write(b"this is no TLS\r\n" * 4)
                        await reader.read()  # until the client gives up
                        return
                    await writer.start_tls(self.tls)
                    encrypted = True
                if stage is Stage.DATA and answered == REPLIES[Stage.DATA]:
                    if Stage.BODY in self.script:
                        await self._answer(writer, Stage.BODY)
                    self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                    await self._answer(writer, Stage.DOT)
                if line.startswith(b"QUIT"):
                    return
        except (OSError, EOFError):
            return
        except asyncio.CancelledError:
            writer.transport.abort()  # whatever it has not read keeps a clean close waiting
            raise
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, stage: Stage) -> None:
        match self.script.get(stage, REPLIES.get(stage, b"")):
            case Fault.FIN:
                raise EOFError
            case Fault.RST:
                writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
                raise EOFError
            case Fault.SILENCE:
                await asyncio.get_running_loop().create_future()
            case Fault.DRIP:
                while True:
                    writer.write(b"2")
                    await asyncio.sleep(0.05)
            case bytes() as reply:
                writer.write(reply)


@asynccontextmanager
async def served(peer: Peer) -> Any:
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(peer._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=peer.buffer)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def dialled(
    peer: Peer, tls: TlsMode = TlsMode.NONE, timeouts: Timeouts = PATIENT, authorities: ssl.SSLContext | None = None
) -> Session | OpeningFailure:
    reach = SinkReach({f"{IP}:25": f"127.0.0.1:{peer.port}"})
    return await Dialer(reach, timeouts, authorities).open(
        Endpoint(IP, 25, MX), Source("out.brand.test"), Demand(tls, tls)
    )


def certificates(name: str = MX) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's context, a client's that trusts it)"""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(name).configure_cert(server)
    authority.configure_trust(client)
    return server, client
