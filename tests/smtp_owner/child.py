"""A queue owner as a process of its own, for tests that kill or stop it: `python -m tests.smtp_owner.child JSON`.

SIGTERM ends it as it ends the role.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter

import structlog
import uvloop

from sinks.smtp.generations import serve
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import config, pools
from topics.kafka import Cluster
from topics.registry import lanes


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for "ready"
    given = json.loads(sys.argv[1])
    host, port = given["dns"]
    world = Internet(dns=(host, port), smtp=given["smtp"], received=Counter())
    cluster = Cluster(given["bootstrap"], prefix=given["prefix"])
    *draining, newest = (lanes(generation) for generation in given["generations"])
    worker = config(cluster, world, instance=given["instance"], pools=pools(*given["addresses"]), lanes=newest)

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await serve(worker, draining, stop, lambda: print("ready", flush=True))

    uvloop.run(run())


if __name__ == "__main__":
    main()
