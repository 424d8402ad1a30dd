"""Which hosts take mail for a domain (RFC 5321 section 5.1), and which site the domain belongs to.

Pure: DNS answers and the random generator are handed in, so a route can be replayed. Asking is dns.py's; whether an
address may be connected, the dialer's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from ipaddress import ip_address
from random import Random

from sinks.smtp.answers import Addresses, Answer, Failure, MxRecords, NoName
from sinks.smtp.relays import Relay

HOSTS_MAX = 10  # MX hosts looked at: a hostile zone has thousands
ADDRESSES_MAX = 20
OTHER = "other"

# Mailbox providers by what all MX hosts of their domains end in. Each is one site: limits and reputation are theirs,
# not their customers'.
Providers = Mapping[str, Sequence[str]]
NO_PROVIDERS: Providers = {}


class IpPolicy(StrEnum):
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    PREFER_IPV4 = "prefer_ipv4"
    PREFER_IPV6 = "prefer_ipv6"


@dataclass(frozen=True, slots=True)
class Hop:
    ip: str
    mx_host: str
    port: int = 25


@dataclass(frozen=True, slots=True)
class Route:
    """Where to try, in this order."""

    site: str
    provider: str
    mx_hosts: tuple[str, ...]
    hops: tuple[Hop, ...]
    secure: frozenset[str] = frozenset()  # MX hosts whose addresses DNSSEC vouches for
    relay: Relay | None = None  # the operator named it: no policy of the recipient's domain is about it


@dataclass(frozen=True, slots=True)
class Permanent:
    """The domain takes no mail: a bounce, with the enhanced code that says why (RFC 3463, 7505)."""

    enhanced: str
    reason: str


@dataclass(frozen=True, slots=True)
class Temporary:
    """Not known now: a deferral, never a bounce."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hosts:
    """The MX hosts to look up the addresses of, best first; `implicit`: the domain stands for itself."""

    names: tuple[str, ...]
    implicit: bool = False


def hosts(domain: str, mx: Answer, rng: Random) -> Hosts | Permanent | Temporary:
    """First step: from the domain's MX answer to host names, in the order in which they are to be tried."""
    match mx:
        case Failure(reason=reason):
            return Temporary(reason)
        case NoName():
            return Permanent("5.1.2", "the domain does not exist")
        case MxRecords(values=values):
            pass
        case _:
            # RFC 5321 section 5.1: without an MX the domain's own address is an MX of preference 0.
            return Hosts((domain,), implicit=True)
    # RFC 7505 section 3: a single "." says that no mail is taken; beside others it means nothing.
    named = [(preference, host) for preference, host in values if host]
    if not named:
        return Permanent("5.1.10", "the domain takes no mail (null MX)")
    # Section 5.1: by preference, and among equals at random, so that a site's hosts share the load.
    ordered = sorted(named, key=lambda pair: (pair[0], rng.random()))
    # RFC 1035 section 3.3.9: an MX names a host. An address in its place is a mistake that we do not repair.
    names = tuple(dict.fromkeys(host for _, host in ordered if not _is_address(host)))[:HOSTS_MAX]
    return Hosts(names) if names else Permanent("5.4.4", "the domain's MX records name no host")


def route(
    domain: str,
    found: Hosts,
    addresses: Mapping[str, tuple[Answer, Answer]],
    *,
    policy: IpPolicy = IpPolicy.PREFER_IPV4,
    rng: Random,
    providers: Providers = NO_PROVIDERS,
) -> Route | Permanent | Temporary:
    """Second step: from the hosts' (A, AAAA) answers to addresses. Hosts that cannot be resolved are passed over."""
    hops: list[Hop] = []
    secure: set[str] = set()
    failure = ""
    for name in found.names:
        four, six = addresses[name]
        for answer in (four, six):
            if isinstance(answer, Failure):
                failure = answer.reason
            elif isinstance(answer, Addresses) and answer.secure:
                secure.add(name)
        hops += [Hop(ip, name) for ip in _ordered(_texts(four), _texts(six), policy, rng)]
    if hops:
        return Route(
            site(domain, found, providers),
            provider(found.names, providers),
            found.names,
            tuple(hops[:ADDRESSES_MAX]),
            frozenset(secure),
        )
    if failure:
        return Temporary(failure)
    if found.implicit:
        return Permanent("5.1.2", "the domain has neither MX nor address")
    return Permanent("5.4.4", "no MX host of the domain has an address")


def relayed(relay: Relay, found: tuple[Answer, Answer], *, policy: IpPolicy, rng: Random) -> Route | Temporary:
    """The route by a host that the operator named, from its (A, AAAA) answers. Never a bounce: where it cannot be
    found, that says nothing about the recipient.
    """
    ips = _ordered(_texts(found[0]), _texts(found[1]), policy, rng) if relay.is_named else [relay.host]
    if not ips:
        failure = next((answer.reason for answer in found if isinstance(answer, Failure)), "it has no address")
        return Temporary(f"the relay {relay.name} cannot be found: {failure}")
    hops = tuple(Hop(ip, relay.host, relay.port) for ip in ips[:ADDRESSES_MAX])
    return Route(relay.site, OTHER, (relay.host,), hops, relay=relay)


def provider(mx_hosts: Sequence[str], providers: Providers = NO_PROVIDERS) -> str:
    """The mailbox provider whose every MX host this is, or `other`."""
    for name, suffixes in providers.items():
        if mx_hosts and all(host.endswith(tuple(suffixes)) for host in mx_hosts):
            return name
    return OTHER


def site(domain: str, found: Hosts, providers: Providers = NO_PROVIDERS) -> str:
    """The name under which limits are kept: provider, else the set of MX hosts, else the domain for itself."""
    if (known := provider(found.names, providers)) != OTHER:
        return known
    if found.implicit:
        return domain
    return "mx-" + sha256(" ".join(sorted(found.names)).encode()).hexdigest()[:16]


def _texts(answer: Answer) -> list[str]:
    return list(answer.values) if isinstance(answer, Addresses) else []


def _ordered(four: list[str], six: list[str], policy: IpPolicy, rng: Random) -> list[str]:
    rng.shuffle(four)
    rng.shuffle(six)
    match policy:
        case IpPolicy.IPV4:
            return four
        case IpPolicy.IPV6:
            return six
        case IpPolicy.PREFER_IPV4:
            return four + six
        case IpPolicy.PREFER_IPV6:
            return six + four


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
