"""Every event type: its example, its schema for others, and what a change of it may not break."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.cli import version as app_version
from pipeline.cli.schema import exported
from schemas import ids
from schemas.address import parse
from schemas.codec import Undecodable, decode, decode_send, encode
from schemas.envelope import Event, MailEvent
from schemas.export import FOLDER, MODELS, breaks, file_name, json_schemas
from schemas.families import EVENTS, SEND
from schemas.lanes import FromCampaign
from schemas.redact import holds_address
from schemas.sends import SendRequested
from schemas.state import RecipientSeen

SCHEMAS = json_schemas()
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))
HOLD_ADDRESSES = {SEND, "message.queue", "inbound.received", "recipient.seen", "campaign.set"}
"""The send path, and a campaign's own sender: all other events are facts for years."""


def kind_of(example: Path) -> str:
    return example.name.rsplit(".v", 1)[0]


def test_every_version_of_every_type_has_an_example() -> None:
    assert {example.name for example in EXAMPLES} == {file_name(kind) for kind in MODELS}


@pytest.mark.parametrize("example", EXAMPLES, ids=kind_of)
def test_an_example_is_read_and_written_back_alike(example: Path) -> None:
    value = example.read_bytes()
    if kind_of(example) == SEND:
        assert isinstance(decode_send(value), SendRequested)
        return
    event = decode(value)
    encoded = encode(event, source="test")
    assert type(event) is EVENTS[kind_of(example)]
    assert json.loads(encoded.value) == json.loads(value)
    assert decode(encoded.value, encoded.headers) == event
    assert encoded.key


def event_of(example: Path) -> Event:
    return decode(example.read_bytes())


@pytest.mark.parametrize("example", [each for each in EXAMPLES if kind_of(each) != SEND], ids=kind_of)
def test_an_event_is_written_as_its_model_says(example: Path) -> None:
    event = event_of(example)
    assert encode(event, source="test").value == event.model_dump_json().encode()


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)))
@example(10**30)
def test_variables_may_be_any_json(value: object) -> None:
    content = FromCampaign(campaign_id="c1", variables={"any": value})
    event = event_of(FOLDER / "examples" / file_name("message.queue")).model_copy(update={"content": content})
    assert encode(event, source="test").value == event.model_dump_json().encode()


def test_the_time_of_recording_is_added_where_an_event_has_none() -> None:
    event = event_of(FOLDER / "examples" / file_name("message.accepted"))
    late = datetime(2026, 5, 4, 3, 2, 1, 5, tzinfo=UTC)
    assert event.recorded_at is not None
    assert decode(encode(event, source="test", recorded_at=late).value) == event
    without = event.model_copy(update={"recorded_at": None})
    expected = event.model_copy(update={"recorded_at": late})
    assert encode(without, source="test", recorded_at=late) == encode(expected, source="test")


@pytest.mark.parametrize("example", [each for each in EXAMPLES if kind_of(each) != SEND], ids=kind_of)
def test_an_event_of_checked_values_is_the_validated_one(example: Path) -> None:
    event = event_of(example)
    fields = {name: value for name, value in event if name not in ("event_id", "type", "occurred_at")}
    checked = type(event).from_checked("cause", occurred_at=event.occurred_at, **fields)
    assert checked == event.model_copy(update={"event_id": ids.event_id(event.type, "cause")})
    assert decode(encode(checked, source="test").value) == checked


def test_an_event_of_checked_values_has_all_its_fields() -> None:
    with pytest.raises(TypeError, match=re.escape("recipient.seen lacks ['address'] and has no ['adress']")):
        RecipientSeen.from_checked("r", occurred_at=datetime.now(UTC), recipient_id="r", adress="ann@example.test")


@pytest.mark.parametrize("example", EXAMPLES, ids=kind_of)
def test_an_example_fits_its_json_schema(example: Path) -> None:
    schema = SCHEMAS[kind_of(example)]
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(example.read_bytes()))


@pytest.mark.parametrize("example", EXAMPLES, ids=kind_of)
def test_facts_hold_no_address(example: Path) -> None:
    if kind_of(example) not in HOLD_ADDRESSES:
        assert not holds_address(example.read_text())


def test_generated_files_are_fresh() -> None:
    stale = [
        name for name, content in exported(app_version().split()[0]).items() if (FOLDER / name).read_bytes() != content
    ]
    assert stale == [], "run: python -m pipeline schema export"


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_no_reader_or_record_of_the_last_release_is_broken(kind: str) -> None:
    released = FOLDER / "released" / file_name(kind)
    if released.exists():  # a type that is new since then breaks nobody
        assert breaks(json.loads(released.read_bytes()), SCHEMAS[kind]) == []


def test_no_type_of_the_last_release_is_gone() -> None:
    released = {path.name.rsplit(".v", 1)[0] for path in (FOLDER / "released").glob("*.json")}
    assert released <= set(MODELS)


def schema(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {"properties": fields, "required": list(required)}


TEXT: dict[str, Any] = {"type": "string"}
OPTIONAL: dict[str, Any] = {"type": "string", "default": ""}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (schema(("a",), a=TEXT), schema(("a",), a=TEXT, b=OPTIONAL), []),
        (schema(a=OPTIONAL), schema(), []),
        (schema(("a",), a=TEXT), schema(), ["a is gone: an old reader requires it"]),
        (schema(("a",), a=TEXT), schema(("a", "b"), a=TEXT, b=TEXT), ["b is now required: an old record lacks it"]),
        (schema(a=OPTIONAL), schema(("a",), a=TEXT), ["a is now required: an old record lacks it"]),
        (schema(("a",), a=TEXT), schema(("a",), a={"type": "integer"}), ["a changed its form from string to integer"]),
        (
            schema(("a",), a=TEXT),
            schema(("a",), a={"anyOf": [TEXT, {"type": "null"}]}),
            ["a changed its form from string to null or string"],
        ),
    ],
)
def test_what_breaks_somebody_is_named(old: dict[str, Any], new: dict[str, Any], said: list[str]) -> None:
    assert breaks(old, new) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "no value"),
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b'{"type":"message.imagined"}', "unknown event type 'message.imagined'"),
        (b"[1]", "not a JSON object"),
        (b'{"type":"recipient.seen"}', "event_id: Field required; occurred_at: Field required"),
    ],
)
def test_what_cannot_be_read_says_why(value: bytes | None, said: str) -> None:
    with pytest.raises(Undecodable) as raised:
        decode(value)
    assert said in str(raised.value)


def test_a_newer_version_is_refused_by_name() -> None:
    value = json.loads((FOLDER / "examples" / "recipient.seen.v1.json").read_bytes()) | {"schema_version": 2}
    with pytest.raises(Undecodable, match=r"recipient\.seen has schema_version 2; this code reads up to 1"):
        decode(json.dumps(value).encode())


def test_reasons_never_quote_the_content() -> None:
    with pytest.raises(Undecodable) as raised:
        decode_send(json.dumps({"recipient": {"ann@example.test": 1}, "from": 5}).encode())
    assert not holds_address(str(raised.value))


def test_an_unknown_field_of_a_fact_is_ignored_and_of_a_send_refused() -> None:
    fact = json.loads((FOLDER / "examples" / "message.delivered.v1.json").read_bytes()) | {"novelty": 1}
    assert isinstance(decode(json.dumps(fact).encode()), MailEvent)
    with pytest.raises(Undecodable, match="novelty"):
        decode_send(json.dumps({"recipient": "ann@example.test", "novelty": 1}).encode())


def test_examples_use_addresses_that_are_valid() -> None:
    example = json.loads((FOLDER / "examples" / "send.requested.v1.json").read_bytes())
    assert str(parse(example["recipient"])) == example["recipient"]
