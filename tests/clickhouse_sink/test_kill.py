"""kill -9 of a real sink between each pair of its steps, with a real broker and a real ClickHouse."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from sinks.clickhouse.core import READ, table_of
from tests.clickhouse_sink.conftest import Database
from tests.clickhouse_sink.history import Story, numbered
from tests.clickhouse_sink.test_writer import STEPS
from topics import admin
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import BY_NAME

pytestmark = pytest.mark.stack
ROOT = Path(__file__).parent.parent.parent


def test_a_sink_killed_at_every_step_writes_each_record_once(
    kafka: str, topic_prefix: str, database: Database, tmp_path: Path
) -> None:
    """Counted in the tables as they are, not FINAL: what is doubled there, ClickHouse has let through."""
    cluster = Cluster(kafka, topic_prefix, "classic")
    admin.apply(cluster, admin.Profile.EMBEDDED)
    server = database.server
    config = tmp_path / "sink.json"
    told = {"bootstrap": kafka, "prefix": topic_prefix, "url": server.url, "user": server.user}
    told |= {"password": server.password, "database": database.name}
    config.write_bytes(orjson.dumps(told | {"reader": server.reader, "reader_password": server.reader_password}))
    for topic in READ:  # merging would fold what is doubled
        database.client.command(
            f"ALTER TABLE {table_of(topic.name)} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1"
        )
    written = 0
    bad = b"not a fact"
    with Publisher(cluster, "test") as publisher:
        for seed, step in enumerate([*STEPS, ""]):
            # More comes before each life; one record of it is bad, and one reads well only as JSON.
            for one in numbered(Story(datetime.now(UTC) - timedelta(hours=3), seed=seed).campaign(30).events):
                publisher.send(BY_NAME[one.topic], one.key, one.value, [(n, v or b"") for n, v in one.headers])
                written += 1
            publisher.send(BY_NAME["mail.messages"], b"k", bad)
            spoilt = b'{"type":"attempt.bounced","event_id":"x","occurred_at":"2026-11-01T00:00:00Z"}'
            publisher.send(BY_NAME["mail.attempts"], b"k", spoilt)
            publisher.flush()
            child = [sys.executable, "-m", "tests.clickhouse_sink.child", str(config), step]
            ended = subprocess.run(
                child, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
            )
            assert ended.returncode == (-signal.SIGKILL if step else 0), ended.stdout.decode()
    assert config.with_suffix(".idle").exists()
    tables = [table_of(topic.name) for topic in READ]
    union = " UNION ALL ".join(
        f"SELECT '{table}' AS t, kafka_partition AS p, kafka_offset AS o FROM {table}" for table in tables
    )
    assert database.rows(f"SELECT t, p, o, count() AS n FROM ({union}) GROUP BY ALL HAVING n > 1") == []
    letters = database.rows(
        "SELECT topic, count() FROM v_deadletters WHERE group = 'clickhouse' GROUP BY topic ORDER BY topic"
    )
    assert letters == [("mail.attempts", 7), ("mail.messages", 7)]
    ours = "SELECT 'deadletters', kafka_partition, kafka_offset FROM deadletters WHERE group = 'clickhouse'"
    assert database.rows(f"SELECT count() FROM ({union}) WHERE (t, p, o) NOT IN ({ours})") == [(written,)]
