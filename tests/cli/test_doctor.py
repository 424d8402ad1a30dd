"""`mailriver doctor`, against a name server on a loopback socket, and a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Zone

IP = "93.184.215.14"
SOURCE = f'[sources.a]\nipv4 = "{IP}"\nehlo_name = "mta1.brand.test"\n[pools.default]\nsources = ["a"]\n'


@pytest.fixture
def ready(cli: Cli, zone: Zone, tmp_path: Path) -> Zone:
    """A domain of which DNS says all that it should."""
    with (tmp_path / "mailriver.toml").open("a") as file:
        file.write(SOURCE)
    assert cli("dkim", "generate", "brand.test", "--activate").status == 0
    zone.update({row["name"]: [row["value"]] for row in cli("dkim", "dns", "brand.test", "--json").json})
    zone |= {
        "14.215.184.93.in-addr.arpa PTR": ["mta1.brand.test."],
        "mta1.brand.test A": [IP],
        "b.brand.test": [f"v=spf1 ip4:{IP} -all"],
        "_dmarc.brand.test": ["v=DMARC1; p=reject; rua=mailto:dmarc@brand.test"],
        "b.brand.test MX": ["10 mta1.brand.test."],
        "brand.test MX": ["10 mta1.brand.test."],
        "_smtp._tls.b.brand.test": ["v=TLSRPTv1; rua=mailto:tls@brand.test"],
        "t.brand.test A": [IP],
    }
    return zone


def test_a_domain_that_is_ready(cli: Cli, ready: Zone) -> None:
    shown = cli("doctor", "brand.test", "--json")
    assert shown.status == 0
    assert {row["check"] for row in shown.json if row["level"] == "ok"} == {
        "source", "spf", "dkim", "dmarc", "mx", "tls-rpt", "tracking",
    }  # fmt: skip
    assert {row["check"] for row in shown.json if row["level"] != "ok"} == {"kafka", "delivery"}


def test_what_is_wrong_is_said_and_is_the_exit_code(cli: Cli, ready: Zone) -> None:
    ready["b.brand.test"] = ["v=spf1 ip4:192.0.2.1 -all"]
    ready["14.215.184.93.in-addr.arpa PTR"] = [r"\027[2Jx.test."]
    shown = cli("doctor", "brand.test")
    assert shown.status == 1
    assert f"add ip4:{IP} to its record" in shown.out
    assert "does not lead back to it" in shown.out
    assert "\x1b" not in shown.out


def test_a_name_server_that_is_away_is_no_verdict(cli: Cli, ready: Zone) -> None:
    ready["away"] = []
    rows = cli("doctor", "brand.test", "--json").json
    assert {row["level"] for row in rows} == {"warning"}


def test_a_domain_of_nobody(cli: Cli, zone: Zone) -> None:
    shown = cli("doctor", "else.test")
    assert shown.status == 2
    assert "no tenant has 'else.test' among its sending_domains" in shown.err


@pytest.mark.stack
def test_the_broker_is_asked_for_its_session_timeouts(
    cli: Cli, ready: Zone, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILRIVER_KAFKA__BOOTSTRAP", kafka)
    rows = [row for row in cli("doctor", "brand.test", "--json").json if row["check"] == "kafka"]
    assert {row["level"] for row in rows} == {"ok"}
    assert any("group.consumer.min.session.timeout.ms is 3000" in row["said"] for row in rows)
