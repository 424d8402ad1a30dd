"""docker-compose.kafka.yml by itself: what it names exists, what waits has something to wait for, nothing is secret."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import chdb
import pytest
import yaml
from pydantic import ValidationError

from pipeline import settings
from pipeline.embedded.kafka_lock import read_lock
from tests.compose.model import FILE, ROOT, SECRETS, Compose, Missing, load, parse, variables_of

OWN = ROOT / "mailriver.toml"  # the operator's copy of the example


def test_the_model_refuses_what_it_does_not_know() -> None:
    text = FILE.read_text()
    for wrong in (
        text.replace("restart: unless-stopped", "restrt: unless-stopped"),
        text.replace("  grafana: {}\n", "  grafana: {driver: local}\n"),
        text.replace("127.0.0.1:3000:3000", "3000:3000"),
    ):
        assert wrong != text
        with pytest.raises(ValidationError):
            load(SECRETS, wrong)
    with pytest.raises(yaml.YAMLError, match="written twice"):
        load(SECRETS, text + "networks: {}\n")


def test_merged_settings_reach_the_services(compose: Compose) -> None:
    for name in ("kafka-0", "kafka-1", "kafka-2"):
        environment = compose.services[name].environment
        assert environment["KAFKA_MIN_INSYNC_REPLICAS"] == "2"
        assert environment["KAFKA_NODE_ID"] == name[-1]
        assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"


def test_what_a_service_waits_for_can_come(compose: Compose) -> None:
    for service in compose.services.values():
        for name, wanted in service.depends_on.items():
            awaited = compose.services[name]
            match wanted.condition:
                case "service_healthy":
                    assert awaited.healthcheck is not None
                    assert awaited.healthcheck.test
                case "service_completed_successfully":
                    # One that is always started again never completes.
                    assert awaited.restart in ("no", "on-failure")


def test_nobody_waits_in_a_circle(compose: Compose) -> None:
    def before(name: str, path: tuple[str, ...] = ()) -> Iterator[str]:
        assert name not in path, path
        for awaited in compose.services[name].depends_on:
            yield awaited
            yield from before(awaited, (*path, name))

    assert {"kafka-0", "kafka-1", "kafka-2", "topics"} <= set(before("smtp"))


def test_volumes_and_networks_are_declared_and_used(compose: Compose) -> None:
    mounts = [mount for service in compose.services.values() for mount in service.volumes]
    assert {mount.source for mount in mounts if mount.type == "volume"} == set(compose.volumes)
    assert {name for service in compose.services.values() for name in service.networks} == set(compose.networks)
    for name in ("kafka-0", "kafka-1", "kafka-2"):  # no two brokers share a folder
        assert [mount.source for mount in compose.services[name].volumes] == [name]


def test_files_from_the_repository_exist_and_are_mounted_read_only(compose: Compose) -> None:
    for service in compose.services.values():
        for mount in service.volumes:
            if mount.type == "bind":
                assert mount.read_only
                path = (ROOT / mount.source).resolve()
                if path == OWN:
                    assert not mount.bind.create_host_path
                    path = OWN.with_name("mailriver.example.toml")
                assert path.exists(), mount.source


def test_images_are_pinned_to_what_the_embedded_stack_runs(compose: Compose) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = {service.image for service in compose.services.values()}
    tags = dict(image.rsplit(":", 1) for image in images)
    assert tags["apache/kafka"] == read_lock().version
    assert chdb.engine_version.startswith(f"{tags['clickhouse/clickhouse-server']}.")
    assert tags["mailriver"] == project["version"]
    assert all(re.fullmatch(r"\d+\.\d+(\.\d+)?", tag) for tag in tags.values())
    assert len(images) == 4


def test_our_image_is_the_one_that_is_built(compose: Compose) -> None:
    for service in compose.services.values():
        assert (service.build == ".") == (service.image.startswith("mailriver:"))


def test_no_secret_is_in_the_file() -> None:
    for name, service in parse(FILE.read_text())["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY", variable):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name}: {variable}"
        assert "PASSWORD" not in str(service.get("command", "")) + str(service.get("healthcheck", ""))


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_missing_password_stops_it(name: str) -> None:
    given = {other: value for other, value in SECRETS.items() if other != name}
    with pytest.raises(Missing, match=name):
        load(given)


def test_variables_are_explained_at_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    head = FILE.read_text().partition("\nname: ")[0]
    used = variables_of(parse(FILE.read_text()))
    assert used == {"INBOUND_PUBLISH", "TRACKING_PUBLISH", *SECRETS}
    for name in used:
        assert re.search(rf"^#   {name} ", head, re.MULTILINE), name
    # Exported in the shell they must not stop a `mailriver` that is started from there.
    for name in used:
        monkeypatch.setenv(name, "0.0.0.0:25")
    settings.load(ROOT / "mailriver.example.toml")


def test_only_this_host_is_served_until_the_operator_says_otherwise(compose: Compose) -> None:
    def published(seen: Compose) -> dict[str, str]:
        ports = ((name, port) for name, service in seen.services.items() for port in service.ports)
        return {name: f"{port.host}:{port.published}" for name, port in ports}

    assert published(compose) == {
        "grafana": "127.0.0.1:3000", "inbound": "127.0.0.1:2525", "tracking": "127.0.0.1:8080",
    }  # fmt: skip
    opened = load({**SECRETS, "INBOUND_PUBLISH": "0.0.0.0:25", "TRACKING_PUBLISH": "10.0.0.5:80"})
    assert published(opened) == {
        "grafana": "127.0.0.1:3000", "inbound": "0.0.0.0:25", "tracking": "10.0.0.5:80",
    }  # fmt: skip
