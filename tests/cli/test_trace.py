"""`mailriver trace` with a real broker: it asks, shows what workers write, and takes its question back."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # exported without saying so

from pipeline import secrets
from schemas.codec import decode
from schemas.state import ControlSet
from schemas.tracing import SessionTraced
from tests.cli.conftest import Cli
from tests.smtp_owner.stage import read
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import CONTROLS, TRACES

pytestmark = pytest.mark.stack


@pytest.fixture
def cluster(kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(kafka, prefix=topic_prefix)
    client = cluster.admin("tests")
    new = [NewTopic(cluster.topic(topic), 1, 1, config=topic.config()) for topic in (CONTROLS, TRACES)]
    for future in client.create_topics(new).values():
        future.result()
    folder = tmp_path / "secrets"
    secrets.token_keys(folder)
    monkeypatch.setenv("MAILRIVER_SECRETS", str(folder))
    monkeypatch.setenv("MAILRIVER_KAFKA__BOOTSTRAP", kafka)
    monkeypatch.setenv("MAILRIVER_KAFKA__PREFIX", topic_prefix)
    return cluster


def asked(cluster: Cluster) -> list[ControlSet]:
    found = [decode(record.value, record.headers) for record in read(cluster, CONTROLS)]
    return [event for event in found if isinstance(event, ControlSet)]


def tell(publisher: Publisher, control_id: str, line: str) -> None:
    publisher.publish(
        SessionTraced.from_cause(
            line, occurred_at=datetime.now(UTC), control_id=control_id, worker="1", session_id="s-1",
            recipient_domain="a.test", lines=(line,),
        )
    )  # fmt: skip
    publisher.flush(30)


def test_a_dialogue_is_shown_as_it_comes(cli: Cli, cluster: Cluster) -> None:
    def worker() -> None:
        with Publisher(cluster, "smtp/1") as publisher:
            wait_until(lambda: asked(cluster), what="the question")
            tell(publisher, "t-other", "> for somebody else")
            tell(publisher, asked(cluster)[0].control_id, "> DATA")

    thread = threading.Thread(target=worker)
    thread.start()
    shown = cli("trace", "A.test", "--for", "8s", "--json")
    thread.join()
    assert shown.status == 0
    assert [json.loads(line)["lines"] for line in shown.out.splitlines()] == [["> DATA"]]
    assert "watching domain=a.test" in shown.err
    assert [(event.action, event.selector) for event in asked(cluster)] == [
        ("trace", {"domain": "a.test"}),
        ("untrace", {"domain": "a.test"}),
    ]


def test_a_trace_has_a_limit(cli: Cli) -> None:
    shown = cli("trace", "a.test", "--for", "2h")
    assert (shown.status, "at most an hour" in shown.err) == (2, True)
