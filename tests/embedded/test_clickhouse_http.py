"""The HTTP protocol itself: curl, and requests that clickhouse-connect would not send."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from pipeline.embedded.clickhouse_codings import Decoder
from tests.clickhouse_fixture import ClickHouse
from tests.waiting import wait_until

pytestmark = pytest.mark.stack


@pytest.fixture
async def http(clickhouse: ClickHouse) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        clickhouse.url,
        headers=_login(clickhouse.user, clickhouse.password),
        auto_decompress=False,
        skip_auto_headers={"Accept-Encoding"},
    ) as session:
        yield session


def _login(user: str, password: str) -> dict[str, str]:
    return {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}


async def _running(clickhouse: ClickHouse, pattern: str, want: int) -> None:
    """Return when `want` statements like `pattern` run."""
    query = "SELECT count() FROM system.processes WHERE query LIKE {p:String} AND query NOT LIKE '%system.processes%'"

    def seen() -> bool:
        return client.query(query, parameters={"p": pattern}).first_row == (want,)

    with clickhouse.client() as client:
        await asyncio.to_thread(wait_until, seen, what=f"{want} of {pattern}")


async def _ask(http: aiohttp.ClientSession, body: str | bytes = "", **url: str) -> tuple[int, str, Any]:
    async with http.post("/", params=url, data=BytesIO(body.encode() if isinstance(body, str) else body)) as response:
        return response.status, (await response.read()).decode(), response.headers


def test_curl(clickhouse: ClickHouse, clickhouse_database: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl on this machine")

    def run(*arguments: str, data: bytes | None = None) -> str:
        command = [curl, "-sS", "--user", f"{clickhouse.user}:{clickhouse.password}", *arguments]
        return subprocess.run(command, input=data, capture_output=True, timeout=60, check=True).stdout.decode()

    url = f"{clickhouse.url}/?database={clickhouse_database}"
    assert run(f"{clickhouse.url}/ping") == "Ok.\n"
    assert run(url, "-d", "SELECT 1 + 1") == "2\n"
    assert run(url, "-G", "--data-urlencode", "query=SELECT 'a', 2 FORMAT JSONEachRow") == '{"\'a\'":"a","2":2}\n'
    assert run(url, "-d", "CREATE TABLE t (a UInt8, b String) ENGINE = MergeTree ORDER BY a") == ""
    assert run(url, "-d", "INSERT INTO t FORMAT CSV\n1,one\n2,two") == ""
    assert run(f"{url}&query=INSERT%20INTO%20t%20FORMAT%20TSV", "--data-binary", "@-", data=b"3\tthree\n") == ""
    packed = gzip.compress(b'{"a": 4, "b": "four"}\n')
    coded = ("-H", "Content-Encoding: gzip", "--data-binary", "@-")
    assert run(f"{url}&query=INSERT%20INTO%20t%20FORMAT%20JSONEachRow", *coded, data=packed) == ""
    assert run(f"{url}&param_top=9", "--compressed", "-d", "SELECT b FROM t WHERE a < {top:UInt8} ORDER BY a") == (
        "one\ntwo\nthree\nfour\n"
    )
    assert "UNKNOWN_TABLE" in run(url, "-d", "SELECT * FROM nowhere")


async def test_ping_and_the_root_need_no_password(clickhouse: ClickHouse) -> None:
    async with aiohttp.ClientSession(clickhouse.url) as session:
        for path in ("/ping", "/"):
            async with session.get(path) as response:
                assert (response.status, await response.text()) == (200, "Ok.\n")


async def test_three_ways_to_say_who_one_is(clickhouse: ClickHouse) -> None:
    user, password = clickhouse.reader, clickhouse.reader_password
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    ways: list[dict[str, dict[str, str]]] = [
        {"headers": {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}},
        {"headers": {"Authorization": f"Basic {basic}"}},
        {"params": {"user": user, "password": password}},
    ]
    wrong: list[dict[str, dict[str, str]]] = [
        {},
        {"headers": {"X-ClickHouse-User": user, "X-ClickHouse-Key": "x"}},
        {"headers": {"Authorization": "Basic !!!"}},
        {"headers": {"Authorization": "Bearer x"}},
        {"params": {"user": user, "password": "ü"}},
        {"params": {"user": "default", "password": ""}},
    ]
    async with aiohttp.ClientSession(clickhouse.url) as session:
        for way in ways:
            async with session.post("/", data="SELECT 1", **way) as response:  # type: ignore[arg-type]
                assert (response.status, await response.text()) == (200, "1\n")
        for way in wrong:
            async with session.post("/", data="SELECT 1", **way) as response:  # type: ignore[arg-type]
                assert response.status == 403
                assert response.headers["X-ClickHouse-Exception-Code"] == "516"
                assert "AUTHENTICATION_FAILED" in await response.text()


async def test_get_reads_and_never_writes(http: aiohttp.ClientSession, clickhouse_database: str) -> None:
    for query in (
        f"CREATE TABLE {clickhouse_database}.g (a UInt8) ENGINE = Memory",
        f"INSERT INTO {clickhouse_database}.g VALUES (1)",
        f"DROP DATABASE {clickhouse_database}",
    ):
        async with http.get("/", params={"query": query}) as response:
            assert response.status == 500
            assert response.headers["X-ClickHouse-Exception-Code"] == "164"
    async with http.get("/", params={"query": "SELECT 1 SETTINGS max_threads = 1"}) as response:
        assert (response.status, await response.text()) == (200, "1\n")


async def test_headers_say_what_was_done(http: aiohttp.ClientSession, clickhouse_database: str) -> None:
    status, text, headers = await _ask(http, "SELECT 1 AS a", default_format="JSONEachRow", query_id="abc-1")
    assert (status, text) == (200, '{"a":1}\n')
    assert headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert headers["X-ClickHouse-Query-Id"] == "abc-1"
    assert headers["X-ClickHouse-Timezone"] == "UTC"
    assert headers["Content-Type"] == "application/json; charset=UTF-8"
    await _ask(http, "CREATE TABLE t (a UInt8) ENGINE = Memory", database=clickhouse_database)
    _, _, headers = await _ask(http, "INSERT INTO t VALUES (1), (2)", database=clickhouse_database)
    assert json.loads(headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    _, _, headers = await _ask(http, "SELECT 1", query_id="no\r\nway")
    assert "\r" not in headers["X-ClickHouse-Query-Id"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELECT * FROM system.nowhere", 404, 60),
        ("SELECT FROM WHERE", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT nothing", 404, 47),
        ("SELECT file('/etc/passwd')", 500, 497),
        ("SET max_threads = 1", 501, 48),
        ("CREATE TEMPORARY TABLE x (a UInt8)", 500, 497),
        ("SELECT {x:UInt8}", 400, 456),
        ("", 400, 62),
    ],
)
async def test_errors_have_clickhouses_status_and_code(
    http: aiohttp.ClientSession, query: str, status: int, code: int
) -> None:
    got, text, headers = await _ask(http, query, default_format="TSV")
    assert (got, headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert text.startswith(f"Code: {code}. DB::Exception: ")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "lz4", "zstd"])
async def test_results_in_every_coding(http: aiohttp.ClientSession, coding: str) -> None:
    async with http.post(
        "/", data="SELECT number FROM numbers(100000)", headers={"Accept-Encoding": coding}
    ) as response:
        assert response.headers["Content-Encoding"] == coding
        packed = await response.read()
    decoder = Decoder(coding)
    lines = b"".join(decoder.feed(packed)).splitlines()
    decoder.close()
    assert len(lines) == 100_000
    assert len(packed) < 500_000
    off = {"enable_http_compression": "0"}
    async with http.post("/", params=off, data="SELECT 1", headers={"Accept-Encoding": coding}) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.read() == b"1\n"


async def test_bad_codings_are_told(http: aiohttp.ClientSession) -> None:
    for coding, status in (("br", 501), ("gzip", 500)):
        async with http.post("/", data=b"SELECT 1", headers={"Content-Encoding": coding}) as response:
            assert response.status == status
    status, text, _ = await _ask(http, "SELECT 1", decompress="1")
    assert status == 501
    assert "decompress" in text


@pytest.mark.parametrize(
    "name", ["profile", "readonly", "dialect", "format_schema", "default_table_engine", "max_threads = 1, readonly"]
)
async def test_settings_that_open_doors_are_refused(http: aiohttp.ClientSession, name: str) -> None:
    status, text, _ = await _ask(http, "SELECT 1", **{name: "1"})
    assert status == 500
    assert "ACCESS_DENIED" in text


async def test_a_settings_value_stays_a_value(http: aiohttp.ClientSession) -> None:
    status, text, _ = await _ask(http, "SELECT getSetting('format_csv_delimiter')", format_csv_delimiter="'")
    assert (status, text) == (200, "\\'\n")
    status, text, _ = await _ask(http, "SELECT 1", database="x`; DROP DATABASE default; --")
    assert status == 404
    assert "UNKNOWN_DATABASE" in text


async def test_the_reader_may_lower_caps_and_not_raise_them(clickhouse: ClickHouse) -> None:
    login = _login(clickhouse.reader, clickhouse.reader_password)
    async with aiohttp.ClientSession(clickhouse.url, headers=login) as http:
        assert (await _ask(http, "SELECT getSetting('max_execution_time')", max_execution_time="5"))[:2] == (200, "5\n")
        for value in ("0", "31", "-1", "1e9", "٣"):
            status, text, _ = await _ask(http, "SELECT 1", max_execution_time=value)
            assert (status, "SETTING_CONSTRAINT_VIOLATION" in text) == (500, True)
        status, text, _ = await _ask(http, "SELECT 1", max_memory_usage_for_user="0")
        assert (status, "READONLY" in text) == (500, True)
        status, text, _ = await _ask(
            http, "SELECT count() FROM numbers(100000000) WHERE sleep(1) = 1", max_execution_time="1"
        )
        assert (status, "TIMEOUT_EXCEEDED" in text) == (408, True)


async def test_values_in_the_text_are_evaluated_unless_they_reach_out(
    http: aiohttp.ClientSession, clickhouse_database: str
) -> None:
    own = {"database": clickhouse_database}
    await _ask(http, "CREATE TABLE t (a String) ENGINE = Memory", **own)
    assert (await _ask(http, "INSERT INTO t VALUES (upper('x'))", **own))[0] == 200
    for evil in ("INSERT INTO t VALUES (file('/etc/passwd'))", "INSERT INTO t FORMAT Values (`file`('/etc/passwd'))"):
        status, _, _ = await _ask(http, evil, **own, input_format_values_interpret_expressions="1")
        assert status >= 400
    assert (await _ask(http, "SELECT a FROM t", **own))[1] == "X\n"


async def test_forms_carry_fields_and_no_tables(http: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("query", "SELECT {x:String}")
    form.add_field("param_x", "é")
    async with http.post("/", data=form) as response:
        assert (response.status, await response.text()) == (200, "é\n")
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("query", "SELECT * FROM t")
    form.add_field("t", b"1\t2\n", filename="t")
    async with http.post("/", data=form) as response:
        assert response.status == 501


async def test_limits_of_text_and_body(http: aiohttp.ClientSession) -> None:
    status, text, _ = await _ask(http, "SELECT '" + "x" * 2_000_000 + "'")
    assert (status, "QUERY_IS_TOO_LARGE" in text) == (413, True)


async def test_a_result_is_one_document_in_formats_that_are_not_streamed(http: aiohttp.ClientSession) -> None:
    query = "SELECT number FROM numbers(200000) FORMAT "
    assert json.loads((await _ask(http, query + "JSON"))[1])["rows"] == 200_000
    _, text, headers = await _ask(http, query + "CSVWithNames")
    assert text.splitlines() == ['"number"', *(str(n) for n in range(200_000))]
    assert json.loads(headers["X-ClickHouse-Summary"])["read_rows"] == "200000"
    totals = "SELECT number % 2 AS k, count() FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k"
    assert (await _ask(http, totals))[1] == "0\t5\n1\t5\n\n0\t10\n"


async def test_a_large_insert_in_chunks_is_one_block(http: aiohttp.ClientSession, clickhouse_database: str) -> None:
    own = {"database": clickhouse_database}
    await _ask(http, "CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a", **own)

    async def rows() -> AsyncIterator[bytes]:
        yield b"INSERT INTO t FORMAT JSONEachRow\n"
        for start in range(0, 60_000, 1_000):
            yield b"".join(b'{"a": %d, "b": "%0100d"}\n' % (n, n) for n in range(start, start + 1_000))

    async with http.post("/", params=own, data=rows()) as response:
        assert response.status == 200
        assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "60000"
    assert (await _ask(http, "SELECT count(), uniqExact(_part) FROM t", **own))[1] == "60000\t1\n"


async def test_an_insert_that_breaks_off_leaves_nothing(
    clickhouse: ClickHouse, http: aiohttp.ClientSession, clickhouse_database: str
) -> None:
    own = {"database": clickhouse_database}
    await _ask(http, "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a", **own)

    async def rows() -> AsyncIterator[bytes]:
        yield b"INSERT INTO t FORMAT TSV\n" + b"1\n" * 1_500_000
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await http.post("/", params=own, data=rows())

    await _running(clickhouse, "INSERT INTO t%", 0)
    assert (await _ask(http, "SELECT count() FROM t", **own))[1] == "0\n"


async def test_a_query_whose_client_went_away_is_stopped(clickhouse: ClickHouse, http: aiohttp.ClientSession) -> None:
    slow = "SELECT count() AS nobody_waits FROM numbers(1900000000) WHERE sipHash64(number) = 1"
    asking = asyncio.create_task(_ask(http, slow))
    await _running(clickhouse, "%nobody_waits%", 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await _running(clickhouse, "%nobody_waits%", 0)


async def test_inserts_do_not_wait_behind_an_analysts_queries(
    clickhouse: ClickHouse, http: aiohttp.ClientSession, clickhouse_database: str
) -> None:
    await _ask(http, "CREATE TABLE t (a UInt8) ENGINE = Memory", database=clickhouse_database)
    login = _login(clickhouse.reader, clickhouse.reader_password)
    async with aiohttp.ClientSession(clickhouse.url, headers=login) as analyst:
        # More than the readers' lane has places; they end by their time limit, not by themselves.
        slow = "SELECT count() FROM numbers(200) WHERE NOT ignore(sleepEachRow(0.5))"
        asked = [
            asyncio.create_task(_ask(analyst, slow, max_execution_time="20", max_block_size="1")) for _ in range(10)
        ]
        await _running(clickhouse, "%sleepEachRow(0.5)%", 6)
        for _ in range(5):
            assert (await _ask(http, "INSERT INTO t VALUES (1)", database=clickhouse_database))[0] == 200
        assert not any(task.done() for task in asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
