"""What the measurement says when something is missing: one clear line, and not half a measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import delivery, haraka
from bench.internet import Missing
from bench.peers import require


def test_submission_by_smtp_is_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert delivery.main(["--intake", "smtp"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "SMTP submission" in told[0]


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(Missing, match="no-such-mta is not installed: apt-get install its-package"):
        require([("sh", "dash"), ("no-such-mta", "its-package")])


def _npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a program of that name before all others, and the cache into the folder."""
    program = folder / "bin" / "npm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("MAILRIVER_CACHE", str(folder / "cache"))


def test_an_npm_that_cannot_fetch_is_told_in_a_line_and_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _npm(tmp_path, monkeypatch, "echo 'npm warn old' >&2; echo 'npm error network away' >&2; exit 1")
    with pytest.raises(Missing, match="npm error network away"):
        haraka.installed()
    assert not (tmp_path / "cache" / f"haraka-{haraka.VERSION}").exists()


def test_what_npm_brought_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _npm(tmp_path, monkeypatch, "mkdir -p node_modules/Haraka")
    folder = haraka.installed()
    assert json.loads((folder / "package.json").read_text())["dependencies"]["Haraka"] == haraka.VERSION
    _npm(tmp_path, monkeypatch, "exit 1")
    assert haraka.installed() == folder
