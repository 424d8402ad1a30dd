"""The contract: clickhouse-connect's own sync and async clients against the embedded server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]  # it has no type information
import pyarrow as pa
import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from pipeline.embedded.clickhouse_codings import Encoder
from tests.clickhouse_fixture import ClickHouse
from tests.waiting import wait_until

pytestmark = pytest.mark.stack

MOMENT = datetime(2026, 3, 1, 12, 0, 0, 250_000)  # naive: the client gives UTC back so
TABLE = """CREATE TABLE t (id UInt64, name LowCardinality(String), at DateTime64(3, 'UTC'), tags Array(String),
    note Nullable(String), kinds Map(String, UInt32))
    ENGINE = ReplacingMergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100"""
COLUMNS = ["id", "name", "at", "tags", "note", "kinds"]
ROWS = [
    [1, "ann", MOMENT, ["a", "b"], None, {"x": 1}],
    [2, "b'ob\\", MOMENT, [], "line\nend\ttab", {}],
    [3, "çelik", MOMENT, [""], "", {"y": 2, "z": 3}],
]


@pytest.fixture
def client(clickhouse: ClickHouse, clickhouse_database: str) -> Iterator[Client]:
    client = clickhouse.client(clickhouse_database)
    client.command(TABLE)
    yield client
    client.close()


@pytest.fixture
async def async_client(clickhouse: ClickHouse, clickhouse_database: str) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(
        host=clickhouse.host,
        port=clickhouse.port,
        username=clickhouse.user,
        password=clickhouse.password,
        database=clickhouse_database,
    )
    await client.command(TABLE)
    yield client
    await client.close()


def _rows(client: Client) -> list[list[object]]:
    return [list(row) for row in client.query("SELECT * FROM t ORDER BY id").result_rows]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_native_insert_and_query_in_every_coding(
    clickhouse: ClickHouse, client: Client, clickhouse_database: str, compress: bool | str
) -> None:
    with clickhouse.client(clickhouse_database, compress=compress) as other:
        summary = other.insert("t", ROWS, column_names=COLUMNS)
        assert summary.written_rows == 3
        assert _rows(other) == ROWS


def test_arrow_insert_and_query(client: Client) -> None:
    table = pa.table({"id": pa.array([7, 8], pa.uint64()), "name": ["x", "y"]})
    assert client.insert_arrow("t", table).written_rows == 2
    back = client.query_arrow("SELECT id, name FROM t ORDER BY id", use_strings=True)
    assert back.column("id").to_pylist() == [7, 8]
    assert back.column("name").to_pylist() == ["x", "y"]
    with client.query_arrow_stream("SELECT number FROM numbers(300000)") as stream:
        assert sum(part.num_rows for part in stream) == 300_000


@pytest.mark.parametrize("coding", ["", "gzip", "lz4", "zstd"])
def test_raw_insert_of_json_lines(client: Client, coding: str) -> None:
    lines = b"".join(json.dumps({"id": n, "name": f"n{n}", "tags": ["'", "\\"]}).encode() + b"\n" for n in range(5_000))
    encoder = Encoder(coding)
    body = encoder.feed(lines) + encoder.close()
    summary = client.raw_insert("t", ["id", "name", "tags"], body, fmt="JSONEachRow", compression=coding or None)
    assert summary.written_rows == 5_000
    assert client.query("SELECT count(), uniqExact(id), any(tags) FROM t").first_row == (5_000, 5_000, ["'", "\\"])


def test_raw_insert_of_a_stream_of_pieces(client: Client) -> None:
    pieces = (b'{"id": %d, "na' % n + b'me": "x"}\n' for n in range(1_000))
    assert client.raw_insert("t", insert_block=pieces, fmt="JSONEachRow").written_rows == 1_000


def test_the_same_token_is_inserted_once(client: Client) -> None:
    def insert(token: str, rows: list[list[object]]) -> None:
        client.insert("t", rows, column_names=COLUMNS, settings={"insert_deduplication_token": token})

    client.command(
        "CREATE TABLE seen (id UInt64, twice UInt64) ENGINE = MergeTree ORDER BY id "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    client.command("CREATE MATERIALIZED VIEW feed TO seen AS SELECT id, id * 2 AS twice FROM t")
    insert("t:0:0-2", ROWS)
    insert("t:0:0-2", ROWS)
    assert client.query("SELECT count() FROM t").first_row == (3,)
    assert client.query("SELECT count() FROM seen").first_row == (3,)
    insert("t:0:3-5", ROWS)
    assert client.query("SELECT count() FROM t").first_row == (6,)
    assert client.query("SELECT count() FROM seen").first_row == (6,)
    # As in ClickHouse: the token decides, not the rows.
    insert("t:0:3-5", [[99, "other", MOMENT, [], None, {}]])
    assert client.query("SELECT count() FROM t WHERE id = 99").first_row == (0,)


@pytest.mark.parametrize(
    ("kind", "value", "back"),
    [
        ("String", "it's \\ a\ttab\nand 'more' {x:String}", "it's \\ a\ttab\nand 'more' {x:String}"),
        ("String", "", ""),
        ("Int64", -5, -5),
        ("Array(String)", ["a'b", "c\\", ""], ["a'b", "c\\", ""]),
        ("DateTime64(3, 'UTC')", MOMENT, MOMENT),
        ("Nullable(String)", None, None),
        ("Bool", True, True),
        ("Tuple(String, UInt8)", ("k", 1), ("k", 1)),
    ],
)
def test_parameters_are_filled_in_by_the_server(client: Client, kind: str, value: object, back: object) -> None:
    assert client.query(f"SELECT {{v:{kind}}}", parameters={"v": value}).result_rows == [(back,)]


def test_long_parameters_go_by_form(client: Client) -> None:
    names = [f"recipient-{n}" for n in range(20_000)]
    query = "SELECT length({names:Array(String)})"
    with pytest.raises(DatabaseError, match="QUERY_IS_TOO_LARGE"):
        client.query(query, parameters={"names": names * 9})
    assert client.query(query, parameters={"names": names[:5_000]}).first_row == (5_000,)


def test_streams_of_rows(client: Client) -> None:
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(500000)") as stream:
        blocks = [len(block) for block in stream]
    assert sum(blocks) == 500_000
    assert len(blocks) > 1


def test_no_rows_still_have_columns(client: Client) -> None:
    result = client.query("SELECT id, name, tags AS labels FROM t WHERE id = {id:UInt64}", parameters={"id": 1})
    assert result.result_rows == []
    assert list(result.column_names) == ["id", "name", "labels"]
    assert [kind.name for kind in result.column_types] == ["UInt64", "LowCardinality(String)", "Array(String)"]
    assert client.query("SELECT id FROM t LIMIT 0").column_names == ("id",)


def test_commands_answer(client: Client, clickhouse_database: str) -> None:
    assert client.command("SELECT 41 + 1") == 42
    assert client.command("SELECT currentDatabase()") == clickhouse_database
    assert client.command("EXISTS TABLE t") == 1
    client.command("INSERT INTO t (id, name, at) VALUES (1, concat('a', 'b'), now())")
    assert client.query("SELECT name FROM t").first_row == ("ab",)
    assert client.ping()


def test_errors_reach_the_caller_with_code_and_text(client: Client) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as raised:
        client.query("SELECT * FROM nowhere")
    assert (raised.value.code, raised.value.name) == (60, "UNKNOWN_TABLE")
    with pytest.raises(DatabaseError, match="SYNTAX_ERROR"):
        client.query("SELEC 1 FROM")
    with pytest.raises(DatabaseError, match="CANNOT_PARSE"):
        client.raw_insert("t", insert_block=b'{"id": "not a number"}\n', fmt="JSONEachRow")
    with pytest.raises(DatabaseError, match="UNKNOWN_SETTING"):
        client.query("SELECT 1", settings={"no_such_setting": 1})
    assert client.query("SELECT count() FROM t").first_row == (0,)


def test_an_error_in_mid_stream_is_not_taken_for_the_end(client: Client) -> None:
    query = "SELECT throwIf(number = 900000) FROM numbers(1000000)"
    with (
        pytest.raises(OperationalError, match="Value passed to 'throwIf'"),
        client.query_row_block_stream(query) as stream,
    ):
        list(stream)
    # Without streaming the client asks for the whole result first, and gets a proper status.
    with pytest.raises(DatabaseError, match="Value passed to 'throwIf'") as raised:
        client.query(query)
    assert raised.value.code == 395


def test_wrong_passwords_and_unknown_users(clickhouse: ClickHouse) -> None:
    for user, password in ((clickhouse.user, "wrong"), ("nobody", clickhouse.password), (clickhouse.user, "")):
        with pytest.raises(DatabaseError, match="AUTHENTICATION_FAILED") as raised:
            clickhouse_connect.get_client(host=clickhouse.host, port=clickhouse.port, username=user, password=password)
        assert raised.value.code == 516


def test_the_reader_reads_and_no_more(clickhouse: ClickHouse, client: Client, clickhouse_database: str) -> None:
    client.insert("t", ROWS, column_names=COLUMNS)
    with clickhouse.reader_client(clickhouse_database) as reader:
        assert reader.query("SELECT count() FROM t FINAL").first_row == (3,)
        for write in ("INSERT INTO t (id) VALUES (9)", "DROP TABLE t", "CREATE TABLE u (a UInt8) ENGINE = Memory"):
            with pytest.raises(DatabaseError, match="READONLY"):
                reader.command(write)
        with pytest.raises(DatabaseError, match="READONLY"):
            reader.query("SELECT 1 SETTINGS max_memory_usage = 0")
        with pytest.raises(DatabaseError, match="TOO_MANY_ROWS"):
            reader.query("SELECT * FROM numbers(1500000)")
        with pytest.raises(DatabaseError, match="ACCESS_DENIED"):
            reader.query("SELECT file('/etc/passwd')")
    assert client.query("SELECT count() FROM t").first_row == (3,)


def test_views_that_the_sink_may_rely_on(client: Client) -> None:
    client.insert("t", ROWS, column_names=COLUMNS)
    client.insert("t", ROWS, column_names=COLUMNS)
    client.command("CREATE VIEW v AS SELECT id, name FROM t FINAL")
    assert client.query("SELECT count() FROM v").first_row == (3,)
    client.command(
        "CREATE MATERIALIZED VIEW r REFRESH EVERY 1 HOUR ENGINE = MergeTree ORDER BY id "
        "AS SELECT id, count() AS copies FROM t FINAL GROUP BY id"
    )
    wait_until(lambda: client.query("SELECT count() FROM r").first_row == (3,), what="the refreshed view")


async def test_the_async_client_does_the_same(async_client: AsyncClient) -> None:
    summary = await async_client.insert("t", ROWS, column_names=COLUMNS)
    assert summary.written_rows == 3
    result = await async_client.query("SELECT * FROM t WHERE id > {n:UInt64} ORDER BY id", parameters={"n": 1})
    assert [list(row) for row in result.result_rows] == ROWS[1:]
    lines = b'{"id": 10}\n{"id": 11}\n'
    for _ in range(2):
        await async_client.raw_insert(
            "t", insert_block=lines, fmt="JSONEachRow", settings={"insert_deduplication_token": "t:1:10-11"}
        )
    assert (await async_client.query("SELECT count() FROM t")).first_row == (5,)
    body = lz4.frame.compress(b'{"id": 12}\n')
    await async_client.raw_insert("t", insert_block=body, fmt="JSONEachRow", compression="lz4")
    table = pa.table({"id": pa.array([20], pa.uint64())})
    await async_client.insert_arrow("t", table)
    assert (await async_client.query_arrow("SELECT id FROM t WHERE id >= 12 ORDER BY id")).num_rows == 2
    seen = 0
    async with await async_client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        async for block in stream:
            seen += len(block)
    assert seen == 300_000
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        await async_client.query("SELECT * FROM nowhere")


async def test_many_at_once(async_client: AsyncClient) -> None:
    async def one(n: int) -> None:
        await async_client.insert("t", [[n, str(n)]], column_names=["id", "name"])
        assert (
            await async_client.query("SELECT name FROM t WHERE id = {n:UInt64}", parameters={"n": n})
        ).first_row == (str(n),)

    await asyncio.gather(*(one(n) for n in range(40)))
    assert (await async_client.query("SELECT count() FROM t")).first_row == (40,)
