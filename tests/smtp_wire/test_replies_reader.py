from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.smtp.replies import LINE_MAX, LINES_MAX, Reply, ReplyError, ReplyReader


@pytest.mark.parametrize(
    ("data", "code", "enhanced", "text"),
    [
        (b"250 OK\r\n", 250, "", "OK"),
        (b"250\r\n", 250, "", ""),
        (b"250 OK\n", 250, "", "OK"),
        (b"550 5.1.1 No such user\r\n", 550, "5.1.1", "No such user"),
        (b"550 5.1.1\r\n", 550, "5.1.1", ""),
        (b"550 4.1.1 odd class\r\n", 550, "", "odd class"),
        (b"550 5.1.1234 no code\r\n", 550, "", "5.1.1234 no code"),
        (b"421-4.7.0 Try again later,\r\n421 4.7.0 closing\r\n", 421, "4.7.0", "Try again later, closing"),
        (b"550 a\x00\x1bb\xff\r\n", 550, "", "a b\ufffd"),
    ],
)
def test_a_reply(data: bytes, code: int, enhanced: str, text: str) -> None:
    (reply,) = ReplyReader().feed(data)
    assert (reply.code, reply.enhanced, reply.text) == (code, enhanced, text)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"25\r\n",
        b"2500\r\n",
        b"250_x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"OK\r\n",
        b"250-a\r\n251 b\r\n",
        b"\xb2\xb5\xb0 x\r\n",
        b"250 " + b"x" * LINE_MAX + b"\r\n",
        b"x" * (LINE_MAX + 1),
        b"250-x\r\n" * LINES_MAX,
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(ReplyError):
        list(ReplyReader().feed(data))


@given(st.lists(st.sampled_from([b"250 a\r\n", b"550-x\r\n550 y\r\n", b"354 go\n"]), max_size=6), st.data())
def test_replies_do_not_depend_on_how_they_are_cut(replies: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(replies)
    reader, found, at = ReplyReader(), list[Reply](), 0
    while at < len(whole):
        size = data.draw(st.integers(1, 9))
        found += reader.feed(whole[at : at + size])
        at += size
    assert found == list(ReplyReader().feed(whole))
    assert not reader.pending


@given(st.binary(max_size=400))
def test_any_bytes_are_replies_or_an_error(data: bytes) -> None:
    try:
        replies = list(ReplyReader().feed(data))
    except ReplyError:
        return
    for reply in replies:
        assert 200 <= reply.code <= 599
        assert not set(reply.text) & set("\r\n\0")
