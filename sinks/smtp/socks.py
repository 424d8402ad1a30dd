"""SOCKS5 (RFC 1928), as far as a mail source needs it: no authentication, CONNECT to an address.

No names are sent: which address may be reached is decided here (reach.py), not by a proxy's resolver.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import ip_address
from typing import Final

_VERSION: Final = 5
_NO_AUTHENTICATION: Final = 0
_CONNECT: Final = 1
_ADDRESS_BYTES: Final = {1: 4, 4: 16}
# Section 6: what is about the peer, and not about the proxy or the address that it sends from.
_PEERS_FAULT: Final = frozenset((3, 4, 5, 6))


class ProxyError(Exception):
    """The proxy does not serve."""


class PeerUnreachable(Exception):
    """The proxy serves, and could not connect."""


async def connect_through(sock: socket.socket, ip: str, port: int) -> None:
    """Over a socket connected to the proxy: have it connect to the address. Afterwards the socket is the peer's.

    Raises ProxyError, PeerUnreachable, OSError; the time-out is the caller's.
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, bytes((_VERSION, 1, _NO_AUTHENTICATION)))
    if await _read(sock, 2) != bytes((_VERSION, _NO_AUTHENTICATION)):
        raise ProxyError("it wants a password, or is no SOCKS5 server")
    address = ip_address(ip)
    kind = 1 if address.version == 4 else 4
    await loop.sock_sendall(
        sock, struct.pack(">BBBB", _VERSION, _CONNECT, 0, kind) + address.packed + struct.pack(">H", port)
    )
    version, reply, _, bound = await _read(sock, 4)
    if version != _VERSION:
        raise ProxyError("it is no SOCKS5 server")
    if reply in _PEERS_FAULT:
        raise PeerUnreachable
    if reply:
        raise ProxyError(f"it refused with {reply}")
    # Read to the last byte and not one further: what follows is the peer's greeting.
    if bound == 3:
        await _read(sock, (await _read(sock, 1))[0] + 2)
    elif bound in _ADDRESS_BYTES:
        await _read(sock, _ADDRESS_BYTES[bound] + 2)
    else:
        raise ProxyError("it is no SOCKS5 server")


async def _read(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise ProxyError("it closed the connection")
        data += more
    return data
