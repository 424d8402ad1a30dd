"""One embedded ClickHouse for a whole test session, in a process of its own.

A test keeps apart from others by its database: `clickhouse_database` makes one and drops it.
"""

from __future__ import annotations

import os
import secrets
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from pipeline.embedded.ports import free_ports
from pipeline.embedded.process import Child, launch
from tests.waiting import wait_until

_START_LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """Where the server is. `client` and `reader_client` make clients of clickhouse-connect; close them."""

    host: str
    port: int
    user: str
    password: str
    reader: str
    reader_password: str

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self, database: str = "default", **options: object) -> Client:
        return self._client(self.user, self.password, database, options)

    def reader_client(self, database: str = "default", **options: object) -> Client:
        return self._client(self.reader, self.reader_password, database, options)

    def _client(self, user: str, password: str, database: str, options: dict[str, object]) -> Client:
        return clickhouse_connect.get_client(
            host=self.host,
            port=self.port,
            username=user,
            password=password,
            database=database,
            **options,  # type: ignore[arg-type]  # whatever get_client takes
        )


def start_clickhouse(folder: Path, port: int = 0) -> tuple[ClickHouse, Child]:
    """Start a server on `folder` and return when it takes requests."""
    plan = ClickHouse(
        host="127.0.0.1",
        port=port or free_ports(1)[0],
        user="mailriver",
        password=secrets.token_hex(8),
        reader="analyst",
        reader_password=secrets.token_hex(8),
    )
    ready = folder.with_name(folder.name + ".ready")
    ready.unlink(missing_ok=True)
    child = launch(
        "clickhouse",
        [
            *(sys.executable, "-m", "pipeline.embedded.clickhouse", "--data", str(folder)),
            *("--port", str(plan.port), "--ready-file", str(ready)),
        ],
        log=folder.with_name(folder.name + ".log"),
        env=os.environ
        | {
            "MAILRIVER_CLICKHOUSE__PASSWORD": plan.password,
            "MAILRIVER_CLICKHOUSE__READER_PASSWORD": plan.reader_password,
        },
        cwd=Path(__file__).parent.parent,
    )

    def up() -> bool:
        assert child.poll() is None, f"ClickHouse ended at once:\n{child.last_lines()}"
        return ready.exists()

    wait_until(up, timeout=_START_LIMIT, what="the embedded ClickHouse")
    return plan, child


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A running server. Mark tests that use it with `@pytest.mark.stack`."""
    plan, child = start_clickhouse(tmp_path_factory.mktemp("clickhouse") / "data")
    yield plan
    child.stop(20.0)


@pytest.fixture
def clickhouse_database(clickhouse: ClickHouse) -> Iterator[str]:
    """The name of an empty database of this test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    client = clickhouse.client()
    client.command(f"CREATE DATABASE {name}")
    yield name
    client.command(f"DROP DATABASE {name} SYNC")
    client.close()
