"""The part of the Compose specification that docker-compose.kafka.yml uses, as a model that refuses everything else.

`load` reads as `docker compose` does: anchors and merges resolved, variables put in, a key written twice refused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.kafka.yml"
SECRETS = {
    "MAILRIVER_CLICKHOUSE__PASSWORD": "the-writers-password",
    "MAILRIVER_CLICKHOUSE__READER_PASSWORD": "the-readers-password",
}

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}|(?P<odd>.?))")

Duration = Annotated[str, Field(pattern=r"^(\d+(ms|s|m|h))+$")]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$")]


class Missing(Exception):
    """A variable that the file insists on is not set."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Healthcheck(_Strict):
    test: list[str] = []
    interval: Duration = "30s"
    timeout: Duration = "30s"
    retries: int = 3
    start_period: Duration = "0s"
    disable: bool = False


class DependsOn(_Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class BindOptions(_Strict):
    create_host_path: bool = True


class Mount(_Strict):
    type: Literal["bind", "volume"]
    source: str
    target: Annotated[str, Field(pattern=r"^/")]
    read_only: bool = False
    bind: BindOptions = BindOptions()


def _mount(value: Any) -> Any:
    """The short form, SOURCE:TARGET[:ro]: a source that begins with . or / is a path, another one a volume."""
    if not isinstance(value, str):
        return value
    source, target, *mode = value.split(":")
    if mode not in ([], ["ro"]):
        raise ValueError(f"{value}: a mode that is not known")
    kind = "bind" if source.startswith((".", "/")) else "volume"
    return {"type": kind, "source": source, "target": target, "read_only": mode == ["ro"]}


class Port(_Strict):
    host: str
    published: int
    target: int


def _port(value: Any) -> Any:
    """HOST:PUBLISHED:TARGET. Without a host a port is open on every address of the machine: not in this file."""
    matched = re.fullmatch(r"([\d.]+):(\d+):(\d+)", str(value))
    if not matched:
        raise ValueError(f"{value}: a port is published as ADDRESS:PORT:PORT")
    return {"host": matched[1], "published": int(matched[2]), "target": int(matched[3])}


class Service(_Strict):
    image: str
    build: str | None = None
    command: list[str] = []
    container_name: Name | None = None
    restart: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    networks: list[Name]
    ports: list[Annotated[Port, BeforeValidator(_port)]] = []
    environment: dict[str, str] = {}
    volumes: list[Annotated[Mount, BeforeValidator(_mount)]] = []
    depends_on: dict[Name, DependsOn] = {}
    healthcheck: Healthcheck | None = None
    stop_grace_period: Duration = "10s"
    init: bool = False
    read_only: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []
    tmpfs: list[str] = []
    ulimits: dict[str, dict[Literal["soft", "hard"], int]] = {}


class Empty(_Strict):
    """A network or a volume with nothing said about it."""


class Compose(_Strict):
    name: Name
    services: dict[Name, Service]
    networks: dict[Name, Empty]
    volumes: dict[Name, Empty]


class _Loader(yaml.SafeLoader):
    """PyYAML lets a second key win in silence; compose refuses it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        written = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if len(written) != len(set(written)) and not getattr(node, "merged", False):
            raise yaml.constructor.ConstructorError(None, None, "a key is written twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        node.merged = True  # type: ignore[attr-defined]  # its keys hold those of the merged mapping from now on


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """${NAME}, ${NAME:-default} and ${NAME:?complaint}; $$ is a dollar."""

    def value(found: re.Match[str]) -> str:
        if found["odd"] is not None:
            raise ValueError(f"a lone $ in {text!r}")
        if found["name"] is None:
            return "$"
        given = variables.get(found["name"], "")
        match found["kind"]:
            case _ if given:
                return given
            case "-":
                return found["rest"]
            case "?":
                raise Missing(f"{found['name']}: {found['rest']}")
        return ""

    return _VARIABLE.sub(value, text)


def variables_of(tree: Any) -> set[str]:
    match tree:
        case str():
            return {found["name"] for found in _VARIABLE.finditer(tree) if found["name"]}
        case dict():
            return set().union(*(variables_of(value) for value in tree.values()))
        case list():
            return set().union(*(variables_of(value) for value in tree))
    return set()


def parse(text: str) -> dict[str, Any]:
    """The file as written, merges resolved; the anchors' own sections (x-…) left out."""
    tree: dict[str, Any] = yaml.load(text, _Loader)  # a SafeLoader
    return {name: value for name, value in tree.items() if not name.startswith("x-")}


def load(variables: Mapping[str, str], text: str | None = None) -> Compose:
    tree = parse(FILE.read_text() if text is None else text)
    return Compose.model_validate(_interpolated(tree, variables))


def _interpolated(tree: Any, variables: Mapping[str, str]) -> Any:
    match tree:
        case str():
            return interpolate(tree, variables)
        case dict():
            return {name: _interpolated(value, variables) for name, value in tree.items()}
        case list():
            return [_interpolated(value, variables) for value in tree]
    return tree
