"""The simulator as a process: ready, killed without warning, started again, stopped; and wrong options."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.simulator.__main__ import main
from pipeline.simulator.witness import Witness
from tests.simulator.conftest import NEWSLETTER, SMALL
from tests.waiting import wait_until

ELSEWHERE = ["--inbound", "127.0.0.1:9", "--tracking", "127.0.0.1:9"]


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    (folder / "internet.toml").write_text(SMALL)
    data = folder / "data"
    ready = data / "endpoints.json"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pipeline.simulator", "--data", str(data), "--seed", "5"]
    with subprocess.Popen([*command, "--internet", str(folder / "internet.toml"), *ELSEWHERE]) as process:
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None, timeout=60, what="endpoints.json")
            yield process, orjson.loads(ready.read_bytes())
        finally:
            process.kill()


def smtp(folder: Path) -> smtplib.SMTP:
    ports = orjson.loads((folder / "data" / "ports.json").read_bytes())
    return smtplib.SMTP("127.0.0.1", ports["smtp mx.plainhost.test"], local_hostname="c.test", timeout=30)


def test_what_was_answered_is_in_the_log_when_the_process_dies(tmp_path: Path) -> None:
    with running(tmp_path) as (process, first):
        answered = 0
        with smtp(tmp_path) as client:
            for n in range(20):
                client.sendmail("r@brand.test", ["ann@example.test"], NEWSLETTER.replace(b"id-1", b"id-%d" % n))
                answered += 1
            client.mail("r@brand.test")
            client.rcpt("ann@example.test")
            client.putcmd("data")
            client.getreply()
            client.send(b"Subject: half")  # in mid-message at the moment of death
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
            client.close()
        witness = Witness(Path(first["witness"]))
        assert [entry.mailriver_id for entry in witness.load()] == [f"id-{n}" for n in range(answered)]

    with running(tmp_path) as (process, second):
        assert second == first  # the same ports, the same files
        with smtp(tmp_path) as client:
            client.sendmail("r@brand.test", ["ann@example.test"], NEWSLETTER.replace(b"id-1", b"id-last"))
        assert [(entry.seq, entry.mailriver_id) for entry in witness.load()[answered:]] == [(answered + 1, "id-last")]
        assert witness.raw(witness.entries[0]) == NEWSLETTER.replace(b"id-1", b"id-0")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--inbound", "192.0.2.1:25", "--tracking", "127.0.0.1:9"], "talks to this machine only"),
        (["--inbound", "127.0.0.1:9", "--tracking", "track.brand.test:80"], "the host must be an IP address"),
        (["--inbound", "127.0.0.1", "--tracking", "127.0.0.1:9"], "--inbound '127.0.0.1': must be HOST:PORT"),
        ([*ELSEWHERE, "--internet", "no-such.toml"], "no-such.toml: cannot be read"),
    ],
)
def test_a_wrong_option_is_told_before_anything_starts(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path / "data"), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
