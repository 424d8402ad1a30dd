"""Mail that comes back: who may be written to, what is kept of it, and when the peer hears 250."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from pipeline.sources import inbound
from pipeline.sources.inbound import InboundConfig, Reception
from pipeline.sources.listener import MAX_CONNECTIONS_PER_PEER, Doorkeeper, Listener
from schemas.codec import decode, encode
from schemas.feedback import InboundReceived
from schemas.tokens import Keyring, Kind, ReturnPath
from tests.sources.test_tracking import RecordingPublisher
from topics.errors import Broken, Later
from topics.kafka import Cluster

KEYRING = Keyring({"a": b"k" * 32}, "a")
MESSAGE_ID = "0f0e0d0c-0b0a-5908-8706-050403020100"
RETURN_PATH = f"b+{KEYRING.seal(Kind.RETURN_PATH, ReturnPath(MESSAGE_ID))}@bounces.brand.test"
CONFIG = InboundConfig(
    Cluster("nowhere:1"),
    KEYRING,
    "127.0.0.1",
    0,
    "mx.brand.test",
    frozenset({"bounces.brand.test"}),
    frozenset({"brand.test"}),
)
MAIL = b"From: <>\r\nSubject: failed\r\n\r\n.leading dot\r\n"


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def reception(publisher: RecordingPublisher) -> Reception:
    return Reception(CONFIG, publisher)  # type: ignore[arg-type]  # a fake by shape


@pytest.fixture
async def port(reception: Reception) -> AsyncIterator[int]:
    factory = partial(Listener, reception, Doorkeeper())
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()


def dialogue(port: int, *steps: tuple[str, Any]) -> list[int]:
    """The codes of a client's steps."""
    codes = []
    with smtplib.SMTP("127.0.0.1", port, local_hostname="mx.example.test", timeout=20) as client:
        client.ehlo()
        for command, argument in steps:
            codes.append(getattr(client, command)(argument)[0])
    return codes


async def test_a_bounce_to_a_signed_return_path_is_taken_as_it_came(port: int, publisher: RecordingPublisher) -> None:
    codes = await asyncio.to_thread(dialogue, port, ("mail", ""), ("rcpt", RETURN_PATH), ("data", MAIL))
    assert codes == [250, 250, 250]
    (event,) = publisher.events
    assert isinstance(event, InboundReceived)
    assert (event.raw, event.rcpt_to, event.mail_from, event.size) == (MAIL, RETURN_PATH, "", len(MAIL))


@pytest.mark.parametrize(
    "address",
    ["postmaster", "Postmaster@brand.test", "abuse@bounces.brand.test", RETURN_PATH.upper().replace("B+", "b+")],
)
async def test_who_exists(reception: Reception, address: str) -> None:
    assert reception.exists(address)


@pytest.mark.parametrize(
    "address",
    ["ann@brand.test", "b+a-forged@bounces.brand.test", "b+@bounces.brand.test", RETURN_PATH.replace("bounces.", ""),
     "postmaster@elsewhere.test", "abuse@@brand.test"],
)  # fmt: skip
async def test_who_does_not(reception: Reception, address: str) -> None:
    assert not reception.exists(address)


async def test_strangers_are_refused_at_once(port: int) -> None:
    assert await asyncio.to_thread(dialogue, port, ("mail", ""), ("rcpt", "ann@brand.test")) == [250, 550]


@pytest.mark.parametrize("line", [b"a\nb", b"a\rb", b"a\0b", b"\n.", b"\r\n.\n", b"\r.\r"])
async def test_a_mail_that_two_servers_could_read_differently_is_refused(
    port: int, publisher: RecordingPublisher, line: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"EHLO mx.example.test\r\nMAIL FROM:<>\r\nRCPT TO:<{RETURN_PATH}>\r\nDATA\r\n".encode())
    writer.write(b"Subject: failed\r\n\r\n" + line + b"\r\n.\r\nQUIT\r\n")
    replies = [reply[:4] for reply in (await reader.read()).splitlines() if reply[3:4] == b" "]
    assert replies == [b"220 ", b"250 ", b"250 ", b"250 ", b"354 ", b"554 ", b"221 "]
    assert publisher.events == []
    writer.close()


async def test_without_kafka_the_peer_keeps_its_mail(port: int, publisher: RecordingPublisher) -> None:
    publisher.failure = Later("no broker")
    codes = await asyncio.to_thread(dialogue, port, ("mail", ""), ("rcpt", RETURN_PATH), ("data", MAIL))
    assert codes == [250, 250, 451]


async def test_what_breaks_here_is_no_reason_to_give_the_mail_up(port: int, publisher: RecordingPublisher) -> None:
    publisher.failure = Broken("the publisher is closed")
    steps = [("mail", ""), ("rcpt", RETURN_PATH), ("data", MAIL)]
    assert await asyncio.to_thread(dialogue, port, *steps, *steps) == [250, 250, 451, 250, 250, 451]


async def test_bytes_that_are_no_utf_8_are_no_reason_to_refuse_a_mail(port: int, publisher: RecordingPublisher) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HELO m\xfc\r\nMAIL FROM:<j\xfcrgen@example.test>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nQUIT\r\n")
    replies = [reply[:3] for reply in (await reader.read()).splitlines()]
    assert replies == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    writer.close()
    (event,) = publisher.events
    assert isinstance(event, InboundReceived)
    assert (event.helo, event.mail_from, event.raw) == ("m?", "j?rgen@example.test", b"")
    assert decode(encode(event, source="inbound").value) == event


async def test_each_recipient_gets_the_mail(port: int, publisher: RecordingPublisher) -> None:
    recipients = [("rcpt", to) for to in (RETURN_PATH, "abuse@brand.test")]
    await asyncio.to_thread(dialogue, port, ("mail", "ann@example.test"), *recipients, ("data", MAIL))
    first, second = publisher.events
    assert isinstance(first, InboundReceived)
    assert isinstance(second, InboundReceived)
    assert (first.rcpt_to, second.rcpt_to) == (RETURN_PATH, "abuse@brand.test")
    assert first.event_id != second.event_id
    assert (first.key, first.raw, first.mail_from) == (second.key, MAIL, "ann@example.test")


async def test_the_same_mail_again_is_the_same_event(port: int, publisher: RecordingPublisher) -> None:
    for _ in range(2):
        await asyncio.to_thread(dialogue, port, ("mail", ""), ("rcpt", RETURN_PATH), ("data", MAIL))
    assert len({event.event_id for event in publisher.events}) == 1


async def test_a_long_mail_is_cut_and_says_so(port: int, publisher: RecordingPublisher) -> None:
    long = b"Subject: x\r\n\r\n" + b"y" * 76 * 10_000
    long = b"\r\n".join(long[i : i + 76] for i in range(0, len(long), 76)) + b"\r\n"
    await asyncio.to_thread(dialogue, port, ("mail", ""), ("rcpt", RETURN_PATH), ("data", long))
    (event,) = publisher.events
    assert isinstance(event, InboundReceived)
    assert len(event.raw) == inbound.MAX_KEPT
    assert event.size == len(long)


async def test_a_peer_has_a_limit_of_connections(port: int) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS_PER_PEER)]
    for reader, _ in held:
        assert (await reader.readline()).startswith(b"220")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await reader.readline()).startswith(b"421")
    for _, open_writer in [*held, (reader, writer)]:
        open_writer.close()
