"""Which address a mail may really be sent to: the last check before a connection is made, and again after.

Pure. In sink mode (a fresh install) only what the port map names, and so only the simulator; in live mode anything but
addresses that are not the internet's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

Address = tuple[str, int]

# IANA's special-purpose registries (RFC 6890), by what they are for. Spelled out: `is_global` changes between versions
# of Python, and 169.254.169.254 (cloud metadata) must not depend on one.
_INSIDE = tuple(
    ip_network(network)
    for network in (
        *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7"),
    )
)
_CLOSED = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "169.254.0.0/16"),
        *("192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4"),
        *("240.0.0.0/4", "192.88.99.0/24"),
        *("::/128", "100::/64", "2001::/23", "2001:db8::/32", "fe80::/10", "fec0::/10", "ff00::/8"),
        *("3fff::/20", "5f00::/16"),
    )
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


class Reach(Protocol):
    def target(self, ip: str, port: int) -> Address | None:
        """Where to connect for this address, or None: not at all."""
        ...

    def permits(self, peer: str) -> bool:
        """Whether mail may go to the address that was really connected."""
        ...

    def named(self) -> Reach:
        """What holds for a host that the operator named, and that no stranger's DNS chose."""
        ...


@dataclass(frozen=True, slots=True)
class SinkReach:
    """Only addresses of the map `{"198.18.0.10:25": "127.0.0.1:40123"}`, and only to where it says (P6)."""

    ports: Mapping[str, str]

    def target(self, ip: str, port: int) -> Address | None:
        mapped = self.ports.get(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")
        return _split(mapped) if mapped is not None else None

    def permits(self, peer: str) -> bool:
        return any(_split(mapped)[0] == peer for mapped in self.ports.values())

    def named(self) -> Reach:
        return self


@dataclass(frozen=True, slots=True)
class LiveReach:
    """The internet, without ourselves: `own` are the addresses that this installation listens on or sends from.
    `inside`: also this host and the operator's own networks.
    """

    own: frozenset[str] = field(default_factory=frozenset)
    inside: bool = False

    def target(self, ip: str, port: int) -> Address | None:
        return (ip, port) if self.permits(ip) else None

    def permits(self, peer: str) -> bool:
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        closed = _CLOSED if self.inside else (*_CLOSED, *_INSIDE)
        return all(
            str(form) not in self.own
            and not any(form in network for network in closed if network.version == form.version)
            for form in _forms(address)
        )

    def named(self) -> Reach:
        return LiveReach(self.own, inside=True)


def _forms(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address and every IPv4 one that hides in it: mapped, 6to4, NAT64, compatible."""
    if isinstance(address, IPv4Address) or address.is_loopback:
        return [address]
    hidden = [address.ipv4_mapped, address.sixtofour]
    if any(address in network for network in (*_NAT64, IPv6Network("::/96"))):
        hidden.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [address, *(form for form in hidden if form is not None)]


def _split(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
