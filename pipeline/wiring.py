"""From settings to the values that every role is given: the one place where secrets are read and clients are described."""

from __future__ import annotations

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from pipeline import secrets
from pipeline.settings import Settings, SettingsError
from schemas.tokens import Keyring
from topics.kafka import Cluster, Security


def cluster(settings: Settings) -> Cluster:
    kafka = settings.kafka
    if not kafka.bootstrap:
        raise SettingsError(
            "no Kafka is configured: set MAILRIVER_KAFKA=host:port, or run `mailriver up` for a stack on this machine"
        )
    security = None
    if kafka.tls or kafka.sasl_mechanism:
        security = Security(
            sasl_mechanism=kafka.sasl_mechanism,
            username=kafka.username,
            password_file=kafka.password_file,
            tls=kafka.tls,
            ca=kafka.ca,
            cert=kafka.cert,
            key=kafka.key,
        )
    return Cluster(kafka.bootstrap, kafka.prefix, kafka.group_protocol, security)


def keyring(settings: Settings) -> Keyring:
    keys = secrets.token_keys(settings.secrets_folder)
    return Keyring(keys, active=max(keys))


def clickhouse_password(settings: Settings) -> str:
    given = settings.clickhouse.password
    return given.get_secret_value() if given else secrets.password(settings.secrets_folder, "clickhouse")


def reader_password(settings: Settings) -> str:
    given = settings.clickhouse.reader_password
    return given.get_secret_value() if given else secrets.password(settings.secrets_folder, "reader")


def clickhouse_reader(settings: Settings) -> Client:
    """A client of the read-only user, for questions. Raises clickhouse_connect's OperationalError when it is away."""
    return clickhouse_connect.get_client(
        dsn=settings.clickhouse.url,
        username=settings.clickhouse.reader,
        password=reader_password(settings),
        database=settings.clickhouse.database,
        autogenerate_session_id=False,
    )
