"""Where a mail ends, for any bytes in any pieces; how large it may be; and what is left of a connection behind it."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.sources import listener
from pipeline.sources.listener import Doorkeeper, Listener

GREETING = b"EHLO mx.example.test\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n"
MIB = 1024 * 1024


class Recorder:
    """The handler: everybody exists, every mail is taken."""

    hostname = "mx.brand.test"

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.senders: list[str | None] = []

    async def take(self, session: Session, envelope: Envelope, content: bytes) -> str:
        self.mails.append(content)
        self.senders.append(envelope.mail_from)
        return "250 taken"


class Wire(asyncio.Transport):
    """A client's end, in memory: it says exactly in which pieces its bytes arrive."""

    def __init__(self, handler: Any, doorkeeper: Doorkeeper | None = None) -> None:
        super().__init__({"peername": ("192.0.2.1", 25)})
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._started = b""
        self.closed = asyncio.Event()
        self.listener = Listener(handler, doorkeeper or Doorkeeper())
        self.listener.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        *lines, self._started = (self._started + data).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._answers.put_nowait(line)

    def say(self, data: bytes) -> None:
        self.listener.data_received(data)

    async def codes(self, count: int) -> list[int]:
        """Of the next `count` replies."""
        async with asyncio.timeout(20):
            return [int((await self._answers.get())[:3]) for _ in range(count)]

    async def greet(self) -> None:
        """Up to where DATA may be said."""
        self.say(GREETING)
        assert await self.codes(4) == [220, 250, 250, 250]

    async def hang_up(self) -> None:
        self.close()
        await self.closed.wait()

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            self.listener.connection_lost(None)

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def talk(handler: Any, scenario: Callable[[Wire], Awaitable[None]]) -> None:
    wire = Wire(handler)
    await wire.greet()
    await scenario(wire)
    await wire.hang_up()


def stuffed(content: bytes) -> bytes:
    """What a client sends behind 354. RFC 5321 section 4.5.2: lines are what CRLF divides."""
    return b"\r\n".join(b"." + line if line[:1] == b"." else line for line in content.split(b"\r\n")) + b".\r\n"


CONTENTS = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"\0", b"x", b"\r\n.", b"\r\n.\r\n", b"\n.\n", b"QUIT"])
    | st.binary(max_size=5),
    max_size=12,
).map(lambda parts: b"".join(parts) + b"\r\n") | st.just(b"")


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(CONTENTS, min_size=1, max_size=3),
    st.lists(st.integers(0, 400), max_size=20),
    st.integers(0, 3),
    st.booleans(),
)
@example([b""], [], 0, True)
@example([b".\r\n"], list(range(100)), 3, False)
@example([b"\r\n", b"..\r\n"], list(range(200)), 1, True)
def test_any_mail_in_any_pieces_is_taken_as_it_was(
    contents: list[bytes], cuts: list[int], turns: int, eager: bool
) -> None:
    """Between two pieces the loop turns so often. An `eager` peer waits for no reply."""
    again = b"MAIL FROM:<ann@example.test>\r\nRCPT TO:<postmaster>\r\n"
    steps = [step for content in contents for step in ((b"DATA\r\n", 1), (stuffed(content) + again, 3))]
    if eager:
        steps = [(b"".join(said for said, _ in steps), sum(replies for _, replies in steps))]
    handler = Recorder()

    async def scenario(wire: Wire) -> None:
        found: list[int] = []
        for said, replies in steps:
            for piece in pieces(said, cuts):
                wire.say(piece)
                for _ in range(turns):
                    await asyncio.sleep(0)
            found += await wire.codes(replies)
        assert found == [354, 250, 250, 250] * len(contents)

    asyncio.run(talk(handler, scenario))
    assert handler.mails == contents
    assert handler.senders == ["<>", *["ann@example.test"] * (len(contents) - 1)]


# The line breaks that some server took for one. Each of them hides a second mail in the first.
@pytest.mark.parametrize(
    "form",
    [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r\n.\r\r\n", b"\r\n.\0\r\n",
     b"\r\n\0.\r\n", b"\r\n. \r\n", b"\r\n\x0b.\r\n", b"\x85.\x85"],
)  # fmt: skip
async def test_what_looks_like_an_end_is_none(form: bytes) -> None:
    handler = Recorder()
    inside = b"MAIL FROM:<boss@brand.test>\r\nRCPT TO:<postmaster>\r\nDATA\r\nSubject: two\r\n"

    async def scenario(wire: Wire) -> None:
        wire.say(b"DATA\r\nSubject: one\r\n" + form + inside + b".\r\nNOOP\r\n")
        assert await wire.codes(3) == [354, 250, 250]

    await talk(handler, scenario)
    (mail,) = handler.mails
    assert mail.endswith(inside)
    assert handler.senders == ["<>"]


@pytest.mark.parametrize(("over", "reply"), [(0, 250), (1, 552), (5, 552), (MIB, 552)])
@pytest.mark.parametrize("piece", [10_007, 16 * MIB])
async def test_a_mail_has_a_largest_size(over: int, reply: int, piece: int) -> None:
    handler = Recorder()
    content = b"x" * (listener.MAX_MAIL + over - 2) + b"\r\n"

    async def scenario(wire: Wire) -> None:
        wire.say(b"DATA\r\n")
        said = content + b".\r\nNOOP\r\n"
        for start in range(0, len(said), piece):
            wire.say(said[start : start + piece])
            await asyncio.sleep(0)
        assert await wire.codes(3) == [354, reply, 250]

    await talk(handler, scenario)
    assert [len(mail) for mail in handler.mails] == [len(content)] * (reply == 250)


async def test_what_is_too_large_is_not_kept() -> None:
    async def scenario(wire: Wire) -> None:
        wire.say(b"DATA\r\n")
        lines = b"x" * 65_534 + b"\r\n"
        await wire.codes(1)
        tracemalloc.start()
        for _ in range(10 * listener.MAX_MAIL // len(lines)):
            wire.say(lines)
            await asyncio.sleep(0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        wire.say(b".\r\n")
        assert await wire.codes(1) == [552]
        assert most < 3 * listener.MAX_MAIL

    await talk(Recorder(), scenario)


@pytest.mark.parametrize("cut", range(6))
async def test_a_mail_behind_one_that_was_too_large_is_taken(cut: int) -> None:
    handler = Recorder()
    end = b"\r\n.\r\n"

    async def scenario(wire: Wire) -> None:
        wire.say(b"DATA\r\n" + b"x" * (listener.MAX_MAIL + 100) + end[:cut])
        assert await wire.codes(1) == [354]
        wire.say(end[cut:] + GREETING + b"DATA\r\nshort\r\n.\r\n")
        assert await wire.codes(6) == [552, 250, 250, 250, 354, 250]

    await talk(handler, scenario)
    assert handler.mails == [b"short\r\n"]


async def test_a_line_may_be_long() -> None:
    handler = Recorder()
    content = b"x" * 100_000 + b"\r\n"

    async def scenario(wire: Wire) -> None:
        wire.say(b"DATA\r\n" + content + b".\r\n")
        assert await wire.codes(2) == [354, 250]

    await talk(handler, scenario)
    assert handler.mails == [content]


async def test_a_size_that_is_declared_is_looked_at_before_the_mail() -> None:
    async def scenario(wire: Wire) -> None:
        wire.say(b"RSET\r\nMAIL FROM:<> SIZE=%d\r\n" % (listener.MAX_MAIL + 1))
        wire.say(b"MAIL FROM:<ann@example.test> BODY=8BITMIME SIZE=%d\r\n" % listener.MAX_MAIL)
        assert await wire.codes(3) == [250, 552, 250]

    await talk(Recorder(), scenario)


async def test_data_is_refused_where_it_has_no_place() -> None:
    async def scenario(wire: Wire) -> None:
        wire.say(b"DATA now\r\nRSET\r\nDATA\r\nHELP DATA\r\n")
        assert await wire.codes(4) == [501, 250, 503, 250]

    await talk(Recorder(), scenario)


@pytest.mark.parametrize("gone", ["eof_received", "close"])
async def test_of_a_client_that_goes_away_in_its_mail_nothing_is_taken(gone: str) -> None:
    handler, doorkeeper = Recorder(), Doorkeeper()
    wire = Wire(handler, doorkeeper)
    await wire.greet()
    wire.say(b"DATA\r\nSubject: half a mail\r\n")
    assert await wire.codes(1) == [354]
    getattr(wire if gone == "close" else wire.listener, gone)()
    async with asyncio.timeout(20):
        await wire.closed.wait()
    assert handler.mails == []
    for _ in range(listener.MAX_CONNECTIONS_PER_PEER):  # it has given its place back
        assert doorkeeper.enter("192.0.2.1")


async def test_a_client_that_falls_silent_in_its_mail_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_SILENCE", 0.05)
    handler = Recorder()
    wire = Wire(handler)
    wire.say(GREETING + b"DATA\r\nSubject: half a mail\r\n")
    async with asyncio.timeout(20):
        await wire.closed.wait()
    assert handler.mails == []


@given(st.from_regex(listener._PATH, fullmatch=True))
@example("<>")
@example("<> SIZE=4000 BODY=8BITMIME")
@example("<prvs=0123abc=ann+b@mail-1.example.test> SIZE=4000")
def test_a_plain_path_is_read_as_aiosmtpd_reads_it(path: str) -> None:
    reader = Listener.__new__(Listener)  # what reads a path needs no connection
    ours, theirs = reader._getaddr(path), SMTP._getaddr(reader, path)
    assert (ours[0], (ours[1] or "").split()) == (theirs[0], (theirs[1] or "").split())


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        (b"<ann@example.test>", 250),
        (b" <ann@example.test>  SIZE=10", 250),
        (b"<ann@example.test> (a comment) SIZE=10", 250),
        (b'<"ann b"@example.test>', 250),
        (b"<ann@[192.0.2.1]>", 250),
        ("<jürgen@exämple.test> SMTPUTF8".encode(), 250),
        (b"<@relay.test:ann@example.test>", 250),
        (b"ann@example.test", 250),
        (b"<ann..b@example.test>", 250),
        (b"<ann@example.test> SIZE=ten", 501),
        (b"<ann@example.test> XYZ=1", 555),
        (b"<ann@@example.test>", 553),
        (b"", 501),
    ],
)
async def test_an_unusual_path_is_read_too(path: bytes, reply: int) -> None:
    async def scenario(wire: Wire) -> None:
        wire.say(b"RSET\r\nMAIL FROM:" + path + b"\r\nNOOP\r\n")
        assert await wire.codes(3) == [250, reply, 250]

    await talk(Recorder(), scenario)
