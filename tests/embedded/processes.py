"""What several tests of child processes ask of the system."""

from __future__ import annotations

import subprocess


def alive(pid: int) -> bool:
    """False once it ended, even if nobody has collected its exit status yet."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return status.stdout.strip() != "" and not status.stdout.strip().startswith("Z")
