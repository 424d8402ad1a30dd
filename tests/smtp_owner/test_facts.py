"""The owner's facts are made of what it knows, and not checked again: no reader may see a difference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.envelope import MailEvent
from schemas.lanes import MessageQueue
from schemas.rules.bounces import BounceClass, Disposition
from sinks.smtp import facts
from sinks.smtp.outcome import Stage
from sinks.smtp.state import Kind, Phase, Result, State
from tests.smtp_owner.world import START, command

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIMES = st.integers(1, 4_000_000_000_000)
MILLISECONDS = st.floats(0, 1e6)
QUEUED = (
    command("plain"),
    command("full", campaign_id="c1", subject_ref="p1", provider="gmail", tags=("a",), metadata={"order": "7"}),
)


@st.composite
def owing(draw: st.DrawFn) -> State:
    kind = draw(st.sampled_from(Kind))
    waits = kind in (Kind.DEFERRED, Kind.HELD) or (kind is Kind.UNKNOWN and draw(st.booleans()))
    was_tried = kind <= Kind.UNKNOWN and kind is not Kind.HELD
    result = Result(
        kind, draw(TIMES), draw(TIMES) if was_tried else 0, draw(st.integers(0, 599)), draw(TEXTS), draw(TEXTS),
        draw(st.sampled_from([*Stage, ""])), draw(st.sampled_from([*BounceClass, ""])),
        draw(st.sampled_from([*Disposition, ""])), reason=draw(TEXTS), source=draw(TEXTS),
        connect_ms=draw(MILLISECONDS), transfer_ms=draw(MILLISECONDS), tls_verified=draw(st.booleans()),
    )  # fmt: skip
    phase = Phase.QUEUED if waits else Phase.ENDED
    return State(phase, False, 1, "", draw(st.integers(1, 9)), 1, draw(TIMES), int(START), int(START), result)


@given(owing(), st.sampled_from(QUEUED))
def test_each_fact_is_what_checked_values_would_have_made(state: State, queued: MessageQueue) -> None:
    found = facts.owed(_as_read(queued), state)
    assert found
    for fact in found:
        checked = type(fact).model_validate(dict(fact))
        assert _bytes(fact) == _bytes(checked)
        assert list(dict(fact)) == list(type(fact).model_fields)
        assert fact == checked


def test_so_is_a_repeat() -> None:
    fact = facts.repeat(_as_read(QUEUED[1]), "mail.lanes.main:0:7", START)
    assert _bytes(fact) == _bytes(type(fact).model_validate(dict(fact)))


def _as_read(queued: MessageQueue) -> MessageQueue:
    """As an owner has it: from its JSON."""
    read = codec.decode(codec.encode(queued, source="plan").value)
    assert isinstance(read, MessageQueue)
    return read


def _bytes(fact: MailEvent) -> codec.Encoded:
    return codec.encode(fact, source="smtp/1")
