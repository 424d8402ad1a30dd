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
WAITING = "import signal; print('no broker yet', flush=True); signal.pause()"
# Upon SIGTERM: say that it comes, wait until the other one has said it too, end in order.
ENDING = """
import pathlib, signal, sys, time
told = pathlib.Path("{log}")
def end(*_):
    told.with_name("{name}.told").touch()
    while "{other}" and not told.with_name("{other}.told").exists():
        time.sleep(0.01)
    with told.open("a") as log:
        print("{name}", file=log)
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).touch()
while True:
    signal.pause()
"""
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
    supervisor.start([service(tmp_path, WAITING)])
    wait_until(lambda: "no broker yet" in (tmp_path / "worker.log").read_text(), what="its log")
    with pytest.raises(ServiceFailed, match=r"worker not ready after 0 s(.|\n)*no broker yet"):
        supervisor.wait_ready(["worker"], 0.1)


def test_a_child_that_ends_again_and_again_is_not_waited_for(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([service(tmp_path, WORKING, "good"), service(tmp_path, FAILING, "bad")])
    with pytest.raises(ServiceFailed, match=r"bad ends each time it is started(.|\n)*no such broker"):
        supervisor.wait_ready(["good", "bad"], 600)


def test_a_held_service_is_down_until_it_is_let_go(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([service(tmp_path, WORKING)])
    supervisor.wait_ready(["worker"], 20)
    first = supervisor.pid("worker")
    with supervisor.held("worker"):
        assert gone(first)
        assert not (tmp_path / "worker.ready").exists()
    supervisor.wait_ready(["worker"], 20)
    assert supervisor.pid("worker") != first


def test_services_started_together_are_stopped_together_and_before_earlier_ones(tmp_path: Path) -> None:
    """Each of two waits for the other's end: one after the other, the first would be killed after its drain time."""
    supervisor = Supervisor()
    ends = tmp_path / "ends"
    supervisor.start([service(tmp_path, ENDING.format(log=ends, name="broker", other=""), "broker")])
    pair = {"one": "two", "two": "one"}
    supervisor.start(
        [service(tmp_path, ENDING.format(log=ends, name=name, other=other), name) for name, other in pair.items()]
    )
    supervisor.wait_ready(["broker", *pair], 30)
    supervisor.stop()
    assert ends.read_text().split()[-1] == "broker"
    assert sorted(ends.read_text().split()) == ["broker", "one", "two"]


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
