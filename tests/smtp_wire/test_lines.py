"""A layout's lines are those of its texts joined, in each form, whatever is put in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.smtp.lines import Layout, joined, lines
from sinks.smtp.mime import MimeError

TEXT = st.lists(st.sampled_from(["\r\n", ".", "..", " ", "  ", "\t", "a", "b c", "=", "_", "\r\n."]), max_size=8).map(
    lambda parts: "".join(parts).encode()
)


def interleaved(static: list[bytes], dynamic: list[bytes]) -> bytes:
    return b"".join(text for pair in zip(static, [*dynamic, b""], strict=True) for text in pair)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), TEXT)
def test_a_layout_is_its_texts_in_each_form(pairs: list[tuple[bytes, bytes]], last: bytes) -> None:
    static, dynamic = [*(text for text, _ in pairs), last + b"\r\n"], [text for _, text in pairs]
    whole = interleaved(static, dynamic)
    found = Layout(static).filled(dynamic)
    if found is None:
        assert b"=_" in whole
    else:
        assert found == lines(whole)


@given(st.lists(TEXT.map(lambda text: text + b"\r\n"), min_size=1, max_size=5))
def test_whole_lines_may_be_prepared_apart(texts: list[bytes]) -> None:
    assert joined(map(lines, texts)) == lines(b"".join(texts))


@pytest.mark.parametrize("text", [b"\0", b"\0\r\n", "é".encode(), b"x" * 995, b"=_", b"_", b"a\x1bb"])
def test_what_cannot_stand_between_its_neighbours_is_told(text: bytes) -> None:
    assert Layout([b"one\r\n==", b"==\r\ntwo\r\n", b"three\r\n"]).filled([text, b""]) is None


@pytest.mark.parametrize("static", [[b"a"], [b"a\r\n", b"b"], [b"a\nb\r\n"], [b"\0\r\n"], [b"x" * 999 + b"\r\n"]])
def test_what_is_no_line_is_refused(static: list[bytes]) -> None:
    with pytest.raises(MimeError):
        Layout(static)
