"""From settings to the values that every role is given: the one place where secrets are read and clients are described.

What only some roles need is imported where it is used: loading it takes longer than starting the rest of a role.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from pipeline import secrets
from pipeline.settings import Settings, SettingsError
from topics import registry
from topics.kafka import Cluster, Security
from topics.registry import TOPICS, Lanes, Topic

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from schemas.rules.shaping import Shaping
    from schemas.tokens import Keyring
    from sinks.smtp.dkim import Signer
    from sinks.smtp.reach import Reach
    from sinks.smtp.relays import Relays
    from sinks.smtp.sources import Pool, Source
    from topics.claims import FolderClaims

_log = structlog.get_logger(__name__)


def cluster(settings: Settings) -> Cluster:
    kafka = settings.kafka
    if not kafka.bootstrap:
        raise SettingsError(
            "no Kafka is configured: set MAILRIVER_KAFKA=host:port, or run `mailriver up` for a stack on this machine"
        )
    security = None
    if kafka.tls or kafka.sasl_mechanism:
        try:
            security = Security(
                sasl_mechanism=kafka.sasl_mechanism,
                username=kafka.username,
                password_file=kafka.password_file,
                tls=kafka.tls,
                ca=kafka.ca,
                cert=kafka.cert,
                key=kafka.key,
            )
        except ValueError as error:
            raise SettingsError(f"kafka: {error}") from None
    return Cluster(kafka.bootstrap, kafka.prefix, kafka.group_protocol, security)


def lanes(settings: Settings) -> tuple[Lanes, ...]:
    """The generations of lanes that are in use, the newest one last."""
    newest = registry.lanes(settings.lanes.generation, settings.lanes.partitions)
    return (*(registry.lanes(generation) for generation in settings.lanes.draining), newest)


def topics(settings: Settings) -> tuple[Topic, ...]:
    """What `topics apply` brings about: the registry, with the lanes of this installation's newest generation."""
    own = lanes(settings)[-1].topics
    names = {topic.name for topic in own}
    return (*(topic for topic in TOPICS if topic.name not in names), *own)


def keyring(settings: Settings) -> Keyring:
    from schemas.tokens import Keyring

    keys = secrets.token_keys(settings.secrets_folder)
    return Keyring(keys, active=max(keys))


def host_port(text: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port`, as settings check it."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def nameservers(settings: Settings) -> tuple[tuple[str, int], ...]:
    """The configured ones, else the system's."""
    import dns.resolver

    if settings.delivery.nameservers:
        return tuple(host_port(server) for server in settings.delivery.nameservers)
    return tuple((str(server), 53) for server in dns.resolver.get_default_resolver().nameservers)


def shaping(settings: Settings) -> Shaping:
    """What sites may be asked to take: the shipped file, and the operator's over it."""
    from schemas.rules import shaping_file

    try:
        return shaping_file.load(
            settings.delivery.shaping, {name for pool in settings.pools.values() for name in pool.sources}
        )
    except shaping_file.ShapingError as error:
        raise SettingsError(f"delivery.shaping: {error}") from None


def fallback_source(settings: Settings) -> Source:
    """What mail leaves from where no source is configured: the system's choice of address."""
    from sinks.smtp.sources import Source

    try:
        return Source(settings.delivery.ehlo_name)
    except ValueError as error:
        raise SettingsError(f"delivery.ehlo_name: {error}") from None


def pools(settings: Settings) -> dict[str, Pool]:
    """Pools that have sources of their own."""
    from sinks.smtp.routing import IpPolicy
    from sinks.smtp.sources import Pool, Source

    sources: dict[str, Source] = {}
    for name, each in settings.sources.items():
        try:
            sources[name] = Source(
                each.ehlo_name or settings.delivery.ehlo_name,
                name,
                str(each.ipv4) if each.ipv4 else None,
                str(each.ipv6) if each.ipv6 else None,
                each.weight,
                frozenset(each.not_for),
                host_port(each.proxy) if each.proxy else None,
            )
        except ValueError as error:
            raise SettingsError(f"sources.{name}.ehlo_name: {error}") from None
    fallback = fallback_source(settings)
    return {
        name: Pool(tuple(sources[each] for each in pool.sources) or (fallback,), IpPolicy(pool.ip))
        for name, pool in settings.pools.items()
    }


def relays(settings: Settings) -> Relays:
    """Hosts that take mail in place of those that MX records name."""
    from sinks.smtp.relays import Login, Relay, Relays
    from sinks.smtp.tls import TlsMode

    found = []
    for name, route in settings.routes.items():
        login = None
        if route.username is not None and route.password_file is not None:
            try:
                login = Login(route.username, secrets.handed_over(route.password_file))
            except (OSError, secrets.SecretError) as error:
                why = error if isinstance(error, secrets.SecretError) else f"{route.password_file}: {error.strerror}"
                raise SettingsError(f"routes.{name}.password_file: {why}") from None
        mode = TlsMode(route.tls or ("verified" if login else "opportunistic"))
        found.append(Relay(name, route.host, route.port, mode, login, frozenset(route.domains), frozenset(route.pools)))
    try:
        return Relays(found)
    except ValueError as error:
        raise SettingsError(f"routes: {error}: name the domains or pools of one of them") from None


def dnssec(settings: Settings) -> bool:
    """Whether an AD bit counts. The system's name servers are not taken for ours, wherever they listen: Docker's are on
    loopback, and pass on what comes from afar.
    """
    if settings.delivery.dnssec is not None:
        return settings.delivery.dnssec
    servers = settings.delivery.nameservers
    return bool(servers) and all(host_port(server)[0] in ("127.0.0.1", "::1") for server in servers)


def reach(settings: Settings) -> Reach:
    """Whom mail may reach: in sink mode, the simulator's addresses alone (and nobody, when it has not said where)."""
    from sinks.smtp.reach import LiveReach, SinkReach

    if settings.delivery.mode == "live":
        for name, tenant in settings.tenants.items():
            # RFC 8058 section 3.1: one-click unsubscription is by HTTPS; large providers ignore any other.
            if not tenant.tracking_url.startswith("https://"):
                raise SettingsError(f"tenants.{name}.tracking_url: live mail needs an https:// address (RFC 8058)")
        return LiveReach()
    ports = settings.delivery.port_map
    try:
        return SinkReach(json.loads(ports.read_text()) if ports else {})
    except (OSError, ValueError) as error:
        raise SettingsError(f"delivery.port_map: {ports}: {error}") from None


def signers(settings: Settings) -> dict[str, Signer | None]:
    """By From domain, and by `tenant/domain` where a tenant has keys of its own; None where there is no key yet, and
    mail goes unsigned.
    """
    from pipeline import dkim_keys
    from sinks.smtp.dkim import DkimError, Signer

    found: dict[str, Signer | None] = {}
    folder = settings.secrets_folder
    try:
        for tenant in settings.tenants.values():
            for domain in tenant.sending_domains:
                keys = dkim_keys.signing_keys(folder, domain)
                found[domain] = Signer(keys) if keys else None
                if own := dkim_keys.signing_keys(folder, domain, tenant.name):
                    found[f"{tenant.name}/{domain}"] = Signer(own)
                elif not keys:
                    _log.warning("no_dkim_key", domain=domain, folder=str(folder / "dkim" / domain))
    except (DkimError, OSError) as error:
        raise SettingsError(str(error)) from None
    return found


def claims(settings: Settings) -> FolderClaims | None:
    from topics.claims import FolderClaims

    return FolderClaims(settings.claims.folder) if settings.claims.folder else None


def sender_records(settings: Settings) -> dict[str, str]:
    """The TXT records that an operator publishes for the sending domains: DKIM, DMARC; by name."""
    from pipeline import dkim_keys
    from sinks.smtp.dkim import txt_record

    records: dict[str, str] = {}
    for tenant in settings.tenants.values():
        for domain in tenant.sending_domains:
            records[f"_dmarc.{domain}"] = f"v=DMARC1; p=none; rua=mailto:postmaster@{tenant.return_path_domain}"
            for key in dkim_keys.signing_keys(settings.secrets_folder, domain):
                records[f"{key.selector}._domainkey.{domain}"] = txt_record(key)
    return records


def clickhouse_password(settings: Settings) -> str:
    given = settings.clickhouse.password
    return given.get_secret_value() if given else secrets.password(settings.secrets_folder, "clickhouse")


def reader_password(settings: Settings) -> str:
    given = settings.clickhouse.reader_password
    return given.get_secret_value() if given else secrets.password(settings.secrets_folder, "reader")


def clickhouse_reader(settings: Settings) -> Client:
    """A client of the read-only user, for questions. Raises clickhouse_connect's OperationalError when it is away."""
    import clickhouse_connect

    return clickhouse_connect.get_client(
        dsn=settings.clickhouse.url,
        username=settings.clickhouse.reader,
        password=reader_password(settings),
        database=settings.clickhouse.database,
        autogenerate_session_id=False,
    )
