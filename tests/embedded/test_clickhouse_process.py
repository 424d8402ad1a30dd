"""The process: what a kill leaves behind, how it stops, what it says when it cannot start."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.embedded import clickhouse as server
from tests.clickhouse_fixture import ClickHouse, start_clickhouse
from tests.waiting import wait_until

pytestmark = pytest.mark.stack

TABLES = (
    "CREATE TABLE t (id UInt64, n UInt32) ENGINE = ReplacingMergeTree ORDER BY id "
    "SETTINGS non_replicated_deduplication_window = 1000",
    "CREATE TABLE seen (id UInt64, n UInt32) ENGINE = ReplacingMergeTree ORDER BY id "
    "SETTINGS non_replicated_deduplication_window = 1000",
    "CREATE MATERIALIZED VIEW feed TO seen AS SELECT id, n FROM t",
)
ROWS = 500  # in each insert


def _insert(client: Client, batch: int) -> None:
    lines = b"".join(b'{"id": %d, "n": %d}\n' % (batch * ROWS + n, batch) for n in range(ROWS))
    client.raw_insert("t", insert_block=lines, fmt="JSONEachRow", settings={"insert_deduplication_token": f"t:{batch}"})


@contextmanager
def _client(place: ClickHouse) -> Iterator[Client]:
    with place.client(autogenerate_session_id=False) as client:
        client.command("CREATE DATABASE IF NOT EXISTS kept")
    with place.client("kept", autogenerate_session_id=False) as client:
        yield client


def test_what_was_acknowledged_survives_a_kill_and_repeats_change_nothing(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    place, child = start_clickhouse(tmp_path / "data")
    try:
        with _client(place) as client:
            for sql in TABLES:
                client.command(sql)

        def insert_for_ever() -> None:
            with _client(place) as client:
                for batch in range(10_000):
                    try:
                        _insert(client, batch)
                    except (ClickHouseError, OSError):
                        return
                    acknowledged.append(batch)

        for _ in range(2):
            acknowledged.clear()
            inserting = threading.Thread(target=insert_for_ever)
            inserting.start()
            wait_until(lambda: len(acknowledged) > 30, what="some inserts")
            child.kill()
            inserting.join(60)
            assert not inserting.is_alive()
            place, child = start_clickhouse(tmp_path / "data")
            with _client(place) as client:
                # All or nothing of each insert, and all of the acknowledged ones.
                groups = client.query("SELECT n, count() FROM t GROUP BY n ORDER BY n").result_rows
                assert {count for _, count in groups} == {ROWS}
                assert set(acknowledged) <= {batch for batch, _ in groups}
                # As the sink does after a crash: the same range with the same token, once more.
                for batch in range(max(acknowledged) + 2):
                    _insert(client, batch)
                total = (max(acknowledged) + 2) * ROWS
                assert client.query("SELECT count(), uniqExact(id) FROM t").first_row == (total, total)
                assert client.query("SELECT count(), uniqExact(id) FROM seen").first_row == (total, total)
                for sql in ("DROP TABLE feed", "DROP TABLE t SYNC", "DROP TABLE seen SYNC", *TABLES):
                    client.command(sql)
    finally:
        child.kill()


def test_a_stop_in_mid_query_is_quick_and_clean(tmp_path: Path) -> None:
    place, child = start_clickhouse(tmp_path / "data")
    failed: list[Exception] = []

    def ask() -> None:
        with _client(place) as client:
            try:
                client.query(
                    "SELECT count() AS endless FROM numbers(1900000000) WHERE NOT ignore(sipHash64(number, 1))"
                )
            except (ClickHouseError, OSError) as error:
                failed.append(error)

    try:
        asking = threading.Thread(target=ask)
        asking.start()
        running = "SELECT count() FROM system.processes WHERE query LIKE '%endless%' AND query NOT LIKE '%processes%'"
        with _client(place) as client:
            wait_until(lambda: client.query(running).first_row == (1,), what="the query")
        assert child.stop(30.0) == 0
        asking.join(30)
        assert len(failed) == 1
        assert "clickhouse_closed" in child.last_lines()
        assert not (tmp_path / "data.ready").exists()
    finally:
        child.kill()


def test_passwords_are_asked_for_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MAILRIVER_CLICKHOUSE__PASSWORD", raising=False)
    assert server.main(["--data", str(tmp_path), "--port", "1"]) == 2
    assert "set MAILRIVER_CLICKHOUSE__PASSWORD in the environment" in capsys.readouterr().err
    plan = server.ClickHousePlan(tmp_path, 1, "a", "secret-1", "b", "secret-2")
    assert "secret" not in repr(plan)
