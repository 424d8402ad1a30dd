"""Tokens: only what was sealed opens, only for its kind, with any key of the ring."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tokens import LINK_MAX, RETURN_PATH_MAX, Keyring, Kind, Link, LinkKind, ReturnPath, TokenError

OLD, NEW = b"o" * 32, b"n" * 32
RING = Keyring({"a1": OLD, "b2": NEW}, active="b2")
MESSAGE_ID = "cfa0abc1-50c0-584a-a4f1-f3b3a1c2d3e4"
LINK = Link(MESSAGE_ID, "klobwggcof2sfikhgcn3ul3mpi", "example.test", "default", "marketing", "spring-2026", 3)
LINK_KINDS: tuple[LinkKind, ...] = (Kind.OPEN, Kind.CLICK, Kind.UNSUBSCRIBE)

message_ids = st.uuids().map(str)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
links = st.builds(Link, message_ids, texts, texts, texts, texts, st.none() | texts.filter(bool), st.integers(0, 0xFFFF))
link_kinds = st.sampled_from(LINK_KINDS)


@given(message_ids)
def test_a_return_path_comes_back_in_any_case(message_id: str) -> None:
    token = RING.seal(Kind.RETURN_PATH, ReturnPath(message_id))
    assert re.fullmatch(r"b2-[0-9a-f]+", token)
    assert RING.open_token(Kind.RETURN_PATH, token) == ReturnPath(message_id)
    assert RING.open_token(Kind.RETURN_PATH, token.upper()) == ReturnPath(message_id)


def test_a_return_path_fits_a_local_part_with_the_longest_key_id() -> None:
    token = Keyring({"abcd": OLD}, active="abcd").seal(Kind.RETURN_PATH, ReturnPath(MESSAGE_ID))
    assert len(token) == 57
    assert len(f"b+{token}") <= 64
    assert len(token) <= RETURN_PATH_MAX


@given(link_kinds, links)
def test_a_link_comes_back(kind: LinkKind, link: Link) -> None:
    token = RING.seal(kind, link)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert RING.open_token(kind, token) == link


def test_the_tokens_of_a_message_are_those_sealed_one_by_one() -> None:
    wanted: list[tuple[LinkKind, int]] = [(Kind.OPEN, 0), (Kind.CLICK, 3), (Kind.CLICK, 4)]
    tokens = RING.seal_links(LINK, wanted)
    assert tokens[1] == RING.seal(Kind.CLICK, LINK)
    assert [RING.open_token(kind, token).number for (kind, _), token in zip(wanted, tokens, strict=True)] == [0, 3, 4]


def test_tokens_never_change() -> None:
    # In mails that were sent months ago.
    return_path = RING.seal(Kind.RETURN_PATH, ReturnPath(MESSAGE_ID))
    assert return_path == "b2-cfa0abc150c0584aa4f1f3b3a1c2d3e45ae4ef141cad985dcbb5"
    assert (
        RING.seal(Kind.CLICK, LINK)
        == "b2-z6CrwVDAWEqk8fOzocLT5BprbG9id2dnY29mMnNmaWtoZ2NuM3VsM21waQxleGFtcGxlLnRlc3QHZGVmYXVsdAl"
        "tYXJrZXRpbmcLc3ByaW5nLTIwMjYAAANdAeZgEdUSimwrARlrVH3z"
    )


@given(st.data(), link_kinds, links)
def test_any_flipped_bit_of_a_link_is_refused(data: st.DataObject, kind: LinkKind, link: Link) -> None:
    token = RING.seal(kind, link)
    at, bit = data.draw(st.integers(0, len(token) - 1)), data.draw(st.integers(0, 6))
    flipped = token[:at] + chr(ord(token[at]) ^ 1 << bit) + token[at + 1 :]
    with pytest.raises(TokenError):
        RING.open_token(kind, flipped)


def test_any_flipped_bit_of_a_return_path_is_refused_but_for_case() -> None:
    token = RING.seal(Kind.RETURN_PATH, ReturnPath(MESSAGE_ID))
    for at in range(len(token)):
        for bit in range(8):
            flipped = token[:at] + chr(ord(token[at]) ^ 1 << bit) + token[at + 1 :]
            if flipped.lower() != token:
                with pytest.raises(TokenError):
                    RING.open_token(Kind.RETURN_PATH, flipped)


@pytest.mark.parametrize("kind", LINK_KINDS)
def test_a_token_is_for_one_kind(kind: LinkKind) -> None:
    token = RING.seal(kind, LINK)
    for other in LINK_KINDS:
        if other is not kind:
            with pytest.raises(TokenError, match="wrong signature"):
                RING.open_token(other, token)
    with pytest.raises(TokenError):
        RING.open_token(Kind.RETURN_PATH, token)
    with pytest.raises(TokenError):
        RING.open_token(kind, RING.seal(Kind.RETURN_PATH, ReturnPath(MESSAGE_ID)))


def test_an_old_key_opens_until_it_is_taken_away() -> None:
    before = Keyring({"a1": OLD}, active="a1").seal(Kind.UNSUBSCRIBE, LINK)
    assert RING.open_token(Kind.UNSUBSCRIBE, before) == LINK
    with pytest.raises(TokenError, match="unknown key"):
        Keyring({"b2": NEW}, active="b2").open_token(Kind.UNSUBSCRIBE, before)


def test_a_key_id_is_part_of_what_is_signed() -> None:
    same = Keyring({"a1": OLD, "b2": OLD}, active="a1")
    token = same.seal(Kind.OPEN, LINK)
    with pytest.raises(TokenError, match="wrong signature"):
        same.open_token(Kind.OPEN, "b2" + token[2:])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "unknown key"),
        ("b2", "wrong signature"),
        ("b2-", "wrong signature"),
        ("zz-AAAA", "unknown key"),
        ("b2-A", "not a token"),
        ("b2-AA==", "not a token"),
        ("b2-AA AA", "not a token"),
        ("b2-AAA\n", "not a token"),
        ("b2-é", "not a token"),
        ("b2-\udc80", "not a token"),
        ("b2-" + "A" * LINK_MAX, "too long"),
    ],
)
def test_other_texts_are_refused(text: str, why: str) -> None:
    with pytest.raises(TokenError, match=why) as caught:
        RING.open_token(Kind.CLICK, text)
    assert not text or text not in str(caught.value)
    with pytest.raises(TokenError):
        RING.open_token(Kind.RETURN_PATH, text)


@given(st.text(max_size=80).map(lambda text: "b2-" + text), st.sampled_from(Kind))
def test_any_text_is_refused(text: str, kind: Kind) -> None:
    with pytest.raises(TokenError):
        RING.open_token(kind, text)  # type: ignore[call-overload]  # any kind at all


def test_the_letters_of_other_scripts_are_not_folded_into_ours() -> None:
    token = Keyring({"k": OLD}, active="k").seal(Kind.RETURN_PATH, ReturnPath(MESSAGE_ID))
    with pytest.raises(TokenError):
        Keyring({"k": OLD}, active="k").open_token(Kind.RETURN_PATH, "\u212a" + token[1:])


def test_payloads_that_no_message_has_are_refused() -> None:
    with pytest.raises(ValueError, match="UUID"):
        RING.seal(Kind.RETURN_PATH, ReturnPath(MESSAGE_ID.upper()))
    with pytest.raises(ValueError, match="65535"):
        RING.seal_links(LINK, [(Kind.CLICK, 65_536)])
    with pytest.raises(ValueError, match="255 bytes"):
        RING.seal(Kind.OPEN, Link(MESSAGE_ID, "r", "d" * 256, "t", "s"))
    with pytest.raises(ValueError, match="1024 characters"):
        RING.seal(Kind.OPEN, Link(MESSAGE_ID, "r" * 200, "d" * 200, "t" * 200, "s" * 200))
    with pytest.raises(TypeError, match="ReturnPath"):
        RING.seal(Kind.OPEN, ReturnPath(MESSAGE_ID))  # type: ignore[call-overload]  # what mypy refuses, too


def test_the_longest_names_fit() -> None:
    link = Link(str(uuid.UUID(int=1)), "r" * 26, "d" * 253, "t" * 128, "transactional", "c" * 128, 0xFFFF)
    assert RING.open_token(Kind.CLICK, RING.seal(Kind.CLICK, link)) == link


@pytest.mark.parametrize(
    ("keys", "active"),
    [
        ({"a": OLD}, "b"),
        ({"a": b"short"}, "a"),
        ({"a-b": OLD}, "a-b"),
        ({"A": OLD}, "A"),
        ({"abcde": OLD}, "abcde"),
        ({"a": OLD * 3}, "a"),
    ],
)
def test_a_bad_keyring_is_refused(keys: dict[str, bytes], active: str) -> None:
    with pytest.raises(ValueError, match="key"):
        Keyring(keys, active)


def test_keys_are_not_shown() -> None:
    assert "oooo" not in repr(RING)
    assert "nnnn" not in repr(RING)
