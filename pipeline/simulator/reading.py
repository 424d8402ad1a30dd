"""A message as its reader sees it: parts, images, links, and where its unsubscribe button leads.

Pure. Everything in a message is hostile: sizes, numbers and depths are bounded, and what cannot be parsed is absent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from html.parser import HTMLParser

_LARGEST = 5_000_000  # bytes that are parsed
_LONGEST_HTML = 300_000  # characters that are searched for URLs
_MOST_PARTS = 50
_MOST_URLS = 100
_LONGEST_URL = 4096
_WEB = re.compile(r"https?://[^\s<>\"']+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Letter:
    """The readable side of a message. `one_click` is the URL for an RFC 8058 POST, "" when there is none."""

    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""
    html: str = ""
    images: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    one_click: str = ""

    def header(self, name: str) -> str:
        """The first header of that name, or ""."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


def read(raw: bytes) -> Letter:
    """Parse a message; a part that cannot be parsed is left out."""
    try:
        message = BytesParser().parsebytes(raw[:_LARGEST])
        parts = _texts(message)
    except (RecursionError, ValueError, LookupError, AttributeError, TypeError):
        return Letter()  # nested too deep, or malformed in a way that the parser does not survive
    headers = tuple((key, _one_line(value)) for key, value in message.raw_items())
    html = parts.get("text/html", "")
    found = _Urls()
    found.feed(html[:_LONGEST_HTML])
    text = parts.get("text/plain", "")
    links = found.links or (_WEB.findall(text)[:_MOST_URLS] if not html else [])
    letter = Letter(headers, text, html, tuple(found.images), tuple(links))
    return Letter(headers, text, html, letter.images, letter.links, _one_click(letter))


def _texts(message: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for n, part in enumerate(message.walk()):
        if n >= _MOST_PARTS:
            break
        kind = part.get_content_type()
        if kind in found or kind not in ("text/plain", "text/html"):
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            try:
                found[kind] = payload.decode(part.get_content_charset("utf-8"), "replace")
            except LookupError:
                found[kind] = payload.decode("latin-1")
    return found


def _one_click(letter: Letter) -> str:
    # RFC 8058 section 3.1: only with List-Unsubscribe-Post, exactly this value.
    if letter.header("List-Unsubscribe-Post").strip().lower() != "list-unsubscribe=one-click":
        return ""
    for url in re.findall(r"<([^<>]*)>", letter.header("List-Unsubscribe"))[:10]:
        if _WEB.fullmatch(url.strip()) and len(url) <= _LONGEST_URL:
            return str(url.strip())
    return ""


def _one_line(value: object) -> str:
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.sub(r"[\r\n]+[ \t]*", " ", text)


class _Urls(HTMLParser):
    """Collects what a mail program loads and what a reader can follow."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.images: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the URL of an image or a link."""
        wanted, into = {"img": ("src", self.images), "a": ("href", self.links)}.get(tag, ("", self.links))
        for name, value in attrs:
            if name == wanted and value and len(into) < _MOST_URLS:
                url = value.strip()
                if len(url) <= _LONGEST_URL and _WEB.fullmatch(url) and url not in into:
                    into.append(url)
