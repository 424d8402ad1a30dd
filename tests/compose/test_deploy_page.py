"""docs/deploy.md: its configuration is one that is taken, its second worker is one that can run beside the first."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from pipeline import settings, wiring
from tests.compose.model import FILE, ROOT, Compose, parse, variables_of
from topics.kafka import Security

PAGE = (ROOT / "docs/deploy.md").read_text()


def block(language: str, of: str = "") -> str:
    """The only one of its language that begins with `of`."""
    (text,) = re.findall(rf"^```{language}\n({re.escape(of)}.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def test_its_kafka_settings_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("MAILRIVER_KAFKA", "MAILRIVER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "mailriver.toml"
    path.write_text(block("toml", "[kafka]"))
    security = wiring.cluster(settings.load(path)).security
    assert isinstance(security, Security)
    assert security.tls
    assert security.sasl_mechanism == tomllib.loads(block("toml", "[kafka]"))["kafka"]["sasl_mechanism"]


def test_its_sources_and_pools_are_taken(tmp_path: Any) -> None:
    path = tmp_path / "mailriver.toml"
    tenant = 'sending_domains = ["a.example"]\nreturn_path_domain = "b.a.example"\ntracking_url = "https://a.example"\n'
    path.write_text(block("toml", "[sources.mta1]") + "[tenants.default]\n" + tenant)
    pools = wiring.pools(settings.load(path))
    assert [source.name for source in pools["default"].sources] == ["mta1", "mta2"]


def test_its_routes_are_taken(tmp_path: Any) -> None:
    password, path = tmp_path / "password", tmp_path / "mailriver.toml"
    password.write_text("s3cret\n")
    password.chmod(0o600)
    path.write_text(block("toml", "[routes.partner]").replace("/etc/mailriver/relay-password", str(password)))
    relays = wiring.relays(settings.load(path))
    partner, bulk = relays.of("partner.test", "default"), relays.of("a.example", "default")
    assert partner is not None
    assert bulk is not None
    assert (partner.name, bulk.name) == ("partner", "bulk")


def test_its_second_worker_differs_from_the_first_where_it_must(compose: Compose) -> None:
    ((name, worker),) = yaml.safe_load(block("yaml"))["services"].items()
    first = compose.services[worker["extends"]["service"]]
    assert worker["extends"]["file"] == FILE.name
    assert name not in compose.services
    assert worker["container_name"] != first.container_name
    assert worker["environment"].keys() == {"MAILRIVER_INSTANCE"}
    assert worker["environment"]["MAILRIVER_INSTANCE"] != first.environment["MAILRIVER_INSTANCE"]


def test_what_it_names_exists(compose: Compose) -> None:
    assert set(re.findall(r"\b\w+_PUBLISH\b", PAGE)) <= variables_of(parse(FILE.read_text()))
    commands = r"^ *docker compose.*(?:exec|restart|--entrypoint python) ([a-z][\w-]*)"
    for service in re.findall(commands, PAGE, re.MULTILINE):
        assert service in compose.services
    for volume in re.findall(rf"{compose.name}_(\w+):/", PAGE):
        assert volume in compose.volumes
    assert f"{compose.name}_river" in PAGE
    assert "river" in compose.networks
