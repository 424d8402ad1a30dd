"""Migrations: applied once, in order, by whoever comes first."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from sinks.clickhouse.migrate import Migration, MigrationError, let_read, migrate, shipped, views
from tests.clickhouse_fixture import ClickHouse
from tests.clickhouse_sink.conftest import Database

pytestmark = pytest.mark.stack


def test_a_second_run_does_nothing(database: Database) -> None:
    assert migrate(database.client, database.name) == []
    assert [row[0] for row in database.rows("SELECT number FROM migrations ORDER BY number")] == [
        migration.number for migration in shipped()
    ]


def test_the_database_is_made(clickhouse: ClickHouse, clickhouse_database: str) -> None:
    name = f"{clickhouse_database}_new"
    client = clickhouse.client()
    assert migrate(client, name) == [migration.number for migration in shipped()]
    client.command(f"DROP DATABASE {name} SYNC")
    client.close()


def test_a_file_that_was_applied_must_not_change(database: Database) -> None:
    changed = [replace(shipped()[0], text="SELECT 1;\n"), *shipped()[1:]]
    with pytest.raises(MigrationError, match=r"0001_facts\.sql is not the one that was applied"):
        migrate(database.client, database.name, changed)


def test_a_database_of_a_newer_release_is_left_alone(database: Database) -> None:
    with pytest.raises(MigrationError, match="made by a newer one"):
        migrate(database.client, database.name, shipped()[:-1])


def test_a_new_file_is_applied_alone(clickhouse: ClickHouse, clickhouse_database: str) -> None:
    client = clickhouse.client()
    first = Migration(1, "first", "CREATE TABLE IF NOT EXISTS one (a UInt8) ENGINE = Memory;\n")
    assert migrate(client, clickhouse_database, [first]) == [1]
    second = Migration(2, "second", "-- More; of it.\nALTER TABLE one ADD COLUMN b UInt8;\nDROP TABLE one;\n")
    assert migrate(client, clickhouse_database, [first, second]) == [2]
    assert migrate(client, clickhouse_database, [first, second]) == []
    client.close()


def test_several_processes_at_once(clickhouse: ClickHouse, clickhouse_database: str) -> None:
    errors: list[Exception] = []

    def run() -> None:
        client = clickhouse.client(clickhouse_database)
        try:
            migrate(client, clickhouse_database)
        except Exception as error:
            errors.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    client = clickhouse.client(clickhouse_database)
    assert migrate(client, clickhouse_database) == []
    client.close()


@pytest.mark.parametrize("name", ["a b", "a;b", "`a`", "", "1a"])
def test_names_that_are_no_identifiers_are_refused(database: Database, name: str) -> None:
    with pytest.raises(MigrationError, match="not a name that can be used"):
        migrate(database.client, name)


def test_the_reader_sees_every_view_and_no_table(database: Database) -> None:
    names = views(database.client, database.name)
    assert len(names) > 15
    reader = database.server.reader_client(database.name)
    for name in names:
        reader.query(f"SELECT * FROM {name} LIMIT 1")
    reader.close()


def test_a_server_that_keeps_its_own_users_is_left_to(database: Database) -> None:
    assert let_read(database.client, database.name, "analyst", "secret") is False


def test_the_statements_that_make_the_reader_are_sql(database: Database) -> None:
    """The embedded server has no users to make; its parser is ClickHouse's own."""
    said: list[str] = []

    class Listening:
        def command(self, text: str) -> None:
            said.append(text)

        def query(self, text: str, parameters: dict[str, str]) -> object:
            return database.client.query(text, parameters=parameters)

    assert let_read(Listening(), database.name, "analyst", "sec'ret")  # type: ignore[arg-type]  # all that is used
    assert any(text.startswith("GRANT SELECT ON") and "v_messages" in text for text in said)
    assert not any("sec'ret" in text for text in said)
    for text in said:
        assert database.rows("SELECT formatQuery({text:String})", text=text)
