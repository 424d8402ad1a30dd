"""Content codings of requests and responses, piece by piece, in bounded memory.

lz4 (frames) and zstd come with clickhouse-connect, which uses the same packages for the other end. ClickHouse's own
framing (`compress=1`, `decompress=1`) is not offered: clickhouse-connect does not use it.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import lz4.frame  # type: ignore[import-untyped]  # it has no type information

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE = 1024 * 1024  # bytes of output at once


class Corrupt(Exception):
    """The bytes are not of the coding they were sent under."""


class _Decompressor(Protocol):
    """The interface that the standard library's decompressors share (bz2, lzma, zstd), and lz4's too."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Zlib:
    """zlib behind the same interface; 47: gzip or zlib, by the header."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=47)
        self._more = False  # the last piece was cut at max_length

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._more

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))
        self._more = len(piece) == max_length
        return piece


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": _Zlib,
    "deflate": _Zlib,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}


class Decoder:
    """Undo one coding. `feed` yields pieces of at most a megabyte; `close` says whether the end was reached."""

    def __init__(self, coding: str) -> None:
        """Raises KeyError for a coding that is not known."""
        self._make = _DECODERS[coding] if coding not in ("", "identity") else None
        self._inner: _Decompressor | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._make is None:
            if data:
                yield data
            return
        try:
            while data:
                if self._inner is None:  # the first member, or one after the last: gzip and lz4 allow several
                    self._inner = self._make()
                piece = self._inner.decompress(data, _PIECE)
                while not self._inner.eof and not self._inner.needs_input:
                    yield piece
                    piece = self._inner.decompress(b"", _PIECE)
                if piece:
                    yield piece
                data = b""
                if self._inner.eof:
                    data, self._inner = self._inner.unused_data, None
        except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as error:
            raise Corrupt(str(error)) from None

    def close(self) -> None:
        if self._inner is not None:
            raise Corrupt("the compressed body ends too early")


class _Lz4Encoder:
    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameCompressor()
        self._begun = b""

    def compress(self, data: bytes) -> bytes:
        head = b"" if self._begun else self._inner.begin()
        self._begun = self._begun or head
        return bytes(head + self._inner.compress(data))

    def flush(self) -> bytes:
        return (b"" if self._begun else bytes(self._inner.begin())) + bytes(self._inner.flush())


_ENCODERS: dict[str, Callable[[], Any]] = {
    "lz4": _Lz4Encoder,
    "zstd": lambda: zstd.ZstdCompressor(level=1),
    "gzip": lambda: zlib.compressobj(level=3, wbits=31),
    "deflate": lambda: zlib.compressobj(level=3),
}


def choose(accept_encoding: str) -> str:
    """The first coding of an Accept-Encoding header that we have; empty for none."""
    for part in accept_encoding.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() in _ENCODERS and quality.replace(" ", "") not in ("q=0", "q=0.0"):
            return coding.strip()
    return ""


class Encoder:
    """Apply one coding; empty for none."""

    def __init__(self, coding: str) -> None:
        self._inner = _ENCODERS[coding]() if coding else None

    def feed(self, data: bytes) -> bytes:
        return bytes(self._inner.compress(data)) if self._inner is not None else data

    def close(self) -> bytes:
        return bytes(self._inner.flush()) if self._inner is not None else b""
