"""`mailriver queue` with a real broker and ClickHouse: what it counts, and the controls that it writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # exported without saying so

from pipeline import secrets, wiring
from pipeline.settings import from_environment
from schemas.codec import decode
from schemas.signing import is_genuine
from schemas.state import ControlSet
from sinks.clickhouse.migrate import let_read, migrate
from tests.cli.conftest import Cli
from tests.clickhouse_fixture import ClickHouse
from tests.smtp_owner.stage import read
from topics.kafka import Cluster
from topics.registry import CONTROLS

pytestmark = pytest.mark.stack


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installation's secrets."""
    folder = tmp_path / "secrets"
    secrets.token_keys(folder)
    monkeypatch.setenv("MAILRIVER_SECRETS", str(folder))
    return folder


@pytest.fixture
def cluster(kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(kafka, prefix=topic_prefix)
    new = NewTopic(cluster.topic(CONTROLS), 1, 1, config=CONTROLS.config())
    client = cluster.admin("tests")
    for future in client.create_topics([new]).values():
        future.result()
    monkeypatch.setenv("MAILRIVER_KAFKA__BOOTSTRAP", kafka)
    monkeypatch.setenv("MAILRIVER_KAFKA__PREFIX", topic_prefix)
    monkeypatch.setenv("MAILRIVER_POOLS", '["default", "other"]')
    return cluster


@pytest.fixture
def history(clickhouse: ClickHouse, clickhouse_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three messages: two of google, one of them deferred, and one that has ended."""
    with clickhouse.client() as client:
        migrate(client, clickhouse_database)
        let_read(client, clickhouse_database, clickhouse.reader, clickhouse.reader_password)
    common = "1, now64(6) - INTERVAL 1 HOUR, 'default', 'marketing', 'spring', 'example.test', 'google', 'default'"
    columns = (
        "event_id, type, schema_version, occurred_at, tenant, stream, campaign_id, recipient_domain, provider, pool"
    )
    with clickhouse.client(clickhouse_database) as client:
        for name in ("m1", "m2", "m3"):
            client.command(
                f"INSERT INTO messages ({columns}, message_id) VALUES "
                f"(generateUUIDv4(), 'message.accepted', {common}, '{name}')"
            )
        client.command(
            f"INSERT INTO messages ({columns}, message_id) VALUES "
            f"(generateUUIDv4(), 'message.delivered', {common}, 'm3')"
        )
        client.command(
            f"INSERT INTO attempts ({columns}, message_id, attempt, site) VALUES "
            f"(generateUUIDv4(), 'attempt.deferred', {common.replace('1 HOUR', '1 MINUTE')}, 'm2', 1, 'google')"
        )
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__URL", clickhouse.url)
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__DATABASE", clickhouse_database)
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__READER", clickhouse.reader)
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__READER_PASSWORD", clickhouse.reader_password)


@pytest.fixture
def no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__URL", "http://127.0.0.1:9")


def written(cluster: Cluster) -> list[ControlSet]:
    found = [decode(record.value, record.headers) for record in read(cluster, CONTROLS)]
    return [event for event in found if isinstance(event, ControlSet)]


def ids(cli: Cli) -> list[Any]:
    return [(each["action"], each["selector"]) for each in cli("queue", "controls", "--json").json]


@pytest.mark.usefixtures("keys", "no_history")
def test_a_suspension_is_signed_listed_and_taken_back(cli: Cli, cluster: Cluster) -> None:
    shown = cli(
        "queue", "suspend", "--provider", "Google", "--stream", "marketing", "--reason", "reputation", "--for", "2h"
    )
    assert shown.status == 0
    assert "suspend provider=google stream=marketing until" in shown.out
    assert "ClickHouse at http://127.0.0.1:9 does not answer" in shown.out, "no count, and yet it is set"
    assert "in effect on every worker within 2 s" in shown.out
    event = written(cluster)[0]
    assert is_genuine(event, wiring.keyring(from_environment()))
    assert (event.reason, event.selector) == ("reputation", {"provider": "google", "stream": "marketing"})
    assert event.until is not None
    assert abs(event.until - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    assert ids(cli) == [("suspend", "provider=google stream=marketing")]
    assert cli("queue", "resume", "--provider", "google", "--reason", "better").status == 1, "another selection"
    assert (
        cli("queue", "resume", "--provider", "google", "--stream", "marketing", "--reason", "x", "--dry-run").status
        == 0
    )
    assert ids(cli) == [("suspend", "provider=google stream=marketing")]
    assert cli("queue", "resume", "--provider", "google", "--stream", "marketing", "--reason", "better").status == 0
    assert ids(cli) == []
    assert [each.action for each in written(cluster)] == ["suspend", "resume"]


@pytest.mark.usefixtures("keys", "history")
def test_a_purge_counts_asks_and_is_taken_back_by_its_id(cli: Cli, cluster: Cluster) -> None:
    dry = cli("queue", "purge", "--campaign", "spring", "--reason", "wrong link", "--dry-run", "--json").json
    assert (dry["messages"], dry["id"]) == (2, None)
    assert not written(cluster)
    done = cli("queue", "purge", "--campaign", "spring", "--reason", "wrong link", "--json").json
    event = written(cluster)[0]
    assert event.selector.keys() == {"campaign", "accepted_before"}
    assert event.until is not None
    assert cli("queue", "resume", done["id"], "--reason", "it was right").status == 0
    assert [each.action for each in written(cluster)] == ["purge", "unpurge"]


@pytest.mark.usefixtures("keys", "no_history")
def test_a_purge_that_cannot_be_counted_is_not_made_without_a_word(cli: Cli, cluster: Cluster) -> None:
    asked = cli("queue", "purge", "--all", "--reason", "panic")
    assert (asked.status, written(cluster)) == (1, [])
    assert "--yes" in asked.err
    assert cli("queue", "purge", "--all", "--reason", "panic", "--yes").status == 0
    assert [each.action for each in written(cluster)] == ["purge"]


@pytest.mark.usefixtures("keys", "history")
def test_a_move_names_a_configured_pool(cli: Cli, cluster: Cluster) -> None:
    wrong = cli("queue", "move", "--pool", "default", "--to", "mars", "--reason", "x")
    assert (wrong.status, "known: default, other" in wrong.err) == (2, True)
    assert cli("queue", "move", "--pool", "default", "--to", "other", "--reason", "blocked").status == 0
    event = written(cluster)[0]
    assert (event.action, event.arguments) == ("move", {"pool": "other"})


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILRIVER_SOURCES", '{"a": {"ipv4": "192.0.2.1"}, "b": {"ipv4": "192.0.2.2"}}')
    monkeypatch.setenv("MAILRIVER_POOLS", '{"default": {"sources": ["a", "b"]}, "other": {"sources": ["b"]}}')


@pytest.mark.usefixtures("keys", "history", "cluster", "sources")
def test_what_waits_is_of_each_source_of_its_pool(cli: Cli, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("queue", "list", "--source", "a", "--by", "pool", "--json").json[0]["waiting"] == 2
    assert cli("queue", "list", "--source", "a", "--pool", "other", "--json").json == []
    wrong = cli("queue", "list", "--source", "c")
    assert (wrong.status, "no pool sends from c" in wrong.err) == (2, True)
    mixed = cli("queue", "suspend", "--source", "a", "--tenant", "default", "--reason", "x")
    assert (mixed.status, "suspended as a whole" in mixed.err) == (2, True)
    assert cli("queue", "suspend", "--source", "a", "--site", "google", "--reason", "listed").status == 0
    assert cli("queue", "purge", "--source", "b", "--reason", "x", "--json").json["messages"] == 2
    assert ids(cli)[1] == ("suspend", "site=google source=a")
    assert cli("queue", "resume", "--source", "a", "--site", "google", "--reason", "delisted").status == 0
    assert [(each.action, each.selector.get("source")) for each in written(cluster)] == [
        ("suspend", "a"), ("purge", "b"), ("resume", "a"),
    ]  # fmt: skip
    monkeypatch.setenv("MAILRIVER_POOLS", '{"default": {"sources": ["b"]}}')
    assert cli("queue", "list", "--source", "a").status == 2


@pytest.mark.usefixtures("history")
def test_what_waits_is_counted_by_what_is_named(cli: Cli) -> None:
    listed = cli("queue", "list", "--by", "provider", "--by", "campaign", "--json").json
    assert [(row["provider"], row["campaign"], row["waiting"], row["untried"], row["deferred"]) for row in listed] == [
        ("google", "spring", 2, 1, 1)
    ]
    assert listed[0]["oldest_s"] >= 3_600
    assert cli("queue", "list", "--provider", "yahoo", "--json").json == []
    assert cli("queue", "list", "--older-than", "2h", "--json").json == []
    assert len(cli("queue", "list", "--older-than", "30m", "--json").json) == 1
    assert "newest attempt is" in cli("queue", "list").out


@pytest.mark.usefixtures("history")
def test_the_fullest_queues_with_what_happened_to_them(cli: Cli) -> None:
    row = cli("queue", "top", "--json").json[0]
    assert (row["provider"], row["pool"], row["waiting"], row["attempts_5m"], row["deferral_rate"]) == (
        "google", "default", 2, 1, 1.0,
    )  # fmt: skip
    assert "google" in cli("queue", "top", "--once", "--by", "campaign", "--by", "provider").out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("suspend", "--reason", "x"), "no term"),
        (("suspend", "--provider", "google"), "--reason"),
        (("suspend", "--all", "--pool", "a", "--reason", "x"), "all stands alone"),
        (("suspend", "--pool", "a", "--reason", "x", "--for", "long"), "'long' is not a span"),
        (("suspend", "--pool", "a", "--reason", "x", "--for", "0m"), "more than nothing"),
        (("suspend", "--pool", "a", "--reason", "x", "--for", "1h", "--until", "2030-01-01"), "--for and --until"),
        (("suspend", "--pool", "a", "--reason", "x", "--until", "2020-01-01"), "a time to come"),
        (("suspend", "--pool", "a", "--reason", "for ann@example.test"), "reason: "),
        (("list", "--by", "moon"), "--by 'moon': one of provider"),
        (("resume", "--reason", "x"), "name either"),
    ],
)
@pytest.mark.usefixtures("history")
def test_what_cannot_be_meant_is_refused(cli: Cli, argv: tuple[str, ...], said: str) -> None:
    shown = cli("queue", *argv)
    assert shown.status == 2
    assert said in shown.err


@pytest.mark.usefixtures("cluster", "no_history")
def test_without_the_keys_of_the_installation_nothing_is_set(cli: Cli) -> None:
    shown = cli("queue", "suspend", "--all", "--reason", "x")
    assert shown.status == 1
    assert "controls are signed with the installation's" in shown.err
