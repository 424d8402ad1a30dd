"""Rows, tokens and marks as pure functions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Undecodable
from schemas.messages import MessageAccepted
from sinks.clickhouse.core import READ, Mark, Row, Span, block, row, unfit_rows
from tests.clickhouse_sink.history import Story, numbered, record
from topics.record import Record
from topics.registry import BY_NAME, MESSAGES, SUPPRESSIONS

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
GOLDEN = (
    b'{"kafka_partition":1,"kafka_offset":7,"event_id":"e89b5e5a-0c8e-5b1b-8a53-000000000000","type":"message.accepted",'
    b'"occurred_at":"2026-11-01T12:00:00Z"}'
)


def raw(value: bytes | None, topic: str = "mail.messages", offset: int = 7, partition: int = 1) -> Record:
    return Record(topic, partition, offset, b"key", value, [], 0)


def test_the_value_passes_through_with_its_place_in_front() -> None:
    value = (
        b'\n {"event_id":"e89b5e5a-0c8e-5b1b-8a53-000000000000","type":"message.accepted",'
        b'"occurred_at":"2026-11-01T12:00:00Z"}'
    )
    assert row(raw(value), MESSAGES) == GOLDEN


def test_a_tombstone_is_no_row() -> None:
    assert row(raw(None, "mail.suppressions"), SUPPRESSIONS) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"type":"message.accepted"}{"type":"message.accepted"}', "not JSON"),
        (b'{"type":"open.judged","event_id":"x"}', "does not belong on mail.messages"),
        (b'{"type":7,"event_id":"x"}', "does not belong"),
        (b"{}", "does not belong"),
        (b'{"type":"message.accepted","schema_version":2}', "reads up to 1"),
        (b'{"type":"message.accepted","schema_version":"1"}', "reads up to 1"),
        (b'{"type":"message.accepted"}', "event_id is missing"),
        (b'{"type":"message.accepted","event_id":"x","occurred_at":7}', "occurred_at is missing"),
        (b'{"type":"message.accepted","event_id":"x","occurred_at":"y","kafka_offset":1}', "kafka_offset is"),
        (b'{"x":"' + b"a" * 1024 * 1024 + b'"}', "more than the 1048576"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_row_says_why(value: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        row(raw(value), MESSAGES)


def test_bad_records_do_not_keep_their_neighbours_out() -> None:
    good = numbered(Story(AT).campaign(20).events)
    of_messages = [one for one in good if one.topic == "mail.messages"]
    mixed = [*of_messages[:3], raw(b"{", offset=900), *of_messages[3:]]
    made, unfit = block("mail.messages", {Span(0, 0, 999): mixed})
    assert [one.record for one in made.rows] == of_messages
    assert [bad.record.offset for bad in unfit] == [900]


def test_the_token_names_topic_spans_and_rows() -> None:
    story = Story(AT)
    story.message("in_flight")
    story.message("in_flight")
    one, two = (record(event, offset) for offset, event in enumerate(story.events))
    other = record(story.events[1], 5, partition=1)
    made, _ = block("mail.messages", {Span(1, 5, 5): [other], Span(0, 0, 1): [one, two]})
    assert made.table == "messages"
    assert made.token.startswith("mail.messages:0:0-1,1:5-5#")
    assert block("mail.messages", {Span(0, 0, 1): [one, two], Span(1, 5, 5): [other]})[0].token == made.token
    assert block("mail.messages", {Span(0, 0, 1): [two, two], Span(1, 5, 5): [other]})[0].token != made.token
    assert made.without([0]).token != made.token


def test_the_dead_letters_of_a_block_are_left_out_of_it() -> None:
    made, _ = block("mail.messages", {Span(0, 0, 9): numbered(Story(AT).campaign(3).events)[:1]})
    assert made.without([0]).rows == ()


@given(st.lists(st.booleans(), max_size=40))
def test_halving_finds_each_bad_row_and_no_other(bad: list[bool]) -> None:
    rows = [Row(raw(b""), b"bad" if is_bad else b"good") for is_bad in bad]
    tried: list[bytes] = []

    def fits(body: bytes) -> bool:
        tried.append(body)
        return b"bad" not in body

    assert unfit_rows(rows, fits) == [index for index, is_bad in enumerate(bad) if is_bad] if rows else not tried[1:]


@pytest.mark.parametrize(("mark", "metadata"), [(Mark(5, 9), "last=9"), (Mark(5), ""), (Mark(0, 0), "last=0")])
def test_a_mark_survives_being_committed(mark: Mark, metadata: str) -> None:
    assert mark.metadata == metadata
    assert Mark.read(mark.offset, metadata) == mark


@pytest.mark.parametrize(
    ("offset", "metadata", "mark"),
    [(-1001, "", None), (5, None, Mark(5)), (5, "last=4", Mark(5)), (5, "last=x", Mark(5)), (5, "other", Mark(5))],
)
def test_metadata_that_is_not_ours_counts_as_none(offset: int, metadata: str | None, mark: Mark | None) -> None:
    assert Mark.read(offset, metadata) == mark


def test_addresses_and_raw_mail_are_not_read() -> None:
    names = {topic.name for topic in READ}
    assert names.isdisjoint({"mail.recipients", "mail.inbound", "mail.sends", "mail.lanes.main", "mail.queue.main"})
    assert {"mail.messages", "mail.attempts", "mail.subscribers", "mail.suppressions"} <= names
    assert all(name in BY_NAME for name in names)


def test_every_example_fact_is_a_row() -> None:
    for one in numbered(Story(AT).campaign(200).events):
        line = row(one, BY_NAME[one.topic])
        assert line is not None
        assert line.endswith((one.value or b"")[1:])


def test_an_event_that_was_recorded_without_a_time_is_a_row() -> None:
    story = Story(AT)
    made = story.message("in_flight")
    event = MessageAccepted.model_validate({**story.events[0].model_dump(), "recorded_at": None})
    assert made.id.encode() in (row(record(event), MESSAGES) or b"")
