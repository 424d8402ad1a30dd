"""Embedded ClickHouse: one process that owns chdb and serves ClickHouse's HTTP protocol on loopback.

chdb is ClickHouse as a library; one process at a time can have a data folder open. Everything else talks to it through
clickhouse-connect, as it would to a real server, which replaces this one in production.

What is promised: an insert that was answered is in the table after a kill -9 of this process (its parts were written
and renamed before the answer; the page cache is the kernel's), and an insert that was not is there as a whole or not
at all, up to one block of about a million rows. A power cut may take the last seconds: ClickHouse does not fsync parts
by default. Repeating an insert with its `insert_deduplication_token` is safe after any of these, where the table has a
`non_replicated_deduplication_window`.

One oddity of chdb: its database `default` also looks for tables among files, which is refused, so that there a table
that is not found is an ACCESS_DENIED, and a view's target needs its database's name. Use a database of your own.

    python -m pipeline.embedded.clickhouse --data FOLDER --port 8123 [--ready-file FILE]

Users and passwords come from the environment: MAILRIVER_CLICKHOUSE__USER, __PASSWORD, __READER, __READER_PASSWORD.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from aiohttp import web

from pipeline.embedded.clickhouse_engine import CannotOpen, Engine
from pipeline.embedded.clickhouse_http import Server
from pipeline.embedded.clickhouse_request import Login

_log = structlog.get_logger(__name__)

_HOST = "127.0.0.1"
_VARIABLE = "MAILRIVER_CLICKHOUSE__"
_HEADERS = 64 * 1024  # bytes of a request's first line: clients put queries and parameters there
_NICENESS = 5  # where the machine has too much to do, mail goes before its history
_GOODBYE = 1.0  # seconds for clients to take the last answers when we are asked to stop


@dataclass(frozen=True, slots=True)
class ClickHousePlan:
    data_dir: Path
    port: int
    user: str
    password: str = field(repr=False)
    reader: str
    reader_password: str = field(repr=False)


async def serve(plan: ClickHousePlan, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until cancelled; calls `ready` once requests are taken. Raises CannotOpen, or OSError for the port."""
    engine = await asyncio.to_thread(Engine, plan.data_dir)
    try:
        server = Server(engine, Login(plan.user, plan.password, plan.reader, plan.reader_password))
        runner = web.AppRunner(
            server.application(),
            access_log=None,  # it would hold passwords given in the URL
            auto_decompress=False,  # clickhouse_body.py does it, for more codings and with a limit
            handler_cancellation=True,  # a client that goes away stops its query
            max_line_size=_HEADERS,
            max_field_size=_HEADERS,
            shutdown_timeout=_GOODBYE,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, _HOST, plan.port).start()
            _log.info("clickhouse_ready", port=plan.port, version=engine.version)
            ready()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            await server.close()
    finally:
        engine.close()
        _log.info("clickhouse_closed")


def main(argv: Sequence[str] | None = None) -> int:
    given = _arguments(argv)
    try:
        plan = ClickHousePlan(
            data_dir=given.data,
            port=given.port,
            user=os.environ.get(f"{_VARIABLE}USER", "mailriver"),
            password=os.environ[f"{_VARIABLE}PASSWORD"],
            reader=os.environ.get(f"{_VARIABLE}READER", "analyst"),
            reader_password=os.environ[f"{_VARIABLE}READER_PASSWORD"],
        )
        asyncio.run(_until_signal(plan, given.ready_file))
    except KeyError as missing:
        print(f"set {missing.args[0]} in the environment", file=sys.stderr)  # noqa: T201
        return 2
    except (CannotOpen, OSError) as error:
        print(f"the embedded ClickHouse cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pipeline.embedded.clickhouse", description="ClickHouse in one process.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data; made when it is not there")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ready-file", type=Path, help="written when requests are taken, removed at the end")
    return parser.parse_args(argv)


async def _until_signal(plan: ClickHousePlan, ready_file: Path | None) -> None:
    def ready() -> None:
        if ready_file is not None:
            ready_file.parent.mkdir(parents=True, exist_ok=True)
            ready_file.write_text(f"{os.getpid()}\n")

    serving = asyncio.create_task(serve(plan, ready))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)  # noqa: ASYNC240  # nothing else runs any more


if __name__ == "__main__":
    os.nice(_NICENESS)
    sys.exit(main())
