"""Real sockets: independent SMTP clients against the simulated hosts."""

from __future__ import annotations

import asyncio
import socket
import ssl

import aiosmtplib
import pytest
from aiosmtplib import SMTPResponseException, SMTPServerDisconnected

from tests.simulator.conftest import NEWSLETTER, World
from tests.waiting import until_async


def client(world: World, host: str, *, start_tls: bool = False) -> aiosmtplib.SMTP:
    address, port = world.host(host)
    context = ssl.create_default_context(cafile=world.simulator.endpoints["ca"])
    return aiosmtplib.SMTP(hostname=address, port=port, start_tls=start_tls, tls_context=context, timeout=20)


async def send(world: World, host: str, to: str, *, body: bytes = NEWSLETTER, sender: str = "r@brand.test") -> str:
    async with client(world, host) as smtp:
        return (await smtp.sendmail(sender, [to], body))[1]


async def test_a_message_arrives_as_it_was_sent(world: World) -> None:
    assert await send(world, "mx.plainhost.test", "ann@example.test") == "2.0.0 OK queued as 1"
    (entry,) = world.witness.entries
    assert (entry.mail_from, entry.rcpt_to, entry.provider) == ("r@brand.test", ("ann@example.test",), "plainhost")
    assert (entry.message_id, entry.mailriver_id, entry.subject) == ("<m1@brand.test>", "id-1", "Spring")
    assert (entry.tls, entry.answered, entry.domain) == (False, True, "example.test")
    assert world.witness.raw(entry) == NEWSLETTER


async def test_starttls_with_a_certificate_that_names_the_host(world: World) -> None:
    context = ssl.create_default_context(cafile=world.simulator.endpoints["ca"])

    def talk() -> bytes:
        with socket.create_connection(world.host("mx.tlsonly.test"), timeout=20) as plain:
            file = plain.makefile("rb", buffering=0)
            file.readline()
            plain.sendall(b"EHLO c.test\r\n")
            while not file.readline().startswith(b"250 "):
                pass
            plain.sendall(b"MAIL FROM:<a@brand.test>\r\n")
            assert file.readline().startswith(b"530 5.7.0")
            plain.sendall(b"STARTTLS\r\n")
            assert file.readline().startswith(b"220")
            # Verified against the written authority, under the name of either host.
            with context.wrap_socket(plain, server_hostname="mx2.tlsonly.test") as secured:
                secured.sendall(
                    b"EHLO c.test\r\nMAIL FROM:<a@brand.test>\r\nRCPT TO:<ann@tlsonly.test>\r\n"
                    b"DATA\r\nx\r\n.\r\nQUIT\r\n"
                )
                return b"".join(iter(lambda: secured.recv(4096), b""))

    said = await asyncio.to_thread(talk)
    assert said.endswith(b"250 2.0.0 OK queued as 1\r\n221 2.0.0 Bye\r\n")
    assert b"STARTTLS" not in said
    assert world.witness.entries[0].tls


async def test_a_host_without_tls_does_not_offer_it(world: World) -> None:
    with pytest.raises(aiosmtplib.SMTPException, match="STARTTLS"):
        async with client(world, "mx.narrow.test", start_tls=True):
            pass


async def test_deferred_once_then_accepted_and_again_for_the_next_message(world: World) -> None:
    for _ in range(2):
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refused:
            await send(world, "mx.plainhost.test", "defer+450@example.test")
        assert refused.value.recipients[0].code == 450
        assert "queued" in await send(world, "mx.plainhost.test", "defer+450@example.test")


async def test_a_reply_lost_after_the_dot(world: World) -> None:
    with pytest.raises(SMTPServerDisconnected):
        await send(world, "mx.plainhost.test", "drop+dot@example.test")
    assert [entry.answered for entry in world.witness.entries] == [False]
    await send(world, "mx.plainhost.test", "drop+dot@example.test")
    assert list(world.witness.duplicates()) == ["id-1"]
    assert [entry.answered for entry in world.witness.entries] == [False, True]


@pytest.mark.parametrize("where", ["rcpt", "data"])
async def test_a_connection_cut_before_the_dot_keeps_nothing(world: World, where: str) -> None:
    with pytest.raises(SMTPServerDisconnected):
        await send(world, "mx.plainhost.test", f"drop+{where}@example.test")
    assert world.witness.entries == []


async def test_a_slow_host_answers_in_the_end(world: World) -> None:
    assert "queued as 1" in await send(world, "mx.plainhost.test", "slow@example.test")


async def test_connections_beyond_the_limit_get_421_and_places_come_free(world: World) -> None:
    first = client(world, "mx.narrow.test")
    await first.connect()
    with pytest.raises(aiosmtplib.SMTPConnectResponseError) as refused:
        await client(world, "mx.narrow.test").connect()
    assert refused.value.code == 421
    await first.quit()

    memory = next(desk for desk in world.simulator.receptions if desk.provider.name == "narrow").memory
    await until_async(lambda: memory.connections == 0, what="the place to come free")
    async with client(world, "mx.narrow.test"):
        pass


async def test_messages_beyond_the_limit_of_a_connection(world: World) -> None:
    async with client(world, "mx.narrow.test") as smtp:
        await smtp.sendmail("r@brand.test", ["ann@narrow.test"], NEWSLETTER)
        with pytest.raises(SMTPResponseException) as refused:
            await smtp.sendmail("r@brand.test", ["bob@narrow.test"], NEWSLETTER)
        assert refused.value.code == 421


async def test_a_thousand_pipelined_messages_in_one_connection(world: World) -> None:
    address, port = world.host("mx.plainhost.test")
    reader, writer = await asyncio.open_connection(address, port)
    one = b"MAIL FROM:<a@brand.test>\r\nRCPT TO:<ann@example.test>\r\nDATA\r\n" + NEWSLETTER + b".\r\n"
    writer.write(b"EHLO c\r\n" + one * 1000 + b"QUIT\r\n")
    said = await reader.read()
    assert said.count(b"queued as") == 1000
    writer.close()
    assert [entry.seq for entry in world.witness.entries] == list(range(1, 1001))


async def test_a_connection_that_ends_in_mid_message_leaves_nothing_behind(world: World) -> None:
    address, port = world.host("mx.narrow.test")
    _, writer = await asyncio.open_connection(address, port)
    writer.write(b"EHLO c\r\nMAIL FROM:<a@brand.test>\r\nRCPT TO:<ann@narrow.test>\r\nDATA\r\nhalf")
    await writer.drain()
    writer.transport.abort()
    listener = next(item for item in world.simulator.listeners if item.host == "mx.narrow.test")
    await until_async(lambda: not listener.connections, what="the connection to be forgotten")
    assert world.witness.entries == []


async def test_the_refused_port_refuses(world: World) -> None:
    port = int(world.port_map()["198.18.0.3:25"].rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
