"""The name server, asked by dnspython's own resolver; and records that the sending side publishes."""

from __future__ import annotations

import dns.asyncresolver
import dns.message
import pytest
from dns.resolver import NXDOMAIN, LifetimeTimeout, NoAnswer, NoNameservers

from pipeline.simulator.config import Internet, load
from pipeline.simulator.dns import respond
from pipeline.simulator.names import RecordError, plan
from tests.simulator.conftest import World


def resolver(world: World, lifetime: float = 20.0) -> dns.asyncresolver.Resolver:
    host, _, port = world.simulator.endpoints["dns"].rpartition(":")
    found = dns.asyncresolver.Resolver(configure=False)
    found.nameservers, found.port, found.lifetime = [host], int(port), lifetime
    return found


async def ask(world: World, name: str, kind: str) -> list[str]:
    return sorted(str(record) for record in await resolver(world).resolve(name, kind))


async def test_hosts_and_addresses_lead_to_real_ports(world: World) -> None:
    assert await ask(world, "tlsonly.test", "MX") == ["10 mx.tlsonly.test.", "20 mx2.tlsonly.test."]
    assert await ask(world, "mx.tlsonly.test", "A") == ["198.18.3.10"]
    assert await ask(world, "mx.tlsonly.test", "AAAA") == ["2001:db8:3::a"]
    assert await ask(world, "10.3.18.198.in-addr.arpa", "PTR") == ["mx.tlsonly.test."]
    ports = world.port_map()
    assert ports["198.18.3.10:25"] == ports["[2001:db8:3::a]:25"] == "{}:{}".format(*world.host("mx.tlsonly.test"))
    assert ports["198.18.0.2:25"].startswith("127.0.0.1:")  # the sender's own MX is its inbound listener
    assert await ask(world, "brand.test", "MX") == ["10 mx.mailriver.test."]
    assert await ask(world, "mx.mailriver.test", "A") == ["198.18.0.2"]


async def test_domains_that_are_special(world: World) -> None:
    assert await ask(world, "nomail.test", "MX") == ["0 ."]
    assert await ask(world, "implicit.test", "A") == ["198.18.1.10"]
    with pytest.raises(NoAnswer):
        await ask(world, "implicit.test", "MX")
    with pytest.raises(NXDOMAIN):
        await ask(world, "gone.test", "MX")
    with pytest.raises(NoNameservers, match="SERVFAIL"):
        await ask(world, "brokendns.test", "MX")
    with pytest.raises(LifetimeTimeout):
        await resolver(world, lifetime=0.3).resolve("silentdns.test", "MX")
    with pytest.raises(NoNameservers, match="REFUSED"):
        await ask(world, "example.com", "A")


async def test_a_long_key_is_published_truncated_over_udp_and_whole_over_tcp(world: World) -> None:
    key = "v=DKIM1; k=rsa; p=" + "A" * 1400
    world.simulator.publish("s1._domainkey.brand.test", "TXT", [key])
    (record,) = await resolver(world).resolve("s1._domainkey.brand.test", "TXT")
    assert b"".join(record.strings).decode() == key
    with pytest.raises(NoAnswer):  # the name above it exists, and is empty (RFC 8020)
        await ask(world, "_domainkey.brand.test", "TXT")
    world.simulator.publish("s1._domainkey.brand.test", "TXT", [])
    with pytest.raises(NXDOMAIN):
        await ask(world, "_domainkey.brand.test", "TXT")


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("brand.example.com", "TXT", "x"),
        ("brand.test", "SOA", "x"),
        ("brand.test", "A", "not an address"),
        ("a" * 64 + ".test", "TXT", "x"),
        ("brand..test", "TXT", "x"),
    ],
)
def test_what_cannot_be_published(internet: Internet, name: str, kind: str, value: str) -> None:
    with pytest.raises(RecordError):
        plan(internet).zone.publish(name, kind, value)


def test_addresses_are_the_same_at_every_start() -> None:
    assert plan(load()).addresses == plan(load()).addresses


def test_every_mail_domain_of_the_shipped_file_leads_to_a_host() -> None:
    internet = load()
    world = plan(internet)
    for provider in internet.provider:
        for domain in provider.domains:
            wire = respond(world.zone, dns.message.make_query(domain, "MX").to_wire(), largest=1232)
            assert wire is not None
            hosts = {str(mx.exchange).rstrip(".") for mx in dns.message.from_wire(wire).answer[0]}
            assert hosts == {host.name for host in provider.hosts}


def test_the_case_of_a_question_does_not_matter(internet: Internet) -> None:
    wire = respond(plan(internet).zone, dns.message.make_query("TLSonly.Test", "MX").to_wire(), largest=1232)
    assert wire is not None
    assert len(dns.message.from_wire(wire).answer[0]) == 2


@pytest.mark.parametrize("wire", [b"", b"\x00" * 11, b"\xff" * 200, bytes(range(64))])
def test_rubbish_gets_no_answer(internet: Internet, wire: bytes) -> None:
    assert respond(plan(internet).zone, wire, largest=1232) is None


def test_a_reply_is_never_answered(internet: Internet) -> None:
    # Else two servers could be set to talk to each other for ever.
    query = dns.message.make_query("example.test", "MX")
    assert respond(plan(internet).zone, dns.message.make_response(query).to_wire(), largest=1232) is None
