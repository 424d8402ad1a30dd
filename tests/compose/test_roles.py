"""Every role of the code is a service, and every service of ours is a real command with settings that the code has."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pipeline import settings, wiring
from pipeline.cli import app_for
from pipeline.roles import ROLES
from pipeline.settings import Settings
from tests.compose.model import ROOT, Compose, Service

IMAGE = (ROOT / "Dockerfile").read_text()


def ours(compose: Compose) -> dict[str, Service]:
    return {name: service for name, service in compose.services.items() if service.image.startswith("mailriver:")}


def parsed(command: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and parameters, as the program itself reads them; nothing is run."""
    current: Any = typer.main.get_command(app_for(command))
    rest = list(command)
    context = current.make_context("mailriver", rest)
    name: list[str] = []
    while hasattr(current, "resolve_command"):  # a group; none of ours has options of its own here
        word, current, rest = current.resolve_command(context, rest)
        context = current.make_context(word, rest, parent=context)
        name.append(word)
    return " ".join(name), context.params


def roles(compose: Compose) -> dict[str, Service]:
    """Service by the role that it runs."""
    found = {}
    for service in ours(compose).values():
        name, parameters = parsed(service.command)
        if name == "run":
            (role,) = parameters["roles"]
            found[role] = service
    return found


def loaded(service: Service, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the process in the container reads; the operator's file is still the example."""
    for name in os.environ:
        if name.startswith(settings.PREFIX):
            monkeypatch.delenv(name)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    return settings.load(ROOT / "mailriver.example.toml")


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def test_each_role_is_a_service(compose: Compose) -> None:
    assert set(roles(compose)) == set(ROLES)
    assert len(ours(compose)) == len(ROLES) + 1  # and the one that makes the topics


def test_a_command_that_is_none_is_noticed() -> None:
    for wrong in (["run", "plan", "--redy-file", "/tmp/ready"], ["rum", "plan"], ["topics", "aply"]):
        with pytest.raises(Exception, match="No such"):
            parsed(wrong)


def test_topics_are_made_once_with_the_partitions_of_production(compose: Compose) -> None:
    service = compose.services["topics"]
    name, parameters = parsed(service.command)
    assert (name, parameters["profile"]) == ("topics apply", "production")
    # The number of copies is taken from the brokers that are there: all three must be.
    assert {awaited for awaited, how in service.depends_on.items() if how.condition == "service_healthy"} >= {
        "kafka-0", "kafka-1", "kafka-2",
    }  # fmt: skip


def test_a_role_is_healthy_when_it_says_that_it_is_ready(compose: Compose) -> None:
    for service in roles(compose).values():
        _, parameters = parsed(service.command)
        ready: Path = parameters["ready_file"]
        assert service.healthcheck is not None
        assert service.healthcheck.test == ["CMD", "test", "-e", str(ready)]
        # Gone when the container starts again, and the one folder where a process may write.
        assert service.tmpfs == [str(ready.parent)]
        assert service.read_only


def test_a_role_has_time_to_drain(compose: Compose) -> None:
    for name, service in roles(compose).items():
        assert seconds(service.stop_grace_period) >= ROLES[name].drain + 5
        assert service.init  # a signal reaches Python although it is not the first process


def test_a_role_has_no_right_that_it_does_not_need(compose: Compose) -> None:
    for service in ours(compose).values():
        assert service.cap_drop == ["ALL"]
        assert service.security_opt == ["no-new-privileges:true"]


def test_every_variable_is_a_setting(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ours(compose).values():
        loaded(service, monkeypatch)  # raises on a name that is none
        assert all(name.startswith("MAILRIVER_") for name in service.environment)


def test_addresses_are_those_of_the_services(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ours(compose).values():
        for broker in loaded(service, monkeypatch).kafka.bootstrap.split(","):
            listeners = compose.services[broker.partition(":")[0]].environment["KAFKA_ADVERTISED_LISTENERS"]
            assert listeners == f"PLAINTEXT://{broker}"
    written = loaded(roles(compose)["clickhouse"], monkeypatch).clickhouse
    database = compose.services["clickhouse"]
    assert written.url == "http://clickhouse:8123"
    assert ":8123/" in str(database.healthcheck)
    assert written.user == database.environment["CLICKHOUSE_USER"]
    assert written.password is not None
    assert written.password.get_secret_value() == database.environment["CLICKHOUSE_PASSWORD"]


@pytest.mark.parametrize("role", ["inbound", "tracking"])
def test_a_published_port_is_the_one_that_is_listened_on(
    compose: Compose, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = roles(compose)[role]
    listen: str = getattr(loaded(service, monkeypatch), role).listen
    host, port = wiring.host_port(listen)
    assert host == "0.0.0.0"
    assert [published.target for published in service.ports] == [port]
    assert port >= 1024  # without rights, a lower one could not be opened


def test_nobody_has_a_password_that_he_does_not_use(compose: Compose) -> None:
    knowing = {
        variable: {name for name, service in compose.services.items() if value in service.environment.values()}
        for variable, value in (("writer", "the-writers-password"), ("reader", "the-readers-password"))
    }
    assert knowing == {"writer": {"clickhouse", "clickhouse-sink"}, "reader": {"clickhouse-sink", "grafana"}}


def test_configuration_and_secrets_are_where_the_process_looks(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in ours(compose).values():
        targets = {mount.source: mount.target for mount in service.volumes}
        folder = str(loaded(service, monkeypatch).secrets_folder)
        assert targets == {"./mailriver.toml": service.environment["MAILRIVER_CONFIG"], "secrets": folder}
        # A new volume takes owner and mode from the image.
        assert re.search(rf"install -d -o mailriver -m 700 [^\n]*{folder}\b", IMAGE)


def test_a_worker_cannot_be_doubled_under_one_instance_name(compose: Compose) -> None:
    worker = roles(compose)["smtp"]
    assert worker.container_name  # compose refuses to scale it
    assert worker.environment["MAILRIVER_INSTANCE"] in worker.container_name


def test_grafana_asks_our_clickhouse_as_the_reader(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    grafana = compose.services["grafana"]
    folder = ROOT / "sinks/grafana/provisioning"
    text = (folder / "datasources/clickhouse.yaml").read_text()
    for name, value in grafana.environment.items():
        text = re.sub(rf"\$\{{?{name}\b\}}?", value, text)
    (source,) = yaml.safe_load(text)["datasources"]
    settings = loaded(roles(compose)["clickhouse"], monkeypatch).clickhouse
    told = source["jsonData"]
    assert f"{told['protocol']}://{told['host']}:{told['port']}" == settings.url
    assert (told["defaultDatabase"], told["username"]) == (settings.database, settings.reader)
    assert settings.reader_password is not None
    assert source["secureJsonData"]["password"] == settings.reader_password.get_secret_value()
    assert grafana.environment["GF_PLUGINS_PREINSTALL"].startswith(f"{source['type']}@")


def test_grafana_finds_its_files(compose: Compose) -> None:
    targets = {mount.source: mount.target for mount in compose.services["grafana"].volumes}
    assert targets["./sinks/grafana/provisioning"] == "/etc/grafana/provisioning"
    provider = yaml.safe_load((ROOT / "sinks/grafana/provisioning/dashboards/mailriver.yaml").read_text())
    assert [each["options"]["path"] for each in provider["providers"]] == [targets["./sinks/grafana/dashboards"]]


def test_grafana_has_no_administrator_with_a_known_password(compose: Compose) -> None:
    environment = compose.services["grafana"].environment
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert all(port.host == "127.0.0.1" for port in compose.services["grafana"].ports)
