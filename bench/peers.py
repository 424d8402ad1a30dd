"""What peers have in common: `smtp-source` feeds them over 20 connections, and the same sink counts what they deliver.

Both peers hold each message in a queue file, synced before their 250: more than our one broker does.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import workload
from bench.internet import Internet, Missing
from pipeline.embedded.ports import is_free
from pipeline.embedded.process import Child

PROMISE = "acknowledged means synced to a queue file of this machine's disk: survives a power cut"
_CONNECTIONS = 20
_LOOK_S = 0.05
_LIMIT_S = 300.0
_START_S = 20.0


@dataclass(frozen=True, slots=True)
class PeerOutcome:
    messages: int
    received: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.received / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        return self.cpu / self.messages * 1000


class Peer(Protocol):
    def run(self, messages: int) -> PeerOutcome:
        """Give it so many messages, and wait until the sink has them."""
        ...


def fed(folder: Path, port: int, messages: int, world: Internet, cpu: Callable[[], float]) -> PeerOutcome:
    """`cpu`: seconds that the peer has used, of all its processes."""
    workload.main(folder)
    before, received, began = cpu(), world.received(), time.monotonic()
    sender, recipient = f"news@{workload.SENDING_DOMAIN}", f"person@{workload.domain(1, 1)}"
    source = [find("smtp-source"), "-d", "-s", str(_CONNECTIONS), "-m", str(messages), "-f", sender, "-t", recipient]
    source += ["-F", str(folder / "mail.eml"), f"127.0.0.1:{port}"]
    try:
        subprocess.run(source, check=True, capture_output=True, timeout=_LIMIT_S)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        raise Missing(f"a peer does not take its mail; its log is in {folder}") from None
    while (now := world.received() - received) < messages and time.monotonic() - began < _LIMIT_S:
        time.sleep(_LOOK_S)
    return PeerOutcome(messages, now, time.monotonic() - began, cpu() - before)


def require(needed: Iterable[tuple[str, str]]) -> None:
    """Programs, each with the Debian package that has it. Raises Missing."""
    for program, package in needed:
        if _path(program) is None:
            raise Missing(f"{program} is not installed: apt-get install {package}")


def find(program: str) -> str:
    return _path(program) or program


def wait_listening(port: int, child: Child) -> None:
    deadline = time.monotonic() + _START_S
    while is_free(port):
        if time.monotonic() > deadline or child.poll() is not None:
            raise Missing(f"{child.name} does not start: {child.last_lines()}")
        time.sleep(_LOOK_S)


def _path(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
