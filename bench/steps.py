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

REPEATS = 5


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    what: str
    once: Callable[[], object]  # for one message
    count: int = 300  # messages in one measurement
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
        Step("body_hash", "canonical body and its SHA-256", fixed.hash_body),
        Step("sign.rsa", "headers and RSA-2048, body hash apart", fixed.sign_rsa, 100),
        Step("sign.ed25519", "headers and Ed25519, body hash apart", fixed.sign_ed25519, counted=False),
        Step("session", "the dialogue with a peer, on no socket", fixed.session),
        Step("facts", "attempt and end, as records", fixed.facts),
        Step("journal", "three states as records, within `queue` too", fixed.encode_states, counted=False),
        Step("sink.row", "accepted, attempt and end as rows", fixed.rows),
    ]


def measure(step: Step, repeats: int = REPEATS) -> float:
    """CPU microseconds for one message: the least of `repeats`, since disturbance only ever adds."""
    return min(_once(step) for _ in range(repeats))


def measured(names: Sequence[str] = (), repeats: int = REPEATS) -> dict[str, float]:
    """By name. Repeats go round all steps, so that a slow minute of the machine spoils no step alone."""
    with fixed() as prepared:
        chosen = [step for step in steps(prepared) if not names or step.name in names]
        best = dict.fromkeys((step.name for step in chosen), float("inf"))
        for _ in range(repeats):
            for step in chosen:
                best[step.name] = min(best[step.name], _once(step))
        return best


@contextmanager
def fixed() -> Iterator[Fixed]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield Fixed(loop)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _once(step: Step) -> float:
    step.once()
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        for _ in range(step.count):
            step.once()
        return (time.process_time() - began) / step.count * 1e6
    finally:
        gc.enable()


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
