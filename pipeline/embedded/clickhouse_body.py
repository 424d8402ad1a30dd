"""The body of a request: undone codings, limits, and the fields of a form."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import BodyPartReader, web

from pipeline.embedded.clickhouse_codings import Corrupt, Decoder
from pipeline.embedded.clickhouse_errors import ServerError

_WIRE_LIMIT = 256 * 1024 * 1024  # bytes as sent
_LIMIT = 1024 * 1024 * 1024  # bytes after undoing the coding: what a small bomb may grow to
_FIELDS = 1_000


class Body:
    """The body, piece by piece. Raises ServerError for an unknown coding, damage, or too much."""

    def __init__(self, request: web.Request, wire_limit: int = _WIRE_LIMIT, limit: int = _LIMIT) -> None:
        self._request = request
        self._wire_limit = wire_limit
        self._limit = limit
        self._pieces = self._decoded()
        self._kept: list[bytes] = []
        self.ended = False

    async def read(self, limit: int) -> bytes:
        """The first `limit` bytes or somewhat more, all of it when there are less: then `ended`."""
        gathered = bytearray()
        while len(gathered) < limit:
            piece = await anext(self._pieces, None)
            if piece is None:
                self.ended = True
                break
            gathered += piece
        return bytes(gathered)

    async def rest(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            yield piece
        self.ended = True

    async def _decoded(self) -> AsyncIterator[bytes]:
        if not self._request.body_exists or _is_form(self._request):
            return
        coding = self._request.headers.get("Content-Encoding", "").strip().lower()
        try:
            decoder = Decoder(coding)
        except KeyError:
            raise ServerError.refused(f"requests with Content-Encoding {coding[:40]!r}") from None
        sent = size = 0
        try:
            async for data in self._request.content.iter_any():
                sent += len(data)
                for piece in decoder.feed(data):
                    size += len(piece)
                    if sent > self._wire_limit or size > self._limit:
                        limits = f"{self._wire_limit} bytes, or {self._limit} decoded"
                        raise ServerError.too_large(f"a body of more than {limits}")
                    yield piece
            decoder.close()
        except Corrupt as error:
            raise ServerError.of(354, f"Cannot decompress the body: {error}", "ZLIB_INFLATE_FAILED") from None


async def read_form(request: web.Request, limit: int) -> list[tuple[str, str]]:
    """The fields of a multipart form (clickhouse-connect sends long queries so); none of any other request."""
    if not _is_form(request):
        return []
    fields: list[tuple[str, str]] = []
    left = 2 * limit
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.filename is not None or part.name is None:
                raise ServerError.refused("queries with external tables")
            value = bytearray()
            while chunk := await part.read_chunk(65_536):
                value += chunk
                left -= len(chunk)
                if left < 0 or len(fields) > _FIELDS:
                    raise ServerError.too_large("the fields of a form")
            fields.append((part.name, bytes(value).decode()))
    except (ValueError, AssertionError) as error:
        raise ServerError.syntax(f"The form cannot be read: {error}") from None
    return fields


def _is_form(request: web.Request) -> bool:
    return request.method == "POST" and request.content_type == "multipart/form-data"
