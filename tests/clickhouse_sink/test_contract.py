"""docs/sql.md lists every view with all its columns, and its questions can be asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sinks.clickhouse.migrate import views
from tests.clickhouse_sink.conftest import Database

pytestmark = pytest.mark.stack
DOCS = (Path(__file__).parent.parent.parent / "docs" / "sql.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (v_\w+)\n(.*?)(?=^##)", DOCS, re.MULTILINE | re.DOTALL))
QUESTIONS = re.findall(r"^```sql\n(.*?)```", DOCS, re.MULTILINE | re.DOTALL)


def test_the_page_lists_the_views_and_their_columns(database: Database) -> None:
    assert sorted(SECTIONS) == views(database.client, database.name)
    for view, text in SECTIONS.items():
        rows = re.findall(r"^\| ([a-z][\w, ]*) \|", text, re.MULTILINE)
        listed = [name for row in rows if row != "column" for name in row.split(", ")]
        query = "SELECT name FROM system.columns WHERE database = {database:String} AND table = {view:String}"
        columns = [name for (name,) in database.rows(query, database=database.name, view=view)]
        assert sorted(listed) == sorted(map(str, columns)), view


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_reader_can_ask_the_questions(database: Database, question: str) -> None:
    reader = database.server.reader_client(database.name)
    assert reader.query(question).column_names
    reader.close()


def test_message_views_have_the_columns_that_others_rely_on(database: Database) -> None:
    wanted = """message_id, idempotency_key, tenant, stream, campaign_id, recipient_id, recipient_domain, provider,
        pool, status, class, attempts, late_bounce, accepted_at, ended_at"""
    database.rows(f"SELECT {wanted} FROM v_messages LIMIT 1")
    database.rows("SELECT message_id, occurred_at, type, detail FROM v_message_timeline LIMIT 1")
