"""One broker for a whole test session: the embedded one, or the one that MAILRIVER_KAFKA names.

A test keeps apart from others by `topic_prefix`, for topics, groups and transactional ids alike.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from pipeline.embedded.kafka import EmbeddedKafka, KafkaPlan, prepare


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker. Mark tests that use it with `@pytest.mark.stack`."""
    if named := os.environ.get("MAILRIVER_KAFKA"):
        yield named
        return
    with EmbeddedKafka(KafkaPlan(tmp_path_factory.mktemp("kafka")), prepare(progress=False)) as broker:
        yield broker.bootstrap


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test, and no other run against the same broker, uses."""
    return f"test-{uuid.uuid4().hex[:12]}."
