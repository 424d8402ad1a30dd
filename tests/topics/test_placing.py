"""Everyone who writes a key puts it on the same partition: librdkafka as we set it, Faust's client, our own murmur2."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import DefaultPartitioner  # type: ignore[import-untyped]  # it has no types

from schemas.ids import murmur2
from tests.topics.driving import Stage
from topics.registry import SENDS

_RANDOM = random.Random(7)
KEYS = [
    b"",
    b"k",
    "Ünïcödé/键/🐟".encode(),
    b"\x00\xff\xfe\x80",
    *(b"campaign-7/%026d" % number for number in range(300)),
    *(_RANDOM.randbytes(length) for length in range(1, 200)),
]


def placed(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize("partitions", [1, 2, 4, 12, 37])
def test_faust_s_client_places_keys_as_we_do(partitions: int) -> None:
    everywhere = list(range(partitions))
    chosen = [DefaultPartitioner()(key, everywhere, everywhere) for key in KEYS]
    assert chosen == [placed(key, partitions) for key in KEYS]


def test_librdkafka_places_keys_as_we_do(stage: Stage) -> None:
    stage.send(SENDS, *((key, b"%d" % number) for number, key in enumerate(KEYS)))
    records = stage.read(SENDS, len(KEYS))
    assert {int(record.value or b""): record.partition for record in records} == {
        number: placed(key, SENDS.embedded) for number, key in enumerate(KEYS)
    }
