"""Blocks into a real ClickHouse: once by token, and what it says of rows that it cannot read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import orjson
import pytest

from schemas.codec import Undecodable
from sinks.clickhouse.core import Block, Row, Span, block, row, table_of, unfit_rows
from sinks.clickhouse.tables import Tables, Unreadable
from tests.clickhouse_sink.conftest import Database
from tests.clickhouse_sink.history import Story, by_topic, numbered
from topics.errors import Later
from topics.record import Record
from topics.registry import BY_NAME

pytestmark = pytest.mark.stack
NOW = datetime.now(UTC).replace(microsecond=0)

HOSTILE: dict[str, list[object]] = {
    "attempt": ["x", -1, 1.5, 10**30, [], {}, True],
    "started_at": ["yesterday", 7, "2026-13-45T99:99:99Z", "", [], "9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z"],
    "next_at": ["yesterday", [], {}],
    "event_id": ["not a uuid", ""],
    "occurred_at": ["yesterday", "", "2026-11-01", "10000-01-01T00:00:00Z"],
    "recorded_at": ["x", []],
    "tags": ["x", {}, [[]], [{}], [None], [1]],
    "metadata": ["x", [], {"a": {"b": 1}}, {"a": None}, {"a": [1]}],
    "tls_verified": ["maybe", 7, []],
    "transfer_ms": ["fast", [], 1e400, "nan"],
    "reply_code": ["250", 70000, -5, 2**70],
    "reply_text": [7, [], {}, None, "\u0000\ud7ff"],
    "message_id": [7, [], {}, None],
}


_seed = count(1)


def attempts(count: int = 6) -> list[Record]:
    """Of messages that no other call has made."""
    story = Story(NOW - timedelta(hours=1), seed=next(_seed))
    for _ in range(count):
        story.message("bounced")
    return by_topic(numbered(story.events))["mail.attempts"]


def test_a_block_goes_in_once_however_often_it_is_tried(database: Database) -> None:
    """Counted in the table itself: what FINAL would fold counts here."""
    records = attempts()
    for _ in range(3):
        database.insert(records)
    assert database.count(records) == len(records)


def test_a_block_over_several_months_goes_in_once(database: Database) -> None:
    story = Story(NOW - timedelta(days=100), seed=next(_seed))
    for _ in range(4):
        story.message("in_flight")
        story.start += timedelta(days=31)
    records = by_topic(numbered(story.events))["mail.messages"]
    for _ in range(3):
        database.insert(records)
    assert database.count(records) == 4
    assert database.rows("SELECT uniq(_partition_id) > 2 FROM messages") == [(1,)]


def test_other_rows_under_the_same_spans_go_in(database: Database) -> None:
    records = attempts()
    database.insert(records)
    changed = [one._replace(value=(one.value or b"").replace(b"no such user", b"nobody here")) for one in records]
    database.insert(changed)
    assert database.count(records) == 2 * len(records)


def test_the_value_is_kept_to_the_microsecond(database: Database) -> None:
    story = Story(NOW - timedelta(hours=1))
    at = NOW - timedelta(minutes=1, microseconds=123456)
    made = story.message("in_flight")
    made.suppress(at)
    database.insert(numbered(story.events))
    assert database.rows("SELECT toUnixTimestamp64Micro(occurred_at) FROM suppressions") == [
        (round(at.timestamp() * 1_000_000),)
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_field_never_stops_its_neighbours(database: Database, name: str) -> None:
    """Each is a row, or a dead letter, or found by halving: never an error of an unknown kind."""
    for value in HOSTILE[name]:
        good = attempts()
        content = orjson.loads(good[2].value or b"")
        bad = good[2]._replace(value=_json({**content, name: value}), offset=900)
        made, unfit = block("mail.attempts", {Span(0, 0, 999): [*good[:2], bad, *good[3:]]})
        left_out = [one.record for one in unfit]
        try:
            database.tables.insert(made)
        except Unreadable:
            found = unfit_rows(made.rows, lambda body: database.tables.reads("attempts", body))
            left_out += [made.rows[index].record for index in found]
            assert found, f"{value!r}: unreadable as a block, readable row by row"
            database.tables.insert(made.without(found))
        assert left_out in ([], [bad]), f"{value!r}"
        assert database.count([*good[:2], *good[3:]]) == 5


def test_what_is_too_deep_for_clickhouse_alone_is_found(database: Database) -> None:
    """orjson stops at 1,024 levels, ClickHouse earlier."""
    good = attempts()
    deep = good[0]._replace(value=(good[0].value or b"")[:-1] + b',"x":' + b"[" * 1_020 + b"]" * 1_020 + b"}")
    line = row(deep, BY_NAME["mail.attempts"])
    assert database.tables.reads("attempts", line or b"") in (True, False)


def _json(content: object) -> bytes:
    return json.dumps(content).replace("Infinity", "1e400").encode()


@pytest.mark.parametrize(
    "line",
    [
        b'{"kafka_partition":0,"kafka_offset":1,"event_id":"e89b5e5a-0c8e-5b1b-8a53-000000000000","event_id":"x"}',
        b'{"kafka_partition":0,"kafka_offset":1,"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b"{",
    ],
)
def test_a_line_that_json_alone_would_not_betray(database: Database, line: bytes) -> None:
    assert database.tables.reads("attempts", line) is False


def test_a_trial_inserts_nothing(database: Database) -> None:
    record = attempts()[0]
    line = row(record, BY_NAME["mail.attempts"])
    assert database.tables.reads("attempts", line or b"")
    assert database.count([record]) == 0


def test_deep_json_does_not_reach_clickhouse() -> None:
    with pytest.raises(Undecodable, match="not JSON"):
        row(
            Record("mail.attempts", 0, 0, None, b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}", [], 0),
            BY_NAME["mail.attempts"],
        )


def test_a_table_that_is_not_there_is_later(database: Database) -> None:
    missing = Block("mail.nothing", (Span(0, 0, 0),), (Row(attempts()[0], b"{}"),))
    assert missing.table == table_of("mail.nothing")
    with pytest.raises(Later, match="UNKNOWN_TABLE"):
        database.tables.insert(missing)


def test_clickhouse_away_is_later(database: Database) -> None:
    nobody = replace(database.server, port=1)
    tables = Tables(lambda: nobody.client(database.name))
    made, _ = block("mail.attempts", {Span(0, 0, 9): attempts()})
    with pytest.raises(Later):
        tables.insert(made)


def test_a_wrong_password_is_later(database: Database) -> None:
    wrong = replace(database.server, password="wrong")
    tables = Tables(lambda: wrong.client(database.name))
    made, _ = block("mail.attempts", {Span(0, 0, 9): attempts()})
    with pytest.raises(Later, match="AUTHENTICATION_FAILED"):
        tables.insert(made)
