"""ClickHouse's HTTP interface over the engine of this process.

Decides how a request becomes a statement and its result a response; what may run is the gate's to say
(clickhouse_gate.py), what a request asks for clickhouse_request.py's. Offered: GET (read-only) and POST; the query in
the URL, the body or a form; parameters, settings, formats; content codings both ways; /ping; errors by status, header
and text, and within a result that has begun by ClickHouse's tagged block, after which the connection is broken off.
Not offered: native compression and external tables, which are refused, and sessions across requests: a session id is
taken, because clickhouse-connect always sends one, and what would need a session (SET, USE, temporary tables) is
refused.

Writers and readers have threads and places of their own, so that inserts never wait behind an analyst's queries. A
request whose client has gone is stopped.
"""

from __future__ import annotations

import json
import secrets

import structlog
from aiohttp import web

from pipeline.embedded import clickhouse_request
from pipeline.embedded.clickhouse_body import Body, read_form
from pipeline.embedded.clickhouse_codings import Encoder, choose
from pipeline.embedded.clickhouse_engine import WHOLE_RESULT, Access, Engine
from pipeline.embedded.clickhouse_errors import SYNTAX_ERROR, ServerError
from pipeline.embedded.clickhouse_formats import content_type, native_header, streamable
from pipeline.embedded.clickhouse_gate import VALUES, Shape, Statement, free_of_forbidden, judge
from pipeline.embedded.clickhouse_lanes import Lanes, Work
from pipeline.embedded.clickhouse_request import Login, Request

_log = structlog.get_logger(__name__)

_QUERY_LIMIT = 1024 * 1024  # bytes of a statement, without an INSERT's rows
_APPEND = 1024 * 1024  # bytes handed to ClickHouse at once
_HELD = 32 * 1024 * 1024  # bytes of a result kept back for wait_end_of_query
_GRACE = 3.0  # seconds for what runs when we are asked to stop
_LINES = "TabSeparated"


class Server:
    """The handlers. One per engine."""

    def __init__(self, engine: Engine, login: Login) -> None:
        self._engine = engine
        self._login = login
        self._lanes = Lanes(engine)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/ping", self._ping)
        app.router.add_get("/", self._handle)
        app.router.add_post("/", self._handle)
        app.on_shutdown.append(self._drain)
        return app

    async def close(self) -> None:
        """Give everything back; after the application's own clean-up."""
        await self._lanes.close()

    async def _drain(self, app: web.Application) -> None:
        await self._lanes.drain(_GRACE)

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and not request.query_string:
            return web.Response(text="Ok.\n")  # as ClickHouse says to a browser that looks in
        response = _Response(request, self._engine.timezone)
        try:
            user, password = clickhouse_request.credentials(request.headers, request.query)
            access = self._login.access(user, password, get=request.method == "GET")
            pairs = [*request.query.items(), *await read_form(request, _QUERY_LIMIT)]
            asked = clickhouse_request.read(access, request.headers, pairs)
            response.begin(asked)
            await self._answer(asked, Body(request), response)
        except ServerError as error:
            await response.fail(error)
        return await response.end()

    async def _answer(self, asked: Request, body: Body, response: _Response) -> None:
        # An INSERT's rows may follow the statement in the URL or the body; no statement is longer than the limit.
        start = await body.read(_QUERY_LIMIT)
        if asked.query:
            start = asked.query.rstrip().encode() + (b"\n" + start if start else b"")
        try:
            statement = judge(
                start.decode("latin-1"), may_write=asked.access is Access.WRITE, parameters=asked.parameters
            )
        except ServerError as error:
            if body.ended or error.code != SYNTAX_ERROR:
                raise
            raise _too_long() from None  # what was read so far ends somewhere
        async with self._lanes.work(asked.access) as work:
            if statement.shape is Shape.INSERT:
                await self._insert(work, asked, statement, start[statement.data_at :], body, response)
                return
            if not body.ended:
                raise _too_long()
            await work.open(asked.settings, asked.database)
            if statement.shape is Shape.ROWS and streamable(
                self._format(asked, statement), statement.words, asked.settings
            ):
                await self._stream(work, asked, statement, response)
            else:
                await self._whole(work, asked, statement, response)

    def _format(self, asked: Request, statement: Statement) -> str:
        return statement.format or asked.default_format or _LINES

    async def _insert(
        self, work: Work, asked: Request, statement: Statement, rows: bytes, body: Body, response: _Response
    ) -> None:
        settings = dict(asked.settings)
        if statement.format == VALUES and not (body.ended and free_of_forbidden(rows.decode("latin-1"))):
            settings["input_format_values_interpret_expressions"] = "0"
        await work.open(settings, asked.database)
        await work.begin_insert(_text(statement.sql), statement.format or VALUES)
        gathered = bytearray(rows)
        async for piece in body.rest():
            gathered += piece
            if len(gathered) >= _APPEND:
                await work.append(bytes(gathered))
                gathered.clear()
        if gathered:
            await work.append(bytes(gathered))
        written_rows, written_bytes = await work.finish_insert()
        response.summary["written_rows"], response.summary["written_bytes"] = str(written_rows), str(written_bytes)
        response.format = ""

    async def _whole(self, work: Work, asked: Request, statement: Statement, response: _Response) -> None:
        form = self._format(asked, statement)
        answer = await work.run(_text(statement.sql), form, asked.parameters)
        if len(answer.body) > WHOLE_RESULT:
            raise ServerError.of(396, f"Limit for result exceeded: {form} is not streamed", "TOO_MANY_ROWS_OR_BYTES")
        response.format = form
        response.summary["read_rows"], response.summary["read_bytes"] = str(answer.rows_read), str(answer.bytes_read)
        if answer.body:
            await response.write(answer.body)

    async def _stream(self, work: Work, asked: Request, statement: Statement, response: _Response) -> None:
        form = response.format = self._format(asked, statement)
        held: list[bytes] = []
        size = count = 0
        async for chunk in work.stream(_text(statement.sql), form, asked.parameters):
            count += 1
            size += len(chunk)
            held.append(chunk)
            if not asked.wait_end or size > _HELD:
                await response.write(b"".join(held))
                held.clear()
        if count == 0 and form == "Native":
            # Columns without rows: clients want their names and types.
            empty = f"SELECT * FROM ({_text(statement.sql)}\n) LIMIT 0"  # noqa: S608  # the statement itself, judged
            names = await work.run(empty, "RowBinaryWithNamesAndTypes", asked.parameters)
            held.append(native_header(names.body))
        if held:
            await response.write(b"".join(held))


class _Response:
    """A response that begins with its first byte: until then an error still has its own status."""

    def __init__(self, request: web.Request, timezone: str) -> None:
        self._request = request
        self._timezone = timezone
        self._asked: Request | None = None
        self._encoder = Encoder("")
        self._sent: web.StreamResponse | None = None
        self._tag = secrets.token_hex(8)
        self._broken = False
        self.format = ""
        self.summary = {"written_rows": "0", "written_bytes": "0"}

    def begin(self, asked: Request) -> None:
        self._asked = asked

    async def write(self, data: bytes) -> None:
        sent = self._sent or await self._start(200, {}, content_type(self.format))
        if encoded := self._encoder.feed(data):
            await sent.write(encoded)

    async def fail(self, error: ServerError) -> None:
        text = error.text + "\n"
        if self._sent is None:
            await self._start(error.status, {"X-ClickHouse-Exception-Code": str(error.code)}, content_type(_LINES))
            await self.write(text.encode())
            return
        # The status is sent already. ClickHouse's tagged block, as of 25.11, and no proper end of the body.
        block = f"\r\n__exception__\r\n{self._tag}\r\n{text}{len(text)} {self._tag}\r\n__exception__\r\n"
        await self._sent.write(self._encoder.feed(block.encode()) + self._encoder.close())
        self._broken = True

    async def end(self) -> web.StreamResponse:
        sent = self._sent or await self._start(200, {}, content_type(self.format))
        if self._broken:
            if self._request.transport is not None:
                self._request.transport.close()
            return sent
        if last := self._encoder.close():
            await sent.write(last)
        await sent.write_eof()
        return sent

    async def _start(self, status: int, extra: dict[str, str], kind: str) -> web.StreamResponse:
        coding = ""
        if self._asked is not None and self._asked.compress:
            coding = choose(self._request.headers.get("Accept-Encoding", ""))
        self._encoder = Encoder(coding)
        headers = {
            "Content-Type": kind,
            "X-ClickHouse-Server-Display-Name": "mailriver",
            "X-ClickHouse-Timezone": self._timezone,
            "X-ClickHouse-Summary": json.dumps(self.summary),
            "X-ClickHouse-Exception-Tag": self._tag,
            **extra,
        }
        if self._asked is not None:
            headers["X-ClickHouse-Query-Id"] = self._asked.query_id
        if self.format and status == 200:
            headers["X-ClickHouse-Format"] = self.format
        if coding:
            headers["Content-Encoding"] = coding
        self._sent = web.StreamResponse(status=status, headers=headers)
        await self._sent.prepare(self._request)
        return self._sent


def _too_long() -> ServerError:
    return ServerError.too_large(f"a statement of more than {_QUERY_LIMIT} bytes")


def _text(sql: str) -> str:
    try:
        return sql.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise ServerError.syntax("The query is not UTF-8") from None
