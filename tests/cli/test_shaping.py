"""`mailriver shaping`: what holds for a domain, and whether rules match what they must."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode
from schemas.state import ShapingSet, SiteLearned
from tests.cli.conftest import Cli
from tests.schemas import test_shaping_file
from tests.smtp_owner.internet import internet
from tests.smtp_owner.stage import create_topics, read
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import SHAPING

RULE = test_shaping_file.RULE.lstrip()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A shaping file that the configuration names."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[provider.yahoo]\nconnections = 3\n\n[provider.here]\nmx = [".a.test"]\n\n'
        f"{RULE}\n[tenant.acme]\ndaily = 500\n\n[source.a1]\nmessage_rate = 5\n"
    )
    (tmp_path / "mailriver.toml").write_text(
        f'[sources.a1]\nipv4 = "192.0.2.1"\n[pools.default]\nsources = ["a1"]\n[delivery]\nshaping = "{path}"\n'
    )
    return path


def test_a_provider_is_shown_with_the_line_of_each_value(cli: Cli, mine: Path) -> None:
    shown = cli("shaping", "show", "yahoo", "--json").json
    ceilings = {row["ceiling"]: (row["value"], row["from"]) for row in shown["ceilings"]}
    assert ceilings["connections"] == ("3", f"{mine}:2")
    assert ceilings["messages_per_connection"][0] == "20"
    assert ceilings["connection_rate"][0] == "100/min"
    assert shown["source"].startswith("help.yahoo.com")
    rules = {row["rule"]: row for row in shown["rules"]}
    assert rules["mine"]["from"] == f"{mine}:7"
    assert rules["yahoo.complaints"]["sets off"] == "suspend the site for 2 h"
    assert "google.unusual_rate" not in rules
    assert shown["limits"] == [
        {"about": "tenant:acme", "limit": "daily", "value": "500", "from": f"{mine}:17"},
        {"about": "source:a1", "limit": "message_rate", "value": "5/s", "from": f"{mine}:20"},
    ]
    table = cli("shaping", "show", "yahoo").out
    assert f"{mine}:2" in table
    assert "messages 10/min for 30 min after 3 within 1 h" in table


def test_a_sender_is_shown_with_its_limits(cli: Cli, mine: Path) -> None:
    shown = cli("shaping", "show", "source:a1", "--json").json
    assert shown["limits"] == [{"about": "source:a1", "limit": "message_rate", "value": "5/s", "from": f"{mine}:20"}]
    assert "campaign:acme/spring has no limit of its own" in cli("shaping", "show", "campaign:acme/spring").out


def test_a_source_that_no_pool_has_is_refused_with_its_line(cli: Cli, mine: Path) -> None:
    mine.write_text("[source.a11]\ndaily = 50\n")
    shown = cli("shaping", "show", "yahoo")
    assert shown.status == 2
    assert f"{mine}:2: a11: no pool sends from a source of this name" in shown.err


def test_a_domain_is_resolved(cli: Cli, mine: Path, tmp_path: Path) -> None:
    with internet() as world:
        host, port = world.dns
        with (tmp_path / "mailriver.toml").open("a") as file:
            file.write(f'nameservers = ["{host}:{port}"]\n')
        assert cli("shaping", "show", "a.test", "--json").json["site"] == "here"
        assert cli("shaping", "show", "b.test", "--json").json["site"].startswith("mx-")


@pytest.fixture
def known(mine: Path, kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A site and three overrides that workers have told of, whose clocks are ahead of ours."""
    monkeypatch.setenv("MAILRIVER_KAFKA__BOOTSTRAP", kafka)
    monkeypatch.setenv("MAILRIVER_KAFKA__PREFIX", topic_prefix)
    cluster = Cluster(kafka, prefix=topic_prefix)
    create_topics(cluster)
    now = datetime.now(UTC)
    ahead = now + timedelta(minutes=1)
    hour: dict[str, Any] = {"occurred_at": ahead, "until": now + timedelta(hours=1), "rule": "mine"}
    with Publisher(cluster, "smtp/1") as publisher:
        publisher.publish(
            SiteLearned.from_cause("1", occurred_at=now, domain="rocketmail.com", site="yahoo", provider="yahoo")
        )
        for cause, selector in enumerate(("site:default/yahoo", "tenant:acme>google", "source:192.0.2.1")):
            publisher.publish(
                ShapingSet.from_cause(str(cause), selector=selector, action="limit_rate", value=0.5, **hour)
            )
        publisher.flush(30)
    return cluster


@pytest.mark.stack
@pytest.mark.usefixtures("known")
def test_what_workers_know_is_shown(cli: Cli) -> None:
    shown = cli("shaping", "show", "rocketmail.com", "--json").json
    assert shown["site"] == "yahoo"
    assert {row["about"]: row["value"] for row in shown["overrides"]} == {
        "site:default/yahoo": "30/min",
        "source:192.0.2.1": "30/min",
    }
    assert "overrides in force" in cli("shaping", "show", "rocketmail.com").out


@pytest.mark.stack
def test_what_is_in_force_can_be_lifted(cli: Cli, known: Cluster) -> None:
    lift = ("shaping", "lift", "tenant:acme>google", "--reason", "agreed with them")
    assert cli(*lift, "--json").json == {"selector": "tenant:acme>google", "lifted": ["limit_rate"]}
    (event,) = (event for event in shaping(known) if event.action == "lift")
    assert (event.selector, event.tenant, event.reason) == ("tenant:acme>google", "acme", "agreed with them")
    assert event.by
    again = cli(*lift)
    assert again.status == 1
    assert "no override of tenant:acme>google is in force" in again.err
    assert "site:default/yahoo, source:192.0.2.1" in again.err
    assert len(shaping(known)) == 4
    shown = cli("shaping", "show", "rocketmail.com", "--json").json
    assert len(shown["overrides"]) == 2


@pytest.mark.stack
def test_a_reason_with_an_address_is_refused(cli: Cli, known: Cluster) -> None:
    refused = cli("shaping", "lift", "site:default/yahoo", "--reason", "ask ann@example.test")
    assert refused.status == 2
    assert "reason" in refused.err
    assert len(shaping(known)) == 3


def shaping(cluster: Cluster) -> list[ShapingSet]:
    events = (decode(record.value, record.headers) for record in read(cluster, SHAPING))
    return [event for event in events if isinstance(event, ShapingSet)]


def test_shipped_rules_pass_their_trials(cli: Cli) -> None:
    tried = cli("shaping", "test", "--json")
    assert (tried.status, tried.json["failed"]) == (0, [])
    assert tried.json["replies"] > tried.json["rules"] >= 20


def test_a_rule_that_fails_is_named(cli: Cli, mine: Path) -> None:
    assert cli("shaping", "test").status == 0
    mine.write_text(RULE.replace("421 4.7.0 slow down", "421 4.7.0 hurry up"))
    tried = cli("shaping", "test", str(mine))
    assert tried.status == 1
    assert "does not match" in tried.out
    assert f"{mine}:1" in tried.out
    mine.write_text(RULE.replace("421 4.7.0 closing", "421 4.7.0 slow down please"))
    assert "matches" in cli("shaping", "test").out


def test_a_bad_file_is_refused_with_its_line(cli: Cli, mine: Path) -> None:
    mine.write_text("[default]\nconnections = 0\n")
    for command in (("show", "yahoo"), ("test",)):
        tried = cli("shaping", *command)
        assert tried.status != 0
        assert f"{mine}:2: default.connections:" in tried.err
