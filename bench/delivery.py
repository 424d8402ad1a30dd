"""Measure the whole send path on this machine: broker, every role, ClickHouse, and a fast SMTP sink to take the mail.

    python -m bench.delivery --messages 5000 --runs 3 --json figures.json
    python -m bench.delivery --peer postfix     # beside Postfix with opendkim, and Postfix unsigned

A run at full speed gives messages per second and CPU; a run at half of that rate gives the time from acceptance to 250.
Prints minimum, median and maximum. Exits 1 when a message did not arrive exactly once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `python bench/delivery.py` does as well

from bench import accounting, peers, run, workload
from bench.internet import Internet, Missing, internet
from bench.parts import Running, Signing, running

_WARM_UP = 300
_LATENCY_S = 8.0  # of a run at half load
_PROMISE = "acknowledged means in the log of one broker, in page cache: survives any process, not a power cut"


@dataclass(slots=True)
class Figures:
    full: list[run.Outcome] = field(default_factory=list)
    half: list[run.Outcome] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    peers: dict[str, list[peers.PeerOutcome]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signing = Signing.NONE if options.unsigned else Signing.ED25519 if options.ed25519 else Signing.RSA
    try:
        with (
            tempfile.TemporaryDirectory(prefix="mailriver-bench-") as scratch,
            internet(Path(scratch) / "internet") as world,
        ):
            found = _measure(Path(scratch), world, signing, options)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    report = _report(found)
    _print(found, report)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if report["each_message_once"] else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    signing = parser.add_mutually_exclusive_group()
    signing.add_argument("--unsigned", action="store_true")
    signing.add_argument("--ed25519", action="store_true", help="sign with Ed25519 alone")
    parser.add_argument("--peer", choices=("none", "postfix", "haraka", "all"), default="none")
    parser.add_argument("--body", type=int, default=workload.BODY_BYTES, help="bytes of HTML")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def _measure(scratch: Path, world: Internet, signing: Signing, options: argparse.Namespace) -> Figures:
    found = Figures()
    with running(scratch / "mailriver", world, signing) as parts, ExitStack() as beside:
        systems = _peers(scratch, world, options.peer, beside)
        _say("warming up: every domain once, then a little of everything")
        _run(parts, world, "warm-up", [*workload.domains()], options.body)
        _run(parts, world, "warmer", [*workload.recipients(_WARM_UP)], options.body)
        for number in range(options.runs):
            found.load.append(accounting.load())
            full = _run(parts, world, f"full-{number}", [*workload.recipients(options.messages)], options.body)
            _say(f"full speed: {full.rate:.0f} messages/s, {full.cpu_per_1000:.2f} CPU-s per 1,000")
            rate = full.rate / 2
            half = _run(
                parts, world, f"half-{number}", [*workload.recipients(int(rate * _LATENCY_S))], options.body, rate
            )
            _say(f"half load: p50 {half.latency[0]:.0f} ms, p99 {half.latency[2]:.0f} ms")
            found.full.append(full)
            found.half.append(half)
            for name, peer in systems.items():
                outcome = peer.run(options.messages)
                _say(f"{name}: {outcome.rate:.0f} messages/s, {outcome.cpu_per_1000:.2f} CPU-s per 1,000")
                found.peers.setdefault(name, []).append(outcome)
    return found


def _peers(scratch: Path, world: Internet, wanted: str, beside: ExitStack) -> dict[str, peers.Postfix]:
    if wanted in ("haraka", "all"):
        _say("Haraka is not measured: this bench does not run it yet")
    if wanted not in ("postfix", "all"):
        return {}
    return {
        name: beside.enter_context(peers.postfix(scratch / name, world, signed=signed))
        for name, signed in (("postfix_dkim", True), ("postfix", False))
    }


def _run(
    parts: Running, world: Internet, name: str, addresses: list[str], body: int, rate: float | None = None
) -> run.Outcome:
    if name == "warm-up":
        addresses = [f"first@{domain}" for domain in addresses]
    sends = list(workload.sends(f"{name}-{time.time_ns()}", addresses, body))
    return run.run(parts, world, sends, rate)


def _report(found: Figures) -> dict[str, Any]:
    first = found.full[0]
    cpu = {name: _spread([each.cpu[name] / each.messages * 1000 for each in found.full], 3) for name in first.cpu}
    memory = {name: round(value) for name, value in found.full[-1].memory.items()}
    return {
        "messages": first.messages,
        "messages_per_second": _spread([each.rate for each in found.full]),
        "cpu_seconds_per_1000": {"all": _spread([each.cpu_per_1000 for each in found.full], 3), **cpu},
        "latency_ms": {
            name: _spread([each.latency[place] for each in found.half])
            for place, name in enumerate(("p50", "p95", "p99"))
        },
        "memory_mib": {**memory, "all": sum(memory.values())},
        "sink_cpu_seconds_per_1000": _spread([each.sink_cpu / each.messages * 1000 for each in found.full], 3),
        "idle_share": _spread([each.idle for each in found.full], 2),
        "load_before": [round(load, 1) for load in found.load],
        "peers": {
            name: {
                "messages_per_second": _spread([each.rate for each in outcomes]),
                "cpu_seconds_per_1000": _spread([each.cpu_per_1000 for each in outcomes], 3),
            }
            for name, outcomes in found.peers.items()
        },
        **{
            f"ratio_vs_{name}": _spread(
                [ours.rate / theirs.rate for ours, theirs in zip(found.full, outcomes, strict=True)], 2
            )
            for name, outcomes in found.peers.items()
        },
        "each_message_once": all(each.each_once for each in (*found.full, *found.half)),
    }


def _spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
    }


def _print(found: Figures, report: dict[str, Any]) -> None:
    def line(name: str, spread: dict[str, float], unit: str) -> None:
        print(f"  {name:<28}{spread['median']:>10}  ({spread['min']} to {spread['max']}) {unit}")

    print(f"\nmailriver, {report['messages']} messages, {len(found.full)} runs: median (minimum to maximum)")
    line("throughput", report["messages_per_second"], "messages/s")
    for name, spread in report["cpu_seconds_per_1000"].items():
        line(f"CPU {name}", spread, "s per 1,000")
    for name, spread in report["latency_ms"].items():
        line(f"accept to 250, half load, {name}", spread, "ms")
    print(f"  memory (PSS)  {', '.join(f'{name} {value}' for name, value in report['memory_mib'].items())} MiB")
    line("idle share of the machine", report["idle_share"], "")
    line("the sink's own CPU", report["sink_cpu_seconds_per_1000"], "s per 1,000")
    print(f"  load before each run  {report['load_before']}")
    print(f"  promise  {_PROMISE}")
    for name, peer in report["peers"].items():
        print(f"{name}")
        line("throughput", peer["messages_per_second"], "messages/s")
        line("CPU", peer["cpu_seconds_per_1000"], "s per 1,000")
        line("our throughput to its", report[f"ratio_vs_{name}"], "times")
        print(f"  promise  {peers.PROMISE}")
    for each in (*found.full, *found.half):
        if not each.each_once:
            print(f"  NOT ONCE: {each.messages} sent, {each.delivered} delivered, {each.received} received by the sink")
    if report["each_message_once"]:
        print("  every message arrived once: as many received as different messages delivered")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
