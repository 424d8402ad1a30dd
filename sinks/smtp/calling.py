"""Try the hosts of a route, in order, until one opens a session that satisfies the policies of both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sinks.smtp.dialer import Dialer, Endpoint
from sinks.smtp.outcome import Broken, Cause, OpeningFailure, Stage
from sinks.smtp.routing import Hop, Route
from sinks.smtp.session import Session
from sinks.smtp.shapes import Manner
from sinks.smtp.sources import Source, Sources
from sinks.smtp.sts_policies import StsView
from sinks.smtp.tls import Demand, TlsFailure
from sinks.smtp.tls_policies import TlsPolicies

_TRIES: Final = 4  # addresses of one opening: each may take its whole time-out
_NO_SOURCE: Final = Broken(Stage.CONNECT, Cause.SOURCE)


@dataclass(frozen=True, slots=True)
class Uncalled:
    """No host opened a session: the last failure, and what was tried then. `failure` of TLS as RFC 8460 names it."""

    outcome: OpeningFailure
    mx_host: str = ""
    mx_ip: str = ""
    tls_policy: str = ""
    tls_failure: str = ""
    source: str = ""


class Caller:
    def __init__(self, dialer: Dialer, sources: Sources, policies: TlsPolicies) -> None:
        self._dialer = dialer
        self._sources = sources
        self._policies = policies

    async def call(self, pool: str, route: Route, view: StsView, manner: Manner) -> Session | Uncalled:
        """`view`: what holds for the recipient's domain. `manner`: what the shaping says of the site."""
        last = Uncalled(Broken(Stage.CONNECT, Cause.UNREACHABLE))
        source: Source | None = None
        tries = 0
        for place, hop in enumerate(route.hops):
            demand = await self._demand(route, hop, view, manner)
            if isinstance(demand, Broken):
                policy = "dane" if demand.failure == TlsFailure.DNSSEC_INVALID else "sts"
                last = Uncalled(demand, hop.mx_host, hop.ip, policy, demand.failure)
                continue
            endpoint = Endpoint(hop.ip, hop.port, hop.mx_host, route.relay)
            while True:
                if source is None:
                    ips = [each.ip for each in route.hops[place:]]
                    source = self._sources.choose(pool, route.site, route.provider, ips)
                    if source is None:
                        return Uncalled(_NO_SOURCE)
                if not source.reaches(hop.ip):
                    break
                answer = await self._dialer.open(endpoint, source, demand, manner.timeouts)
                if isinstance(answer, Broken) and answer.cause is Cause.SOURCE:
                    # Not the peer's fault, so the same peer is called from another one.
                    self._sources.failed(source, answer.failure)
                    source = None
                    continue
                self._sources.served(source)
                if isinstance(answer, Session):
                    return answer
                last = Uncalled(answer, hop.mx_host, hop.ip, demand.policy, _tls_failure(answer), source.name)
                tries += 1
                break
            if tries == _TRIES:
                break
        return last

    async def _demand(self, route: Route, hop: Hop, view: StsView, manner: Manner) -> Demand | Broken:
        if (relay := route.relay) is not None:
            return Demand(relay.tls, relay.tls)
        return await self._policies.demand(view, hop.mx_host, hop.mx_host in route.secure, manner.tls)


def _tls_failure(outcome: OpeningFailure) -> str:
    if isinstance(outcome, Broken) and outcome.failure:
        return outcome.failure
    return TlsFailure.VALIDATION if outcome.stage in (Stage.STARTTLS, Stage.HANDSHAKE) else ""
