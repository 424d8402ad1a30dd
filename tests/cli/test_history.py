"""`mailriver sql` and `message` against the embedded ClickHouse."""

from __future__ import annotations

import pytest

from schemas import ids
from sinks.clickhouse.migrate import let_read, migrate
from tests.cli.conftest import Cli
from tests.clickhouse_fixture import ClickHouse

pytestmark = pytest.mark.stack

KEY = "order 17"
ID = ids.message_id("default", KEY)


@pytest.fixture
def history(clickhouse: ClickHouse, clickhouse_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database with one message, and an environment that names it."""
    with clickhouse.client() as client:
        migrate(client, clickhouse_database)
        let_read(client, clickhouse_database, clickhouse.reader, clickhouse.reader_password)
    with clickhouse.client(clickhouse_database) as client:
        for seconds, kind in enumerate(("accepted", "delivered")):
            client.command(
                "INSERT INTO messages (event_id, type, schema_version, occurred_at, tenant, message_id, "
                "idempotency_key, recipient_domain, detail) VALUES "
                f"(generateUUIDv4(), 'message.{kind}', 1, '2026-01-01 00:00:0{seconds}', 'default', '{ID}', '{KEY}', "
                "'example.test', '[bold]\x1b[31m')"
            )
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__URL", clickhouse.url)
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__DATABASE", clickhouse_database)
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__READER", clickhouse.reader)
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__READER_PASSWORD", clickhouse.reader_password)


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("name", [ID, KEY])
def test_a_message_is_told_by_its_id_or_key(cli: Cli, name: str) -> None:
    shown = cli("message", name)
    assert shown.status == 0
    assert "delivered" in shown.out
    assert "+1.000 s  message.delivered" in shown.out
    assert "\x1b" not in shown.out
    told = cli("message", name, "--json").json
    assert told["message"]["idempotency_key"] == KEY
    assert [step["type"] for step in told["timeline"]] == ["message.accepted", "message.delivered"]


@pytest.mark.usefixtures("history")
def test_an_unknown_message_is_said_to_be_unknown(cli: Cli) -> None:
    shown = cli("message", "never sent")
    assert shown.status == 1
    assert "no message never sent is known to tenant default" in shown.err


@pytest.mark.usefixtures("history")
def test_sql_answers_people_and_programs(cli: Cli) -> None:
    query = "SELECT status, count() AS messages FROM v_messages GROUP BY status"
    assert cli("sql", query, "--json").json == [{"status": "delivered", "messages": 1}]
    assert cli("sql", query).out.split() == ["status", "messages", "delivered", "1"]


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    "query", ["SELEC 1", "SELECT * FROM nothing", "DROP TABLE messages", "INSERT INTO messages (type) VALUES ('x')"]
)
def test_what_clickhouse_refuses_is_one_line(cli: Cli, query: str) -> None:
    shown = cli("sql", query)
    assert shown.status == 1
    assert shown.err.startswith("mailriver: ClickHouse refused the query: ")
    assert shown.err.count("\n") == 1
    assert cli("sql", "SELECT count() AS n FROM v_messages", "--json").json == [{"n": 1}]


@pytest.mark.usefixtures("history")
def test_a_wrong_password_is_said_to_be_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__READER_PASSWORD", "not it")
    shown = cli("sql", "SELECT 1")
    assert shown.status == 1
    assert "does not let analyst in: " in shown.err
