"""A queue owner as a process of its own, for tests that kill or stop it: `python -m tests.smtp_owner.child JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import structlog
import uvloop

from sinks.smtp.generations import serve
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import config, pools
from topics.kafka import Cluster


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for "ready"
    given = json.loads(sys.argv[1])
    host, port = given["dns"]
    world = Internet(dns=(host, port), smtp=given["smtp"], received=Counter())
    cluster = Cluster(given["bootstrap"], prefix=given["prefix"])
    worker = config(cluster, world, instance=given["instance"], pools=pools(*given["addresses"]))

    async def run() -> None:
        await serve([worker], asyncio.Event(), lambda: print("ready", flush=True))

    uvloop.run(run())


if __name__ == "__main__":
    main()
