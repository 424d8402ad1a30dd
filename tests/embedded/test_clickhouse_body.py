"""The limits of a request's body, without a server."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from pipeline.embedded.clickhouse_body import Body
from pipeline.embedded.clickhouse_codings import Encoder
from pipeline.embedded.clickhouse_errors import ServerError


def _request(data: bytes, coding: str) -> web.Request:
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), 2**30, loop=loop)  # no flow control
    content.feed_data(data)
    content.feed_eof()
    headers = {"Content-Encoding": coding, "Content-Length": str(len(data))}
    return make_mocked_request("POST", "/", headers, payload=content, transport=mock.Mock())


def _packed(coding: str, size: int) -> bytes:
    encoder = Encoder(coding)
    return encoder.feed(bytes(size)) + encoder.close()


async def test_a_body_within_the_limits_is_read_in_two_steps() -> None:
    body = Body(_request(_packed("zstd", 3_000_000), "zstd"), limit=3_000_000)
    start = await body.read(100)
    assert not body.ended
    rest = [piece async for piece in body.rest()]
    assert body.ended
    assert len(start) + sum(map(len, rest)) == 3_000_000


@pytest.mark.parametrize("coding", ["zstd", "gzip", "lz4", "identity"])
async def test_a_body_that_grows_over_the_limit_is_refused(coding: str) -> None:
    data = _packed("" if coding == "identity" else coding, 3_000_000)
    with pytest.raises(ServerError, match="QUERY_IS_TOO_LARGE"):
        await Body(_request(data, coding), limit=2_999_999).read(10_000_000)


async def test_a_body_over_the_limit_as_sent_is_refused() -> None:
    with pytest.raises(ServerError, match="QUERY_IS_TOO_LARGE"):
        await Body(_request(bytes(1_001), ""), wire_limit=1_000).read(10_000_000)


async def test_an_unknown_or_damaged_coding_is_told() -> None:
    with pytest.raises(ServerError, match="NOT_IMPLEMENTED"):
        await Body(_request(b"x", "br")).read(10)
    with pytest.raises(ServerError, match="ZLIB_INFLATE_FAILED"):
        await Body(_request(b"not packed", "gzip")).read(10)
