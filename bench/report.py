"""What the runs came to: minimum, median and maximum of each figure, as a JSON object and as a page for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import peers, run

_PROMISE = "acknowledged means in the log of one broker, in page cache: survives any process, not a power cut"


@dataclass(slots=True)
class Found:
    content: str
    full: list[run.Outcome] = field(default_factory=list)
    half: list[run.Outcome] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    peers: dict[str, list[peers.PeerOutcome]] = field(default_factory=dict)
    sink_alone: float | None = None  # messages per second, straight from `smtp-source`


def figures(found: Found) -> dict[str, Any]:
    first = found.full[0]
    cpu = {name: spread([each.cpu[name] / each.messages * 1000 for each in found.full], 3) for name in first.cpu}
    memory = {name: round(value) for name, value in found.full[-1].memory.items()}
    return {
        "messages": first.messages,
        "content": found.content,
        "messages_per_second": spread([each.rate for each in found.full]),
        "cpu_seconds_per_1000": {"all": spread([each.cpu_per_1000 for each in found.full], 3), **cpu},
        "latency_ms": {
            name: spread([each.latency[place] for each in found.half])
            for place, name in enumerate(("p50", "p95", "p99"))
        },
        "memory_mib": {**memory, "all": sum(memory.values())},
        "sink_cpu_seconds_per_1000": spread([each.sink_cpu / each.messages * 1000 for each in found.full], 3),
        "sink_alone_messages_per_second": None if found.sink_alone is None else round(found.sink_alone),
        "idle_share": spread([each.idle for each in found.full], 2),
        "load_before": [round(load, 1) for load in found.load],
        "peers": {
            name: {
                "messages_per_second": spread([each.rate for each in outcomes]),
                "cpu_seconds_per_1000": spread([each.cpu_per_1000 for each in outcomes], 3),
            }
            for name, outcomes in found.peers.items()
        },
        **{
            f"ratio_vs_{name}": spread(
                [ours.rate / theirs.rate for ours, theirs in zip(found.full, outcomes, strict=True)], 2
            )
            for name, outcomes in found.peers.items()
        },
        "each_message_once": all(each.each_once for each in (*found.full, *found.half)),
    }


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
    }


def show(found: Found, report: dict[str, Any]) -> None:
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
    if report["sink_alone_messages_per_second"] is not None:
        print(f"  {'the sink alone':<28}{report['sink_alone_messages_per_second']:>10}  messages/s")
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
