"""The Dockerfile, as far as it can be checked without an engine: what it copies is there, and the lock covers it."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from fnmatch import fnmatch

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.compose.model import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCK = (ROOT / "requirements.lock").read_text()


def copied() -> list[str]:
    """The sources of every COPY from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def given_to_the_engine(path: str) -> bool:
    """The last matching line of .dockerignore decides; `!` takes back."""
    given = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch(path, pattern):
            given = line.startswith("!")
    return given


def runtime() -> set[str]:
    """Every distribution that the image needs: mailriver's dependencies, and theirs."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in declared()]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        texts = importlib.metadata.requires(name) or []
        for wanted in ("", *requirement.extras):
            waiting += [(Requirement(text), wanted) for text in texts if name not in found or wanted]
        found.add(name)
    return found


def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dependencies: list[str] = project["dependencies"]
    return dependencies


def test_what_is_copied_exists_and_reaches_the_engine() -> None:
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert given_to_the_engine(source), source


def test_what_may_be_secret_does_not_reach_the_engine() -> None:
    for path in (".env", "mailriver.toml", ".git", ".venv", "tests"):
        assert not given_to_the_engine(path), path


def test_all_five_packages_are_in_the_image() -> None:
    assert {"schemas", "topics", "processors", "sinks", "pipeline"} <= set(copied())


def test_everything_that_is_installed_has_hashes_in_the_lock() -> None:
    """uv verifies the hashes of constraints, but takes without complaint what the lock does not name."""
    hashed = re.findall(r"^([\w.-]+)==\S+ .*\\\n    --hash=sha256:", LOCK, re.MULTILINE)
    locked = {canonicalize_name(name) for name in hashed}
    assert "aiohttp" in runtime()
    assert "multidict" in runtime()  # comes in by aiohttp
    assert runtime() - locked == set()


def test_the_lock_is_given_to_every_install_of_dependencies() -> None:
    installs = re.findall(r"uv pip install [^\n]+", DOCKERFILE)
    assert len(installs) == 2
    assert all("-c requirements.lock" in line or "--no-deps ." in line for line in installs)


def test_it_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["2525"]
    assert "--uid 2525" in DOCKERFILE
