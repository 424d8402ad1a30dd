from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from schemas.codec import decode
from tests.topics.driving import Stage
from topics.deadletters import KEEP_HEADERS, KEEP_KEY, KEEP_VALUE, REASON_CHARS, DeadLetters, Poisoned, dead_letter
from topics.record import Record
from topics.registry import DEADLETTERS

WHEN = datetime(2026, 11, 22, 12, tzinfo=UTC)


def record(offset: int = 7, **fields: object) -> Record:
    base = Record("mail.sends", 3, offset, b"key", b"\xff\x00 value", [("a", b"1")], int(WHEN.timestamp() * 1000))
    return base._replace(**fields)  # type: ignore[arg-type]  # the tests' own fields


def test_it_says_what_stood_where_and_why() -> None:
    event = dead_letter(record(), "plan", "bad:\n  mail for Ann@Example.test")
    assert (event.topic, event.partition, event.offset, event.group) == ("mail.sends", 3, 7, "plan")
    assert event.record_key == b"key"
    assert event.record_value == b"\xff\x00 value"
    assert event.record_headers == {"a": "1"}
    assert event.sha256 == sha256(b"\xff\x00 value").hexdigest()
    assert event.occurred_at == WHEN
    assert event.reason == "bad: mail for <address>"


def test_a_repeat_is_the_same_fact_and_another_group_s_is_not() -> None:
    assert dead_letter(record(), "plan", "bad") == dead_letter(record(), "plan", "bad")
    assert dead_letter(record(), "plan", "bad").event_id != dead_letter(record(), "smtp", "bad").event_id


def test_a_value_that_is_base64_by_chance_stays_as_it_is() -> None:
    assert dead_letter(record(value=b"aGVsbG8="), "plan", "bad").record_value == b"aGVsbG8="


def test_what_is_kept_is_limited() -> None:
    huge = record(
        key=b"k" * 100_000,
        value=b"v" * 900_000,
        headers=[(f"h{n}" * 500, b"x" * 9_000) for n in range(100)],
    )
    event = dead_letter(huge, "plan", "r" * 10_000)
    assert len(event.record_key) == KEEP_KEY
    assert len(event.record_value) == KEEP_VALUE
    assert len(event.record_headers) <= KEEP_HEADERS
    assert all(len(name) <= 256 and len(value) <= 256 for name, value in event.record_headers.items())
    assert len(event.reason) <= REASON_CHARS
    assert event.record_size == huge.size


def test_nothing_at_all_can_be_a_dead_letter() -> None:
    event = dead_letter(Record("mail.sends", 0, 0, None, None, [], -1), "plan", "no key")
    assert (event.record_key, event.record_value, event.record_size) == (b"", b"", 0)


@pytest.mark.parametrize(
    ("key", "expected"), [(b"key", b"key"), (None, b"mail.sends:3:7"), (b"k" * 2000, b"mail.sends:3:7")]
)
def test_it_is_keyed_as_the_original_was(fake_stage: Stage, key: bytes | None, expected: bytes) -> None:
    DeadLetters(fake_stage.publisher, "plan").put(record(key=key), "bad")
    fake_stage.publisher.flush()
    [letter] = fake_stage.read(DEADLETTERS, 1)
    assert letter.key == expected
    assert decode(letter.value, letter.headers) == dead_letter(record(key=key), "plan", "bad")


def test_the_limit_is_a_share_of_the_last_records(fake_stage: Stage) -> None:
    letters = DeadLetters(fake_stage.publisher, "plan", limit=2, window=100)
    for offset in range(0, 1_000, 50):  # two in every hundred: for ever
        letters.put(record(offset), "bad")
        letters.passed(50)
    letters.put(record(2_000), "bad")
    with pytest.raises(Poisoned, match=r"3 of the last 100 records of group plan.*mail\.sends:3:2001"):
        letters.put(record(2_001), "bad")


def test_a_repeated_record_counts_once(fake_stage: Stage) -> None:
    letters = DeadLetters(fake_stage.publisher, "plan", limit=1)
    for _ in range(5):
        letters.put(record(), "bad")
