"""Packages of mail servers exclude each other. So `.ci/run` unpacks them into a folder, and here they run as if they
were installed: over /usr and /etc/passwd of a mount namespace that is theirs alone.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from shlex import quote

import pytest

ROOT = Path(__file__).parents[2] / ".peers"
FIRST_ID = 61_000  # of users that are there for them only


def require(name: str, program: str, folder: Path, users: tuple[str, ...]) -> None:
    """Skips the test where the server cannot be run; `folder` gets what `command` needs."""
    if not (ROOT / program.lstrip("/")).exists():
        pytest.skip(f"{name} is not unpacked: .ci/run does that, on Debian")
    for what in ("passwd", "group"):
        lines = Path(f"/etc/{what}").read_text()
        for number, user in enumerate(users, FIRST_ID):
            rest = f"{number}::/nonexistent:/usr/sbin/nologin" if what == "passwd" else ""
            lines += f"{user}:x:{number}:{rest}\n"
        (folder / what).write_text(lines)
    tried = subprocess.run(command(folder, ["true"]), capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"{name} cannot be given a mount namespace of its own here: {tried.stderr.strip()}")
    missing = subprocess.run(command(folder, ["ldd", program]), capture_output=True, text=True, check=True).stdout
    if "not found" in missing:
        pytest.skip(f"{name} lacks a library: {missing.strip()}")


def command(folder: Path, argv: list[str], *prepare: str) -> list[str]:
    """What runs `argv` there, after the shell commands of `prepare`."""
    mounts = [
        *(f"mount -t overlay overlay -o lowerdir={quote(str(ROOT / each))}:/{each} /{each}" for each in ("usr", "etc")),
        *(f"mount --bind {quote(str(folder / what))} /etc/{what}" for what in ("passwd", "group")),
    ]
    script = " && ".join((*mounts, *prepare, 'exec "$@"'))
    return ["unshare", "--mount", "sh", "-c", script, "sh", *argv]
