"""mailriver.example.toml shows every setting, its default where it has one, and nothing else."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline import settings
from pipeline.settings import Settings
from schemas.envelope import Stream
from schemas.tenant import StreamPolicy, Tenant

EXAMPLE = Path(__file__).parents[2] / "mailriver.example.toml"
SWITCHED_OFF = re.compile(r"^#(?=[a-z0-9_]+ = |\[)", re.MULTILINE)
# Text that stands for names which the operator chooses.
CHOSEN: dict[tuple[str, ...], str] = {
    ("tenants",): "default",
    ("tenants", "default", "streams"): "transactional",
    ("pools",): "default",
    ("sources",): "mta1",
    ("routes",): "partner",
}

WHOLE = {"window"}  # a table that is one value

Path_ = tuple[str, ...]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(settings.PREFIX):
            monkeypatch.delenv(name)


def everything_on() -> str:
    return SWITCHED_OFF.sub("", EXAMPLE.read_text())


def declared(model: type[BaseModel], at: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every setting's path and default (or PydanticUndefined)."""
    for name, field in model.model_fields.items():
        path = (*at, name)
        below = field.annotation
        if get_origin(below) is dict:
            path, below = (*path, CHOSEN[path]), get_args(below)[1]
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from declared(below, path)
        else:
            yield path, field.default


def shown(table: dict[str, Any], at: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    for name, value in table.items():
        path = (*at, name)
        if isinstance(value, dict) and name not in WHOLE:
            yield from shown(value, path)
        else:
            yield path, value


def test_every_setting_is_shown() -> None:
    example = {path for path, _ in shown(tomllib.loads(everything_on()))}
    assert example == {path for path, _ in declared(Settings)}


def test_what_is_switched_off_can_be_switched_on(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(everything_on())
    policy = settings.load(path).tenants["default"].streams[Stream.TRANSACTIONAL]
    assert policy.window is not None
    assert policy.model_copy(update={"window": None}) == StreamPolicy()


def test_as_it_is_it_names_a_tenant_and_changes_nothing() -> None:
    loaded = settings.load(EXAMPLE)
    assert loaded == Settings(tenants=loaded.tenants)
    assert loaded.tenants == {
        "default": Tenant(
            sending_domains=("brand.example",),
            return_path_domain="bounces.brand.example",
            tracking_url="https://click.brand.example",
        )
    }


def test_defaults_are_shown_as_they_are() -> None:
    """Where there is none, the line is an example."""
    example = dict(shown(tomllib.loads(everything_on())))
    for path, default in declared(Settings):
        if default not in (PydanticUndefined, None, ""):
            expected = list(default) if isinstance(default, tuple) else default
            assert example[path] == expected, ".".join(path)


def test_prose_is_told_from_settings_by_its_space() -> None:
    for line in EXAMPLE.read_text().splitlines():
        assert not line.startswith("#") or line == "#" or line.startswith("# ") or SWITCHED_OFF.match(line), line
