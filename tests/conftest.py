"""Fixtures for every test. Each is defined, and explained, in the file it comes from."""

from __future__ import annotations

from tests.kafka_fixture import kafka, topic_prefix

__all__ = ["kafka", "topic_prefix"]
