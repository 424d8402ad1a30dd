"""How the rate changes with workers, sites, the size of bodies, and deferrals: each point on a fresh stack.

Each run is the second of its kind: its domains are known by then, and the design's first compilation is over.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import run, workload
from bench.internet import PLAIN, Behaviour, Internet, internet
from bench.parts import Running, Signing, Size, running
from pipeline.supervisor import Supervisor

Row = dict[str, float]
_READY_S = 120.0
_RETRY_SCALE = 0.01  # of the wait after a deferral: 3 s instead of 5 min


@dataclass(frozen=True, slots=True)
class Stack:
    parts: Running
    world: Internet

    def deliver(self, addresses: Sequence[str], body: int = workload.BODY_BYTES) -> run.Outcome:
        return run.deliver(self.parts, self.world, "scale", addresses, body=body)

    def warm(self, addresses: Sequence[str], body: int = workload.BODY_BYTES) -> run.Outcome:
        """The second of two runs."""
        self.deliver(addresses, body)
        return self.deliver(addresses, body)


@contextmanager
def stack(
    behaviour: Behaviour = PLAIN,
    sites: int = workload.SITES,
    size: Size = Size(),  # noqa: B008 (frozen)
) -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="mailriver-scale-") as scratch,
        internet(Path(scratch) / "internet", behaviour, sites) as world,
        running(Path(scratch) / "mailriver", world, Signing.RSA, size) as parts,
    ):
        yield Stack(parts, world)


def workers(counts: Sequence[int], messages: int) -> Iterator[Row]:
    for count in counts:
        with stack(size=Size(workers=count)) as started:
            yield {"workers": count} | row(started.warm([*workload.recipients(messages)]))


def joins(counts: Sequence[int], messages: int) -> Iterator[Row]:
    """All workers staying, then all but the first leaving cleanly and joining again, one after the other."""
    for count in counts:
        with stack(size=Size(workers=count)) as started:
            people = [*workload.recipients(messages)]
            still = started.warm(people)
            with ThreadPoolExecutor(1) as pool:
                over = threading.Event()
                names = [f"smtp-{number}" for number in range(2, count + 1)]
                changing = pool.submit(_come_and_go, started.parts.supervisor, names, over)
                outcome = started.deliver(people)
                over.set()
                changes = changing.result()
            staying = {"workers": count, "messages_per_second_staying": round(still.rate, 1)}
            yield staying | {"left_and_joined": changes} | row(outcome)


def _come_and_go(supervisor: Supervisor, names: Sequence[str], over: threading.Event) -> int:
    changes = 0
    while not over.is_set():
        name = names[changes % len(names)]
        with supervisor.held(name):
            changes += 1
        supervisor.wait_ready([name], _READY_S)
    return changes


def sites(counts: Sequence[int], messages: int) -> Iterator[Row]:
    for count in counts:
        with stack(sites=count) as started:
            yield {"sites": count} | row(started.warm([*workload.recipients(messages, sites=count)]))


def bodies(kilobytes: Sequence[int], messages: int) -> Iterator[Row]:
    with stack() as started:
        for each in kilobytes:
            yield {"kilobytes": each} | row(started.warm([*workload.recipients(messages)], each * 1024))


def deferrals(percents: Sequence[int], messages: int) -> Iterator[Row]:
    """All are delivered in the end; the wait before the second attempt is shortened, and part of the time."""
    for percent in percents:
        # A sink of ours at 0 too, so that the points differ in the deferrals alone.
        behaviour = Behaviour(delay=1e-6, defer=percent / 100)
        with stack(behaviour, size=Size(retry_scale=_RETRY_SCALE)) as started:
            started.deliver([f"first@{domain}" for domain in workload.domains()])
            yield {"percent": percent} | row(started.deliver([*workload.recipients(messages)]))


def row(outcome: run.Outcome) -> Row:
    return {
        "messages": outcome.messages,
        "delivered_once": float(outcome.each_once),
        "messages_per_second": round(outcome.rate, 1),
        "cpu_seconds_per_1000": round(outcome.cpu_per_1000, 3),
        "idle_share": round(outcome.idle, 3),
    }
