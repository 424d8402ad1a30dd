"""The resolver against a DNS server on a loopback socket whose zone is plain data."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from sinks.smtp.answers import Addresses, Answer, Failure, MxRecords, NoData, NoName
from sinks.smtp.dns import CNAMES_MAX, Cache, Resolver, Router
from sinks.smtp.routing import (
    Permanent,
    Route,
    Temporary,
)

ZONE: dict[str, dict[str, tuple[int, list[str]]]] = {
    "example.test.": {"MX": (600, ["10 MX.example.test.", "20 mx2.example.test."])},
    "mx.example.test.": {"A": (60, ["198.18.0.1"]), "AAAA": (60, ["2001:db8::1"])},
    "mx2.example.test.": {"A": (5, ["198.18.0.2"])},
    "null.test.": {"MX": (600, ["0 ."])},
    "alias.test.": {"CNAME": (600, ["example.test."])},
    **{f"chain{n}.test.": {"CNAME": (600, [f"chain{n + 1}.test."])} for n in range(CNAMES_MAX + 1)},
    f"chain{CNAMES_MAX + 1}.test.": {"A": (600, ["198.18.0.9"])},
}
SOA = "ns.test. admin.test. 1 3600 600 86400 120"


class Zone(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        if name == "silent.test.":
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name == "servfail.test.":
            response.set_rcode(dns.rcode.SERVFAIL)
        while (records := ZONE.get(name)) and "CNAME" in records and kind != "CNAME":
            ttl, [target] = records["CNAME"]
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", "CNAME", target))
            name = target
        if records and kind in records:
            response.answer.append(dns.rrset.from_text(name, records[kind][0], "IN", kind, *records[kind][1]))
        elif response.rcode() == dns.rcode.NOERROR:
            if not records:
                response.set_rcode(dns.rcode.NXDOMAIN)
            response.authority.append(dns.rrset.from_text("test.", 3600, "IN", "SOA", SOA))
        self.transport.sendto(response.to_wire(), peer)


@asynccontextmanager
async def resolver(timeout: float = 10.0) -> AsyncIterator[Resolver]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Zone, local_addr=("127.0.0.1", 0))
    try:
        yield Resolver([("127.0.0.1", transport.get_extra_info("sockname")[1])], timeout)
    finally:
        transport.close()


async def test_answers_of_every_kind() -> None:
    async with resolver() as ask:
        mx = MxRecords(((10, "mx.example.test"), (20, "mx2.example.test")), 600.0)
        assert await ask("example.test", "MX") == mx
        assert await ask("alias.test", "MX") == mx
        assert await ask("null.test", "MX") == MxRecords(((0, ""),), 600.0)
        assert await ask("mx.example.test", "AAAA") == Addresses(("2001:db8::1",), 60.0)
        assert await ask("mx2.example.test", "A") == Addresses(("198.18.0.2",), 30.0)  # not asked again every 5 s
        assert await ask("example.test", "A") == NoData(120.0)
        assert await ask("nowhere.test", "MX") == NoName(120.0)
        assert isinstance(await ask("servfail.test", "MX"), Failure)
        assert isinstance(await ask("x" * 64 + ".test", "MX"), Failure)


async def test_a_chain_of_cnames_has_an_end() -> None:
    async with resolver() as ask:
        assert await ask("chain1.test", "A") == Addresses(("198.18.0.9",), 600.0)
        assert await ask("chain0.test", "A") == Failure("a chain of too many CNAMEs")


async def test_silence_is_a_failure() -> None:
    async with resolver(timeout=0.3) as ask:
        assert await ask("silent.test", "MX") == Failure("DNS time-out")


async def test_routes_from_real_answers() -> None:
    async with resolver() as ask:
        router = Router(ask, Random(1))
        found = await router.route("example.test")
        assert isinstance(found, Route)
        assert [hop.ip for hop in found.hops] == ["198.18.0.1", "2001:db8::1", "198.18.0.2"]
        assert isinstance(await router.route("nowhere.test"), Permanent)
        assert isinstance(await router.route("servfail.test"), Temporary)


class Counted:
    """Answers from a table, and counts what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: Counter[tuple[str, str]] = Counter()

    async def __call__(self, name: str, kind: str) -> Answer:
        self.asked[name, kind] += 1
        await asyncio.sleep(0)
        return self.answer


async def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    now = 1000.0
    lookup = Counted(NoName(60.0))
    cache = Cache(lookup, lambda: now)
    for moment, asked in ((1000.0, 1), (1059.0, 1), (1061.0, 2)):
        now = moment
        assert await cache("a.test", "MX") == NoName(60.0)
        assert lookup.asked["a.test", "MX"] == asked
    await cache("a.test", "A")
    assert lookup.asked["a.test", "A"] == 1


async def test_many_at_once_ask_once() -> None:
    lookup = Counted(NoData())
    cache = Cache(lookup, lambda: 0.0)
    first = asyncio.create_task(cache("a.test", "MX"))
    others = [asyncio.create_task(cache("a.test", "MX")) for _ in range(50)]
    await asyncio.sleep(0)
    first.cancel()  # one that gives up does not take the answer from the others
    assert set(await asyncio.gather(*others)) == {NoData()}
    assert lookup.asked["a.test", "MX"] == 1
