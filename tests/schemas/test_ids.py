"""Ids: stable, unambiguous, and the same as Kafka's and RFC 9562's own arithmetic."""

from __future__ import annotations

import re
import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids

SECRET = b"a secret of at least sixteen bytes"

# From Apache Kafka's own UtilsTest (signed there).
MURMUR2_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "expected"), MURMUR2_VECTORS.items())
def test_murmur2_gives_kafkas_vectors(data: bytes, expected: int) -> None:
    assert ids.murmur2(data) == expected & 0xFFFFFFFF
    # Java: Utils.toPositive(murmur2(key)) % partitions
    assert ids.key_partition(data, 12) == (expected & 0x7FFFFFFF) % 12


def test_ids_never_change() -> None:
    # Stored for years: a change of these values is a change of every id in every topic.
    assert ids.event_id("message.accepted", "m-1") == "1553084b-fdae-5ece-b665-95c52f51f129"
    assert ids.message_id("default", b"order-17") == "4f241a6d-076d-55c5-a62b-ffe72c9238aa"
    assert ids.recipient_id(SECRET, "default", "ann@example.test") == "faagp3dtbcni6wztlygvpz2xcu"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_they_are_plain_uuidv5(first: str, second: str) -> None:
    name = f"{len(first.encode())}:{first}{second}"
    assert ids.event_id(first, second) == str(uuid.uuid5(ids.EVENT_NAMESPACE, name))
    assert ids.message_id(first, second) == str(uuid.uuid5(ids.MESSAGE_NAMESPACE, name))


def test_the_parts_cannot_be_shifted() -> None:
    assert ids.message_id("a", "b/c") != ids.message_id("a/b", "c")
    assert ids.message_id("a", "1") != ids.message_id("a1", "")
    assert ids.event_id("a", "bc") != ids.event_id("ab", "c")
    assert ids.recipient_id(SECRET, "a", "bc@d.test") != ids.recipient_id(SECRET, "ab", "c@d.test")
    assert ids.message_id("x", "y") != ids.event_id("x", "y")


def test_a_key_is_any_bytes_and_text_stands_for_its_utf8() -> None:
    assert ids.message_id("t", "é") == ids.message_id("t", "é".encode())
    assert ids.message_id("t", b"\xff\x00") != ids.message_id("t", b"\xff\x01")
    assert uuid.UUID(ids.message_id("t", b"\xff\x00\xfe")).version == 5


def test_recipient_id_depends_on_secret_tenant_and_address() -> None:
    one = ids.recipient_id(SECRET, "t", "ann@example.test")
    assert re.fullmatch(r"[a-z2-7]{26}", one)
    others = {
        ids.recipient_id(SECRET + b"!", "t", "ann@example.test"),
        ids.recipient_id(SECRET, "u", "ann@example.test"),
        ids.recipient_id(SECRET, "t", "bob@example.test"),
    }
    assert len(others | {one}) == 4
    with pytest.raises(ValueError, match="16 bytes"):
        ids.recipient_id(b"short", "t", "ann@example.test")


def test_campaign_key_has_one_reading() -> None:
    assert ids.campaign_key("2026/spring", "abc") == "2026/spring/abc"
    with pytest.raises(ValueError, match="no slash"):
        ids.campaign_key("2026", "spring/abc")


def test_shards_share_messages_evenly_and_stay() -> None:
    of = [ids.shard(ids.message_id("t", str(n)), 4) for n in range(4_000)]
    assert of == [ids.shard(ids.message_id("t", str(n)), 4) for n in range(4_000)]
    assert all(900 < count < 1_100 for count in Counter(of).values())
    assert ids.shard(ids.message_id("t", "x"), 1) == 0


def test_the_shards_of_a_lane_lie_on_partitions_in_a_row() -> None:
    first = ids.lane_partition("shared", "google", 0, 12)
    assert first == ids.key_partition(b"shared/google", 12)
    assert [ids.lane_partition("shared", "google", s, 12) for s in range(13)] == [(first + s) % 12 for s in range(13)]
    assert ids.lane_key("shared", "google", 3) == "shared/google#3"
