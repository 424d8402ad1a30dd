"""What each step of a message's way costs, in CPU microseconds: so that a regression shows where it is.

    python -m bench.steps            # a table
    python -m bench.steps --json FILE

Each step runs alone, in this process, on the fixed workload of `bench.workload`, with nothing behind it (no broker, no
socket). Kafka's client, the kernel and the interpreter's threads come on top: what they cost shows in `bench.delivery`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `python bench/steps.py` does as well

from bench.fixed import Fixed
from sinks.smtp.rsa import LANES

REPEATS = 60


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    what: str
    once: Callable[[], object]  # for one message
    count: int = 20  # messages in one measurement: some milliseconds
    counted: bool = True  # in the sum: False where another step contains it


def steps(fixed: Fixed) -> list[Step]:
    return [
        Step("decode", "a send from its JSON, checked", fixed.decode_send, counted=False),
        Step("plan", "decode, checks, ids, three events", fixed.plan),
        Step("plan.encode", "those events as records", fixed.encode_planned),
        Step("lane.decode", "the lane's command from its JSON", fixed.decode_lane),
        Step("queue", "the core, from intake to done, with its transactions", fixed.own),
        Step("route", "of a domain, from cached answers; once a connection", fixed.route, counted=False),
        Step("render", "text part, links, MIME, return path; unsigned", fixed.compose_unsigned),
        Step("render.campaign", "the same from a compiled campaign", fixed.compose_campaign, counted=False),
        Step("body_hash", "SHA-256 of the canonical body", fixed.hash_body),
        Step("sign.rsa", "headers and RSA-2048, body hash apart", fixed.sign_rsa, 5, counted=False),
        Step("sign.rsa8", "the same for eight in one go", fixed.sign_rsa_together, LANES),
        Step("sign.ed25519", "headers and Ed25519, body hash apart", fixed.sign_ed25519, counted=False),
        Step("session", "the dialogue with a peer, on no socket", fixed.session),
        Step("facts", "attempt and end, as records; to make them is in `queue`", fixed.facts),
        Step("journal", "three states as records, within `queue` too", fixed.encode_states, counted=False),
        Step("sink.row", "accepted, attempt and end as rows", fixed.rows),
    ]


def measured(repeats: int = REPEATS) -> dict[str, float]:
    """CPU microseconds for one message, by step: the least of many short measurements, since disturbance only adds.

    Short, so that some fall between two disturbances; and in turn, so that a slow minute spoils no step alone.
    """
    with fixed() as prepared, undisturbed():
        chosen = steps(prepared)
        best = dict.fromkeys((step.name for step in chosen), float("inf"))
        for _ in range(repeats):
            for step in chosen:
                best[step.name] = min(best[step.name], measure(step))
        return best


def measure(step: Step) -> float:
    """CPU microseconds for one message, measured once."""
    began = time.process_time()
    for _ in range(step.count):
        step.once()
    return (time.process_time() - began) / step.count * 1e6


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without the garbage collector, which runs when it wants."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def fixed() -> Iterator[Fixed]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield Fixed(loop)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args(arguments)
    found = measured(repeats=options.repeats)
    with fixed() as prepared:
        described = steps(prepared)
    for step in described:
        print(f"{step.name:<18}{found[step.name]:>8.1f} us  {'' if step.counted else '(not in the sum) '}{step.what}")
    total = sum(found[step.name] for step in described if step.counted)
    print(f"{'sum':<18}{total:>8.1f} us  of Python and OpenSSL for each message")
    if options.json is not None:
        options.json.write_text(json.dumps({"cpu_microseconds": found, "sum": total}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
