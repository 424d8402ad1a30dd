"""Content codings, piece by piece."""

from __future__ import annotations

import gzip

import lz4.frame  # type: ignore[import-untyped]  # it has no type information
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embedded.clickhouse_codings import Corrupt, Decoder, Encoder, choose

CODINGS = ["gzip", "deflate", "lz4", "zstd", ""]


def _encode(coding: str, pieces: list[bytes]) -> bytes:
    encoder = Encoder(coding)
    return b"".join([*(encoder.feed(piece) for piece in pieces), encoder.close()])


def _decode(coding: str, data: bytes, step: int) -> bytes:
    decoder = Decoder(coding)
    decoded = b"".join(piece for at in range(0, len(data), step) for piece in decoder.feed(data[at : at + step]))
    decoder.close()
    return decoded


@pytest.mark.parametrize("coding", CODINGS)
@settings(max_examples=30)
@given(st.lists(st.binary(max_size=200), max_size=6), st.integers(1, 50))
def test_what_was_encoded_is_decoded_wherever_it_is_cut(coding: str, pieces: list[bytes], step: int) -> None:
    assert _decode(coding, _encode(coding, pieces), step) == b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS[:-1])
def test_a_bomb_comes_in_pieces_of_a_megabyte(coding: str) -> None:
    decoder = Decoder(coding)
    sizes = [len(piece) for piece in decoder.feed(_encode(coding, [bytes(20_000_000)]))]
    decoder.close()
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize("coding", CODINGS[:-1])
def test_damage_and_a_missing_end_are_told(coding: str) -> None:
    with pytest.raises(Corrupt):
        list(Decoder(coding).feed(b"this is not compressed at all"))
    with pytest.raises(Corrupt, match="too early"):
        _decode(coding, _encode(coding, [b"hello" * 100])[:-3], 1000)


def test_several_members_are_one_body() -> None:
    assert _decode("gzip", gzip.compress(b"one ") + gzip.compress(b"two"), 7) == b"one two"
    assert _decode("lz4", lz4.frame.compress(b"one ") + lz4.frame.compress(b"two"), 7) == b"one two"


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("lz4,zstd,gzip,deflate", "lz4"),
        ("br, gzip", "gzip"),
        ("zstd;q=0, GZIP;q=0.5", "gzip"),
        ("identity", ""),
        ("", ""),
    ],
)
def test_the_clients_first_wish_that_we_have_is_taken(accept: str, coding: str) -> None:
    assert choose(accept) == coding
