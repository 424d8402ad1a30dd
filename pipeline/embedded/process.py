"""Start a child process that cannot outlive us, and end it within a limit.

Decides how a child is tied to its parent, where its output goes and how it is ended. What to run, and whether to
start it again, is the caller's. Every role and every broker is started here.

The tie ("leash") is one of two:

- `KERNEL`, Linux: `prctl(PR_SET_PDEATHSIG, SIGKILL)`. The child sets it itself before it becomes the program, in a
  tiny Python of its own, because a `preexec_fn` may deadlock when the parent has threads. The kernel sends the signal
  when the *thread* that forked ends, not the process; so one daemon thread, which lives as long as we do, forks all
  children, and any thread may call `launch`.
- `WATCHER`, every Unix: a shell that reads a pipe of which only we hold the other end. However we die, the pipe closes,
  and the shell kills the child's process group.

A leash ends the group by SIGKILL: whatever runs under one must survive a crash anyhow.
"""

from __future__ import annotations

import functools
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from enum import Enum
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

_LOG_LIMIT = 8 * 1024 * 1024  # bytes; a longer log is put aside (one older file is kept) at the next launch
_KILL_LIMIT = 10.0  # seconds for the kernel to end what was sent SIGKILL

# PR_SET_PDEATHSIG is 1. The parent may have died before prctl was called: then getppid() is no longer the parent.
_BECOME = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""

# The pipe never carries a line: read returns when its last writer is gone. POSIX: only `-s` lets dash take a `--`.
_WATCH = 'read -r _; kill -s KILL -- "-$1"'


class Leash(Enum):
    """What ends a child when its parent dies."""

    KERNEL = "kernel"
    WATCHER = "watcher"


def platform_leash() -> Leash:
    """The cheaper leash that this system has."""
    return Leash.KERNEL if sys.platform == "linux" else Leash.WATCHER


class Child:
    """A running child: its own process group, output appended to one log file."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, watcher: subprocess.Popen[bytes] | None):
        self.name = name
        self.log = log
        self._process = process
        self._watcher = watcher

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._dismiss()
        return status

    def wait(self, limit: float) -> int | None:
        """Wait at most `limit` seconds for the end; None if it still runs."""
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def stop(self, limit: float) -> int:
        """Ask by SIGTERM, wait `limit` seconds, then kill the whole group. Returns the exit status."""
        self._process.terminate()
        status = self.wait(limit)
        if status is None:
            _log.warning("child_ignored_sigterm", child=self.name, pid=self.pid, waited=limit)
            return self.kill()
        return status

    def kill(self) -> int:
        """SIGKILL to the group; returns the exit status once the kernel is done with it."""
        if self._process.poll() is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
                _log.debug("child_already_gone", child=self.name, pid=self.pid)
        status = self._process.wait(_KILL_LIMIT)
        self._dismiss()
        return status

    def last_lines(self, count: int = 15) -> str:
        """The end of its log, for an error message."""
        return last_lines(self.log, count)

    def _dismiss(self) -> None:
        # The watcher goes first of all: it must not kill a group whose number may belong to somebody else one day.
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait(_KILL_LIMIT)
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
            self._watcher = None


def launch(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    leash: Leash | None = None,
) -> Child:
    """Start `argv` with stdout and stderr appended to `log`; raises OSError when there is no such program.

    `env` replaces the environment (None: ours). Its own process group keeps a terminal's Ctrl-C for us alone.
    """
    if shutil.which(argv[0], path=(env or os.environ).get("PATH")) is None:
        raise FileNotFoundError(f"{argv[0]}: no such program")
    leash = leash or platform_leash()
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_name(log.name + ".1"))
    command = list(argv)
    if leash is Leash.KERNEL:
        command = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *argv]
    with log.open("ab") as output:
        process = _from_the_lasting_thread(
            lambda: subprocess.Popen(  # noqa: S603 (what to run is the caller's decision, and no shell reads it)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                process_group=0,
            )
        )
    watcher = None
    if leash is Leash.WATCHER:
        # Its own group too: the Ctrl-C that ends us slowly must not end the watcher at once.
        watch = ["/bin/sh", "-c", _WATCH, "watcher", str(process.pid)]
        quiet = subprocess.DEVNULL
        watcher = subprocess.Popen(  # noqa: S603 (a constant command and a number)
            watch, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, process_group=0
        )
    return Child(name, process, log, watcher)


def last_lines(log: Path, count: int = 15) -> str:
    """The last `count` lines of a file (of its last 16 KiB); empty when there is no such file."""
    if not log.exists():
        return ""
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - 16_384))
        return "\n".join(source.read().decode(errors="replace").splitlines()[-count:])


_Start = Callable[[], "subprocess.Popen[bytes]"]


@functools.cache
def _orders() -> queue.SimpleQueue[tuple[_Start, Future[subprocess.Popen[bytes]]]]:
    orders: queue.SimpleQueue[tuple[_Start, Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()

    def serve() -> None:
        while True:
            start, answer = orders.get()
            try:
                answer.set_result(start())
            except Exception as error:  # not handled here: it is raised where launch was called
                answer.set_exception(error)

    threading.Thread(target=serve, name="child-launcher", daemon=True).start()
    return orders


# A forked copy of us has the queue, but not the thread.
os.register_at_fork(after_in_child=_orders.cache_clear)


def _from_the_lasting_thread(start: _Start) -> subprocess.Popen[bytes]:
    answer: Future[subprocess.Popen[bytes]] = Future()
    _orders().put((start, answer))
    return answer.result()
