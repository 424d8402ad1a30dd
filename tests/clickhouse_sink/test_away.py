"""A real sink while its ClickHouse dies and comes back."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sinks.clickhouse.core import table_of
from sinks.clickhouse.writer import ClickHouseSinkConfig, run
from tests.clickhouse_fixture import start_clickhouse
from tests.clickhouse_sink.history import Story, by_topic, numbered
from tests.waiting import wait_until
from topics import admin
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import BY_NAME

pytestmark = pytest.mark.stack


def test_the_sink_waits_for_clickhouse_and_goes_on(
    kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.clickhouse_fixture.secrets.token_hex", lambda _size: "the-same-after-a-restart")
    cluster = Cluster(kafka, topic_prefix)
    admin.apply(cluster, admin.Profile.EMBEDDED)
    server, child = start_clickhouse(tmp_path / "data")
    config = ClickHouseSinkConfig(
        cluster, server.url, server.user, server.password, "mail", server.reader, server.reader_password
    )
    stop, ready = threading.Event(), threading.Event()
    sink = threading.Thread(target=run, args=(config, stop, ready.set))
    sink.start()
    try:
        wanted: dict[str, int] = {}
        with Publisher(cluster, "test") as publisher:

            def publish(seed: int) -> None:
                records = numbered(Story(datetime.now(UTC) - timedelta(hours=3), seed=seed).campaign(40).events)
                for one in records:
                    publisher.send(BY_NAME[one.topic], one.key, one.value, [(n, v or b"") for n, v in one.headers])
                for topic, found in by_topic(records).items():
                    wanted[table_of(topic)] = wanted.get(table_of(topic), 0) + len(found)
                publisher.flush()

            def counts() -> dict[str, int]:
                client = server.client("mail")
                union = " UNION ALL ".join(f"SELECT '{table}', count() FROM {table}" for table in wanted)
                found = {str(table): int(rows) for table, rows in client.query(union).result_rows}
                client.close()
                return found

            publish(1)
            assert ready.wait(60)
            wait_until(lambda: counts() == wanted, timeout=60, what="the first facts")
            child.kill()
            publish(2)
            server, child = start_clickhouse(tmp_path / "data", server.port)
            wait_until(lambda: counts() == wanted, timeout=60, what="what came while it was away, once")
    finally:
        stop.set()
        sink.join(60)
        child.stop(20.0)
    assert not sink.is_alive()
