"""What to publish in DNS for DKIM keys, and whether DNS shows it.

Asks the configured name servers; compares by tags, so that spaces and the splitting into strings make no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import dns.exception
import dns.nameserver
import dns.resolver

_STRING = 255  # RFC 1035 section 3.3: bytes of one character-string
_PATIENCE_S = 5.0

Ask = Callable[[str], Sequence[str] | None]
"""The TXT records of a name, each in one piece; none when there are none, None when DNS does not answer."""


class Finding(StrEnum):
    PUBLISHED = "published"
    MISSING = "missing"
    DIFFERS = "differs"
    SEVERAL = "several"
    UNKNOWN = "no answer"


def strings(value: str) -> list[str]:
    return [value[at : at + _STRING] for at in range(0, len(value), _STRING)]


def zone_line(name: str, value: str) -> str:
    """As a zone file has it. Nothing in a DKIM record needs escaping."""
    return f"{name}. IN TXT " + " ".join(f'"{text}"' for text in strings(value))


def compare(wanted: str, found: Sequence[str] | None) -> Finding:
    if found is None:
        return Finding.UNKNOWN
    if len(found) > 1:  # RFC 6376 section 3.6.2.2: what a verifier does then is undefined
        return Finding.SEVERAL
    if not found:
        return Finding.MISSING
    return Finding.PUBLISHED if _tags(found[0]) == _tags(wanted) else Finding.DIFFERS


def _tags(record: str) -> dict[str, str]:
    # RFC 6376 section 3.2: white space around tags and within base64 means nothing. Section 3.6.1: k=rsa when absent.
    pairs = (part.partition("=") for part in record.split(";") if part.strip())
    return {"k": "rsa", "v": "DKIM1"} | {name.strip(): "".join(value.split()) for name, _, value in pairs}


def resolver(nameservers: Sequence[tuple[str, int]]) -> Ask:
    asked = dns.resolver.Resolver(configure=False)
    asked.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]
    asked.lifetime = _PATIENCE_S
    asked.cache = None

    def ask(name: str) -> Sequence[str] | None:
        try:
            answer = asked.resolve(name, "TXT", search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except dns.exception.DNSException:
            return None
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]

    return ask
