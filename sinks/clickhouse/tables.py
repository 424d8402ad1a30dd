"""The sink's side of ClickHouse: a client that connects when needed, blocks in, and what an error means.

ClickHouse's errors are mapped here, once: `Unreadable` is about the bytes of a block and will come every time; all else
is `Later`. A code that is not known to be about the bytes is `Later`: the sink then waits and loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from sinks.clickhouse.core import Block
from topics.errors import Later
from topics.kafka import Cluster

T = TypeVar("T")

_CONNECT_S: Final = 5
_ANSWER_S: Final = 120
_FORMAT: Final = "JSONEachRow"

_READING: Final[dict[str, object]] = {
    "async_insert": 0,  # on by default since 26.9, and then a token means nothing
    "input_format_parallel_parsing": 0,  # would cut a block into several
    "input_format_skip_unknown_fields": 1,  # a newer writer may add fields
    "input_format_null_as_default": 1,
    "date_time_input_format": "best_effort",  # ISO 8601 with Z or an offset
    "max_partitions_per_insert_block": 0,  # a replay of years is one block too
}

# What reading a row can end in; found by feeding it bad rows (test_tables.py).
_ABOUT_THE_BYTES: Final = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        130,  # CANNOT_READ_ARRAY_FROM_TEXT
        131,  # TOO_LARGE_STRING_SIZE
        306,  # TOO_DEEP_RECURSION
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        376,  # CANNOT_PARSE_UUID
        407,  # DECIMAL_OVERFLOW
        467,  # CANNOT_PARSE_BOOL
    }
)


class Unreadable(Exception):
    """ClickHouse cannot read the block. Holds the name of its error alone: the text quotes the row."""


@dataclass(frozen=True, slots=True)
class ClickHouseSinkConfig:
    cluster: Cluster
    url: str
    user: str
    password: str = field(repr=False)
    database: str
    reader: str  # the read-only user; made where the server lets us
    reader_password: str = field(repr=False)


def connect(config: ClickHouseSinkConfig, database: str) -> Client:
    """Raises ClickHouseError."""
    return clickhouse_connect.get_client(
        dsn=config.url,
        username=config.user,
        password=config.password,
        database=database,
        connect_timeout=_CONNECT_S,
        send_receive_timeout=_ANSWER_S,
        autogenerate_session_id=False,  # a session would take one query at a time
        query_retries=0,  # retries are ours: with a pause, and while staying in the group
    )


class Tables:
    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None

    def insert(self, block: Block) -> None:
        """Insert the block once, however often it is tried. Raises Later, Unreadable."""
        settings = {**_READING, "insert_deduplication_token": block.token}
        table, body = block.table, block.body
        self._try(lambda client: client.raw_insert(table, insert_block=body, settings=settings, fmt=_FORMAT))

    def reads(self, table: str, body: bytes) -> bool:
        """Whether ClickHouse can read these rows into the table; nothing is inserted. Raises Later."""
        try:
            self._try(lambda client: _trial(client, table, body))
        except Unreadable:
            return False
        return True

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _try(self, call: Callable[[Client], T]) -> T:
        try:
            if self._client is None:
                self._client = self._connect()
            return call(self._client)
        except DatabaseError as error:
            raise mapped(error) from None
        except ClickHouseError as error:
            self.close()
            raise Later(type(error).__name__) from None


def _trial(client: Client, table: str, body: bytes) -> None:
    # A table of the same columns that keeps nothing.
    client.command(f"CREATE TABLE IF NOT EXISTS trial_{table} AS {table} ENGINE = Null")
    client.raw_insert(f"trial_{table}", insert_block=body, settings=_READING, fmt=_FORMAT)


def mapped(error: DatabaseError) -> Later | Unreadable:
    """The exception that stands for an error of ClickHouse. Its text is the error's name, or the kind of failure."""
    if error.code in _ABOUT_THE_BYTES:
        return Unreadable(error.name or f"code {error.code}")
    return Later(f"ClickHouse: {error.name or error.code or type(error).__name__}")
