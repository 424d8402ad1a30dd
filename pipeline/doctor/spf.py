"""What SPF says of an address (RFC 7208 section 4). No socket: answers come from the `Lookup` that it is given.

Macros are not expanded, and `ptr` (section 5.5: do not use) is not asked for: neither matches, and `unread` says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final

from sinks.smtp.answers import Addresses, Failure, MxRecords, Texts
from sinks.smtp.dns import Lookup

_LOOKUPS: Final = 10  # section 4.6.4, terms that ask DNS
_HOSTS: Final = 10  # section 4.6.4, names of an `mx`
_TERMS: Final = 200
_TERM = re.compile(r"([+?~-]?)([a-z0-9]+)(?:[:=]([^/\s]+))?((?:/\d{1,3})?(?://\d{1,3})?)", re.IGNORECASE)
_ADDRESS = re.compile(r"([+?~-]?)(ip[46]):([0-9a-f:.]+)((?:/\d{1,3})?)", re.IGNORECASE)


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  # SPF's word
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


_QUALIFIERS: Final = {
    "+": Verdict.PASS,
    "": Verdict.PASS,
    "-": Verdict.FAIL,
    "~": Verdict.SOFTFAIL,
    "?": Verdict.NEUTRAL,
}


class _Stop(Exception):
    """An error of the record, or of DNS: the verdict is that."""

    def __init__(self, verdict: Verdict, why: str) -> None:
        super().__init__(why)
        self.verdict = verdict


@dataclass(slots=True)
class Evaluation:
    """Of one address. `unread`: terms that were not understood here."""

    lookup: Lookup
    ip: str
    asked: int = 0
    unread: list[str] = field(default_factory=list)

    async def of(self, domain: str) -> tuple[Verdict, str]:
        """The verdict, and why when it is an error."""
        try:
            return await self._check(domain), ""
        except _Stop as stop:
            return stop.verdict, str(stop)

    async def _check(self, domain: str) -> Verdict:
        record = await self._record(domain)
        if record is None:
            return Verdict.NONE
        terms = record.split()[1:]
        if len(terms) > _TERMS:
            raise _Stop(Verdict.PERMERROR, f"more than {_TERMS} terms")
        redirect = ""
        for term in terms:
            if term.lower().startswith("redirect="):
                redirect = term[9:]
            elif (qualifier := await self._matches(term, domain)) is not None:
                return _QUALIFIERS[qualifier]
        if not redirect:
            return Verdict.NEUTRAL
        self._count()
        found = await self._check(redirect)
        if found is Verdict.NONE:  # section 6.1
            raise _Stop(Verdict.PERMERROR, "its redirect names a domain without SPF")
        return found

    async def _record(self, domain: str) -> str | None:
        match await self.lookup(domain, "TXT"):
            case Texts(values):
                records = spf_records(values)
                if len(records) > 1:  # section 4.5
                    raise _Stop(Verdict.PERMERROR, f"{len(records)} SPF records")
                return records[0] if records else None
            case Failure(reason):
                raise _Stop(Verdict.TEMPERROR, reason)
        return None

    async def _matches(self, term: str, domain: str) -> str | None:
        """The term's qualifier when it matches."""
        if found := _ADDRESS.fullmatch(term):
            try:
                return found[1] if ip_address(self.ip) in ip_network(found[3] + found[4], strict=False) else None
            except ValueError:
                raise _Stop(Verdict.PERMERROR, "an address that is none") from None
        found = _TERM.fullmatch(term)
        if found is None:
            self.unread.append(term)
            return None
        qualifier, name, target, lengths = found[1], found[2].lower(), found[3] or domain, found[4]
        if "%" in target:
            self.unread.append(term)
            return None
        match name:
            case "all":
                matches = True
            case "include":
                self._count()
                verdict = await self._check(target)
                if verdict is Verdict.NONE:  # section 5.2
                    raise _Stop(Verdict.PERMERROR, "it includes a domain without SPF")
                matches = verdict is Verdict.PASS
            case "a":
                self._count()
                matches = await self._among(target, lengths)
            case "mx":
                self._count()
                answer = await self._asked(target, "MX")
                hosts = answer.values[:_HOSTS] if isinstance(answer, MxRecords) else ()
                matches = False
                for _, host in hosts:
                    matches = matches or (bool(host) and await self._among(host, lengths))
            case "exists":
                self._count()
                matches = isinstance(await self._asked(target, "A"), Addresses)
            case "ptr":
                self._count()
                self.unread.append(term)
                matches = False
            case _:
                if "=" not in term:  # section 6: an unknown modifier is ignored, an unknown mechanism an error
                    raise _Stop(Verdict.PERMERROR, "an unknown mechanism")
                matches = False
        return qualifier if matches else None

    async def _among(self, host: str, lengths: str) -> bool:
        """Whether the address is one of the host's, or in the same network."""
        ip = ip_address(self.ip)
        found = await self._asked(host, "AAAA" if ip.version == 6 else "A")
        if not isinstance(found, Addresses):
            return False
        four, _, six = lengths.partition("//")
        length = (six if ip.version == 6 else four.removeprefix("/")) or str(ip.max_prefixlen)
        try:
            return any(ip in ip_network(f"{each}/{length}", strict=False) for each in found.values)
        except ValueError:
            raise _Stop(Verdict.PERMERROR, "a prefix that is none") from None

    async def _asked(self, name: str, kind: str) -> object:
        found = await self.lookup(name, kind)
        if isinstance(found, Failure):
            raise _Stop(Verdict.TEMPERROR, found.reason)
        return found

    def _count(self) -> None:
        self.asked += 1
        if self.asked > _LOOKUPS:
            raise _Stop(Verdict.PERMERROR, f"more than {_LOOKUPS} terms that ask DNS")


def spf_records(texts: Sequence[bytes]) -> list[str]:
    """Section 4.5: `v=spf1`, then a space or the end."""
    decoded = [text.decode("ascii", "replace") for text in texts]
    return [text for text in decoded if text.lower().partition(" ")[0] == "v=spf1"]
