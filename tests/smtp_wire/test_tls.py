"""How well a connection is protected: policies in every combination, what is remembered, and real handshakes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sinks.smtp.answers import Answer, Failure, NoData, NoName, Tlsa, TlsaRecords
from sinks.smtp.dialer import Dialer, Endpoint
from sinks.smtp.mta_sts import StsMode, StsPolicy
from sinks.smtp.outcome import Broken, Cause, OpeningFailure, Stage
from sinks.smtp.reach import SinkReach
from sinks.smtp.session import Session, SessionInfo
from sinks.smtp.sources import Source
from sinks.smtp.sts_policies import NO_POLICY, StsPolicies, StsView
from sinks.smtp.tls import DAY_S, Demand, HostMemory, Rung, TlsMode, rungs
from sinks.smtp.tls_policies import PublishedPolicies, carries, reported
from tests.smtp_wire.certificates import made
from tests.smtp_wire.peer import IP, LOOPS, MX, PATIENT, Peer, certificates, run, served
from tests.smtp_wire.peer import Answer as Said
from tests.smtp_wire.test_dane import of

ENFORCE = StsView(StsPolicy("1", StsMode.ENFORCE, ("mx.a.test",), 86400.0))
TESTING = StsView(StsPolicy("1", StsMode.TESTING, ("mx.a.test",), 86400.0))
NONE = StsView(StsPolicy("1", StsMode.NONE, (), 86400.0))
EE = Tlsa(3, 1, 1, b"x" * 32)
PKIX = Tlsa(1, 1, 1, b"x" * 32)
MODE = TlsMode.OPPORTUNISTIC

MISMATCH = Broken(Stage.CONNECT, Cause.TLS, failure="validation-failure")
BOGUS = Broken(Stage.CONNECT, Cause.TLS, failure="dnssec-invalid")
DANE = Demand(TlsMode.DANE, "dane", (EE,))


async def demanded(view: StsView, host: str, secure: bool, tlsa: Answer, mode: TlsMode) -> Demand | Broken:
    async def lookup(name: str, kind: str) -> Answer:
        assert (name, kind, secure) == (f"_25._tcp.{host}", "TLSA", True)
        return tlsa

    async def nothing(domain: str) -> bytes:
        raise AssertionError

    return await PublishedPolicies(StsPolicies(lookup, nothing, lambda: 0.0), lookup).demand(view, host, secure, mode)


SIGNED, UNSIGNED = TlsaRecords((EE,), secure=True), TlsaRecords((EE,))


@pytest.mark.parametrize(
    ("view", "host", "secure", "tlsa", "expected"),
    [
        (NO_POLICY, "mx.a.test", False, SIGNED, Demand(MODE, "opportunistic")),  # not even asked
        (NO_POLICY, "mx.a.test", True, NoData(secure=True), Demand(MODE, "opportunistic")),
        (NO_POLICY, "mx.a.test", True, NoName(), Demand(MODE, "opportunistic")),
        (NO_POLICY, "mx.a.test", True, UNSIGNED, Demand(MODE, "opportunistic")),
        (NO_POLICY, "mx.a.test", True, SIGNED, DANE),
        (NO_POLICY, "mx.a.test", True, TlsaRecords((PKIX, EE), secure=True), DANE),
        (NO_POLICY, "mx.a.test", True, TlsaRecords((PKIX,), secure=True), Demand(TlsMode.REQUIRED, "dane")),
        (NO_POLICY, "mx.a.test", True, Failure("SERVFAIL"), BOGUS),
        (ENFORCE, "mx.a.test", False, NoData(), Demand(TlsMode.VERIFIED, "sts")),
        (ENFORCE, "other.test", False, NoData(), MISMATCH),
        (ENFORCE, "mx.a.test", True, SIGNED, DANE),  # DANE over MTA-STS
        (ENFORCE, "other.test", True, SIGNED, DANE),
        (ENFORCE, "mx.a.test", True, Failure("SERVFAIL"), BOGUS),
        (ENFORCE, "mx.a.test", True, TlsaRecords((PKIX,), secure=True), Demand(TlsMode.VERIFIED, "sts")),
        (TESTING, "other.test", False, NoData(), Demand(MODE, "sts-testing")),
        (NONE, "other.test", False, NoData(), Demand(MODE, "opportunistic")),
    ],
)
async def test_which_policy_holds(
    view: StsView, host: str, secure: bool, tlsa: Answer, expected: Demand | Broken
) -> None:
    found = await demanded(view, host, secure, tlsa, MODE)
    assert found == expected
    assert getattr(found, "failure", "") == getattr(expected, "failure", "")


async def test_a_policy_is_a_floor_also_where_tls_is_off() -> None:
    assert await demanded(ENFORCE, "mx.a.test", False, NoData(), TlsMode.NONE) == Demand(TlsMode.VERIFIED, "sts")
    assert await demanded(NO_POLICY, "mx.a.test", True, SIGNED, TlsMode.NONE) == DANE
    unusable = TlsaRecords((PKIX,), secure=True)
    assert await demanded(NO_POLICY, "mx.a.test", True, unusable, TlsMode.NONE) == Demand(TlsMode.REQUIRED, "dane")
    assert await demanded(NO_POLICY, "x.test", True, unusable, TlsMode.VERIFIED) == Demand(TlsMode.VERIFIED, "dane")


CLEAR = SessionInfo("mx.a.test", "198.18.0.1", 25, "", tls_policy="opportunistic")
ENCRYPTED = replace(CLEAR, tls_version="TLSv1.3", tls_failure="certificate-not-trusted")
VERIFIED = replace(CLEAR, tls_version="TLSv1.3", tls_verified=True)
ELSEWHERE = replace(VERIFIED, mx_host="other.test")
BY_DANE = replace(ELSEWHERE, tls_policy="dane")


@pytest.mark.parametrize("view", [NO_POLICY, NONE, TESTING])
@pytest.mark.parametrize("info", [CLEAR, ENCRYPTED, VERIFIED, ELSEWHERE, BY_DANE])
def test_any_session_carries_mail_of_domains_that_enforce_nothing(info: SessionInfo, view: StsView) -> None:
    assert carries(info, view)


def test_an_enforced_domain_goes_on_a_session_that_proved_it_alone() -> None:
    assert [carries(info, ENFORCE) for info in (CLEAR, ENCRYPTED, VERIFIED, ELSEWHERE, BY_DANE)] == [
        *(False, False, True, False, True)
    ]
    assert not carries(replace(BY_DANE, tls_verified=False), ENFORCE)  # its records were of no use


@pytest.mark.parametrize(
    ("info", "view", "expected"),
    [
        (CLEAR, NO_POLICY, ("opportunistic", "")),
        (VERIFIED, ENFORCE, ("sts", "")),
        (replace(VERIFIED, tls_policy="sts"), NO_POLICY, ("opportunistic", "")),  # opened for another domain
        (VERIFIED, TESTING, ("sts-testing", "")),
        (ELSEWHERE, TESTING, ("sts-testing", "validation-failure")),
        (ENCRYPTED, TESTING, ("sts-testing", "certificate-not-trusted")),
        (CLEAR, TESTING, ("sts-testing", "validation-failure")),
        (BY_DANE, TESTING, ("dane", "")),
        (VERIFIED, StsView(None, "sts-policy-invalid"), ("opportunistic", "sts-policy-invalid")),
    ],
)
def test_what_is_reported(info: SessionInfo, view: StsView, expected: tuple[str, str]) -> None:
    assert reported(info, view, MODE) == expected


@pytest.mark.parametrize(
    ("mode", "best", "expected"),
    [
        (TlsMode.NONE, Rung.VERIFIED, (Rung.CLEAR,)),
        (TlsMode.OPPORTUNISTIC, Rung.VERIFIED, (Rung.VERIFIED, Rung.UNVERIFIED, Rung.CLEAR)),
        (TlsMode.OPPORTUNISTIC, Rung.UNVERIFIED, (Rung.UNVERIFIED, Rung.CLEAR)),
        (TlsMode.OPPORTUNISTIC, Rung.CLEAR, (Rung.CLEAR,)),
        (TlsMode.REQUIRED, Rung.VERIFIED, (Rung.VERIFIED, Rung.UNVERIFIED)),
        (TlsMode.REQUIRED, Rung.CLEAR, (Rung.UNVERIFIED,)),
        (TlsMode.VERIFIED, Rung.CLEAR, (Rung.VERIFIED,)),
        (TlsMode.DANE, Rung.CLEAR, (Rung.UNVERIFIED,)),
    ],
)
def test_no_way_leads_below_what_is_asked_for(mode: TlsMode, best: Rung, expected: tuple[Rung, ...]) -> None:
    assert rungs(mode, best) == expected


def test_a_host_is_remembered_for_its_time() -> None:
    now = 0.0
    memory = HostMemory(lambda: now)
    assert memory.best("mx.a.test") == (Rung.VERIFIED, "")
    memory.note("mx.a.test", Rung.CLEAR, "validation-failure", 3 * DAY_S)
    now = 3 * DAY_S - 1
    assert memory.best("mx.a.test") == (Rung.CLEAR, "validation-failure")
    now = 3 * DAY_S
    assert memory.best("mx.a.test") == (Rung.VERIFIED, "")


# Real handshakes


@dataclass
class Caller:
    """One dialer, so one memory, for several connections to a peer."""

    peer: Peer
    roots: ssl.SSLContext | None = None
    dialer: Dialer = field(init=False)

    def __post_init__(self) -> None:
        self.dialer = Dialer(SinkReach({f"{IP}:25": f"127.0.0.1:{self.peer.port}"}), PATIENT, self.roots)

    async def open(self, mode: TlsMode = MODE, *tlsa: Tlsa) -> Session | OpeningFailure:
        demand = Demand(mode, mode, tlsa)
        result = await self.dialer.open(Endpoint(IP, 25, MX), Source("out.brand.test"), demand)
        if isinstance(result, Session):
            result.drop()
        return result

    async def info(self, mode: TlsMode = MODE, *tlsa: Tlsa) -> SessionInfo:
        result = await self.open(mode, *tlsa)
        assert isinstance(result, Session), result
        return result.info


loops = pytest.mark.parametrize("loop", list(LOOPS))


@loops
def test_an_unproven_certificate_costs_one_connection_once(loop: str) -> None:
    async def main() -> None:
        async with served(Peer(tls=certificates()[0])) as peer:
            caller = Caller(peer)
            for connections in (2, 3, 4):
                info = await caller.info()
                assert (info.tls_version != "", info.tls_verified) == (True, False)
                assert info.tls_failure == "certificate-not-trusted"
                assert peer.connections == connections
            assert (await caller.info(TlsMode.REQUIRED)).tls_failure == "certificate-not-trusted"
            assert await caller.open(TlsMode.VERIFIED) == Broken(Stage.HANDSHAKE, Cause.TLS)

    run(loop, main())


@loops
def test_a_broken_starttls_is_remembered_and_never_an_excuse(loop: str) -> None:
    async def main() -> None:
        async with served(Peer(tls=certificates()[0], broken_handshake=True)) as peer:
            caller = Caller(peer)
            for connections in (2, 3):
                info = await caller.info()
                assert (info.tls_version, info.tls_failure) == ("", "validation-failure")
                assert peer.connections == connections
            for mode in (TlsMode.REQUIRED, TlsMode.VERIFIED, TlsMode.DANE):
                assert await caller.open(mode, EE) == Broken(Stage.HANDSHAKE, Cause.TLS)
            assert b"MAIL" not in {command[:4] for command in peer.commands}

    run(loop, main())


def test_what_failed_in_clear_too_is_not_remembered() -> None:
    async def main() -> None:
        script: dict[Stage, Said] = {Stage.STARTTLS: b"454 4.7.0 not now\r\n"}
        async with served(Peer(script, tls=certificates()[0])) as peer:
            caller = Caller(peer)
            peer.script = {**script, Stage.BANNER: b"554 no\r\n"}
            await caller.open()
            peer.script = {}
            peer.connections = 0
            assert (await caller.info()).tls_version
            assert peer.connections == 2  # its certificate is nobody's

    run("asyncio", main())


@pytest.mark.parametrize(("name", "failure"), [("other.test", "certificate-host-mismatch"), (MX, "")])
def test_the_result_type_says_what_is_wrong_with_a_certificate(name: str, failure: str) -> None:
    async def main() -> None:
        server, roots = certificates(name)
        async with served(Peer(tls=server)) as peer:
            info = await Caller(peer, roots).info()
            assert (info.tls_failure, info.tls_verified) == (failure, not failure)

    run("asyncio", main())


@loops
def test_dane_takes_the_named_key_and_no_other(loop: str, tmp_path: Path) -> None:
    # Self-signed, for another name and long over: nothing but the record vouches for it.
    host = made("whoever")
    pem = tmp_path / "host.pem"
    pem.write_bytes(host.pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)

    async def main() -> None:
        async with served(Peer(tls=server)) as peer:
            caller = Caller(peer)
            info = await caller.info(TlsMode.DANE, of(3, 1, 1, host))
            assert (info.tls_verified, info.tls_policy, info.tls_failure) == (True, "dane", "")
            refused = await caller.open(TlsMode.DANE, of(3, 1, 1, made("other")))
            assert refused == Broken(Stage.HANDSHAKE, Cause.TLS)
            assert isinstance(refused, Broken)
            assert refused.failure == "validation-failure"

    run(loop, main())


@loops
def test_dane_by_an_issuer_reads_the_whole_chain(loop: str, tmp_path: Path) -> None:
    root = made("root", is_authority=True, until=datetime(2040, 1, 1, tzinfo=UTC))
    host = made("host", root, host=MX, until=datetime(2040, 1, 1, tzinfo=UTC))
    pem = tmp_path / "host.pem"
    pem.write_bytes(host.pem + root.pem.partition(b"-----END PRIVATE KEY-----\n")[2])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)

    async def main() -> None:
        async with served(Peer(tls=server)) as peer:
            caller = Caller(peer)
            assert isinstance(await caller.open(TlsMode.DANE, of(2, 1, 1, made("other"))), Broken)
            outcome = await caller.open(TlsMode.DANE, of(2, 1, 1, root))
            assert isinstance(outcome, Session), outcome

    run(loop, main())
