"""`python -m pipeline.simulator`: the simulated internet as a process, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.simulator.addresses import endpoint
from pipeline.simulator.config import ConfigError, load
from pipeline.simulator.service import Arrangement, Simulator


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop; 2 for a wrong option or file, 1 when a port or file cannot be had."""
    try:
        arrangement = _arrangement(_options().parse_args(arguments))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(arrangement))
    except ConfigError as error:
        print(f"simulator: {error}", file=sys.stderr)  # noqa: T201  # the message of a command
        return 2
    except OSError as error:
        print(f"simulator: cannot start: {error}", file=sys.stderr)  # noqa: T201  # the message of a command
        return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not made for every system
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.simulator", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the witness and endpoints")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same world (default 1)")
    parser.add_argument("--internet", type=Path, metavar="FILE", help="TOML file (default: the shipped one)")
    parser.add_argument("--dns-port", type=int, default=0, metavar="N", help="0: a free one, remembered")
    parser.add_argument("--http-port", type=int, default=0, metavar="N", help="0: a free one, remembered")
    parser.add_argument("--inbound", required=True, metavar="HOST:PORT", help="where the sender receives mail")
    parser.add_argument("--tracking", required=True, metavar="HOST:PORT", help="where every URL of a message leads")
    return parser


def _arrangement(options: argparse.Namespace) -> Arrangement:
    return Arrangement(
        data=options.data,
        seed=options.seed,
        internet=load(options.internet),
        inbound=endpoint("--inbound", options.inbound),
        tracking=endpoint("--tracking", options.tracking),
        dns_port=options.dns_port,
        http_port=options.http_port,
    )


async def _run(arrangement: Arrangement) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    simulator = Simulator(arrangement)
    await simulator.start()
    await told.wait()
    await simulator.stop()


if __name__ == "__main__":
    sys.exit(main())
