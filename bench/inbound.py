"""How fast one process of the inbound listener takes bounces (DSN) and complaint reports (ARF), over 20 connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from bench import accounting
from bench.throughput import Row, stack
from bench.workload import SENDING_DOMAIN
from pipeline import wiring
from schemas import ids
from schemas.links import RETURN_PATH
from schemas.tokens import Keyring, Kind, ReturnPath

_CONNECTIONS = 20  # as many as the listener allows to one address
_PER_CONNECTION = 500
_PAGE = "Dear reader,\r\n\r\n" + 40 * "this is what was sent, or a part of it, as reports carry it with them.\r\n"

_DSN = """From: MAILER-DAEMON@mx.s1.test\r\nTo: <{to}>\r\nSubject: Undelivered Mail Returned to Sender\r
Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r
--b\r\nContent-Type: text/plain\r\n\r\nI could not deliver your mail.\r
--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.s1.test\r\n\r
Final-Recipient: rfc822; person{number}@d1.s1.test\r\nAction: failed\r\nStatus: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r
--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: News\r\n\r\n{page}--b--\r
"""
_ARF = """From: <feedback@mx.s1.test>\r\nTo: <{to}>\r\nSubject: FW: News\r\nMIME-Version: 1.0\r
Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r
--b\r\nContent-Type: text/plain\r\n\r\nThis is a complaint.\r
--b\r\nContent-Type: message/feedback-report\r\n\r
Feedback-Type: abuse\r\nUser-Agent: bench/1\r\nVersion: 1\r\nSource-IP: 192.0.2.1\r\n\r
--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: News {number}\r\n\r\n{page}--b--\r
"""


class Refused(Exception):
    """The listener answered something else than it should; the text is its answer."""


def inbound(counts: Sequence[int]) -> Iterator[Row]:
    """Mails a second, half of them DSN and half ARF, each with 3 KB of what it is about."""
    with stack() as started:
        keyring, pids = wiring.keyring(started.parts.settings), started.parts.pids
        host, port = wiring.host_port(started.parts.settings.inbound.listen)
        for count in counts:
            mails = [mail(keyring, number) for number in range(count)]
            before, began = accounting.cpu_of(pids), time.monotonic()
            asyncio.run(_deliver(host, port, mails))
            seconds = time.monotonic() - began
            cpu = accounting.spent(before, accounting.cpu_of(pids))
            yield {
                "mails": count,
                "mails_per_second": round(count / seconds, 1),
                "listener_cpu_seconds_per_1000": round(cpu["inbound"] / count * 1000, 3),
                "broker_cpu_seconds_per_1000": round(cpu["kafka"] / count * 1000, 3),
            }


def mail(keyring: Keyring, number: int) -> tuple[str, bytes]:
    """Recipient and content: of even numbers a DSN to a signed return path, of odd ones an ARF report."""
    if number % 2:
        to, form = f"fbl@{SENDING_DOMAIN}", _ARF
    else:
        token = keyring.seal(Kind.RETURN_PATH, ReturnPath(ids.message_id("default", f"inbound/{number}")))
        to, form = f"{RETURN_PATH}{token}@bounces.{SENDING_DOMAIN}", _DSN
    return to, form.format(to=to, number=number, page=_PAGE).replace("\r\n", "\n").replace("\n", "\r\n").encode()


async def _deliver(host: str, port: int, mails: list[tuple[str, bytes]]) -> None:
    left = iter(mails)

    async def connection() -> None:
        while portion := [mail for mail, _ in zip(left, range(_PER_CONNECTION), strict=False)]:
            await _talk(host, port, portion)

    await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))


async def _talk(host: str, port: int, mails: list[tuple[str, bytes]]) -> None:
    reader, writer = await asyncio.open_connection(host, port)

    async def say(line: bytes, wanted: bytes) -> None:
        writer.write(line)
        answer = await reader.readline()
        while answer[3:4] == b"-":
            answer = await reader.readline()
        if answer[:3] != wanted:
            raise Refused(answer.decode(errors="replace"))

    await say(b"", b"220")
    await say(b"EHLO bench.test\r\n", b"250")
    for to, content in mails:
        await say(b"MAIL FROM:<>\r\n", b"250")
        await say(f"RCPT TO:<{to}>\r\n".encode(), b"250")
        await say(b"DATA\r\n", b"354")
        await say(content + b".\r\n", b"250")
    await say(b"QUIT\r\n", b"221")
    writer.close()
    await writer.wait_closed()
