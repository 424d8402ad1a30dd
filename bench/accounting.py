"""What processes cost: CPU seconds and memory of each, read from /proc (Linux), and how idle the machine was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """A moment of the whole machine, in ticks."""

    idle: int
    all: int

    @classmethod
    def now(cls) -> Machine:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return cls(fields[3] + fields[4], sum(fields))

    def idle_share(self, later: Machine) -> float:
        return (later.idle - self.idle) / max(1, later.all - self.all)


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """User and system time of a process; with `children` also of its ended and reaped ones. 0 when it is gone."""
    try:
        # The name may hold spaces and brackets: what is counted begins after the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11 : 15 if children else 13]) / _TICK


def pss_mib(pid: int) -> float:
    """Proportional set size: memory shared with others counts in part."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        return 0.0
    return 0.0


def family(pid: int) -> list[int]:
    """The process and all that it has started, and they: the queue owner composes in processes of its own."""
    found = [pid]
    for each in found:
        for listing in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                found += map(int, listing.read_text().split())
    return found


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: sum(map(cpu_seconds, family(pid))) for name, pid in pids.items()}


def memory_of(pids: Mapping[str, int]) -> dict[str, float]:
    """MiB."""
    return {name: sum(map(pss_mib, family(pid))) for name, pid in pids.items()}


def written(pid: int) -> int:
    """Bytes that a process had the kernel write to a disk, page cache included. 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0


def log_bytes(folder: Path) -> dict[str, int]:
    """Bytes of records in a broker's log folder, by topic."""
    sizes: dict[str, int] = {}
    for segment in folder.glob("*/*.log"):
        topic = segment.parent.name.rpartition("-")[0]
        with contextlib.suppress(OSError):  # deleted meanwhile
            sizes[topic] = sizes.get(topic, 0) + segment.stat().st_size
    return sizes


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}


def load() -> float:
    """Processes that want to run, over the last minute: above the number of cores, wall time says little."""
    return os.getloadavg()[0]
