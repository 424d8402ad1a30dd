"""The connections of a worker, put together from its configuration: names, routes, TLS policies, the dialer."""

from __future__ import annotations

import ssl
import time
from random import Random

from sinks.smtp import dns
from sinks.smtp.calling import Caller
from sinks.smtp.config import SmtpConfig
from sinks.smtp.connections import Connections, Ears
from sinks.smtp.dialer import Dialer, Identity
from sinks.smtp.pressroom import Pressroom
from sinks.smtp.shapes import Shapes
from sinks.smtp.sts_fetch import StsFetcher
from sinks.smtp.sts_policies import StsPolicies
from sinks.smtp.tls_policies import PublishedPolicies
from sinks.smtp.tracing import Tracer


def connections(
    config: SmtpConfig, shapes: Shapes, ears: Ears, press: Pressroom, tracer: Tracer
) -> tuple[Connections, dns.Router]:
    authorities = config.authorities or ssl.create_default_context()
    lookup = dns.Cache(dns.Resolver(config.nameservers, trusted=config.dnssec), time.monotonic)
    sts = StsPolicies(lookup, StsFetcher(lookup, config.reach, authorities), time.monotonic)
    policies = PublishedPolicies(sts, lookup)
    dialer = Dialer(config.reach, config.timeouts, authorities)
    caller = Caller(dialer, Identity(config.ehlo_name, config.bind_address), policies)
    router = dns.Router(lookup, Random(), providers=shapes.providers)
    return Connections(ears, router.route, caller, shapes.manner, policies, press, config.instance, tracer), router
