"""Measure the whole send path on this machine: broker, every role, ClickHouse, and a fast SMTP sink to take the mail.

    python -m bench.delivery --messages 5000 --runs 3 --json figures.json
    python -m bench.delivery --peer all    # beside Postfix with opendkim, Postfix unsigned, and Haraka with DKIM

A run at full speed gives messages per second and CPU; a run at half of that rate gives the time from acceptance to 250.
Prints minimum, median and maximum. Exits 1 when a message did not arrive exactly once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `python bench/delivery.py` does as well

from bench import run, workload
from bench.accounting import cpu_seconds, load
from bench.haraka import haraka
from bench.internet import Behaviour, Internet, Missing, internet
from bench.parts import Signing, Size, running
from bench.peers import Peer, fed
from bench.postfix import CONNECTIONS, postfix
from bench.report import Found, figures, show

_WARM_UP = 4_000  # Java and Node compile what they run often
_LATENCY_S = 8.0  # of a run at half load
_FAR = 2_000  # sessions to a sink that is a long way off


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.intake == "smtp":
        print("--intake smtp: mailriver takes no mail in by SMTP submission, only by Kafka", file=sys.stderr)
        return 2
    signing = Signing.NONE if options.unsigned else Signing.ED25519 if options.ed25519 else Signing.RSA
    try:
        with (
            tempfile.TemporaryDirectory(prefix="mailriver-bench-") as scratch,
            internet(Path(scratch) / "internet", Behaviour(tls=options.tls, delay=options.rtt)) as world,
        ):
            found = _measure(Path(scratch), world, signing, options)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    report = figures(found)
    show(found, report)
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
    parser.add_argument(
        "--content",
        type=workload.Content,
        choices=tuple(workload.Content),
        default=workload.Content.CAMPAIGN,
        help="campaign: a newsletter, one design and each recipient's name; inline: an app's own HTML in every send. "
        "Peers get the finished mail either way",
    )
    parser.add_argument(
        "--tls", action="store_true", help="STARTTLS at the sink (one of ours, of Python, to all systems)"
    )
    parser.add_argument(
        "--rtt",
        type=duration,
        default=0.0,
        metavar="100ms",
        help="each answer of the sink takes so long; 2,000 sessions",
    )
    parser.add_argument("--intake", choices=("kafka", "smtp"), default="kafka")
    parser.add_argument("--body", type=int, default=workload.BODY_BYTES, help="bytes of HTML")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def _measure(scratch: Path, world: Internet, signing: Signing, options: argparse.Namespace) -> Found:
    found = Found(str(options.content))
    size = Size(connections=_FAR, sessions=_FAR) if options.rtt else Size()
    with running(scratch / "mailriver", world, signing, size) as parts, ExitStack() as beside:
        systems = _peers(scratch, world, options, beside)
        _say("warming up: every domain once, then a little of everything")
        deliver = partial(run.deliver, parts, world, content=options.content, body=options.body)
        deliver("warm-up", [f"first@{domain}" for domain in workload.domains()])
        deliver("warmer", workload.recipients(_WARM_UP))
        for peer in systems.values():
            peer.run(_WARM_UP)
        if not options.rtt:  # 20 connections to a far sink measure nothing but the way
            alone = fed(
                scratch / "alone", world.sink_port, options.messages, world, lambda: cpu_seconds(world.sink.pid)
            )
            found.sink_alone = alone.rate
            _say(f"the sink alone: {alone.rate:.0f} messages/s")
        for number in range(options.runs):
            found.load.append(load())
            full = deliver(f"full-{number}", workload.recipients(options.messages))
            _say(f"full speed: {full.rate:.0f} messages/s, {full.cpu_per_1000:.2f} CPU-s per 1,000")
            rate = full.rate / 2
            fewer = workload.recipients(int(rate * _LATENCY_S))
            half = deliver(f"half-{number}", fewer, rate=rate)
            _say(f"half load: p50 {half.latency[0]:.0f} ms, p99 {half.latency[2]:.0f} ms")
            found.full.append(full)
            found.half.append(half)
            for name, peer in systems.items():
                outcome = peer.run(options.messages)
                _say(f"{name}: {outcome.rate:.0f} messages/s, {outcome.cpu_per_1000:.2f} CPU-s per 1,000")
                found.peers.setdefault(name, []).append(outcome)
    return found


def _peers(scratch: Path, world: Internet, options: argparse.Namespace, beside: ExitStack) -> dict[str, Peer]:
    found: dict[str, Peer] = {}
    connections = _FAR if options.rtt else CONNECTIONS
    if options.peer in ("postfix", "all"):
        for name, signed in (("postfix_dkim", True), ("postfix", False)):
            peer = postfix(scratch / name, world, signed=signed, connections=connections)
            found[name] = beside.enter_context(peer)
    if options.peer in ("haraka", "all"):
        found["haraka"] = beside.enter_context(haraka(scratch / "haraka", world))
    return found


def duration(text: str) -> float:
    """`100ms`, `0.1s`."""
    for unit, seconds in (("ms", 0.001), ("s", 1.0)):
        if text.endswith(unit) and 0 <= (value := float(text.removesuffix(unit)) * seconds) <= 10:
            return value
    raise ValueError(text)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
