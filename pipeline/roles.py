"""Every role that `mailriver run` knows: its name, what it does in a line, and how it gets its configuration.

A role's own module is imported when it runs: each process loads only what it needs.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pipeline import secrets, wiring
from pipeline.settings import Settings
from topics import memory

Ready = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    does: str
    run: Callable[[Settings, Ready], None]
    drain: float = 15.0  # seconds it may take to end cleanly
    niceness: int = 0  # how far it stands back where the machine has too much to do


def _until_signal(work: Callable[[threading.Event], None]) -> None:
    """Run a synchronous role in this thread; SIGTERM and SIGINT ask it to end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    memory.settle()
    work(stop)


def _until_signal_async(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """The same for an asynchronous role, on uvloop where there is one."""
    import uvloop

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        memory.settle()
        await work(stop)

    uvloop.run(main())


def _plan(settings: Settings, ready: Ready) -> None:
    from pipeline.claims_cleaner import ClaimsCleaner
    from processors.plan import agent

    claims = wiring.claims(settings)
    config = agent.PlanConfig(
        cluster=wiring.cluster(settings),
        tenants=settings.tenants,
        pools=frozenset(settings.pools),
        recipient_secret=secrets.recipient_secret(settings.secrets_folder),
        claims=claims,
        # The oldest knows what was sent before, and sends on what it does not know.
        lanes=wiring.lanes(settings)[0],
        shaping=wiring.shaping(settings),
    )
    if claims is not None:
        ClaimsCleaner(claims).start()
    _until_signal(lambda stop: agent.run(config, stop, ready))


def _smtp(settings: Settings, ready: Ready) -> None:
    from pipeline.dkim_watch import KeyWatch
    from sinks.smtp import generations

    keys = KeyWatch(settings.secrets_folder, lambda: wiring.signers(settings))
    keys.start()
    *draining, newest = wiring.lanes(settings)
    config = generations.SmtpConfig(
        cluster=wiring.cluster(settings),
        tenants=settings.tenants,
        keyring=wiring.keyring(settings),
        signers=keys.signers,
        claims=wiring.claims(settings),
        reach=wiring.reach(settings),
        nameservers=wiring.nameservers(settings),
        dnssec=wiring.dnssec(settings),
        source=wiring.fallback_source(settings),
        pools=wiring.pools(settings),
        relays=wiring.relays(settings),
        sessions=settings.delivery.sessions,
        large_bytes=settings.delivery.large_mib * 1024 * 1024,
        instance=settings.instance,
        shaping=wiring.shaping(settings),
        shaping_file=settings.delivery.shaping,
        retry_scale=settings.delivery.retry_scale,
        lanes=newest,
    )
    _until_signal_async(lambda stop: generations.serve(config, draining, stop, ready))


def _classify(settings: Settings, ready: Ready) -> None:
    from pipeline.resolver import ClickHouseResolver
    from processors.classify import agent

    config = agent.ClassifyConfig(
        cluster=wiring.cluster(settings),
        keyring=wiring.keyring(settings),
        resolve=ClickHouseResolver(settings),
        recipient_secret=secrets.recipient_secret(settings.secrets_folder),
    )
    _until_signal(lambda stop: agent.run(config, stop, ready))


def _suppress(settings: Settings, ready: Ready) -> None:
    from processors.suppress import agent
    from processors.suppress.core import Policy

    config = agent.SuppressConfig(wiring.cluster(settings), Policy())
    _until_signal_async(lambda stop: agent.serve(config, stop, ready))


def _engage(settings: Settings, ready: Ready) -> None:
    from processors.engage import agent

    config = agent.EngageConfig(wiring.cluster(settings))
    _until_signal_async(lambda stop: agent.serve(config, stop, ready))


def _clickhouse(settings: Settings, ready: Ready) -> None:
    from sinks.clickhouse import writer

    config = writer.ClickHouseSinkConfig(
        cluster=wiring.cluster(settings),
        url=settings.clickhouse.url,
        user=settings.clickhouse.user,
        password=wiring.clickhouse_password(settings),
        database=settings.clickhouse.database,
        reader=settings.clickhouse.reader,
        reader_password=wiring.reader_password(settings),
    )
    _until_signal(lambda stop: writer.run(config, stop, ready))


def _inbound(settings: Settings, ready: Ready) -> None:
    from pipeline.sources import inbound

    host, port = wiring.host_port(settings.inbound.listen)
    tenants = settings.tenants.values()
    config = inbound.InboundConfig(
        cluster=wiring.cluster(settings),
        keyring=wiring.keyring(settings),
        host=host,
        port=port,
        hostname=settings.delivery.ehlo_name,
        return_path_domains=frozenset(tenant.return_path_domain for tenant in tenants),
        sending_domains=frozenset(domain for tenant in tenants for domain in tenant.sending_domains),
    )
    _until_signal_async(lambda stop: inbound.serve(config, stop, ready))


def _tracking(settings: Settings, ready: Ready) -> None:
    from pipeline.sources import tracking

    host, port = wiring.host_port(settings.tracking.listen)
    config = tracking.TrackingConfig(wiring.cluster(settings), wiring.keyring(settings), host, port)
    _until_signal_async(lambda stop: tracking.serve(config, stop, ready))


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role("plan", "turns requested sends into messages on the lanes of their destinations", _plan),
        Role("smtp", "owns lanes and their queues, and delivers", _smtp, drain=70.0),
        Role("classify", "reads bounces, complaints and replies, and ties them to their messages", _classify),
        # Facts are safe in Kafka: mail goes before its history.
        Role("clickhouse", "writes the history, each fact exactly once", _clickhouse, niceness=5),
        Role("suppress", "decides from bounces and complaints who gets no more mail", _suppress),
        Role("engage", "judges who opened and clicked: people, proxies, scanners", _engage),
        Role("inbound", "receives bounces and reports by SMTP", _inbound),
        Role("tracking", "serves pixels, links and one-click unsubscribes", _tracking),
    )
}
