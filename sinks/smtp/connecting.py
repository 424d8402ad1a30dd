"""A TCP connection from a source to a peer that may be reached, straight or through the source's proxy."""

from __future__ import annotations

import asyncio
import socket

from sinks.smtp.outcome import Broken, Cause, Stage
from sinks.smtp.reach import Address, Reach
from sinks.smtp.socks import PeerUnreachable, ProxyError, connect_through
from sinks.smtp.sources import Source


async def connect(reach: Reach, ip: str, port: int, source: Source, timeout: float) -> socket.socket | Broken:
    """`Cause.SOURCE`: it is the source that failed, and not the peer. Cancelling it leaves no socket."""
    target = reach.target(ip, port)
    if target is None:
        return Broken(Stage.CONNECT, Cause.FORBIDDEN)
    if source.proxy is not None:
        return await _through(reach, target, source.proxy, timeout)
    sock = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if (address := source.address(target[0])) is not None:
            try:
                sock.bind((address, 0))
            except OSError as error:
                sock.close()
                return Broken(Stage.CONNECT, Cause.SOURCE, failure=f"bind: {error.strerror}")
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, target)
        if not reach.permits(sock.getpeername()[0]):
            sock.close()
            return Broken(Stage.CONNECT, Cause.FORBIDDEN)
    except TimeoutError:
        sock.close()
        return Broken(Stage.CONNECT, Cause.TIMEOUT)
    except OSError:
        sock.close()
        return Broken(Stage.CONNECT, Cause.UNREACHABLE)
    except BaseException:
        sock.close()
        raise
    return sock


async def _through(reach: Reach, target: Address, proxy: Address, timeout: float) -> socket.socket | Broken:
    if not reach.permits(target[0]):
        return Broken(Stage.CONNECT, Cause.FORBIDDEN)
    reached = False
    sock = socket.socket(socket.AF_INET6 if ":" in proxy[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, proxy)
            reached = True
            await connect_through(sock, *target)
    except PeerUnreachable:
        sock.close()
        return Broken(Stage.CONNECT, Cause.UNREACHABLE)
    except ProxyError as error:
        sock.close()
        return Broken(Stage.CONNECT, Cause.SOURCE, failure=f"proxy: {error}")
    except (TimeoutError, OSError) as error:
        sock.close()
        if reached and isinstance(error, TimeoutError):
            return Broken(Stage.CONNECT, Cause.TIMEOUT)  # a peer that does not answer looks like this
        return Broken(Stage.CONNECT, Cause.SOURCE, failure=f"proxy: {type(error).__name__}")
    except BaseException:
        sock.close()
        raise
    return sock
