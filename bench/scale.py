"""How cost and rate change with workers, depth, sites, bodies, deferrals; what a message, a restart and idling cost.

    python -m bench.scale --quick                    # a little of everything: does it work?
    python -m bench.scale --json scale.json --plots docs/plots
    python -m bench.scale depth --depths 0,100000    # one section

Each section starts a stack of its own, as `bench.delivery` does, and prints a row for each point as soon as it has it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `python bench/scale.py` does as well

from bench import controls, depth, footprint, inbound, plots, throughput, urgent
from bench.internet import Missing
from bench.throughput import Row

_MESSAGES, _QUICK_MESSAGES = 5_000, 300


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    option: str  # of the command: the values to measure
    what: str
    full: tuple[int, ...]
    quick: tuple[int, ...]
    run: Callable[[Sequence[int], int], Iterator[Row]]  # values, messages of a run
    x: str  # key of a row: the label of a point
    plotted: tuple[str, ...] = ()  # keys of rows, each a chart
    about: str = ""  # of the x axis


SECTIONS = (
    Section(
        "workers", "counts", "rate by delivery workers", (1, 2, 3, 4), (1, 2),
        throughput.workers, "workers", ("messages_per_second", "cpu_seconds_per_1000"), "delivery workers",
    ),
    Section(
        "joins", "counts", "rate while workers leave and join", (4,), (2,),
        throughput.joins, "workers",
    ),
    Section(
        "depth", "depths", "rate, memory, bytes and restart by messages queued", (0, 100_000, 1_000_000), (0, 500),
        depth.depths, "queued", ("messages_per_second", "owner_mib", "restart_ready_s"), "messages queued",
    ),
    Section(
        "restore", "depths", "restart, memory and rate by states written beforehand", (0, 100_000, 1_000_000), (0, 500),
        depth.restores, "queued", ("messages_per_second", "owner_mib_restored", "restart_ready_s"), "messages queued",
    ),
    Section(
        "sites", "counts", "rate by destination sites", (1, 20, 10_000), (1, 50),
        throughput.sites, "sites", ("messages_per_second", "cpu_seconds_per_1000"), "sites",
    ),
    Section(
        "bodies", "kilobytes", "rate by KB of HTML", (1, 10, 100), (1, 100),
        throughput.bodies, "kilobytes", ("messages_per_second", "cpu_seconds_per_1000"), "KB of HTML",
    ),
    Section(
        "deferrals", "percents", "rate by share of messages that are put off once", (0, 5, 50), (0, 50),
        throughput.deferrals, "percent", ("cpu_seconds_per_1000",), "percent put off once",
    ),
    Section(
        "urgent", "campaigns", "wait of transactional mail beside a campaign to the same provider", (10_000,), (300,),
        lambda values, _: urgent.urgent(values), "campaign",
    ),
    Section(
        "controls", "counts", "from a suspension's acknowledgement to the last attempt", (10,), (2,),
        lambda values, _: controls.controls(values), "suspensions",
    ),
    Section(
        "journal", "messages-of", "transactions and bytes for each message", (_MESSAGES,), (_QUICK_MESSAGES,),
        lambda values, _: footprint.journal(values), "messages",
    ),
    Section(
        "idle", "seconds", "CPU and memory with nothing to do", (30,), (5,),
        lambda values, _: footprint.idle(values), "seconds",
    ),
    Section(
        "inbound", "mails", "bounces and reports taken by one listener", (10_000,), (400,),
        lambda values, _: inbound.inbound(values), "mails",
    ),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report: dict[str, list[Row]] = {}
    for section in SECTIONS:
        if options.section not in (None, section.name):
            continue
        print(f"{section.name}: {section.what}", flush=True)
        values = getattr(options, "values", None) or (section.quick if options.quick else section.full)
        messages = options.messages or (_QUICK_MESSAGES if options.quick else _MESSAGES)
        try:
            rows = report[section.name] = []
            for row in section.run(values, messages):
                rows.append(row)
                print(f"  {time.strftime('%H:%M:%S')} " + ", ".join(f"{k} {v:g}" for k, v in row.items()), flush=True)
        except Missing as missing:
            print(missing, file=sys.stderr)
            return 2
        if options.json is not None:  # after each section: what is measured is kept
            options.json.write_text(json.dumps(report, indent=2) + "\n")
        if options.plots is not None:
            draw(section, rows, options.plots)
    return 0 if all(row.get("delivered_once", 1.0) for rows in report.values() for row in rows) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--quick", action="store_true", help="few messages and points: does it work?")
    common.add_argument("--messages", type=int, help="of each run")
    common.add_argument("--json", type=Path)
    common.add_argument("--plots", type=Path, metavar="FOLDER", help="where the charts go, as SVG")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[common]
    )
    sections = parser.add_subparsers(dest="section", metavar="SECTION")
    for section in SECTIONS:
        own = sections.add_parser(section.name, help=section.what, parents=[common])
        own.add_argument(f"--{section.option}", dest="values", type=_numbers, metavar="N,N")
    defaults = argparse.Namespace(quick=False, messages=None, json=None, plots=None)
    return parser.parse_args(arguments, defaults)


def draw(section: Section, rows: list[Row], folder: Path) -> None:
    """A chart for each key that is plotted; a section with one point has none."""
    if len(rows) < 2:
        return
    folder.mkdir(parents=True, exist_ok=True)
    places = [f"{row[section.x]:,g}" for row in rows]
    for key in section.plotted:
        title = f"{key.replace('_', ' ')} by {section.about}"
        series = {key: [row[key] for row in rows]}
        (folder / f"{section.name}-{key}.svg").write_text(
            plots.chart(title, places, series, x=section.about, y=key.replace("_", " "))
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
