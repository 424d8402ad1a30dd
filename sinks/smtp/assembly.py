"""The connections of a worker, and what its core asks, put together from its configuration."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

from schemas.lanes import MessageQueue
from sinks.smtp import dns
from sinks.smtp.calling import Caller
from sinks.smtp.commands import Move, Rules
from sinks.smtp.config import SmtpConfig
from sinks.smtp.connections import Connections, Ears
from sinks.smtp.dialer import Dialer
from sinks.smtp.knowledge import Knowledge
from sinks.smtp.places import Places
from sinks.smtp.policy import Policy
from sinks.smtp.press import BATCH
from sinks.smtp.pressroom import Pressroom
from sinks.smtp.routing import Permanent, Route, Temporary
from sinks.smtp.shapes import Shapes
from sinks.smtp.sites import Learned, onward, to_lanes
from sinks.smtp.sizes import size_of
from sinks.smtp.sources import Alarm, Sources
from sinks.smtp.state import tenant_number
from sinks.smtp.steering import Steering
from sinks.smtp.sts_fetch import StsFetcher
from sinks.smtp.sts_policies import StsPolicies
from sinks.smtp.tls_policies import PublishedPolicies
from sinks.smtp.tracing import Tracer

_ORDERS: Final = 4 * BATCH  # of a process that composes: 50 to 150 ms of its work, so that it never waits for ours


def connections(
    config: SmtpConfig,
    shapes: Shapes,
    ears: Ears,
    press: Pressroom,
    tracer: Tracer,
    tell: Callable[[Alarm], None],
    suspended: Callable[[str, str], bool],
    spent: Callable[[str], bool],
    learned: Callable[[str], Learned | None],
) -> tuple[Connections, dns.Router]:
    """`tell` hears of sources that fail, and that serve again; `suspended`: whether a source leaves a site alone;
    `spent`: whether it has no more to send with now; `learned`: the site of a domain, as far as it is known.
    """
    authorities = config.authorities or ssl.create_default_context()
    lookup = dns.Cache(dns.Resolver(config.nameservers, trusted=config.dnssec), time.monotonic)
    sts = StsPolicies(lookup, StsFetcher(lookup, config.reach, authorities), time.monotonic)
    policies = PublishedPolicies(sts, lookup)
    sources = Sources(config.pools, config.source, time.monotonic, Random(), tell, suspended, spent)
    caller = Caller(Dialer(config.reach, config.timeouts, authorities), sources, policies)
    router = dns.Router(lookup, Random(), providers=shapes.providers)

    async def route(domain: str, pool: str) -> Route | Permanent | Temporary:
        if (relay := config.relays.of(domain, pool)) is not None:
            return await router.relayed(relay, sources.policy(pool))
        return await router.route(domain, sources.policy(pool))

    places = Places(config.relays, learned)
    found = Connections(
        *(ears, route, caller, shapes.manner, policies, suspended, places, press, config.instance, tracer)
    )
    return found, router


def rules_of(
    config: SmtpConfig,
    knowledge: Knowledge,
    shapes: Shapes,
    steering: Steering,
    began: Callable[[MessageQueue, str, float], None],
    partitions: Callable[[], int],
) -> Rules:
    """What the core asks. An owner of lanes that drain answers every message with the place where it belongs now."""
    weights = {tenant_number(name): tenant.weight for name, tenant in config.tenants.items()}
    rules = Rules(
        weight=lambda tenant: weights.get(tenant, 1),
        admit=steering.admits(knowledge.admit),
        stands=steering.stands(knowledge.admit),
        began=began,
        gate=knowledge.desk.gate,
        reviews=knowledge.desk.reviews,
        onward=lambda command: onward(command, partitions()),
        policy=lambda command: Policy.of(command, config.tenants),
        limits=shapes.limits,
        shape=steering.shape,
        source_until=steering.source_until,
        sources_until=steering.sources_until,
        scale=config.retry_scale,
        sessions=config.sessions,
        size=lambda record: size_of(record, knowledge.campaign),
        large_bytes=config.large_bytes,
        orders=_ORDERS * config.presses,
        lanes=(config.lanes.ordinary.name, config.lanes.urgent.name),
        worker=config.instance,
    )
    if config.successor is None:
        return rules
    return replace(
        rules,
        admit=lambda command, now: Move(to_lanes(command, partitions())),
        gate=lambda lane, now: None,
        reviews=lambda lane, now: True,
    )
