"""The simulator's web page and JSON: what arrived, for people and tests; and the control that publishes DNS records.

On loopback only, but a browser brings strangers there: requests under another host name are refused (DNS rebinding),
and records are taken as JSON only, which another site's form cannot send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from pipeline.simulator import page_html
from pipeline.simulator.names import RecordError
from pipeline.simulator.reading import read
from pipeline.simulator.witness import Entry, as_dict, newest_first, read_raw

_PER_PAGE = 50
_MOST_PER_ANSWER = 1000
_MOST_SEARCHED = 200_000  # log lines that one search reads
_LARGEST_REQUEST = 64 * 1024
_OWN_POLICY = "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'"
# A message's HTML: its styles and inline images, and nothing from anywhere, so that looking is not an open.
_MAIL_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)

Publish = Callable[[str, str, list[str]], None]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(log: Path, counts: Callable[[], dict[str, Any]], publish: Publish) -> web.Application:
    """The web application over a witness's log. `publish(name, type, values)` may raise RecordError."""
    page = _Page(log, counts, publish)
    app = web.Application(middlewares=[_guard], client_max_size=_LARGEST_REQUEST)
    app.router.add_get("/", page.inbox)
    app.router.add_get("/style.css", page.style)
    app.router.add_get(r"/messages/{id:\d{1,12}}", page.message)
    app.router.add_get(r"/messages/{id:\d{1,12}}/html", page.html)
    app.router.add_get("/api/messages", page.messages_json)
    app.router.add_get("/api/counts", page.counts_json)
    app.router.add_get("/api/messages/{id}", page.message_json)
    app.router.add_get("/api/messages/{id}/raw", page.raw)
    app.router.add_post("/api/dns", page.publish)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    name = request.host.rpartition(":")[0] if ":" in request.host.rpartition("]")[2] else request.host
    if name not in ("127.0.0.1", "localhost", "[::1]"):
        raise web.HTTPForbidden(text="this page answers under 127.0.0.1 and localhost only\n")
    response = await handler(request)
    response.headers.setdefault("Content-Security-Policy", _OWN_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


class _Page:
    def __init__(self, log: Path, counts: Callable[[], dict[str, Any]], publish: Publish) -> None:
        self._log = log
        self._counts = counts
        self._publish = publish

    async def inbox(self, request: web.Request) -> web.Response:
        search = request.query.get("search", "")[:200]
        entries = self._found(search, _number(request, "before", None), _PER_PAGE)
        older = entries[-1].seq if len(entries) == _PER_PAGE else None
        total = int(self._counts()["messages"])
        return web.Response(text=page_html.inbox(entries, search, older, total), content_type="text/html")

    async def style(self, _request: web.Request) -> web.Response:
        return web.Response(text=page_html.style(), content_type="text/css")

    async def message(self, request: web.Request) -> web.Response:
        entry = self._entry(request)
        raw = read_raw(self._log.parent, entry)
        text = page_html.message(entry, read(raw) if raw is not None else None)
        return web.Response(text=text, content_type="text/html")

    async def html(self, request: web.Request) -> web.Response:
        raw = read_raw(self._log.parent, self._entry(request))
        if raw is None:
            raise web.HTTPGone(text="the body has made room for newer messages\n")
        response = web.Response(text=read(raw).html, content_type="text/html")
        response.headers["Content-Security-Policy"] = _MAIL_POLICY
        return response

    async def messages_json(self, request: web.Request) -> web.Response:
        limit = min(_number(request, "limit", _PER_PAGE) or _PER_PAGE, _MOST_PER_ANSWER)
        found = self._found(request.query.get("search", "")[:200], _number(request, "before", None), limit)
        return _json({"messages": [as_dict(entry) for entry in found], "total": self._counts()["messages"]})

    async def counts_json(self, _request: web.Request) -> web.Response:
        return _json(self._counts())

    async def message_json(self, request: web.Request) -> web.Response:
        return _json(as_dict(self._entry(request)))

    async def raw(self, request: web.Request) -> web.Response:
        raw = read_raw(self._log.parent, self._entry(request))
        if raw is None:
            raise web.HTTPGone(text="the body has made room for newer messages\n")
        return web.Response(body=raw, content_type="text/plain", charset="utf-8")

    async def publish(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json\n")
        try:
            record = orjson.loads(await request.read())
            name, kind, values = record["name"], record.get("type", "TXT"), record["values"]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(text='send {"name": "…", "type": "TXT", "values": ["…"]}\n') from error
        if not (isinstance(name, str) and isinstance(kind, str) and isinstance(values, list)) or not all(
            isinstance(value, str) for value in values
        ):
            raise web.HTTPBadRequest(text="name and type must be text, values a list of texts\n")
        try:
            self._publish(name, kind, values)
        except RecordError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return _json({"published": name, "type": kind, "values": values})

    def _found(self, search: str, before: int | None, limit: int) -> list[Entry]:
        wanted = search.lower()
        entries = newest_first(self._log, before=before, most=_MOST_SEARCHED)
        return list(islice(_matching(entries, wanted), limit))

    def _entry(self, request: web.Request) -> Entry:
        """By number, or by the sender's id or the Message-ID (the newest of that name)."""
        wanted = request.match_info["id"]
        for entry in newest_first(self._log, most=_MOST_SEARCHED):
            if wanted in (str(entry.seq), entry.mailriver_id, entry.message_id):
                return entry
        raise web.HTTPNotFound(text="no such message\n")


def _matching(entries: Iterator[Entry], wanted: str) -> Iterator[Entry]:
    for entry in entries:
        texts = (entry.subject, entry.mail_from, entry.message_id, entry.mailriver_id, entry.provider, *entry.rcpt_to)
        if not wanted or any(wanted in text.lower() for text in texts):
            yield entry


def _number(request: web.Request, name: str, default: int | None) -> int | None:
    text = request.query.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= 12 else default


def _json(data: Any) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")
