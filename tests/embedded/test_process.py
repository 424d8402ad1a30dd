"""Children: no child outlives its parent, a stop ends within its limit, output goes to a log of limited size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.embedded.process import Child, Leash, last_lines, launch, platform_leash
from tests.embedded.processes import alive
from tests.waiting import wait_until

LEASHES = [Leash.WATCHER] + ([Leash.KERNEL] if sys.platform == "linux" else [])

SLEEPER = ["sh", "-c", "echo up; exec sleep 600"]  # says when it runs: the parent may die before that, or after

PARENT = """
import sys, threading
from pathlib import Path
from pipeline.embedded.process import Leash, launch
child = launch("sleeper", sys.argv[3:], log=Path(sys.argv[1]), leash=Leash(sys.argv[2]))
print(child.pid, flush=True)
threading.Event().wait()
"""

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
FAMILY = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"


@pytest.mark.parametrize("leash", LEASHES)
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("up", [True, False])
def test_a_child_dies_with_its_parent(tmp_path: Path, leash: Leash, death: signal.Signals, up: bool) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", PARENT, str(log), leash.value, *SLEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if up:
            wait_until(lambda: "up" in last_lines(log), what="the child")
            assert alive(child)
        parent.send_signal(death)
        parent.wait(10)
    wait_until(lambda: not alive(child), timeout=10, what="the child's end")


def test_a_child_survives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    # The kernel counts the death of the thread that forked as the parent's death.
    children: list[Child] = []
    go = threading.Event()

    def ask() -> None:
        children.append(launch("sleeper", SLEEPER, log=tmp_path / "log", leash=platform_leash()))
        go.wait()

    asker = threading.Thread(target=ask)
    asker.start()
    wait_until(lambda: "up" in last_lines(tmp_path / "log"), what="the child")
    go.set()
    asker.join()
    try:
        assert children[0].wait(0.3) is None
    finally:
        children[0].kill()


@pytest.mark.parametrize("leash", LEASHES)
def test_stop_asks_first_then_kills(tmp_path: Path, leash: Leash) -> None:
    polite = launch("polite", ["sleep", "600"], log=tmp_path / "polite", leash=leash)
    assert polite.stop(10) == -signal.SIGTERM
    assert polite.poll() == -signal.SIGTERM

    deaf = launch("deaf", [sys.executable, "-c", DEAF], log=tmp_path / "deaf", leash=leash)
    wait_until(lambda: "deaf" in deaf.last_lines(), what="the handler")
    assert deaf.stop(0.1) == -signal.SIGKILL


@pytest.mark.parametrize("leash", LEASHES)
def test_kill_ends_the_whole_group(tmp_path: Path, leash: Leash) -> None:
    child = launch("family", [sys.executable, "-c", FAMILY], log=tmp_path / "log", leash=leash)
    grandchild = int(wait_until(lambda: child.last_lines(), what="the grandchild's number"))
    child.kill()
    wait_until(lambda: not alive(grandchild), what="the grandchild's end")


def test_a_child_is_out_of_reach_of_the_terminals_ctrl_c(tmp_path: Path) -> None:
    child = launch("sleeper", ["sleep", "600"], log=tmp_path / "log")
    try:
        assert os.getpgid(child.pid) == child.pid
    finally:
        child.kill()


def test_output_is_appended_and_a_long_log_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "echo.log"
    for word in ("one", "two"):
        assert launch("echo", ["echo", word], log=log).wait(10) == 0
    assert last_lines(log) == "one\ntwo"
    assert last_lines(log, 1) == "two"

    with log.open("ab") as file:
        file.truncate(9 * 1024 * 1024)
    assert launch("echo", ["echo", "three"], log=log).wait(10) == 0
    assert last_lines(log) == "three"
    assert (tmp_path / "logs" / "echo.log.1").stat().st_size == 9 * 1024 * 1024


def test_the_environment_given_is_the_whole_environment(tmp_path: Path) -> None:
    child = launch("env", ["env"], log=tmp_path / "log", env={"PATH": os.environ["PATH"], "ONLY": "this"})
    assert child.wait(10) == 0
    names = {line.split("=")[0] for line in child.last_lines(100).splitlines()}
    assert names - {"PATH", "ONLY", "LC_CTYPE"} == set()  # Python's own start may add the last


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        launch("nothing", ["no-such-program"], log=tmp_path / "log")
    assert last_lines(tmp_path / "log") == ""
