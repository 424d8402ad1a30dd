"""Every field of every event that is read has a column, or stands in the list of those left out with its reason."""

from __future__ import annotations

import re

import pytest

from schemas.families import EVENTS
from sinks.clickhouse.core import READ, table_of
from sinks.clickhouse.migrate import shipped
from tests.clickhouse_sink.conftest import Database
from topics.registry import DAY_MS, Cleanup, Topic

LEFT_OUT = {
    "mail.campaigns": {
        "from_": "an address",
        "reply_to": "an address",
        "text": "content; large, and in Kafka",
        "html": "content; large, and in Kafka",
        "mjml": "content; large, and in Kafka",
        "attachments": "content; large, and in Kafka",
        "inline_css": "how the content was made",
    },
    "mail.deadletters": {
        "record_key": "may hold an address",
        "record_value": "may hold an address",
        "record_headers": "may hold an address",
    },
}
OURS = {"kafka_partition", "kafka_offset", "version"}

pytestmark = pytest.mark.stack


def columns(database: Database, table: str) -> set[str]:
    query = "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}"
    return {str(row[0]) for row in database.rows(query, database=database.name, table=table)}


def test_tables_have_the_fields_of_the_events_and_no_others(database: Database) -> None:
    for topic in READ:
        fields = {name for kind in topic.types for name in EVENTS[kind].model_fields}
        assert columns(database, table_of(topic.name)) - OURS == fields - LEFT_OUT.get(topic.name, {}).keys(), (
            topic.name
        )


def test_no_column_holds_an_address(database: Database) -> None:
    for topic in READ:
        names = columns(database, table_of(topic.name))
        assert names.isdisjoint({"recipient", "address", "from", "from_", "reply_to", "mail_from", "rcpt_to", "to"})


@pytest.mark.parametrize("topic", READ, ids=lambda topic: str(topic.name))
def test_rows_are_kept_as_long_as_their_topic_is(topic: Topic) -> None:
    """And those of state topics for ever: as-of questions go back to the beginning."""
    text = "\n".join(migration.text for migration in shipped())
    found = re.search(rf"CREATE TABLE IF NOT EXISTS {table_of(topic.name)} \(.*?;$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    days = re.search(r"INTERVAL (\d+) DAY", found[0])
    if topic.cleanup is Cleanup.COMPACT:
        assert days is None
        assert "kafka_partition, kafka_offset)\n" in found[0]
    else:
        assert days is not None
        assert int(days[1]) * DAY_MS == topic.keep_ms
        assert "event_id)\n" in found[0]
    assert "non_replicated_deduplication_window" in found[0]
