"""Call a command in this process, in an empty folder, with nothing of the developer's environment."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import structlog

from pipeline.cli import main
from pipeline.dkim_records import strings


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MAILRIVER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MAILRIVER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MAILRIVER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody answers a question


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    def call(*argv: str) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(argv)
        structlog.reset_defaults()  # it logged to what `capfd` takes away
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Outcome(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Cli:
    """A process of its own, for commands that take over logging and signals."""

    def call(*argv: str) -> Outcome:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        ended = subprocess.run(
            [sys.executable, "-m", "pipeline", *argv],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Traceback" not in ended.stderr
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    return call


Zone = dict[str, list[str]]
"""TXT records by name; others by `NAME KIND`."""

CONFIGURATION = """
[delivery]
nameservers = ["127.0.0.1:{port}"]
[tenants.default]
sending_domains = ["brand.test", "shared.test"]
return_path_domain = "b.brand.test"
tracking_url = "https://t.brand.test"
[tenants.other]
sending_domains = ["shared.test"]
return_path_domain = "b.shared.test"
tracking_url = "https://t.shared.test"
"""


@pytest.fixture
def zone(tmp_path: Path) -> Iterator[Zone]:
    records: Zone = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=_serve, args=(listening, records))
        thread.start()
        (tmp_path / "mailriver.toml").write_text(CONFIGURATION.format(port=listening.getsockname()[1]))
        yield records
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"stop", listening.getsockname())
        thread.join()


def _serve(listening: socket.socket, records: Zone) -> None:
    while (received := listening.recvfrom(4096))[0] != b"stop":
        query = dns.message.from_wire(received[0])
        name = query.question[0].name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        reply = dns.message.make_response(query)
        if "away" in records:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif f"{name} {kind}" in records:
            reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *records[f"{name} {kind}"]))
        elif name in records and kind == "TXT":
            texts = [" ".join(f'"{text}"' for text in strings(value)) for value in records[name]]
            reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "TXT", *texts))
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        listening.sendto(reply.to_wire(), received[1])
