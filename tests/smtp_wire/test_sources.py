"""Which source a connection leaves from, what happens to one that fails, and connections through SOCKS5."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import cast

import pytest

from sinks.smtp.calling import Caller, Uncalled
from sinks.smtp.connecting import connect
from sinks.smtp.dialer import Dialer, Endpoint
from sinks.smtp.outcome import Broken, Cause, OpeningFailure, Stage
from sinks.smtp.reach import LiveReach, SinkReach
from sinks.smtp.routing import Hop, IpPolicy, Route
from sinks.smtp.session import Session, SessionInfo, Timeouts
from sinks.smtp.shapes import Manner
from sinks.smtp.sources import Alarm, Pool, Source, Sources
from sinks.smtp.sts_policies import NO_POLICY, StsView
from sinks.smtp.tls import Demand, TlsMode
from tests.smtp_wire.peer import IP, LOOPS, MX, Peer, run, served
from tests.waiting import wait_until

FOUR, SIX = "198.18.0.1", "2001:db8::1"
A = Source("a.test", "a", ipv4="192.0.2.1", ipv6="2001:db8:1::1")
B = Source("b.test", "b", ipv4="192.0.2.2", weight=3)
C = Source("c.test", "c", ipv6="2001:db8:1::3", not_for=frozenset({"google"}))
FALLBACK = Source("mta.test")


@dataclass
class World:
    pools: dict[str, Pool]
    now: float = 0.0
    alarms: list[Alarm] = field(default_factory=list)
    suspended: set[tuple[str, str]] = field(default_factory=set)
    spent: set[str] = field(default_factory=set)
    sources: Sources = field(init=False)

    def __post_init__(self) -> None:
        self.sources = Sources(
            *(self.pools, FALLBACK, lambda: self.now, Random(1), self.alarms.append, self.suspends),
            self.spent.__contains__,
        )

    def suspends(self, source: str, site: str) -> bool:
        return (source, site) in self.suspended

    def chosen(self, provider: str, *ips: str, pool: str = "main", times: int = 400) -> Counter[str]:
        found = [self.sources.choose(pool, "s", provider, ips) for _ in range(times)]
        return Counter(source.name if source is not None else "none" for source in found)


@pytest.fixture
def world() -> World:
    return World({"main": Pool((A, B, C), IpPolicy.PREFER_IPV6), "one": Pool((B,))})


def test_by_weight(world: World) -> None:
    found = world.chosen("other", FOUR)
    assert set(found) == {"a", "b"}
    assert 2 < found["b"] / found["a"] < 4.5


@pytest.mark.parametrize(
    ("provider", "ips", "expected"),
    [
        ("other", (SIX,), {"a", "c"}),
        ("other", (FOUR, SIX), {"a", "b", "c"}),
        ("google", (SIX,), {"a"}),
        ("other", (), {"none"}),
    ],
)
def test_only_what_may_serve_and_can_reach(
    world: World, provider: str, ips: tuple[str, ...], expected: set[str]
) -> None:
    assert set(world.chosen(provider, *ips)) == expected


def test_one_that_is_suspended_for_a_site_serves_the_others(world: World) -> None:
    world.suspended = {("b", "s"), ("a", "elsewhere")}
    assert world.chosen("other", FOUR) == {"a": 400}


def test_one_that_has_used_up_its_limit_is_passed_over_while_there_is_another(world: World) -> None:
    world.spent.add("b")
    assert set(world.chosen("other", FOUR)) == {"a"}
    world.sources.failed(A, "bind")
    assert set(world.chosen("other", FOUR)) == {"none"}  # what is spent is no way round what is broken
    assert set(world.chosen("other", FOUR, pool="one")) == {"b"}  # the session waits


def test_a_pool_that_is_not_there_any_more_is_served(world: World) -> None:
    assert world.sources.choose("gone", "s", "other", [SIX]) == FALLBACK
    assert world.sources.policy("gone") is IpPolicy.PREFER_IPV4
    assert world.sources.policy("main") is IpPolicy.PREFER_IPV6


def test_one_that_fails_is_out_for_a_while_that_grows_and_told_about_once(world: World) -> None:
    for out in (30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0):
        world.sources.failed(B, "bind: x")
        world.sources.failed(B, "bind: x")  # of a connection that was under way
        world.now += out - 1
        assert world.chosen("other", FOUR) == {"a": 400}
        assert world.chosen("other", FOUR, pool="one", times=1) == {"none": 1}
        world.now += 1
        assert "b" in world.chosen("other", FOUR)
    assert world.alarms == [Alarm("b", False, "bind: x")]
    world.sources.served(B)
    world.sources.served(B)
    assert world.alarms[1:] == [Alarm("b", True)]
    world.sources.failed(B, "again")
    assert world.alarms[2:] == [Alarm("b", False, "again")]


@pytest.mark.parametrize("name", ["", "a b", "x\r\nMAIL", "ä.test"])
def test_an_ehlo_name_that_could_write_commands_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="EHLO"):
        Source(name)


# Calling


class NoPolicies:
    def known(self, domain: str) -> StsView | None:
        return NO_POLICY

    async def of(self, domain: str) -> StsView:
        return NO_POLICY

    async def demand(self, view: StsView, host: str, secure: bool, mode: TlsMode) -> Demand | Broken:
        return Demand(mode, mode)


@dataclass
class Dialing:
    """Sources in `broken` cannot be bound; addresses in `dead` do not answer."""

    broken: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    tried: list[tuple[str, str]] = field(default_factory=list)

    async def open(
        self, endpoint: Endpoint, source: Source, demand: Demand, timeouts: Timeouts
    ) -> Session | OpeningFailure:
        self.tried.append((source.name, endpoint.ip))
        if source.name in self.broken:
            return Broken(Stage.CONNECT, Cause.SOURCE, failure="bind: no such address")
        if endpoint.ip in self.dead:
            return Broken(Stage.CONNECT, Cause.TIMEOUT)
        return Session(SessionInfo(endpoint.mx_host, endpoint.ip, 25, "", source=source.name), Timeouts())

    async def call(self, world: World, *ips: str, pool: str = "main") -> Session | Uncalled:
        route = Route("s", "other", (MX,), tuple(Hop(ip, MX) for ip in ips))
        caller = Caller(cast(Dialer, self), world.sources, NoPolicies())
        return await caller.call(pool, route, NO_POLICY, Manner(TlsMode.NONE))


async def test_a_broken_source_is_replaced_and_the_peer_called_again(world: World) -> None:
    dialing = Dialing(broken={"b", "c"})
    for _ in range(20):
        found = await dialing.call(world, FOUR, SIX)
        assert isinstance(found, Session)
        assert found.info.source == "a"
    assert Counter(source for source, _ in dialing.tried) == {"a": 20, "b": 1, "c": 1}, "what is out is asked no more"
    assert Alarm("b", False, "bind: no such address") in world.alarms


async def test_without_a_source_nothing_is_tried_and_nobody_is_to_blame(world: World) -> None:
    dialing = Dialing(broken={"b"})
    for _ in range(2):
        found = await dialing.call(world, FOUR, pool="one")
        assert isinstance(found, Uncalled)
        assert found.outcome == Broken(Stage.CONNECT, Cause.SOURCE)
    assert dialing.tried == [("b", FOUR)]
    assert isinstance(await dialing.call(world, SIX, pool="one"), Uncalled), "it has no address of that family"


async def test_addresses_that_a_source_cannot_reach_are_passed_over(world: World) -> None:
    world = World({"main": Pool((C,))})
    dialing = Dialing(dead={SIX})
    found = await dialing.call(world, FOUR, SIX, FOUR)
    assert isinstance(found, Uncalled)
    assert (found.outcome, found.source, found.mx_ip) == (Broken(Stage.CONNECT, Cause.TIMEOUT), "c", SIX)
    assert dialing.tried == [("c", SIX)]


async def test_four_addresses_are_enough_for_one_opening(world: World) -> None:
    ips = [f"198.18.0.{n}" for n in range(9)]
    dialing = Dialing(dead=set(ips))
    assert isinstance(await dialing.call(world, *ips), Uncalled)
    assert len(dialing.tried) == 4


# Sockets: 127.0.0.x are all ours to bind on Linux

loops = pytest.mark.parametrize("loop", list(LOOPS))


@loops
def test_mail_leaves_from_the_address_and_with_the_name(loop: str) -> None:
    async def main() -> None:
        async with served(Peer()) as peer:
            dialer = Dialer(SinkReach({f"{IP}:25": f"127.0.0.1:{peer.port}"}), Timeouts())
            for last in (2, 3):
                source = Source(f"mta{last}.test", f"s{last}", ipv4=f"127.0.0.{last}")
                session = await dialer.open(Endpoint(IP, 25, MX), source, Demand(TlsMode.NONE, "none"))
                assert isinstance(session, Session), session
                assert (session.info.source, session.info.source_ip) == (f"s{last}", f"127.0.0.{last}")
                session.drop()
            assert peer.commands == [b"EHLO mta2.test", b"EHLO mta3.test"]
            assert peer.callers == ["127.0.0.2", "127.0.0.3"]

    run(loop, main())


@pytest.fixture
def microsocks(unused_tcp_port: int) -> Iterator[tuple[str, int]]:
    """Debian's SOCKS5 server, which sends from 127.0.0.9."""
    if shutil.which("microsocks") is None:
        pytest.skip("microsocks is not installed: apt-get install microsocks")
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(unused_tcp_port), "-b", "127.0.0.9"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            yield "127.0.0.1", unused_tcp_port
        finally:
            server.kill()


@loops
def test_through_a_real_proxy(loop: str, microsocks: tuple[str, int]) -> None:
    source = Source("far.test", "far", proxy=microsocks)

    async def main() -> None:
        async with served(Peer()) as peer:
            dialer = Dialer(SinkReach({f"{IP}:25": f"127.0.0.1:{peer.port}"}), Timeouts())
            endpoint, demand = Endpoint(IP, 25, MX), Demand(TlsMode.NONE, "none")
            await proxy_is_up(microsocks)
            session = await dialer.open(endpoint, source, demand)
            assert isinstance(session, Session), session
            session.drop()
            assert (peer.callers, peer.commands) == (["127.0.0.9"], [b"EHLO far.test"])
        assert await dialer.open(endpoint, source, demand) == Broken(Stage.CONNECT, Cause.UNREACHABLE)

    run(loop, main())


async def proxy_is_up(address: tuple[str, int]) -> None:
    def answers() -> bool:
        from socket import create_connection

        try:
            create_connection(address, 1).close()
        except OSError:
            return False
        return True

    await asyncio.to_thread(wait_until, answers, what="the proxy")


@asynccontextmanager
async def proxy(*answers: bytes) -> AsyncIterator[tuple[str, int]]:
    """One that says these after the greeting and after the request, whatever they are, and then no more."""

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for size, answer in zip((3, 10), answers, strict=False):
                await reader.readexactly(size)
                writer.write(answer)
            if answers[-1:] == (SILENCE,):
                await ended.wait()
        except EOFError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


SILENCE = b""
REACH = SinkReach({f"{IP}:25": "127.0.0.1:9"})
HELLO = b"\x05\x00"


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ((b"\x05\xff",), Cause.SOURCE),  # it wants a password
        ((b"HTTP/1.1 400",), Cause.SOURCE),
        ((), Cause.SOURCE),
        ((HELLO, b"\x05"), Cause.SOURCE),
        ((HELLO, b"\x05\x01\x00\x01" + b"\0" * 6), Cause.SOURCE),  # general failure: it cannot bind, for one
        ((HELLO, b"\x05\x02\x00\x01" + b"\0" * 6), Cause.SOURCE),  # not allowed
        ((HELLO, b"\x05\x03\x00\x01" + b"\0" * 6), Cause.UNREACHABLE),
        ((HELLO, b"\x05\x04\x00\x01" + b"\0" * 6), Cause.UNREACHABLE),
        ((HELLO, b"\x05\x05\x00\x01" + b"\0" * 6), Cause.UNREACHABLE),
        ((HELLO, b"\x05\x06\x00\x01" + b"\0" * 6), Cause.UNREACHABLE),
        ((HELLO, b"\x05\x00\x00\x01\0\0"), Cause.SOURCE),
        ((HELLO, b"\x05\x00\x00\x07\0\0\0\0\0\0"), Cause.SOURCE),
        ((HELLO, b"\x04\x00\x00\x01\0\0\0\0\0\0"), Cause.SOURCE),
    ],
)
async def test_what_a_proxy_says(answers: tuple[bytes, ...], cause: Cause) -> None:
    async with proxy(*answers) as address:
        found = await connect(REACH, IP, 25, Source("a.test", proxy=address), 5.0)
        assert found == Broken(Stage.CONNECT, cause)


@pytest.mark.parametrize("bound", [b"\x01" + b"\0" * 6, b"\x04" + b"\0" * 18, b"\x03\x05a.net\0\0"])
async def test_the_greeting_behind_its_answer_is_left_alone(bound: bytes) -> None:
    async with proxy(HELLO, b"\x05\x00\x00" + bound + b"220 hello") as address:
        found = await connect(REACH, IP, 25, Source("a.test", proxy=address), 5.0)
        assert not isinstance(found, Broken), found
        assert await asyncio.get_running_loop().sock_recv(found, 100) == b"220 hello"
        found.close()


async def test_a_proxy_that_is_away_or_silent() -> None:
    async with proxy(HELLO, SILENCE) as address:
        pass
    gone = Source("a.test", proxy=address)
    assert await connect(REACH, IP, 25, gone, 5.0) == Broken(Stage.CONNECT, Cause.SOURCE)
    async with proxy(SILENCE) as address:
        silent = replace(gone, proxy=address)
        assert await connect(REACH, IP, 25, silent, 0.3) == Broken(Stage.CONNECT, Cause.TIMEOUT)


async def test_a_proxy_reaches_no_more_than_we_may() -> None:
    async with proxy(HELLO, b"\x05\x00\x00\x01" + b"\0" * 6) as address:
        source = Source("a.test", proxy=address)
        for ip in ("127.0.0.1", "10.0.0.1", "169.254.169.254"):
            assert await connect(LiveReach(), ip, 25, source, 5.0) == Broken(Stage.CONNECT, Cause.FORBIDDEN)
