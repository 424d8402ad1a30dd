"""Debian's mail servers as destinations: what they answer is what we make of it, in clear and over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest

from schemas.rules.bounces import BounceClass
from sinks.smtp.dialer import Dialer, Endpoint
from sinks.smtp.dialogue import Envelope
from sinks.smtp.lines import stuffed
from sinks.smtp.outcome import Accepted, Outcome, Stage
from sinks.smtp.reach import SinkReach
from sinks.smtp.results import Attempt, result_of
from sinks.smtp.session import Session, Timeouts
from sinks.smtp.sources import Source
from sinks.smtp.state import Kind, Result
from sinks.smtp.tls import Demand, TlsMode
from tests.peers.exim import exim
from tests.peers.mta import BUSY, SIZE, TAKEN, UNKNOWN, Place
from tests.peers.opensmtpd import opensmtpd
from tests.peers.postfix import postfix
from tests.smtp_owner.world import command
from tests.smtp_wire.peer import IP, MX
from tests.waiting import wait_until

pytestmark = pytest.mark.stack

Refusal = tuple[Stage, int]


@dataclass(frozen=True)
class Server:
    """What it says, other than the rest: of mail that is too large, announced (SIZE) and not."""

    run: Callable[[], AbstractContextManager[Place]]
    pipelining: bool = True
    announced: Refusal = (Stage.MAIL, 552)
    unannounced: Refusal = (Stage.DOT, 552)


SERVERS = {
    "postfix": Server(postfix),
    "exim": Server(exim),
    "opensmtpd": Server(opensmtpd, pipelining=False, announced=(Stage.DOT, 554), unannounced=(Stage.DOT, 554)),
}
MODES = {"clear": TlsMode.NONE, "tls": TlsMode.VERIFIED}
NO_TLS = ("opensmtpd",)
SENDER = "b+token@bounces.brand.test"
_LIMIT_S = 30.0


def message(name: str, body: bytes = b"Good morning\r\n") -> bytes:
    head = f"From: News <news@brand.test>\r\nTo: <{TAKEN}>\r\nSubject: {name}\r\n"
    head += f"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{name}@brand.test>\r\n\r\n"
    return head.encode() + body


@dataclass(frozen=True)
class Peer:
    place: Place
    server: Server
    mode: TlsMode


@pytest.fixture(scope="module", params=list(SERVERS))
def running(request: pytest.FixtureRequest) -> Iterator[tuple[str, Place]]:
    with SERVERS[request.param].run() as found:
        yield request.param, found


@pytest.fixture(params=list(MODES))
def peer(request: pytest.FixtureRequest, running: tuple[str, Place]) -> Peer:
    name, found = running
    if name in NO_TLS and request.param == "tls":
        pytest.skip("OpenSMTPD 6.8 of Debian 12 ends every handshake by an internal error")
    return Peer(found, SERVERS[name], MODES[request.param])


@asynccontextmanager
async def dialled(peer: Peer) -> AsyncIterator[Session]:
    reach = SinkReach({f"{IP}:25": f"127.0.0.1:{peer.place.port}"})
    dialer = Dialer(reach, Timeouts(), peer.place.roots)
    session = await dialer.open(Endpoint(IP, 25, MX), Source("out.brand.test"), Demand(peer.mode, peer.mode))
    assert isinstance(session, Session), session
    closed = asyncio.Event()
    session.on_closed = lambda _: closed.set()
    yield session
    session.quit()
    await closed.wait()


async def sent(session: Session, recipient: str, content: bytes, *, announced: bool = True) -> Outcome:
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    envelope = Envelope(SENDER, recipient, size=len(content) if announced else 0)
    session.send(envelope, stuffed(content), on_outcome=outcome.set_result)
    session.release_dot(envelope)
    async with asyncio.timeout(_LIMIT_S):
        return await outcome


def result(outcome: Outcome) -> Result:
    """As the owner of the queue has it."""
    return result_of(outcome, command("ann"), Attempt("1", "s", started_at=1, at=2))[0]


async def exchanged(peer: Peer, *letters: tuple[str, bytes]) -> Sequence[Outcome]:
    """On one session."""
    async with dialled(peer) as session:
        return [await sent(session, *letter) for letter in letters]


def arrived(place: Place, content: bytes) -> bool:
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    subject = next(line for line in head.split(b"\n") if line.startswith(b"Subject"))
    return any(subject in mail and mail.partition(b"\n\n")[2] == body for mail in place.mails)


async def test_what_it_offers_is_seen_and_used(peer: Peer) -> None:
    async with dialled(peer) as session:
        info = session.info
    offered = info.features
    assert (offered.size, offered.eight_bit, offered.pipelining) == (SIZE, True, peer.server.pipelining)
    assert offered.starttls is (peer.mode is TlsMode.NONE), "it is not offered twice"
    assert (info.tls_verified, info.tls_version != "") == (peer.mode is TlsMode.VERIFIED,) * 2
    assert info.tls_failure == ""


async def test_mail_is_taken_whole_several_on_one_session(peer: Peer) -> None:
    mails = [message(f"{peer.mode}-{dots}", b"." * dots + b"\r\n.x\r\n") for dots in (1, 2, 990)]
    outcomes = await exchanged(peer, *((TAKEN, mail) for mail in mails))
    assert [type(outcome) for outcome in outcomes] == [Accepted] * 3, outcomes
    assert {result(outcome).kind for outcome in outcomes} == {Kind.DELIVERED}
    wait_until(lambda: all(arrived(peer.place, mail) for mail in mails), what="the mails in their folder")


async def test_a_refused_recipient_leaves_the_session_for_the_next(peer: Peer) -> None:
    content = message("refused")
    busy, nobody, taken = await exchanged(peer, (BUSY, content), (UNKNOWN, content), (TAKEN, content))
    deferred, bounced = result(busy), result(nobody)
    assert (deferred.kind, deferred.code, deferred.enhanced, deferred.stage) == (Kind.DEFERRED, 450, "4.2.1", "rcpt")
    assert deferred.disposition != "permanent"
    assert (bounced.kind, bounced.code, bounced.stage) == (Kind.BOUNCED, 550, "rcpt")
    assert (bounced.bounce_class, bounced.disposition) == (BounceClass.INVALID_RECIPIENT, "permanent")
    assert isinstance(taken, Accepted)


@pytest.mark.parametrize("announced", [True, False])
async def test_what_is_too_large_bounces(peer: Peer, announced: bool) -> None:
    content = message("large", b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (SIZE // 60))
    async with dialled(peer) as session:
        outcome = await sent(session, TAKEN, content, announced=announced)
    stage, code = peer.server.announced if announced else peer.server.unannounced
    found = result(outcome)
    assert (found.kind, found.stage, found.code) == (Kind.BOUNCED, stage, code)
    assert found.bounce_class == BounceClass.MESSAGE_TOO_LARGE
