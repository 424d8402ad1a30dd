"""HTTP as mail programs, proxies and gateways speak it, to one loopback address whatever host a URL names.

The URL's own host goes along in the Host header, so that the tracking server sees what it would see in the world. No
redirect is followed: where it leads is somebody else's site.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from pipeline.simulator.addresses import Endpoint

_PEOPLE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0",
)
_IMAGE_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
_PRIVACY_PROXY = "Mozilla/5.0"
_GATEWAY = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/96.0.4664.110"
_BUTTON = "GomailUnsubscribe/1.0"
_MOST_IMAGES = 20
_MOST_LINKS = 20
_LARGEST_ANSWER = 65_536
_SECONDS = 10.0


class Visitor:
    """A client that reaches the tracking server and nothing else."""

    def __init__(self, tracking: Endpoint) -> None:
        self._tracking = tracking
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def prefetch(self, images: tuple[str, ...]) -> str:
        """A privacy proxy loads everything, whether or not anybody reads it."""
        return await self._each("GET", images[:_MOST_IMAGES], _PRIVACY_PROXY)

    async def open(self, images: tuple[str, ...], choice: float, *, proxy: bool) -> str:
        """A person opens the message; the images come through the provider's proxy, or straight."""
        return await self._each("GET", images[:_MOST_IMAGES], _IMAGE_PROXY if proxy else _person(choice))

    async def click(self, url: str, choice: float) -> str:
        """A person follows a link."""
        return f"HTTP {await self._visit('GET', url, _person(choice))}" if url else "nothing to visit"

    async def scan(self, links: tuple[str, ...]) -> str:
        """A gateway asks for every link twice: HEAD, then GET."""
        first = await self._each("HEAD", links[:_MOST_LINKS], _GATEWAY)
        return f"HEAD {first}, GET {await self._each('GET', links[:_MOST_LINKS], _GATEWAY)}"

    async def unsubscribe(self, url: str) -> int:
        """A mail program's unsubscribe button. RFC 8058 section 3.2: a POST with this body, no cookies."""
        return await self._visit("POST", url, _BUTTON, {"List-Unsubscribe": "One-Click"})

    async def _each(self, method: str, urls: tuple[str, ...], agent: str) -> str:
        if not urls:
            return "nothing to visit"
        statuses = await asyncio.gather(*(self._visit(method, url, agent) for url in urls))
        return "HTTP " + " ".join(map(str, statuses))

    async def _visit(self, method: str, url: str, agent: str, form: dict[str, str] | None = None) -> int:
        """The status of the answer, 0 when there was none."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # no proxy: nothing may leave this machine
            )
        try:
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2]
            target = URL.build(
                scheme="http",
                host=self._tracking.host,
                port=self._tracking.port,
                path=parts.path or "/",
                query_string=parts.query,
                encoded=True,  # exactly as in the message: a token must not be changed
            )
            headers = {"Host": host, "User-Agent": agent}
            async with self._session.request(
                method, target, headers=headers, data=form, allow_redirects=False
            ) as answer:
                await answer.content.read(_LARGEST_ANSWER)
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return 0


def _person(choice: float) -> str:
    return _PEOPLE[int(choice * len(_PEOPLE))]
