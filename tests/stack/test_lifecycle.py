"""The commands that own a whole stack, as processes of their own: what they promise, and that nothing outlives them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from confluent_kafka.admin import AdminClient

from pipeline import places
from tests.waiting import wait_until

pytestmark = pytest.mark.stack

REPOSITORY = Path(__file__).parents[2]
START = 300.0  # seconds; the tests share two cores with whatever else runs
END = 120.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of these tests' own, on which one stack after the other runs."""
    return tmp_path_factory.mktemp("lifecycle")


def environment(data: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILRIVER_")}
    return kept | {"MAILRIVER_DATA": str(data), "MAILRIVER_CACHE": str(places.cache()), "COLUMNS": "200"}


def mailriver(data: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *argv]
    return subprocess.run(command, env=environment(data), cwd=REPOSITORY, capture_output=True, text=True, timeout=START)


class Command:
    """A running command, in a session of its own, as a terminal would start it."""

    def __init__(self, data: Path, *argv: str, **variables: str) -> None:
        self.output = data.with_name("output.txt")
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *argv], env=environment(data) | variables, cwd=REPOSITORY,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._seen: set[int] = set()

    def family(self) -> set[int]:
        """It and its children, ever seen; children are in groups of their own."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        self._seen |= found
        return self._seen

    def said(self) -> str:
        return self.output.read_text()

    def ended(self) -> int | None:
        return self.process.poll()

    def left(self) -> set[int]:
        """Of the processes ever seen, those that still run."""
        return {pid for pid in self._seen if alive(pid)}

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def alive(pid: int) -> bool:
    try:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    except OSError:
        return False
    return bool(state) and not state.startswith("Z")


@dataclass(frozen=True, slots=True)
class Up:
    command: Command
    endpoints: Mapping[str, Any]
    seconds: float

    def ports(self) -> dict[str, int]:
        places = {
            "kafka": self.endpoints["kafka"],
            "clickhouse": self.endpoints["clickhouse"]["url"],
            "inbound_smtp": self.endpoints["inbound_smtp"],
            "tracking": self.endpoints["tracking"],
            "mails": self.endpoints["mails"],
        }
        return {name: int(place.rpartition(":")[2].strip("/")) for name, place in places.items()}

    def assert_nothing_left(self) -> None:
        wait_until(lambda: not self.command.left(), timeout=END, what="the end of all processes")
        listening = {name for name, port in self.ports().items() if answers(port)}
        assert listening == set()


@contextmanager
def up(data: Path) -> Iterator[Up]:
    file = data.with_name("endpoints.json")
    file.unlink(missing_ok=True)
    began = time.monotonic()
    command = Command(data, "up", "--endpoints", str(file))
    try:

        def ready() -> bool:
            assert command.ended() is None, command.said()
            return "Ctrl-C ends it" in command.said()

        wait_until(ready, timeout=START, what="the stack")
        command.family()
        yield Up(command, json.loads(file.read_text()), time.monotonic() - began)
    finally:
        command.kill()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def test_up_answers_everywhere_admits_no_second_and_leaves_nothing_after_ctrl_c(data: Path) -> None:
    with up(data) as first:
        print(f"first start: {first.seconds:.1f} s")
        found = first.endpoints
        assert {"kafka", "clickhouse", "inbound_smtp", "tracking", "witness", "sample_domain"} <= set(found)
        assert data.with_name("endpoints.json").stat().st_mode & 0o077 == 0  # it holds a password

        assert AdminClient({"bootstrap.servers": found["kafka"]}).list_topics(timeout=10).topics
        reader = found["clickhouse"]
        with clickhouse_connect.get_client(
            dsn=reader["url"], username=reader["user"], password=reader["password"], database=reader["database"]
        ) as client:
            assert client.query("SELECT count() FROM v_messages").result_rows == [(0,)]
        host, port = found["inbound_smtp"].split(":")
        with socket.create_connection((host, int(port)), timeout=10) as smtp:
            assert smtp.recv(100).startswith(b"220 ")
        with urllib.request.urlopen(f"{found['mails']}/api/counts", timeout=10) as page:
            assert page.status == 200
        assert answers(first.ports()["tracking"])
        assert Path(found["witness"]).exists()

        sent = mailriver(
            data, "send", f"ann@{found['sample_domain']}", "--from", "News <news@brand.test>", "--subject", "Hello",
            "--text", "Hi", "--key", "kept",
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
        wait_until(lambda: "delivered" in mailriver(data, "message", "kept").stdout, timeout=60, what="the delivery")

        second = mailriver(data, "up")
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1] == (
            f"mailriver: mailriver already runs on {data} (process {first.command.process.pid}): "
            "end it there with Ctrl-C, or name another folder: MAILRIVER_DATA=FOLDER"
        )
        assert mailriver(data, "clean", "--yes").returncode == 1
        assert mailriver(data, "message", "kept").returncode == 0  # the second did not disturb the first

        os.killpg(first.command.process.pid, signal.SIGINT)  # as a terminal does
        assert first.command.process.wait(END) == 0, first.command.said()
        first.assert_nothing_left()

    with up(data) as again:
        print(f"second start: {again.seconds:.1f} s")
        assert again.ports() == first.ports()
        assert mailriver(data, "message", "kept").returncode == 0
        again.command.process.kill()
        again.command.process.wait(END)
        again.assert_nothing_left()


def test_ctrl_c_during_the_start_leaves_nothing(data: Path) -> None:
    """The signal goes to the process alone, as from a supervisor."""
    command = Command(data, "up")
    try:
        wait_until(lambda: len(command.family()) >= 4, timeout=START, what="the first children")
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(END) == 130, command.said()
        wait_until(lambda: not command.left(), timeout=END, what="the end of all processes")
        assert "Traceback" not in command.said()
    finally:
        command.kill()


def test_a_start_that_fails_says_why_and_leaves_nothing(data: Path) -> None:
    """A Kafka that is named takes the place of the embedded one; this one is away."""
    command = Command(data, "up", MAILRIVER_KAFKA="127.0.0.1:1")
    try:
        wait_until(lambda: command.family() and command.ended() is not None, timeout=START, what="the failure")
        assert command.ended() == 1
        assert "mailriver: Kafka at 127.0.0.1:1 does not answer" in command.said()
        assert "Traceback" not in command.said()
        assert command.left() == set()
    finally:
        command.kill()


def test_a_small_demo_ends_well_and_writes_its_numbers(data: Path) -> None:
    """On the data that a killed stack left behind."""
    file = data.with_name("demo.json")
    command = Command(data, "demo", "--recipients", "100", "--json", str(file))
    try:
        wait_until(lambda: command.family() and command.ended() is not None, timeout=2 * START, what="the demo's end")
        assert command.ended() == 0, command.said()
        assert command.left() == set()
    finally:
        command.kill()
    numbers = json.loads(file.read_text())
    assert {
        "accepted", "delivered", "bounced", "late_bounced", "suppressed", "expired", "unknown", "lost", "duplicates",
        "phantom", "seconds", "messages_per_second",
    } <= set(numbers)  # fmt: skip
    ends = ("delivered", "bounced", "suppressed", "expired", "failed", "cancelled", "unknown")
    assert numbers["accepted"] == 110 == sum(numbers[end] for end in ends)
    assert (numbers["lost"], numbers["duplicates"], numbers["phantom"]) == (0, 0, 0)
    assert numbers["seconds"] > 0
    assert numbers["messages_per_second"] > 0
    assert "agrees: 0 lost, 0 doubled, 0 phantom" in command.said()
    assert "mailriver message " in command.said()
