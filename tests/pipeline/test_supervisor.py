"""Children are restarted when they end, and none is left when the supervisor stops."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.embedded.process import Child, launch
from pipeline.supervisor import FIRST_PAUSE, Service, ServiceFailed, Supervisor
from tests.waiting import wait_until

WORKING = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
FAILING = "import sys; print('no such broker'); sys.exit(3)"


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    supervisor.stop()


def service(folder: Path, program: str, name: str = "worker") -> Service:
    ready = folder / f"{name}.ready"

    def start() -> Child:
        return launch(name, [sys.executable, "-c", program, str(ready)], log=folder / f"{name}.log")

    return Service(name, start, ready, drain=5.0)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_killed_child_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([service(tmp_path, WORKING)])
    supervisor.wait_ready(["worker"], 20)
    first = supervisor.pid("worker")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervisor.restarts()["worker"] == 1, what="the restart")
    supervisor.wait_ready(["worker"], 20)
    assert supervisor.pid("worker") != first


def test_stop_leaves_no_child(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([service(tmp_path, WORKING, "one"), service(tmp_path, WORKING, "two")])
    supervisor.wait_ready(["one", "two"], 20)
    pids = [supervisor.pid("one"), supervisor.pid("two")]
    supervisor.stop()
    assert all(gone(pid) for pid in pids)
    assert supervisor.restarts() == {"one": 0, "two": 0}


def test_a_child_that_never_works_is_reported_with_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([service(tmp_path, FAILING)])
    with pytest.raises(ServiceFailed, match=r"worker not ready after 2 s(.|\n)*no such broker"):
        supervisor.wait_ready(["worker"], 2)


def test_the_pause_grows_with_each_failure(tmp_path: Path) -> None:
    now = 0.0
    supervisor = Supervisor(clock=lambda: now)

    def restarted(times: int) -> bool:
        return supervisor.restarts()["worker"] == times

    supervisor.start([service(tmp_path, FAILING)])
    try:
        for pause, restarts in ((FIRST_PAUSE, 1), (2 * FIRST_PAUSE, 2)):
            wait_until(lambda: supervisor.down(), what="the end to be noticed")
            now += pause + 0.01
            wait_until(partial(restarted, restarts), what=f"restart {restarts}")
    finally:
        supervisor.stop()
