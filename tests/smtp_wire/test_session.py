"""Sessions over real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio

import aiosmtplib
import pytest

from sinks.smtp.dialer import Dialer, Endpoint
from sinks.smtp.dialogue import Envelope
from sinks.smtp.lines import stuffed
from sinks.smtp.outcome import Accepted, Broken, Cause, InDoubt, Outcome, Refused, Stage
from sinks.smtp.reach import LiveReach, SinkReach
from sinks.smtp.session import Session, Timeouts
from sinks.smtp.sources import Source
from sinks.smtp.tls import Demand, TlsMode
from tests.smtp_wire.peer import IP, LOOPS, MX, PATIENT, SHORT, Answer, Fault, Peer, certificates, dialled, run, served
from tests.waiting import until_async

BODY = b"Subject: x\r\n\r\nHello\r\n.\r\n..two\r\n"
CLEAR = Demand(TlsMode.NONE, TlsMode.NONE)
loops = pytest.mark.parametrize("loop", list(LOOPS))


async def opened(peer: Peer, tls: TlsMode = TlsMode.NONE, timeouts: Timeouts = PATIENT) -> Session:
    session = await dialled(peer, tls, timeouts)
    assert isinstance(session, Session), session
    return session


async def sent(session: Session, body: bytes = BODY, to: str = "ann@example.test") -> Outcome:
    """Send one message, the dot released as soon as everything else is written."""
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    envelope = Envelope("b@r.brand.test", to, size=len(body))

    def release() -> None:
        session.release_dot(envelope)

    session.send(envelope, stuffed(body), on_outcome=done.set_result, on_ready=release)
    return await asyncio.wait_for(done, 20)


@loops
@pytest.mark.parametrize("tls", [TlsMode.NONE, TlsMode.REQUIRED, TlsMode.VERIFIED])
def test_messages_go_over_one_connection_and_arrive_whole(loop: str, tls: TlsMode) -> None:
    async def main() -> None:
        server, client = certificates()
        async with served(Peer(tls=server)) as peer:
            session = await dialled(peer, tls, PATIENT, client)
            assert isinstance(session, Session), session
            bodies = [BODY, b"." + BODY, b"x\r\n"]
            for body in bodies:
                assert isinstance(await sent(session, body), Accepted)
            assert session.messages_sent == 3
            assert not session.usable  # the peer's LIMITS MAILMAX=3
            session.quit()
            await until_async(lambda: b"QUIT" in peer.commands, what="QUIT")
            assert peer.messages == [stuffed(body) + b".\r\n" for body in bodies]
            assert peer.connections == 1
            assert (session.info.tls_version != "") == (tls is not TlsMode.NONE)
            assert session.info.tls_verified == (tls is not TlsMode.NONE)  # the proof is there, so it is taken

    run(loop, main())


@loops
@pytest.mark.parametrize("tls", [TlsMode.NONE, TlsMode.REQUIRED])
def test_a_body_larger_than_every_buffer(loop: str, tls: TlsMode) -> None:
    async def main() -> None:
        async with served(Peer(tls=certificates()[0])) as peer:
            session = await opened(peer, tls)
            body = (b"x" * 70 + b"\r\n") * 40_000
            assert isinstance(await sent(session, body), Accepted)
            assert peer.messages[0] == body + b".\r\n"
            session.drop()

    run(loop, main())


@loops
def test_the_dot_waits_for_its_release(loop: str) -> None:
    async def main() -> None:
        async with served(Peer()) as peer:
            session = await opened(peer)
            outcomes: list[Outcome] = []
            ready: list[bool] = []
            envelope = Envelope("b@r.brand.test", "ann@example.test")
            session.send(envelope, stuffed(BODY), on_outcome=outcomes.append, on_ready=lambda: ready.append(True))
            await until_async(lambda: ready, what="all but the dot")
            # A reply to something else shows that the peer had time to see a dot, had there been one.
            async with served(Peer()) as other:
                assert isinstance(await sent(await opened(other)), Accepted)
            assert (peer.messages, outcomes, session.usable) == ([], [], False)
            assert session.release_dot(envelope)
            await until_async(lambda: outcomes, what="the outcome")
            assert isinstance(outcomes[0], Accepted)
            assert not session.release_dot(envelope)
            session.drop()

    run(loop, main())


def test_a_late_release_does_not_reach_the_next_message() -> None:
    async def main() -> None:
        async with served(Peer()) as peer:
            session = await opened(peer)
            first, second = (Envelope("b@r.brand.test", "ann@example.test") for _ in range(2))
            outcomes: list[Outcome] = []
            ready: list[bool] = []
            session.send(first, stuffed(BODY), on_outcome=outcomes.append)
            session.release_dot(first)
            await until_async(lambda: outcomes, what="the first outcome")
            session.send(second, stuffed(BODY), on_outcome=outcomes.append, on_ready=lambda: ready.append(True))
            assert not session.release_dot(first)
            await until_async(lambda: ready, what="the second message")
            assert not session.release_dot(first)
            assert session.abort(second)
            assert outcomes[1] == Broken(Stage.BODY, Cause.ABORTED)
            assert len(peer.messages) == 1

    run("uvloop", main())


@loops
@pytest.mark.parametrize("tls", [TlsMode.NONE, TlsMode.REQUIRED])
def test_a_peer_that_stops_reading_leaves_no_doubt(loop: str, tls: TlsMode) -> None:
    async def main() -> None:
        async with served(Peer({Stage.BODY: Fault.SILENCE}, tls=certificates()[0], buffer=4096)) as peer:
            session = await opened(peer, tls, Timeouts(block=0.4))
            # Released beforehand: the dot must still wait until the body is on its way.
            done: list[Outcome] = []
            envelope = Envelope("b@r.brand.test", "ann@example.test")
            session.send(envelope, b"x" * 70 * 400_000 + b"\r\n", on_outcome=done.append)
            session.release_dot(envelope)
            await until_async(lambda: done, what="the outcome")
            assert done == [Broken(Stage.BODY, Cause.TIMEOUT)]
            assert not session.usable

    run(loop, main())


@loops
def test_a_transaction_has_an_end_though_the_dot_is_never_released(loop: str) -> None:
    async def main() -> None:
        async with served(Peer()) as peer:
            session = await opened(peer, timeouts=Timeouts(transaction=0.3))
            outcomes: list[Outcome] = []
            session.send(Envelope("b@r.test", "ann@example.test"), stuffed(BODY), on_outcome=outcomes.append)
            await until_async(lambda: outcomes, what="the outcome")
            assert outcomes == [Broken(Stage.BODY, Cause.TIMEOUT)]

    run(loop, main())


ANSWERS: list[tuple[str, Answer]] = [
    ("4xx", b"450 4.2.1 later\r\n"),
    ("5xx", b"550 5.1.1 no\r\n"),
    ("421", b"421 4.3.2 bye\r\n"),
    *((fault.name, fault) for fault in Fault),
    ("nonsense", b"what\r\n"),
]
answers = pytest.mark.parametrize("answer", [a for _, a in ANSWERS], ids=[name for name, _ in ANSWERS])


def cause_of(answer: Answer) -> Cause:
    match answer:
        case Fault.FIN | Fault.RST:
            return Cause.LOST
        case Fault.SILENCE | Fault.DRIP:
            return Cause.TIMEOUT
    return Cause.PROTOCOL


def patience(answer: Answer) -> Timeouts:
    return SHORT if answer in (Fault.SILENCE, Fault.DRIP) else PATIENT  # a slow machine is no slow peer


def is_refusal(answer: Answer) -> bool:
    return isinstance(answer, bytes) and answer[:1] in b"45"


@answers
@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY, Stage.DOT])
def test_every_stage_of_a_transaction_fails_right(stage: Stage, answer: Answer) -> None:
    async def main() -> None:
        async with served(Peer({stage: answer})) as peer:
            session = await opened(peer, timeouts=patience(answer))
            closed: list[Session] = []
            session.on_closed = closed.append
            done: list[Outcome] = []
            envelope = Envelope("b@r.brand.test", "ann@example.test")
            session.send(envelope, stuffed(BODY), on_outcome=done.append)
            if stage is not Stage.BODY:
                session.release_dot(envelope)
            if stage is Stage.BODY and answer in (Fault.SILENCE, Fault.DRIP):
                session.abort(envelope)  # nothing is asked of the peer there: it is the owner who gives up
            await until_async(lambda: done, what="the outcome")
            if is_refusal(answer):
                assert isinstance(done[0], Refused)
                assert done[0].stage is stage
            elif stage is Stage.DOT:
                assert done == [InDoubt(cause_of(answer))]
            elif stage is not Stage.BODY or answer not in (Fault.SILENCE, Fault.DRIP):
                assert done == [Broken(stage, cause_of(answer))]
            if answer in (b"450 4.2.1 later\r\n", b"550 5.1.1 no\r\n") and stage is not Stage.BODY:
                assert session.usable
                session.drop()
            await until_async(lambda: closed, what="the end of the connection")
            assert not session.usable
            assert len(done) == 1

    run("asyncio", main())


@answers
@pytest.mark.parametrize("stage", [Stage.BANNER, Stage.EHLO, Stage.STARTTLS])
def test_every_stage_of_the_opening_fails_right(stage: Stage, answer: Answer) -> None:
    async def main() -> None:
        async with served(Peer({stage: answer}, tls=certificates()[0])) as peer:
            outcome = await dialled(
                peer, TlsMode.REQUIRED if stage is Stage.STARTTLS else TlsMode.NONE, patience(answer)
            )
            if isinstance(answer, bytes) and is_refusal(answer):
                assert isinstance(outcome, Refused)
                assert (outcome.stage, str(outcome.reply.code).encode()) == (stage, answer[:3])
            else:
                assert outcome == Broken(stage, cause_of(answer))

    run("asyncio", main())


@answers
@loops
def test_the_handshake_fails_right(loop: str, answer: Answer) -> None:
    async def main() -> None:
        async with served(Peer({Stage.HANDSHAKE: answer}, tls=certificates()[0])) as peer:
            outcome = await dialled(peer, TlsMode.REQUIRED, patience(answer))
            assert isinstance(outcome, Broken), outcome
            assert outcome.stage is Stage.HANDSHAKE
            # What is no TLS record breaks it; a byte at a time may be one to begin with.
            expected = {Cause.TLS} if isinstance(answer, bytes) else {cause_of(answer), Cause.TLS}
            assert outcome.cause in expected

    run(loop, main())


@loops
class TestTls:
    def test_a_broken_handshake_goes_on_in_clear_where_that_is_allowed(self, loop: str) -> None:
        async def main() -> None:
            async with served(Peer(tls=certificates()[0], broken_handshake=True)) as peer:
                session = await opened(peer, TlsMode.OPPORTUNISTIC)
                assert (session.info.tls_version, session.info.tls_failure) == ("", "validation-failure")
                assert isinstance(await sent(session), Accepted)
                assert peer.connections == 2
                session.drop()

        run(loop, main())

    def test_and_fails_where_it_is_not(self, loop: str) -> None:
        async def main() -> None:
            async with served(Peer(tls=certificates()[0], broken_handshake=True)) as peer:
                assert await dialled(peer, TlsMode.REQUIRED) == Broken(Stage.HANDSHAKE, Cause.TLS)
                assert peer.connections == 1

        run(loop, main())

    def test_a_refused_starttls_goes_on_in_clear(self, loop: str) -> None:
        async def main() -> None:
            script: dict[Stage, Answer] = {Stage.STARTTLS: b"454 4.7.0 not now\r\n"}
            async with served(Peer(script, tls=certificates()[0])) as peer:
                session = await opened(peer, TlsMode.OPPORTUNISTIC)
                assert session.info.tls_failure == "validation-failure"
                assert isinstance(await sent(session), Accepted)
                session.drop()

        run(loop, main())

    def test_a_refusal_that_is_not_about_tls_is_not_tried_again(self, loop: str) -> None:
        async def main() -> None:
            async with served(Peer({Stage.BANNER: b"554 no\r\n"}, tls=certificates()[0])) as peer:
                assert isinstance(await dialled(peer, TlsMode.OPPORTUNISTIC), Refused)
                assert peer.connections == 1

        run(loop, main())

    def test_a_certificate_of_another_name_is_no_proof(self, loop: str) -> None:
        async def main() -> None:
            server, client = certificates("other.example.test")
            async with served(Peer(tls=server)) as peer:
                assert await dialled(peer, TlsMode.VERIFIED, PATIENT, client) == Broken(Stage.HANDSHAKE, Cause.TLS)

        run(loop, main())

    def test_a_peer_without_starttls(self, loop: str) -> None:
        async def main() -> None:
            async with served(Peer()) as peer:
                assert await dialled(peer, TlsMode.REQUIRED) == Broken(Stage.STARTTLS, Cause.UNSUPPORTED)
                session = await opened(peer, TlsMode.OPPORTUNISTIC)
                assert session.info.tls_version == ""
                session.drop()

        run(loop, main())


class TestOpening:
    def test_helo_where_ehlo_is_not_known(self) -> None:
        async def main() -> None:
            async with served(Peer({Stage.EHLO: b"502 what\r\n"})) as peer:
                assert isinstance(await dialled(peer), Refused)  # the script refuses both
                assert [command[:4] for command in peer.commands] == [b"EHLO", b"HELO"]

        run("asyncio", main())

    def test_sink_mode_connects_to_nothing_but_the_map(self) -> None:
        async def main() -> None:
            async with served(Peer()) as peer:
                dialer = Dialer(SinkReach({f"{IP}:25": f"127.0.0.1:{peer.port}"}), SHORT)
                for ip, port in (("198.18.0.11", 25), (IP, 26), ("127.0.0.1", peer.port)):
                    outcome = await dialer.open(Endpoint(ip, port, MX), Source("out.brand.test"), CLEAR)
                    assert outcome == Broken(Stage.CONNECT, Cause.FORBIDDEN)
                assert peer.connections == 0

        run("asyncio", main())

    def test_live_mode_refuses_what_is_not_the_internet(self) -> None:
        async def main() -> None:
            async with served(Peer()) as peer:
                dialer = Dialer(LiveReach(), SHORT)
                outcome = await dialer.open(Endpoint("127.0.0.1", peer.port, MX), Source("a.test"), CLEAR)
                assert outcome == Broken(Stage.CONNECT, Cause.FORBIDDEN)
                assert peer.connections == 0

        run("asyncio", main())

    def test_the_address_that_was_really_connected_is_looked_at(self) -> None:
        class Misled(LiveReach):
            """The address was fine when it was chosen, and is not the one that was reached."""

            def target(self, ip: str, port: int) -> tuple[str, int] | None:
                return ("127.0.0.1", peer.port)

        peer, endpoint = Peer(), Endpoint("8.8.8.8", 25, MX)

        async def main() -> None:
            async with served(peer):
                outcome = await Dialer(Misled(), PATIENT).open(endpoint, Source("a.test"), CLEAR)
                assert outcome == Broken(Stage.CONNECT, Cause.FORBIDDEN)
                assert peer.commands == []

        run("asyncio", main())

    def test_an_address_that_is_not_ours_to_bind(self) -> None:
        async def main() -> None:
            async with served(Peer()) as peer:
                dialer = Dialer(SinkReach({f"{IP}:25": f"127.0.0.1:{peer.port}"}), SHORT)
                source = Source("out.brand.test", ipv4="192.0.2.77")
                outcome = await dialer.open(Endpoint(IP, 25, MX), source, CLEAR)
                assert outcome == Broken(Stage.CONNECT, Cause.SOURCE)

        run("asyncio", main())

    def test_nobody_listens(self) -> None:
        async def main() -> None:
            async with served(Peer()) as peer:
                pass
            assert await dialled(peer, timeouts=SHORT) == Broken(Stage.CONNECT, Cause.UNREACHABLE)

        run("asyncio", main())

    def test_every_exception_of_aiosmtplib_is_known_here(self) -> None:
        # A new kind would be taken for a lost connection: look at it, map it in `_failure`, then name it here.
        assert set(aiosmtplib.errors.__all__) == {
            *("SMTPAuthenticationError", "SMTPConnectError", "SMTPDataError", "SMTPException", "SMTPHeloError"),
            *("SMTPNotSupported", "SMTPRecipientRefused", "SMTPRecipientsRefused", "SMTPResponseException"),
            *("SMTPSenderRefused", "SMTPServerDisconnected", "SMTPTimeoutError", "SMTPConnectTimeoutError"),
            *("SMTPReadTimeoutError", "SMTPConnectResponseError"),
        }


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b".\r\n", b"..\r\n"),
        (b".a\r\n.\r\n..b\r\n", b"..a\r\n..\r\n...b\r\n"),
        (b"a.b\r\n", b"a.b\r\n"),
    ],
)
def test_dots_are_stuffed(message: bytes, wire: bytes) -> None:
    assert stuffed(message) == wire
