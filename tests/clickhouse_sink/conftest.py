"""A migrated database of the test's own, and a way to put records into it as the sink would."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
import pytest
from clickhouse_connect.driver.client import Client

from sinks.clickhouse.core import Span, block, table_of
from sinks.clickhouse.migrate import migrate
from sinks.clickhouse.tables import Tables
from tests.clickhouse_fixture import ClickHouse
from tests.clickhouse_sink.history import by_topic
from topics.record import Record


@dataclass
class Database:
    name: str
    server: ClickHouse
    client: Client

    def __post_init__(self) -> None:
        self.tables = Tables(lambda: self.server.client(self.name))

    def insert(self, records: Sequence[Record]) -> None:
        """One block for each topic, of spans that no other call has used where the records differ."""
        for topic, found in by_topic(records).items():
            offsets = [one.offset for one in found]
            made, unfit = block(topic, {Span(0, min(offsets), max(offsets)): found})
            assert not unfit
            self.tables.insert(made)

    def count(self, records: Sequence[Record]) -> int:
        """How many rows there are of these records, all of one topic; what FINAL would fold counts here."""
        table = table_of(records[0].topic)
        ids = [str(orjson.loads(one.value or b"")["event_id"]) for one in records]
        found = self.rows(f"SELECT count() FROM {table} WHERE has({{ids:Array(UUID)}}, event_id)", ids=ids)
        return int(str(found[0][0]))

    def rows(self, query: str, **parameters: object) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self.client.query(query, parameters=parameters).result_rows]

    def one(self, query: str, **parameters: object) -> dict[str, object]:
        result = self.client.query(query, parameters=parameters)
        assert len(result.result_rows) == 1, result.result_rows
        return dict(zip(result.column_names, result.result_rows[0], strict=True))


@pytest.fixture(scope="module")
def database(clickhouse: ClickHouse) -> Iterator[Database]:
    """One for all tests of a file, to be quick: each test uses messages of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    client = clickhouse.client()
    migrate(client, name)
    made = Database(name, clickhouse, client)
    yield made
    made.tables.close()
    client.command(f"DROP DATABASE {name} SYNC")
    client.close()
