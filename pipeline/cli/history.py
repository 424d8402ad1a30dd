"""How commands ask the history: a client of the read-only user, and ClickHouse's errors as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from pipeline import wiring
from pipeline.cli.output import Failure
from pipeline.cli.session import configured, loaded


@contextmanager
def history() -> Iterator[Client]:
    settings = loaded()
    try:
        with configured():
            client = wiring.clickhouse_reader(settings)
    except OperationalError:
        raise Failure(
            f"ClickHouse at {settings.clickhouse.url} does not answer: is it running? `mailriver up` starts one, "
            "MAILRIVER_CLICKHOUSE__URL names another"
        ) from None
    except ClickHouseError as error:
        user = settings.clickhouse.reader
        raise Failure(f"ClickHouse at {settings.clickhouse.url} does not let {user} in: {_first_line(error)}") from None
    try:
        yield client
    finally:
        client.close()


def asked(client: Client, query: str, parameters: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The answer's columns and rows."""
    try:
        result = client.query(query, parameters=dict(parameters))
    except OperationalError:
        raise Failure("ClickHouse stopped answering before the query was done") from None
    except ClickHouseError as error:
        raise Failure(f"ClickHouse refused the query: {_first_line(error)}") from None
    return tuple(result.column_names), [tuple(row) for row in result.result_rows]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
