"""Fixtures for every test. Each is defined, and explained, in the file it comes from."""

from __future__ import annotations

from tests.clickhouse_fixture import clickhouse, clickhouse_database
from tests.dkim_fixture import keys
from tests.kafka_fixture import kafka, topic_prefix

__all__ = ["clickhouse", "clickhouse_database", "kafka", "keys", "topic_prefix"]
