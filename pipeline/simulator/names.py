"""The names of the simulated internet: which host has which address, and what its DNS says.

Pure: an internet file gives the same addresses every time. IPv4 from 198.18.0.0/15 (RFC 2544, benchmarks) and IPv6
from 2001:db8::/32 (RFC 3849, documentation), so that a packet that escaped would reach nobody. `dns` answers with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.TXT import TXT

from pipeline.simulator.config import Internet, Oddity

_ROOTS = (
    dns.name.from_text("test."),
    dns.name.from_text("18.198.in-addr.arpa."),
    dns.name.from_text("19.198.in-addr.arpa."),
    dns.name.from_text("8.b.d.0.1.0.0.2.ip6.arpa."),
)
PUBLISHABLE = ("TXT", "A", "AAAA", "MX", "PTR", "CNAME", "TLSA")
_INBOUND_HOST = "mx.mailriver.test"
_CLOSED_HOST = "mx.closed.sim.test"


class RecordError(ValueError):
    """A record that cannot be published; the message says why."""


class Mood(Enum):
    """How a name server treats a question about a name."""

    ANSWER = "answer"
    SERVFAIL = "servfail"
    SILENCE = "silence"
    REFUSE = "refuse"


@dataclass(slots=True)
class Zone:
    """Records by name and type, and the parts of the tree that are out of order."""

    records: dict[tuple[dns.name.Name, RdataType], list[dns.rdata.Rdata]] = field(default_factory=dict)
    moods: dict[dns.name.Name, Mood] = field(default_factory=dict)
    existing: dict[dns.name.Name, int] = field(default_factory=dict)

    def add(self, name: str, kind: str, *values: str) -> None:
        """Add records given in the text of a zone file. Raises RecordError."""
        at, rdtype, rdatas = _parsed(name, kind, values)
        self._put(at, rdtype, [*self.records.get((at, rdtype), []), *rdatas])

    def publish(self, name: str, kind: str, *values: str) -> None:
        """Replace a name's records of one type; no values take them away. Raises RecordError."""
        at, rdtype, rdatas = _parsed(name, kind, values)
        self._put(at, rdtype, rdatas)

    def look_up(self, name: dns.name.Name, rdtype: RdataType) -> list[dns.rdata.Rdata]:
        """The records of a name, those of its alias when it is one."""
        return self.records.get((name, rdtype)) or self.records.get((name, RdataType.CNAME), [])

    def exists(self, name: dns.name.Name) -> bool:
        """Whether the name has records of any type, or a name below it has (RFC 8020)."""
        return name in self.existing

    def mood(self, name: dns.name.Name) -> Mood:
        """How questions about this name are treated."""
        if not any(name.is_subdomain(root) for root in _ROOTS):
            return Mood.REFUSE
        return next((mood for root, mood in self.moods.items() if name.is_subdomain(root)), Mood.ANSWER)

    def _put(self, at: dns.name.Name, rdtype: RdataType, rdatas: list[dns.rdata.Rdata]) -> None:
        had = bool(self.records.pop((at, rdtype), None))
        if rdatas:
            self.records[at, rdtype] = rdatas
        step = bool(rdatas) - had
        while step and len(at) > 1:
            self.existing[at] = self.existing.get(at, 0) + step
            if not self.existing[at]:
                del self.existing[at]
            at = at.parent()


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything is: the zone, and the addresses by host (IPv4 first)."""

    zone: Zone
    addresses: dict[str, tuple[str, ...]]
    inbound: str  # address of the sender's own MX
    closed: str  # an address that refuses connections


def plan(internet: Internet) -> Plan:
    """Give every host its addresses and every domain its records."""
    zone = Zone()
    addresses: dict[str, tuple[str, ...]] = {}
    for n, provider in enumerate(internet.provider, start=1):
        for m, host in enumerate(provider.hosts, start=10):
            own = [f"198.18.{n}.{m}"]
            if provider.ipv6:
                own.append(f"2001:db8:{n:x}::{m:x}")
            addresses[host.name] = tuple(own)
            _add_host(zone, host.name, own)
        for domain in provider.domains:
            for host in provider.hosts:
                zone.add(domain, "MX", f"{host.preference} {host.name}.")
            zone.add(domain, "TXT", '"v=spf1 mx -all"')
    inbound, closed = "198.18.0.2", "198.18.0.3"
    _add_host(zone, _INBOUND_HOST, [inbound])
    _add_host(zone, _CLOSED_HOST, [closed])
    for odd in internet.domain:
        match odd.kind:
            case Oddity.NULL_MX:
                zone.add(odd.name, "MX", "0 .")
            case Oddity.IMPLICIT_MX:
                provider = next(p for p in internet.provider if p.name == odd.provider)
                zone.add(odd.name, "A", addresses[provider.hosts[0].name][0])
            case Oddity.SERVFAIL:
                zone.moods[dns.name.from_text(odd.name)] = Mood.SERVFAIL
            case Oddity.TIMEOUT:
                zone.moods[dns.name.from_text(odd.name)] = Mood.SILENCE
            case Oddity.UNREACHABLE:
                zone.add(odd.name, "MX", f"10 {_CLOSED_HOST}.")
            case Oddity.SENDER:
                zone.add(odd.name, "MX", f"10 {_INBOUND_HOST}.")
            case Oddity.NXDOMAIN:
                pass  # what is not in the zone does not exist
    return Plan(zone, addresses, inbound, closed)


def port_map_key(address: str, port: int = 25) -> str:
    """`198.18.1.10:25`, `[2001:db8:1::a]:25`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _add_host(zone: Zone, host: str, addresses: list[str]) -> None:
    for address in addresses:
        zone.add(host, "AAAA" if ":" in address else "A", address)
        zone.add(ip_address(address).reverse_pointer, "PTR", f"{host}.")


def _parsed(name: str, kind: str, values: tuple[str, ...]) -> tuple[dns.name.Name, RdataType, list[dns.rdata.Rdata]]:
    if kind not in PUBLISHABLE:
        raise RecordError(f"type {kind!r} cannot be published here; use one of {', '.join(PUBLISHABLE)}")
    try:
        at = dns.name.from_text(name.lower())
        rdatas = [_rdata(kind, value) for value in values]
    except (dns.exception.DNSException, ValueError) as error:
        raise RecordError(f"{kind} of {name!r:.80}: {error}") from error
    if not any(at.is_subdomain(root) for root in _ROOTS):
        raise RecordError(f"{name!r:.80} is not under .test, nor a reverse name of the simulator's addresses")
    return at, dns.rdatatype.from_text(kind), rdatas


def _rdata(kind: str, value: str) -> dns.rdata.Rdata:
    if kind == "TXT" and not value.startswith('"'):
        # RFC 1035 section 3.3.14: strings of at most 255 octets each, which SPF, DKIM and DMARC join again.
        data = value.encode("utf-8")
        parts = [data[n : n + 255] for n in range(0, len(data), 255)] or [b""]
        return TXT(dns.rdataclass.IN, RdataType.TXT, parts)
    return dns.rdata.from_text(dns.rdataclass.IN, kind, value)
