"""`mailriver doctor DOMAIN`: what has to be right before its mail goes out, looked up and judged, with what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from pipeline import dkim_keys, wiring
from pipeline.cli.output import Failure, JsonOption, print_json, print_rows
from pipeline.cli.session import configured, loaded
from pipeline.doctor import broker
from pipeline.doctor.checks import Sender, Subject, examine
from pipeline.doctor.findings import Finding, Level, warning
from pipeline.settings import Settings
from sinks.smtp.dkim import DkimError
from sinks.smtp.dns import Cache, Resolver
from topics import admin
from topics.errors import Later

_PATIENCE_S = 5.0
_COLUMNS = ("", "check", "about", "found", "to do")


def register(program: typer.Typer) -> None:
    program.command()(doctor)


def doctor(
    domain: Annotated[str, typer.Argument(help="One of a tenant's sending domains.")], json: JsonOption = False
) -> None:
    """Check DNS, keys and Kafka for a sending domain: ok, warning or error, and what to do. Exits 1 on errors."""
    settings = loaded()
    subject = _subject(settings, domain)
    found = [*asyncio.run(_looked_up(settings, subject)), *_broker(settings), *_mode(settings)]
    if json:
        keys = ("level", "check", "asset", "said", "todo")
        print_json([{key: getattr(each, key) for key in keys} for each in found])
    else:
        print_rows(
            _COLUMNS, [(each.level, each.check, each.asset, each.said, each.todo) for each in found], as_json=False
        )
    if any(each.level is Level.ERROR for each in found):
        raise typer.Exit(1)


def _subject(settings: Settings, domain: str) -> Subject:
    owners = {name: tenant for name, tenant in settings.tenants.items() if domain in tenant.sending_domains}
    if not owners:
        raise Failure(f"no tenant has {domain[:64]!r} among its sending_domains", status=2)
    with configured():
        pools = wiring.pools(settings).values()
    try:
        folders = ("", *owners)
        keys = [key for name in folders for key in dkim_keys.key_files(settings.secrets_folder, domain, name)]
    except (DkimError, OSError) as error:
        raise Failure(str(error), status=2) from None
    senders = (Sender(name, tenant.return_path_domain, tenant.tracking_url) for name, tenant in owners.items())
    sources = {source.name: source for pool in pools for source in pool.sources}
    return Subject(domain, tuple(senders), tuple(sources.values()), tuple(keys))


async def _looked_up(settings: Settings, subject: Subject) -> list[Finding]:
    with configured():
        lookup = Cache(Resolver(wiring.nameservers(settings), _PATIENCE_S), time.monotonic)
    return [finding async for finding in examine(subject, lookup)]


def _broker(settings: Settings) -> Iterator[Finding]:
    """What each broker says of sessions."""
    if not settings.kafka.bootstrap:
        yield warning("kafka", "", "no Kafka is configured: it was not asked", "set MAILRIVER_KAFKA=host:port")
        return
    with configured():
        cluster = wiring.cluster(settings)
    try:
        for number, told in admin.broker_settings(cluster).items():
            yield from broker.examine(f"broker {number}", settings.kafka.group_protocol, told)
    except Later:
        todo = "see that it runs, and that we may describe its settings"
        yield warning("kafka", settings.kafka.bootstrap, "it does not answer", todo)


def _mode(settings: Settings) -> Iterator[Finding]:
    if settings.delivery.mode != "live":
        said = 'delivery.mode is "sink": mail goes to the simulator alone'
        yield warning("delivery", "", said, 'when all is right: mode = "live"')
