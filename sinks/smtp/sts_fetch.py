"""Fetch a domain's MTA-STS policy file over HTTPS (RFC 8461 section 3.3).

Within limits of time and size, without redirects, with the host's certificate verified, and only from addresses that
mail may go to too (reach.py): a policy host in a private network would make us knock on its doors.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from sinks.smtp.answers import Addresses, Answer
from sinks.smtp.mta_sts import MAX_BYTES
from sinks.smtp.reach import Reach
from sinks.smtp.sts_policies import FetchError

_TIMEOUT_S: Final = 10.0  # a message waits for it
_TRIES: Final = 4  # addresses
_FETCHES: Final = 20  # at a time


class StsFetcher:
    """`lookup` answers A and AAAA; `authorities` are the roots for the host's certificate, None: the system's."""

    def __init__(
        self,
        lookup: Callable[[str, str], Awaitable[Answer]],
        reach: Reach,
        authorities: ssl.SSLContext | None = None,
        timeout: float = _TIMEOUT_S,
    ) -> None:
        self._resolver = _Resolver(lookup, reach)
        self._reach = reach
        self._authorities = authorities if authorities is not None else ssl.create_default_context()
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._slots = asyncio.Semaphore(_FETCHES)

    async def __call__(self, domain: str) -> bytes:
        try:
            async with self._slots:
                return await self._get(f"https://mta-sts.{domain}/.well-known/mta-sts.txt")
        except aiohttp.ClientConnectorCertificateError as error:
            raise FetchError("the certificate is not the host's", untrusted=True) from error
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise FetchError(type(error).__name__) from error

    async def _get(self, url: str) -> bytes:
        # Of its own, and closed after: connections to policy hosts are not worth keeping.
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            ssl=self._authorities,
            use_dns_cache=False,
            force_close=True,
            socket_factory=self._socket,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            # RFC 8461 section 3.3: redirects are not followed, and only 200 is an answer.
            session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status != 200:
                raise FetchError(f"status {response.status}")
            if response.content_type != "text/plain":
                raise FetchError("not text/plain")
            content = b""
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise FetchError("too long")
            return content

    def _socket(self, address: AddrInfoType) -> socket.socket:
        """For the very address that is about to be connected."""
        if not self._reach.permits(str(address[4][0])):
            raise OSError("an address that may not be reached")
        return socket.socket(address[0], address[1], address[2])


class _Resolver(AbstractResolver):
    """Names by our own name servers, addresses as far as mail may reach them."""

    def __init__(self, lookup: Callable[[str, str], Awaitable[Answer]], reach: Reach) -> None:
        self._lookup = lookup
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = await asyncio.gather(self._lookup(host, "A"), self._lookup(host, "AAAA"))
        ips = [ip for answer in answers if isinstance(answer, Addresses) for ip in answer.values]
        found: list[ResolveResult] = []
        for ip in ips[:_TRIES]:
            if (target := self._reach.target(ip, port)) is not None:
                version = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
                found.append(
                    ResolveResult(
                        hostname=host,
                        host=target[0],
                        port=target[1],
                        family=version,
                        proto=0,
                        flags=socket.AI_NUMERICHOST,
                    )
                )
        if not found:
            raise OSError("no address that may be reached")
        return found

    async def close(self) -> None:
        """It keeps nothing."""
