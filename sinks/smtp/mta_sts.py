"""MTA-STS (RFC 8461): what a domain's TXT record and policy file say. Pure; asking and keeping is sts_policies.py's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_BYTES: Final = 64 * 1024  # section 3.3: a limit against hostile policies
_MX_MAX: Final = 100
_AGE_MOST: Final = 31_557_600  # section 3.2: a year
_ID = re.compile(rb"[A-Za-z0-9]{1,32}")
_MX = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


class StsMode(StrEnum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """`max_age` in seconds, from when it was fetched; `mx` in lower case."""

    id: str
    mode: StsMode
    mx: tuple[str, ...]
    max_age: float

    def names(self, host: str) -> bool:
        """Whether mail may go to this MX host (in lower case, without a last dot)."""
        for pattern in self.mx:
            if pattern == host:
                return True
            # RFC 8461 section 4.1: a wildcard stands for exactly one label, the leftmost.
            if pattern.startswith("*.") and host.partition(".")[2] == pattern[2:]:
                return True
        return False


class Unusable(ValueError):
    """The policy file cannot be taken; the text says why, without quoting it."""


def record_id(texts: tuple[bytes, ...]) -> str:
    """The id in the TXT records of `_mta-sts.DOMAIN`; empty: the domain has no policy."""
    # RFC 8461 section 3.1: other records are ignored; several of this kind are as good as none.
    records = [text for text in texts if re.match(rb"v=STSv1[ \t]*;", text)]
    if len(records) != 1:
        return ""
    for field in records[0].split(b";")[1:]:
        name, _, value = field.strip().partition(b"=")
        if name.strip() == b"id" and _ID.fullmatch(value.strip()):
            return value.strip().decode()
    return ""


def parse(content: bytes, id: str) -> StsPolicy:
    """A policy file. Raises Unusable."""
    if len(content) > MAX_BYTES:
        raise Unusable("it is too long")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Unusable("it is not UTF-8") from None
    fields: dict[str, str] = {}
    hosts: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            raise Unusable("a line without a colon")
        if name == "mx":
            hosts.append(value.strip().lower().removesuffix("."))
        else:
            # Section 3.2: of a field that comes twice, the first counts.
            fields.setdefault(name, value.strip())
    if fields.get("version") != "STSv1":
        raise Unusable("its version is not STSv1")
    try:
        mode = StsMode(fields.get("mode", ""))
    except ValueError:
        raise Unusable("its mode is none of enforce, testing, none") from None
    age = fields.get("max_age", "")
    if not re.fullmatch(r"[0-9]{1,10}", age):
        raise Unusable("its max_age is no number")
    if any(_MX.fullmatch(host) is None for host in hosts) or len(hosts) > _MX_MAX:
        raise Unusable("an mx is no host name, or there are too many")
    if not hosts and mode is not StsMode.NONE:
        raise Unusable("it names no mx")
    return StsPolicy(id, mode, tuple(hosts), float(min(int(age), _AGE_MOST)))
