"""Bring a database to the newest schema: numbered SQL files, each applied once, known by number and checksum.

Every statement may be run again (IF NOT EXISTS, OR REPLACE): so a crash in the middle of a file, or two processes at
the same time, do no harm. A file that was applied must not change any more: what is in the database would not be what
the file says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Final

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_STATEMENT_END: Final = re.compile(r";[ \t]*$", re.MULTILINE)
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS migrations (
    number UInt16, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY (number, checksum)
"""
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# ACCESS_DENIED; ACCESS_STORAGE_READONLY; NOT_IMPLEMENTED; SUPPORT_IS_DISABLED: this server keeps its users elsewhere.
_USERS_ELSEWHERE: Final = frozenset({497, 495, 48, 344})

log = structlog.get_logger(__name__)


class MigrationError(Exception):
    """The database cannot be brought to this release's schema; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """Statements end with a semicolon at the end of a line."""
        return [text.strip() for text in _STATEMENT_END.split(self.text) if text.strip()]


def shipped() -> list[Migration]:
    """The migrations of this release, in order."""
    found = [
        Migration(int(matched[1]), matched[2], entry.read_text(encoding="utf-8"))
        for entry in (resources.files(__package__) / "migrations").iterdir()
        if (matched := _NAME.fullmatch(entry.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


def migrate(client: Client, database: str, migrations: list[Migration] | None = None) -> list[int]:
    """Create the database if need be, apply what is missing; returns the numbers applied. Raises MigrationError."""
    client.command(f"CREATE DATABASE IF NOT EXISTS {_identifier(database)}")
    client.database = database
    client.command(_LEDGER)
    rows = client.query("SELECT number, checksum FROM migrations ORDER BY number").result_rows
    applied = {int(number): str(checksum) for number, checksum in rows}
    wanted = shipped() if migrations is None else migrations
    _refuse_changed(applied, wanted)
    done: list[int] = []
    for migration in wanted:
        if migration.number in applied:
            continue
        for statement in migration.statements:
            client.command(statement)
        client.insert(
            "migrations",
            [[migration.number, migration.name, migration.checksum]],
            column_names=["number", "name", "checksum"],
            settings={"async_insert": 0},
        )
        done.append(migration.number)
        log.info("migrated", number=migration.number, name=migration.name)
    return done


def _refuse_changed(applied: dict[int, str], wanted: list[Migration]) -> None:
    known = {migration.number: migration for migration in wanted}
    for number, checksum in applied.items():
        migration = known.get(number)
        if migration is None:
            raise MigrationError(
                f"the database has migration {number:04d}, which this release does not know: it was made by a newer one"
            )
        if migration.checksum != checksum:
            raise MigrationError(
                f"migration {number:04d}_{migration.name}.sql is not the one that was applied to this database: "
                "put the file back as it was, and make the change in a new migration"
            )


def let_read(client: Client, database: str, reader: str, password: str) -> bool:
    """Make or update the read-only user, who sees the views alone. False where the server manages its users itself.

    `readonly = 2` lets the user change settings that are not about writing: Grafana's plugin sets time-outs. The
    functions that reach files and the network need grants of their own, which it does not get.
    """
    name = _identifier(reader)
    # As a hash, so that no log of queries has the password.
    secret = f"IDENTIFIED WITH sha256_hash BY '{sha256(password.encode()).hexdigest()}'"
    limits = "SETTINGS readonly = 2, max_execution_time = 60 MAX 600, max_memory_usage = 4000000000 MAX 8000000000"
    try:
        client.command(f"CREATE USER IF NOT EXISTS {name} {secret} {limits}")
        client.command(f"ALTER USER {name} {secret} {limits}")
        for view in views(client, database):
            client.command(f"GRANT SELECT ON {_identifier(database)}.{view} TO {name}")
    except DatabaseError as error:
        if error.code not in _USERS_ELSEWHERE:
            raise
        log.info("reader_not_managed", reason=error.name)
        return False
    return True


def views(client: Client, database: str) -> list[str]:
    """The views of the contract."""
    query = "SELECT name FROM system.tables WHERE database = {database:String} AND name LIKE 'v\\_%' ORDER BY name"
    rows = client.query(query, parameters={"database": database}).result_rows
    return [_identifier(str(row[0])) for row in rows]


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise MigrationError(f"{name[:64]!r} is not a name that can be used: letters, digits and underscores")
    return name
