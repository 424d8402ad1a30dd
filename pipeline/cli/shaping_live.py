"""What the workers know and obey now, from Kafka: a domain's site as they have learned it, the overrides in force."""

from __future__ import annotations

import time

from pipeline.cli.output import Failure
from pipeline.cli.session import kafka
from pipeline.settings import Settings
from schemas.codec import decode
from schemas.state import SiteLearned
from sinks.smtp.overrides import Override, Overrides
from sinks.smtp.steering import override_of
from topics.kafka import Cluster
from topics.record import Record
from topics.registry import SHAPING, SITES
from topics.view import View

_PATIENCE_S = 30.0


def ask(settings: Settings, domain: str) -> tuple[str, list[Override]]:
    """The site, empty while nobody has connected there, and every override in force. Raises Failure."""

    def site(record: Record) -> str | None:
        event = decode(record.value, record.headers)
        return event.site if isinstance(event, SiteLearned) and event.domain == domain else None

    with kafka() as cluster:
        sites = View(cluster, SITES, site, name="cli")
        try:
            if not sites.wait_ready(_PATIENCE_S):
                raise Failure(f"Kafka at {settings.kafka.bootstrap} does not answer: --dns asks DNS alone")
        finally:
            sites.close()
        return sites.get(domain) or "", in_force(cluster, settings)


def senders(settings: Settings, selector: str) -> list[Override]:
    """Those in force of a tenant, source or campaign, at whatever site. Raises Failure."""
    with kafka() as cluster:
        return [each for each in in_force(cluster, settings) if each.selector.partition(">")[0] == selector]


def in_force(cluster: Cluster, settings: Settings) -> list[Override]:
    """Every override that holds now, or is being recovered from. Raises Failure."""
    view = View(cluster, SHAPING, override_of, name="cli")
    try:
        if not view.wait_ready(_PATIENCE_S):
            raise Failure(f"Kafka at {settings.kafka.bootstrap} does not answer: no override is known")
    finally:
        view.close()
    found = Overrides(settings.delivery.retry_scale)
    now = time.time()
    for _, override in sorted(view.items(), key=lambda each: each[1].since):
        found.put(override, now)
    return found.in_force(now)
