"""Hosts that the operator named: which mail is theirs, where they are, and how we log in."""

from __future__ import annotations

import base64
import ssl
from random import Random

import pytest

from schemas import ids
from sinks.smtp.answers import Addresses, Answer, Failure, NoData, NoName
from sinks.smtp.dialer import Dialer, Endpoint
from sinks.smtp.outcome import Broken, Cause, OpeningFailure, Refused, Stage
from sinks.smtp.reach import LiveReach, SinkReach
from sinks.smtp.relays import Login, Relay, Relays
from sinks.smtp.routing import Hop, IpPolicy, Temporary, relayed
from sinks.smtp.session import Session
from sinks.smtp.sites import placed
from sinks.smtp.sources import Source
from sinks.smtp.tls import Demand, TlsMode
from tests.smtp_owner.world import command
from tests.smtp_wire.peer import LOOPS, MX, PATIENT, Peer, certificates, run, served
from tests.smtp_wire.peer import Answer as Said

EVERYTHING = Relay("all", "smtp.relay.test")
BULK = Relay("bulk", "bulk.relay.test", pools=frozenset({"bulk"}))
PARTNER = Relay("partner", "mail.partner.test", domains=frozenset({"a.test", "b.test"}))
BOTH = Relay("both", "mail.both.test", domains=frozenset({"a.test"}), pools=frozenset({"bulk", "other"}))


@pytest.mark.parametrize(
    ("domain", "pool", "expected"),
    [
        ("a.test", "bulk", BOTH),
        ("a.test", "default", PARTNER),
        ("b.test", "bulk", PARTNER),
        ("c.test", "bulk", BULK),
        ("c.test", "default", EVERYTHING),
        ("mail.a.test", "default", EVERYTHING),
    ],
)
def test_the_narrowest_holds(domain: str, pool: str, expected: Relay) -> None:
    for relays in ([EVERYTHING, BULK, PARTNER, BOTH], [BOTH, PARTNER, BULK, EVERYTHING]):
        assert Relays(relays).of(domain, pool) is expected


def test_what_no_route_is_for_goes_by_its_mx_records() -> None:
    assert Relays([BULK, PARTNER]).of("c.test", "default") is None
    assert Relays().of("a.test", "default") is None


@pytest.mark.parametrize(
    ("one", "other", "error"),
    [
        (EVERYTHING, Relay("more", "x.test"), "all and more are both for mail to all domains of all pools"),
        (PARTNER, Relay("more", "x.test", domains=frozenset({"b.test"})), "mail to b.test of all pools"),
        (BOTH, Relay("more", "x.test", domains=BOTH.domains, pools=frozenset({"other"})), "a.test of the pool other"),
    ],
)
def test_two_for_the_same_mail_are_refused(one: Relay, other: Relay, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Relays([one, other])


def test_a_password_goes_to_a_verified_host_alone_and_is_not_shown() -> None:
    login = Login("river", "s3cret-of-relay")
    for mode in (TlsMode.NONE, TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED):
        with pytest.raises(ValueError, match="verified"):
            Relay("x", "x.test", tls=mode, login=login)
    shown = repr(Relay("x", "x.test", tls=TlsMode.VERIFIED, login=login))
    assert "s3cret" not in shown
    assert "river" not in shown


# Where it is

FOUR, SIX = Addresses(("192.0.2.1",), 60.0), Addresses(("2001:db8::1",), 60.0)
NONE = NoData()


@pytest.mark.parametrize(
    ("host", "found", "ips"),
    [
        ("smtp.relay.test", (FOUR, SIX), ["192.0.2.1", "2001:db8::1"]),
        ("smtp.relay.test", (Failure("DNS time-out", 30.0), SIX), ["2001:db8::1"]),
        ("127.0.0.1", (NONE, NONE), ["127.0.0.1"]),
        ("::1", (NONE, NONE), ["::1"]),
    ],
)
def test_its_addresses_are_tried_on_its_port(host: str, found: tuple[Answer, Answer], ips: list[str]) -> None:
    relay = Relay("bulk", host, 587)
    route = relayed(relay, found, policy=IpPolicy.PREFER_IPV4, rng=Random(1))
    assert not isinstance(route, Temporary)
    assert route.hops == tuple(Hop(ip, host, 587) for ip in ips)
    assert (route.site, route.provider, route.relay) == ("relay-bulk", "other", relay)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ((NoName(60.0), NoName(60.0)), "the relay all cannot be found: it has no address"),
        ((NONE, Failure("DNS time-out", 30.0)), "the relay all cannot be found: DNS time-out"),
    ],
)
def test_one_that_cannot_be_found_bounces_nothing(found: tuple[Answer, Answer], reason: str) -> None:
    assert relayed(EVERYTHING, found, policy=IpPolicy.PREFER_IPV4, rng=Random(1)) == Temporary(reason)


def test_mail_moves_to_its_relay_also_when_it_has_moved_before() -> None:
    route = relayed(BULK, (FOUR, NONE), policy=IpPolicy.PREFER_IPV4, rng=Random(1))
    assert not isinstance(route, Temporary)
    ann = command("ann", site="elsewhere").model_copy(update={"rerouted": True})
    found = placed(ann, route, lambda site, message_id: ids.shard(message_id, 1))
    assert (found.site, found.rerouted) == ("relay-bulk", True)


# Reach


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.31.0.1", "100.64.0.1", "::1", "fd00::1"])
def test_hosts_of_our_own_networks_only_when_they_are_named(ip: str) -> None:
    assert LiveReach().target(ip, 587) is None
    assert LiveReach().named().target(ip, 587) == (ip, 587)
    assert LiveReach().named().permits(ip)
    assert LiveReach(frozenset({ip})).named().target(ip, 587) is None, "ourselves"


@pytest.mark.parametrize("ip", ["169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "255.255.255.255", "x"])
def test_what_is_no_host_is_none_by_being_named(ip: str) -> None:
    assert LiveReach().named().target(ip, 25) is None


def test_in_sink_mode_the_port_map_decides_for_relays_too() -> None:
    reach = SinkReach({"198.18.0.10:25": "127.0.0.1:40123"}).named()
    assert reach.target("198.18.0.10", 25) == ("127.0.0.1", 40123)
    assert reach.target("198.18.0.10", 587) is None
    assert reach.target("127.0.0.1", 40123) is None


# Logging in

LOGIN = Login("river", "s3cret-of-relay")
PLAIN = base64.b64encode(b"\0river\0s3cret-of-relay")


async def opened(peer: Peer, roots: ssl.SSLContext, demand: TlsMode = TlsMode.VERIFIED) -> Session | OpeningFailure:
    relay = Relay("bulk", MX, peer.port, TlsMode.VERIFIED, LOGIN)
    endpoint = Endpoint("127.0.0.1", peer.port, MX, relay)
    found = await Dialer(LiveReach(), PATIENT, roots).open(endpoint, Source("mta.test"), Demand(demand, demand))
    if isinstance(found, Session):
        found.drop()
    return found


@pytest.mark.parametrize("loop", list(LOOPS))
@pytest.mark.parametrize(
    ("offered", "said"),
    [
        ("PLAIN LOGIN", [b"AUTH PLAIN " + PLAIN]),
        ("LOGIN", [b"AUTH LOGIN " + base64.b64encode(b"river"), base64.b64encode(b"s3cret-of-relay")]),
    ],
)
def test_it_logs_in_once_the_host_is_verified(loop: str, offered: str, said: list[bytes]) -> None:
    async def main() -> None:
        server, roots = certificates()
        async with served(Peer(tls=server, mechanisms=offered)) as peer:
            found = await opened(peer, roots)
            assert isinstance(found, Session), found
            assert (found.info.tls_verified, found.info.tls_policy) == (True, "verified")
            verbs = [line[:4] for line in peer.commands]
            assert verbs[:4] == [b"EHLO", b"STAR", b"EHLO", b"AUTH"]
            assert peer.commands[3:] == said

    run(loop, main())


UNPROVEN = Broken(Stage.AUTH, Cause.TLS)
IN_CLEAR = Broken(Stage.STARTTLS, Cause.UNSUPPORTED)


@pytest.mark.parametrize(
    ("mode", "name", "expected"),
    [
        (TlsMode.OPPORTUNISTIC, "other.test", UNPROVEN),
        (TlsMode.REQUIRED, "other.test", UNPROVEN),
        (TlsMode.VERIFIED, "other.test", Broken(Stage.HANDSHAKE, Cause.TLS)),
        (TlsMode.NONE, MX, UNPROVEN),
        (TlsMode.OPPORTUNISTIC, "", UNPROVEN),
        (TlsMode.REQUIRED, "", IN_CLEAR),
        (TlsMode.VERIFIED, "", IN_CLEAR),
    ],
)
def test_no_password_for_an_unproven_host_whatever_is_asked_for(mode: TlsMode, name: str, expected: Broken) -> None:
    """`name`: of its certificate; without one it speaks no TLS."""

    async def main() -> None:
        server, roots = certificates(name or MX)
        async with served(Peer(tls=server if name else None, mechanisms="PLAIN")) as peer:
            assert await opened(peer, roots, mode) == expected
            assert b"AUTH" not in {line[:4] for line in peer.commands}

    run("asyncio", main())


@pytest.mark.parametrize(
    ("offered", "reply", "expected"),
    [
        ("CRAM-MD5", b"", Broken(Stage.AUTH, Cause.UNSUPPORTED)),
        ("", b"", Broken(Stage.AUTH, Cause.UNSUPPORTED)),
        ("PLAIN", b"334 " + PLAIN + b"\r\n", Broken(Stage.AUTH, Cause.PROTOCOL)),
    ],
)
def test_what_cannot_be_understood(offered: str, reply: bytes, expected: Broken) -> None:
    async def main() -> None:
        server, roots = certificates()
        async with served(Peer({Stage.AUTH: reply}, tls=server, mechanisms=offered)) as peer:
            found = await opened(peer, roots)
            assert found == expected
            assert isinstance(found, Broken)
            assert found.reply is None

    run("asyncio", main())


@pytest.mark.parametrize("offered", ["PLAIN", "LOGIN"])
def test_a_refusal_is_kept_without_its_words(offered: str) -> None:
    said: dict[Stage, Said] = {Stage.AUTH: b"535-5.7.8 no " + PLAIN + b"\r\n535 5.7.8 river s3cret-of-relay\r\n"}

    async def main() -> None:
        server, roots = certificates()
        async with served(Peer(said, tls=server, mechanisms=offered)) as peer:
            found = await opened(peer, roots)
            assert isinstance(found, Refused)
            assert (found.stage, found.reply.code, found.reply.enhanced) == (Stage.AUTH, 535, "5.7.8")
            assert found.reply.text == ""

    run("asyncio", main())
