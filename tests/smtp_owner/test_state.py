"""The bytes of a state: golden, small, without an address, and readable by whoever comes after."""

from __future__ import annotations

from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.smtp.state import (
    MAX_BYTES,
    Kind,
    Phase,
    Result,
    State,
    Unreadable,
    decode,
    encode,
    key_of,
    lane_name,
    message_id_of,
)

QUEUED = State(
    Phase.QUEUED, False, 4711, "default/google#0", 2, 1_760_000_000_123, 1_760_000_300_000, 1_760_086_400,
    1_760_090_000, tenant=0xDECAFBAD,
)  # fmt: skip
DELIVERED = Result(
    Kind.DELIVERED,
    1_760_000_001_000,
    1_760_000_000_900,
    code=250,
    enhanced="2.0.0",
    text="queued as 4711",
    stage="dot",
    source="192.0.2.1",
    worker="1",
    session_id="1-7",
    mx_host="mx.example.test",
    mx_ip="198.51.100.7",
    connect_ms=12.5,
    transfer_ms=50.25,
    tls_version="TLSv1.3",
    tls_cipher="TLS_AES_256_GCM_SHA384",
    tls_verified=True,
    tls_policy="sts",
)
ENDED = QUEUED._replace(phase=Phase.ENDED, lane="", attempts=3, result=DELIVERED)
DONE = State(Phase.DONE, True, 4711, "", 0, 0, 0, 0, 1_760_090_000)

# What is on disk: changing any of these breaks every queue there is. A new layout gets a new version byte.
GOLDEN = (
    (
        QUEUED,
        "0301000002000000000000126700000199c82cc07b00000199c83153e068e8c98068e8d790decafbad1064656661756c"
        "742f676f6f676c652330",
    ),
    (
        ENDED,
        "0403060003000000000000126700000199c82cc07b00000199c83153e068e8c98068e8d790decafbad000100000199c8"
        "2cc3e800000199c82cc38400fa000041480000424900001f322e302e301f1f1f646f741f3139382e35312e3130302e37"
        "1f3139322e302e322e311f1f6d782e6578616d706c652e746573741f312d371f311f544c5376312e331f7374731f1f54"
        "4c535f4145535f3235365f47434d5f5348413338341f7175657565642061732034373131",
    ),
    (
        DONE,
        "010401000000000000126768e8d790",
    ),
)

TEXTS = [name for name, kind in get_type_hints(Result).items() if kind is str]
texts = st.text(st.characters(codec="utf-8"), max_size=400)
ms = st.integers(0, 2**45)
seconds = st.integers(0, 2**32 - 1)
results = st.builds(
    Result,
    kind=st.sampled_from(Kind),
    at=ms,
    started_at=ms,
    code=st.integers(0, 999),
    classifier_version=st.integers(0, 999),
    connect_ms=st.floats(0, 1e6, width=32),
    transfer_ms=st.floats(0, 1e6, width=32),
    tls_verified=st.booleans(),
    **dict.fromkeys(TEXTS, texts),
)
states = st.builds(
    State,
    phase=st.sampled_from([Phase.QUEUED, Phase.SENDING, Phase.ENDED]),
    urgent=st.booleans(),
    offset=st.integers(0, 2**60),
    lane=texts.map(lane_name),
    attempts=st.integers(0, 0xFFFF),
    accepted_at=ms,
    next_at=ms,
    expires_at=seconds,
    keep_until=seconds,
    result=st.none() | results,
    tenant=seconds,
    priority=st.integers(0, 2),
)


@given(states)
def test_a_state_is_small_and_comes_back_but_for_what_is_cut(state: State) -> None:
    value = encode(state)
    assert len(value) <= MAX_BYTES
    back = decode(value)
    assert back._replace(result=None) == state._replace(result=None)
    assert (back.result is None) == (state.result is None)
    if state.result is not None and back.result is not None:
        was, now = state.result, back.result
        numbers = [name for name in Result._fields if name not in TEXTS]
        assert [getattr(was, name) for name in numbers] == [getattr(now, name) for name in numbers]
        assert was.text.replace("\x1f", " ").startswith(now.text)
        assert encode(back) == value, "what a heir writes again is the same"


def test_an_ordinary_result_loses_nothing() -> None:
    assert decode(encode(ENDED)) == ENDED
    long = ENDED._replace(result=DELIVERED._replace(text="x" * 400))
    kept = decode(encode(long)).result
    assert kept is not None
    assert kept._replace(text="") == DELIVERED._replace(text="")
    assert len(encode(long)) == MAX_BYTES
    assert len(kept.text) > 60


@pytest.mark.parametrize(("state", "value"), GOLDEN)
def test_the_bytes_on_disk_stay(state: State, value: str) -> None:
    assert encode(state).hex() == value
    assert decode(bytes.fromhex(value)) == state


def test_states_from_before_tenants_had_turns_are_read() -> None:
    waiting = (
        "0101000002000000000000126700000199c82cc07b00000199c83153e068e8c98068e8d7901064656661756c742f676f6f676c652330"
    )
    assert decode(bytes.fromhex(waiting)) == QUEUED._replace(tenant=0)
    owed = (
        "0203060003000000000000126700000199c82cc07b00000199c83153e068e8c98068e8d790000100000199c82cc3e800"
        "000199c82cc38400fa000041480000424900001f322e302e301f1f1f646f741f3139382e35312e3130302e371f313932"
        "2e302e322e311f1f6d782e6578616d706c652e746573741f312d371f311f544c5376312e331f7374731f1f544c535f41"
        "45535f3235365f47434d5f5348413338341f7175657565642061732034373131"
    )
    assert decode(bytes.fromhex(owed)) == ENDED._replace(tenant=0)


def test_a_result_of_version_1_is_read() -> None:
    value = (
        "0103060003000000000000126700000199c82cc07b00000199c83153e068e8c98068e8d790000100000199c82cc3e800"
        "000199c82cc38400fa000041480000424900001f322e302e301f1f1f646f741f3139382e35312e3130302e371f313932"
        "2e302e322e311f1f6d782e6578616d706c652e746573741f312d371f311f544c5376312e331f544c535f4145535f3235"
        "365f47434d5f5348413338341f7175657565642061732034373131"
    )
    assert decode(bytes.fromhex(value)) == ENDED._replace(tenant=0, result=DELIVERED._replace(tls_policy=""))


def test_markers_are_tiny() -> None:
    assert decode(encode(DONE)) == DONE
    assert len(encode(DONE)) == 15


def test_a_long_lane_has_a_stable_short_name() -> None:
    key = "default/" + "a" * 240 + ".test#0"
    assert lane_name(key) == lane_name(key) != lane_name(key + "1")
    assert len(lane_name(key).encode()) <= 120
    assert lane_name("default/google#0") == "default/google#0"


def test_ids_come_back() -> None:
    message_id = "0f2b8a52-5c1e-5d2f-8a0b-6a1f3b1c9d11"
    assert message_id_of(key_of(message_id)) == message_id


NO_STATES = [b"", b"\x02", b"\x01\x09", b"\x01\x01\x00"]
NO_STATES += [encode(QUEUED)[:-3], encode(QUEUED) + b"x", encode(ENDED)[:-40]]


@pytest.mark.parametrize("value", NO_STATES)
def test_what_is_not_a_state_is_refused(value: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        decode(value)
    assert "google" not in str(refused.value)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    try:
        decode(b"\x01" + value)
    except Unreadable:
        return
