"""The connections of a worker, put together from its configuration."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from random import Random

from sinks.smtp import dns
from sinks.smtp.calling import Caller
from sinks.smtp.config import SmtpConfig
from sinks.smtp.connections import Connections, Ears
from sinks.smtp.dialer import Dialer
from sinks.smtp.pressroom import Pressroom
from sinks.smtp.routing import Permanent, Route, Temporary
from sinks.smtp.shapes import Shapes
from sinks.smtp.sources import Alarm, Sources
from sinks.smtp.sts_fetch import StsFetcher
from sinks.smtp.sts_policies import StsPolicies
from sinks.smtp.tls_policies import PublishedPolicies
from sinks.smtp.tracing import Tracer


def connections(
    config: SmtpConfig,
    shapes: Shapes,
    ears: Ears,
    press: Pressroom,
    tracer: Tracer,
    tell: Callable[[Alarm], None],
    suspended: Callable[[str, str], bool],
) -> tuple[Connections, dns.Router]:
    """`tell` hears of sources that fail, and that serve again; `suspended`: whether a source leaves a site alone."""
    authorities = config.authorities or ssl.create_default_context()
    lookup = dns.Cache(dns.Resolver(config.nameservers, trusted=config.dnssec), time.monotonic)
    sts = StsPolicies(lookup, StsFetcher(lookup, config.reach, authorities), time.monotonic)
    policies = PublishedPolicies(sts, lookup)
    sources = Sources(config.pools, config.source, time.monotonic, Random(), tell, suspended)
    caller = Caller(Dialer(config.reach, config.timeouts, authorities), sources, policies)
    router = dns.Router(lookup, Random(), providers=shapes.providers)

    async def route(domain: str, pool: str) -> Route | Permanent | Temporary:
        return await router.route(domain, sources.policy(pool))

    return Connections(ears, route, caller, shapes.manner, policies, suspended, press, config.instance, tracer), router
