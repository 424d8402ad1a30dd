"""`mailriver clean` removes what is mailriver's, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.embedded.claim import claimed
from tests.cli.conftest import Cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "kafka" / "broker-0").mkdir(parents=True)
    (folder / "kafka" / "broker-0" / "log").write_bytes(b"x" * 2_000_000)
    (folder / "stack.toml").write_text("")
    jars = tmp_path / "cache" / "kafka-9" / "jars"
    jars.mkdir(parents=True)
    (jars / "a.jar").write_bytes(b"x")
    return folder


def test_all_is_listed_and_removed(cli: Cli, data: Path, tmp_path: Path) -> None:
    shown = cli("clean", "--yes")
    assert shown.status == 0
    assert f"2.0 MB  {data / 'kafka'}" in shown.out
    assert str(tmp_path / "cache" / "kafka-9") in shown.out
    assert not data.exists()
    assert not (tmp_path / "cache").exists()


def test_a_stranger_in_the_folder_is_kept(cli: Cli, data: Path) -> None:
    (data / "thesis.tex").write_text("years of work")
    assert "thesis.tex is not mailriver's" in cli("clean", "--yes").out
    assert [path.name for path in data.iterdir()] == ["thesis.tex"]


def test_nothing_is_removed_without_a_yes(cli: Cli, data: Path) -> None:
    assert cli("clean").status == 1  # no terminal to ask: no
    assert (data / "kafka" / "broker-0" / "log").exists()


def test_a_running_stack_is_left_alone(cli: Cli, data: Path) -> None:
    with claimed(data):
        shown = cli("clean", "--yes")
    assert shown.status == 1
    assert f"mailriver already runs on {data}" in shown.err
    assert (data / "stack.toml").exists()


def test_a_link_is_removed_and_not_what_it_points_to(cli: Cli, data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (data / "logs").symlink_to(elsewhere)
    assert cli("clean", "--yes").status == 0
    assert (elsewhere / "kept").exists()


def test_an_empty_home_has_nothing_to_remove(cli: Cli) -> None:
    assert cli("clean", "--yes").out == "nothing to remove\n"
