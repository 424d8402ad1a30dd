"""Give each request a thread and a session, and take both back however it ends.

Two lanes, writers' and readers': places and threads of their own, so that one never waits for the other. ClickHouse
shares the processor among what runs. Beyond the places of its lane a request waits a while, in the order of arrival,
then it is refused with a status that clients try again after.

A call into chdb cannot be interrupted from outside, so a request that is cancelled (its client went away, or we stop)
has its statement killed by its label; the place is free again when the call has come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from pipeline.embedded.clickhouse_engine import Access, Answer, Engine, Insert, Session
from pipeline.embedded.clickhouse_errors import ServerError

_log = structlog.get_logger(__name__)

_PLACES = {"writers": 8, "readers": 6}
_PATIENCE = 20.0  # seconds in the queue of a lane
_STOPPED = 0.5  # seconds for a killed statement to come back

T = TypeVar("T")


class Lanes:
    """The places of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pools = {name: ThreadPoolExecutor(places, name) for name, places in _PLACES.items()}
        self._free = {name: asyncio.Semaphore(places) for name, places in _PLACES.items()}
        self._running: set[Work] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.asynccontextmanager
    async def work(self, access: Access) -> AsyncIterator[Work]:
        """A place in the lane of `access`. Raises ServerError when none gets free in time."""
        lane = "writers" if access is Access.WRITE else "readers"
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._free[lane].acquire()
        except TimeoutError:
            raise ServerError.too_busy() from None
        work = Work(self._engine, access, self._pools[lane])
        self._running.add(work)
        self._idle.clear()
        try:
            yield work
        finally:
            # A task of its own: when this request is cancelled, it must still run to its end.
            ending = asyncio.create_task(self._end(work, lane))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)

    async def drain(self, grace: float) -> None:
        """Let what runs end within `grace` seconds; then stop it, so that its client is told why."""
        for patience in (grace, _STOPPED, _STOPPED):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._idle.wait()
                    return
            for work in list(self._running):
                await work.stop()

    async def close(self) -> None:
        """Wait for what was cancelled, end the threads."""
        while self._ending:
            await asyncio.wait(self._ending)
        for pool in self._pools.values():
            pool.shutdown()

    async def _end(self, work: Work, lane: str) -> None:
        try:
            await work.close()
        finally:
            self._running.discard(work)
            if not self._running:
                self._idle.set()
            self._free[lane].release()


class Work:
    """One request's session, used from threads: at most one call at a time."""

    def __init__(self, engine: Engine, access: Access, pool: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._access = access
        self._pool = pool
        self._session: Session | None = None
        self._insert: Insert | None = None
        self._chunks: Iterator[bytes] | None = None
        self._call: asyncio.Future[object] | None = None

    async def open(self, settings: Mapping[str, str], database: str) -> None:
        def opened() -> None:
            self._session = self._engine.session(self._access, settings, database)

        await self._do(opened)

    async def run(self, sql: str, form: str, parameters: Mapping[str, str]) -> Answer:
        session = self._opened()
        return await self._do(lambda: session.run(sql, form, parameters))

    async def stream(self, sql: str, form: str, parameters: Mapping[str, str]) -> AsyncIterator[bytes]:
        chunks = self._chunks = self._opened().stream(sql, form, parameters)
        while (chunk := await self._do(lambda: next(chunks, None))) is not None:
            yield chunk

    async def begin_insert(self, head: str, form: str) -> None:
        session = self._opened()

        def begun() -> None:
            self._insert = session.insert(head, form)

        await self._do(begun)

    async def append(self, rows: bytes) -> None:
        insert = self._begun()
        await self._do(lambda: insert.append(rows))

    async def finish_insert(self) -> tuple[int, int]:
        insert = self._begun()
        return await self._do(insert.finish)

    async def stop(self) -> None:
        """Make the call that runs, if any, fail soon."""
        if self._session is not None and self._call is not None and not self._call.done():
            await asyncio.to_thread(self._engine.kill, self._session.label)

    async def close(self) -> None:
        """Wait for the call that runs, stopping it; then give the session back."""
        while self._call is not None and not self._call.done():
            await self.stop()
            await asyncio.wait([self._call], timeout=_STOPPED)  # a statement that had not begun is killed the next time
        if self._call is not None:
            self._call.exception()  # looked at, so that asyncio does not report it: nobody waits for it any more
        await asyncio.get_running_loop().run_in_executor(self._pool, self._release)

    def _release(self) -> None:
        if self._insert is not None:
            self._insert.cancel()
        if self._chunks is not None:
            _close(self._chunks)
        if self._session is not None:
            self._session.close()

    def _opened(self) -> Session:
        assert self._session is not None, "open() comes first"
        return self._session

    def _begun(self) -> Insert:
        assert self._insert is not None, "begin_insert() comes first"
        return self._insert

    async def _do(self, call: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._pool, call)
        self._call = future  # type: ignore[assignment]  # only whether it is done is asked of it
        return await asyncio.shield(future)


def _close(chunks: Iterator[bytes]) -> None:
    close = getattr(chunks, "close", None)  # a generator has it, and stops its query by it
    if close is not None:
        close()
