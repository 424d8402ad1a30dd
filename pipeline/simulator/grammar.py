"""SMTP's grammar as the simulator's servers read and write it: paths, mailboxes, messages, replies. Pure.

Its own on purpose: a sender checked by its own parser would never be caught.
"""

from __future__ import annotations

import re
from functools import lru_cache

# RFC 5321 section 4.1.2, with RFC 6531 section 3.3 (any character beyond ASCII).
_MAILBOX = re.compile(
    r'("(?:[^"\\\x00-\x1f\x7f]|\\[ -~])*"|[^\s<>()\[\]\\,;:@"\x00-\x1f\x7f]+)'
    r'@([^\s<>@"\\\[\]\x00-\x1f\x7f]+|\[[^\[\]\s]+\])'
)
_PATH = re.compile(r'(?:FROM|TO):<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>((?: [A-Za-z0-9-]+(?:=[^\s=]+)?)*) *', re.IGNORECASE)
_LONGEST_TEXT_LINE = 998  # RFC 5322 section 2.1.1, without CRLF
_ENHANCED = re.compile(r"(\d\.\d{1,3}\.\d{1,3} )(.*)", re.DOTALL)


def mailbox(address: str) -> tuple[str, str] | None:
    """Localpart and domain of an address, or None when it is none."""
    found = _MAILBOX.fullmatch(address)
    return (found[1], found[2]) if found else None


def command_path(rest: str, word: str) -> tuple[str, list[tuple[str, str]]] | None:
    """The address and the parameters of what follows MAIL (word FROM) or RCPT (word TO). No space after the colon."""
    found = _PATH.fullmatch(rest) if rest[: len(word)].upper() == word else None
    if not found:
        return None
    pairs = (item.partition("=") for item in found[2].split())
    return found[1], [(name.upper(), value) for name, _, value in pairs]


@lru_cache(maxsize=1024)
def render(text: str, enhanced: bool) -> bytes:
    """A reply text ("550 5.1.1 No\\nsuch user") as the bytes of RFC 5321 section 4.2.1."""
    code, _, rest = text.partition(" ")
    found = _ENHANCED.fullmatch(rest)
    # RFC 2034 section 3: the status begins the text of every line, and is sent only where it was offered.
    status, rest = (found[1] if enhanced else "", found[2]) if found else ("", rest)
    lines = rest.split("\n")
    last = len(lines) - 1
    return "".join(f"{code}{' ' if n == last else '-'}{status}{line}\r\n" for n, line in enumerate(lines)).encode(
        "utf-8"
    )


def unstuffed(body: bytes) -> bytes:
    """A message's bytes without the dots that the client added: RFC 5321 section 4.5.2, the first of each line."""
    if body.startswith(b"."):
        body = body[1:]
    return body.replace(b"\r\n.", b"\r\n") if b"\r\n." in body else body


def message_fault(body: bytes, *, eight_bit: bool) -> str:
    """What is wrong with the bytes between DATA and the final dot, as a reply; empty when nothing is."""
    lines = body.split(b"\r\n")
    # RFC 5321 section 2.3.8. Also the door of SMTP smuggling, so never repaired here.
    if body.count(b"\n") != len(lines) - 1 or body.count(b"\r") != len(lines) - 1:
        return "550 5.6.0 Bare CR or LF in the message"
    longest = max(lines, key=len)
    if len(longest) > _LONGEST_TEXT_LINE and any(len(unstuffed(line)) > _LONGEST_TEXT_LINE for line in lines):
        return "550 5.6.0 A line of the message is longer than 998 octets"
    # RFC 6152 section 3: 8-bit data only after BODY=8BITMIME (RFC 6531 section 3.6: or SMTPUTF8).
    if not eight_bit and not body.isascii():
        return "554 5.6.3 8-bit data without BODY=8BITMIME"
    return ""
