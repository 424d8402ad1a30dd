"""The authoritative name server of the simulated internet, over UDP and TCP on one loopback port.

Answers from the zone of `names`; what is in that zone is decided there. `respond` is pure.
"""

from __future__ import annotations

import asyncio
import struct
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import structlog
from dns.rdatatype import RdataType

from pipeline.simulator.names import Mood, Zone

log = structlog.get_logger(__name__)

_TTL = 60  # seconds
_PLAIN_UDP = 512  # RFC 1035 section 4.2.1
_LARGEST_UDP = 1232  # what fits every path without fragments
_TCP_SECONDS = 10.0
_MOST_TCP = 200
_AUTHORITY = dns.rrset.from_text(
    "test.", _TTL, "IN", "SOA", f"ns.sim.test. hostmaster.sim.test. 1 3600 600 86400 {_TTL}"
)


def respond(zone: Zone, wire: bytes, *, largest: int | None) -> bytes | None:
    """The reply to a query, None for silence. `largest` octets (None over TCP); a bigger reply is truncated."""
    try:
        query = dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None
    if query.flags & dns.flags.QR or len(query.question) != 1 or query.opcode() != dns.opcode.QUERY:
        return None
    question = query.question[0]
    reply = dns.message.make_response(query, our_payload=_LARGEST_UDP)
    match zone.mood(question.name):
        case Mood.SILENCE:
            return None
        case Mood.SERVFAIL:
            reply.set_rcode(dns.rcode.SERVFAIL)
        case Mood.REFUSE:
            reply.set_rcode(dns.rcode.REFUSED)
        case Mood.ANSWER:
            reply.flags |= dns.flags.AA
            _answer(zone, reply, question.name, question.rdtype)
    if largest is None:
        return reply.to_wire()
    room = min(largest, max(_PLAIN_UDP, query.payload)) if query.edns >= 0 else _PLAIN_UDP
    try:
        return reply.to_wire(max_size=room)
    except dns.exception.TooBig:
        # RFC 2181 section 9: say so, and the client asks again over TCP.
        short = dns.message.make_response(query, our_payload=_LARGEST_UDP)
        short.flags |= dns.flags.AA | dns.flags.TC
        return short.to_wire()


def _answer(zone: Zone, reply: dns.message.Message, name: dns.name.Name, rdtype: RdataType) -> None:
    # RFC 1034 section 4.3.2: follow aliases inside the zone, a bounded number of times.
    for _ in range(8):
        records = zone.look_up(name, rdtype)
        if not records:
            if not reply.answer and not zone.exists(name):
                reply.set_rcode(dns.rcode.NXDOMAIN)
            reply.authority.append(_AUTHORITY)  # RFC 2308: how long the absence may be remembered
            return
        reply.answer.append(dns.rrset.from_rdata_list(name, _TTL, records))
        if records[0].rdtype != RdataType.CNAME or rdtype == RdataType.CNAME:
            return
        name = records[0].target  # type: ignore[attr-defined]  # the type was checked: CNAME has a target


class NameServer(asyncio.DatagramProtocol):
    """Serves a zone until stopped."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._open = 0
        self.questions = 0

    async def start(self, address: str, port: int) -> None:
        """Listen on both protocols; raises OSError when one port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, address, port)
        try:
            await loop.create_datagram_endpoint(lambda: self, (address, port))
        except OSError:
            self._server.close()
            raise

    async def stop(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The UDP socket is open."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a query."""
        self.questions += 1
        reply = respond(self._zone, data, largest=_LARGEST_UDP)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= _MOST_TCP:
            writer.close()
            return
        self._open += 1
        try:
            async with asyncio.timeout(_TCP_SECONDS):
                while True:
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    reply = respond(self._zone, await reader.readexactly(length), largest=None)
                    self.questions += 1
                    if reply is not None:
                        writer.write(struct.pack("!H", len(reply)) + reply)
                        await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            log.debug("simulator.dns.closed")
        finally:
            self._open -= 1
            writer.close()
