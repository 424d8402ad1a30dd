"""Ask DNS, with a cache: the shell around routing.py.

Decides how long an answer is kept and how many questions a domain may cost; what an answer means for mail is routing's.
Asks the configured name servers alone (address and port), never the system's file.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, cast

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from sinks.smtp import routing
from sinks.smtp.answers import Addresses, Answer, Failure, MxRecords, Names, NoData, NoName, Texts, Tlsa, TlsaRecords
from sinks.smtp.relays import Relay
from sinks.smtp.routing import IpPolicy, Permanent, Route, Temporary

CNAMES_MAX = 8
_TTL_LEAST, _TTL_MOST = 30.0, 86_400.0
_NEGATIVE_TTL_MOST = 900.0
_FAILURE_TTL = 30.0
_CACHE_MAX = 200_000


class Lookup(Protocol):
    async def __call__(self, name: str, kind: str) -> Answer:
        """The answer for a name and one of MX, A, AAAA, TXT, TLSA, PTR. Never raises for what DNS may say."""
        ...


class Resolver:
    """dnspython against these name servers; `timeout` in seconds for one question, all its retries included.

    `trusted`: they validate DNSSEC, and nobody can change their answers on the way, so their AD bit counts.
    """

    def __init__(self, nameservers: Sequence[tuple[str, int]], timeout: float = 10.0, *, trusted: bool = False) -> None:
        self._trusted = trusted
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]
        self._resolver.timeout = max(timeout / 3, 0.1)
        self._resolver.lifetime = timeout
        self._resolver.cache = None
        # RFC 6840 section 5.7: AD in a question asks for AD in the answer, without all the signatures of DO.
        self._resolver.flags = dns.flags.RD | dns.flags.AD

    async def __call__(self, name: str, kind: str) -> Answer:
        try:
            answer = await self._resolver.resolve(dns.name.from_text(name), kind, search=False)
        except dns.resolver.NXDOMAIN as error:
            responses = list(cast(Any, error).responses().values())
            return NoName(_negative_ttl(responses), self._secure(*responses))
        except dns.resolver.NoAnswer as error:
            response = cast(Any, error).response()
            return NoData(_negative_ttl([response]), self._secure(response))
        except dns.resolver.LifetimeTimeout:
            return Failure("DNS time-out", _FAILURE_TTL)
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            return Failure(f"DNS failure ({type(error).__name__})", _FAILURE_TTL)
        if len(answer.chaining_result.cnames) > CNAMES_MAX:
            return Failure("a chain of too many CNAMEs", _FAILURE_TTL)
        ttl = min(max(float(answer.rrset.ttl if answer.rrset else 0), _TTL_LEAST), _TTL_MOST)
        secure = self._secure(answer.response)
        # Sorted: the order of records is chance, and chance comes from the caller's generator alone.
        match kind:
            case "MX":
                return MxRecords(tuple(sorted((int(mx.preference), _text(mx.exchange)) for mx in answer)), ttl, secure)
            case "TXT":
                return Texts(tuple(sorted(b"".join(record.strings) for record in answer)), ttl, secure)
            case "PTR":
                return Names(tuple(sorted(_text(record.target) for record in answer)), ttl, secure)
            case "TLSA":
                records = (Tlsa(int(each.usage), int(each.selector), int(each.mtype), each.cert) for each in answer)
                return TlsaRecords(tuple(records), ttl, secure)
        return Addresses(tuple(sorted(str(record.address) for record in answer)), ttl, secure)

    def _secure(self, *responses: dns.message.Message) -> bool:
        return self._trusted and all(response.flags & dns.flags.AD for response in responses)


class Cache:
    """Keeps answers for their time, and asks once for what many want at once. `clock` is a monotonic one."""

    def __init__(self, lookup: Lookup, clock: Callable[[], float]) -> None:
        self._lookup = lookup
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()
        self._asked: dict[tuple[str, str], asyncio.Task[Answer]] = {}

    async def __call__(self, name: str, kind: str) -> Answer:
        key = (name, kind)
        kept = self._kept.get(key)
        if kept is not None and kept[0] > self._clock():
            self._kept.move_to_end(key)
            return kept[1]
        task = self._asked.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key))
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        # Shielded: one that gives up must not take the answer from the others.
        return await asyncio.shield(task)

    async def _ask(self, key: tuple[str, str]) -> Answer:
        answer = await self._lookup(*key)
        self._kept[key] = (self._clock() + answer.ttl, answer)
        self._kept.move_to_end(key)
        if len(self._kept) > _CACHE_MAX:
            self._kept.popitem(last=False)
        return answer


class Router:
    """Routes of domains, from cached answers; a new random order for every call."""

    def __init__(
        self,
        lookup: Lookup,
        rng: Random,
        *,
        providers: routing.Providers = routing.NO_PROVIDERS,
    ) -> None:
        self._lookup = lookup
        self._rng = rng
        self.providers = providers

    async def route(self, domain: str, policy: IpPolicy = IpPolicy.PREFER_IPV4) -> Route | Permanent | Temporary:
        """`domain` in A-labels and lower case."""
        found = routing.hosts(domain, await self._lookup(domain, "MX"), self._rng)
        if not isinstance(found, routing.Hosts):
            return found
        answers = await asyncio.gather(*(self._addresses(name, policy) for name in found.names))
        return routing.route(
            domain,
            found,
            dict(zip(found.names, answers, strict=True)),
            policy=policy,
            rng=self._rng,
            providers=self.providers,
        )

    async def relayed(self, relay: Relay, policy: IpPolicy) -> Route | Temporary:
        """The route by a host that the operator named, or by an address."""
        found = await self._addresses(relay.host, policy) if relay.is_named else (NoData(), NoData())
        return routing.relayed(relay, found, policy=policy, rng=self._rng)

    async def _addresses(self, name: str, policy: IpPolicy) -> tuple[Answer, Answer]:
        four = six = NoData()  # a family that is not wanted is not asked for
        match policy:
            case IpPolicy.IPV4:
                return await self._lookup(name, "A"), six
            case IpPolicy.IPV6:
                return four, await self._lookup(name, "AAAA")
        return await self._lookup(name, "A"), await self._lookup(name, "AAAA")


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _negative_ttl(responses: Sequence[dns.message.Message]) -> float:
    # RFC 2308 section 5: the smaller of the SOA's own TTL and its minimum field.
    for response in responses:
        for rrset in response.authority:
            if rrset.rdtype == dns.rdatatype.SOA:
                return min(max(float(min(rrset.ttl, rrset[0].minimum)), _TTL_LEAST), _NEGATIVE_TTL_MOST)
    return _TTL_LEAST
