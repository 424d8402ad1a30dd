"""ClickHouse in this process: open it, run statements each in a session of its own, stop them, close it.

chdb's connections may be used at the same time from different threads (tried: twenty inserts took 60 ms beside a query
that used both cores), a query cannot see another connection's settings, and opening one costs 0.4 ms. So every request
gets its own connection, as every HTTP request without a session id is a session of its own in ClickHouse.

A result is pulled in chunks and an insert pushed in chunks, in bounded memory: chdb gathers an insert's rows to one
block of about a million rows or 256 MiB, within the cap on a statement's memory. What chdb cannot stream is a format
with a beginning and an end (JSON, Arrow, …WithNames): each chunk would have its own, so those are made as a whole,
within a smaller cap.

All calls block, and let go of the GIL: call them from threads, one thread at a time for one session.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from pipeline.embedded import clickhouse_config
from pipeline.embedded.clickhouse_errors import ServerError

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = structlog.get_logger(__name__)

WHOLE_RESULT = 64 * 1024 * 1024  # bytes of a result that must be made as a whole


class Access(Enum):
    WRITE = "write"
    READ = "read"  # GET by the writer: as ClickHouse does, readonly=2
    READER = "reader"


class CannotOpen(Exception):
    """Another process has this data folder open, or chdb or the folder cannot be used; the text says which."""


class Engine:
    """The one ClickHouse of this process."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds data/ and config/. Raises CannotOpen."""
        folder.mkdir(parents=True, exist_ok=True)
        config = clickhouse_config.write(folder / "config")
        # chdb cuts the text at ? and & without any quoting.
        for path in (folder, config):
            if {"?", "&"} & set(str(path)):
                raise CannotOpen(f"{path}: the name of the data folder must not hold ? or &")
        self._connect = _chdb()
        self._place = f"file:{folder.absolute() / 'data'}?config-file={config.absolute()}"
        try:
            self._keeper = self._connect(self._place)  # ClickHouse lives as long as one connection does
        except RuntimeError as error:
            raise CannotOpen(f"cannot open {folder}: {error}") from error
        self.version, self.timezone = self.session().text("SELECT version(), timezone()").split("\t")

    def session(
        self,
        access: Access = Access.WRITE,
        settings: Mapping[str, str] | None = None,
        database: str = "",
    ) -> Session:
        """A fresh session with its caps set. Raises ServerError for a setting or database that ClickHouse refuses."""
        session = Session(self._connect(self._place))
        try:
            session.prepare(access, settings or {}, database)
        except BaseException:
            session.close()
            raise
        return session

    def kill(self, label: str) -> None:
        """Stop what the session of that label runs. It then raises error 394 where it was called."""
        self._keeper.query(f"KILL QUERY WHERE Settings['log_comment'] = {quoted(label)} ASYNC", "Null")

    def close(self) -> None:
        """After this no chdb can be opened in this process again."""
        self._keeper.close()


def _chdb() -> Callable[[str], Connection]:
    """Load chdb. It takes its time zone from the process when it is loaded, whatever its configuration says, and a
    DateTime column without a zone must not depend on the machine."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        from chdb.state.sqlitelike import connect
    except ImportError as error:
        raise CannotOpen(f"chdb cannot be loaded ({error}): install mailriver[embedded]") from error
    return connect


class Session:
    """One connection of chdb. `label` marks what it runs, so that it can be stopped from another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.label = uuid.uuid4().hex

    def prepare(self, access: Access, settings: Mapping[str, str], database: str) -> None:
        self._set(settings)
        if database:
            self.run(f"USE {identifier(database)}")
        own = {"log_comment": self.label}
        if access is Access.READER:
            own |= {name: cap for name, cap in clickhouse_config.READER.settings().items() if name not in settings}
        self._set(own)
        # Last, because after it nothing can be set; 1 forbids SETTINGS in the text too, 2 does not.
        match access:
            case Access.READER:
                self.run("SET readonly = 1")
            case Access.READ:
                self.run("SET readonly = 2")

    def _set(self, settings: Mapping[str, str]) -> None:
        if settings:
            self.run("SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items()))

    def run(self, sql: str, form: str = "Null", parameters: Mapping[str, str] | None = None) -> Answer:
        """Run a statement and return all of its result."""
        try:
            result = self._connection.query(sql, form, params=dict(parameters or {}))
        except Exception as raised:  # chdb raises RuntimeError, ChdbError and others; mapped here and nowhere else
            raise ServerError.from_chdb(raised) from None
        return Answer(result.bytes(), result.rows_read(), result.bytes_read())

    def text(self, sql: str) -> str:
        return self.run(sql, "TabSeparated").body.decode().rstrip("\n")

    def stream(self, sql: str, form: str, parameters: Mapping[str, str]) -> Iterator[bytes]:
        """Run a SELECT and yield its result as it comes. Nothing at all comes when there are no rows."""
        try:
            with self._connection.send_query(sql, form, params=dict(parameters)) as result:
                while (chunk := result.fetch()) is not None:
                    yield chunk.bytes()
        except GeneratorExit:
            raise
        except Exception as raised:  # as in run
            raise ServerError.from_chdb(raised) from None

    def insert(self, head: str, form: str) -> Insert:
        """Begin an INSERT; `head` has neither FORMAT nor VALUES."""
        try:
            return Insert(self._connection.send_insert(head, form))
        except Exception as raised:  # as in run
            raise ServerError.from_chdb(raised) from None

    def close(self) -> None:
        self._connection.close()


class Insert:
    """An INSERT under way: nothing of it is in the table before `finish`, unless it has more rows than one block."""

    def __init__(self, inserter: Any) -> None:
        self._inserter = inserter

    def append(self, rows: bytes) -> None:
        try:
            self._inserter.append(rows)
        except Exception as raised:  # as in Session.run
            raise ServerError.from_chdb(raised) from None

    def finish(self) -> tuple[int, int]:
        """Rows and bytes written, those of materialised views included."""
        try:
            result = self._inserter.finish()
        except Exception as raised:  # as in Session.run
            raise ServerError.from_chdb(raised) from None
        return result.rows_written, result.bytes_written

    def cancel(self) -> None:
        """Idempotent."""
        try:
            self._inserter.cancel()
        except RuntimeError as error:  # its connection is about to be closed, which ends it too
            _log.debug("insert_cancel_failed", reason=str(error))


class Answer:
    """A whole result."""

    __slots__ = ("body", "bytes_read", "rows_read")

    def __init__(self, body: bytes, rows_read: int, bytes_read: int) -> None:
        self.body = body
        self.rows_read = rows_read
        self.bytes_read = bytes_read


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def identifier(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
