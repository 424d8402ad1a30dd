"""What DNS may answer, as plain data.

`ttl` is in seconds. `secure`: the resolver has validated it (RFC 4035 section 3.2.3), and is one whose word is taken.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MxRecords:
    """(preference, host); hosts in lower case without the last dot, "" for the root."""

    values: tuple[tuple[int, str], ...]
    ttl: float = 300.0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Addresses:
    values: tuple[str, ...]
    ttl: float = 300.0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """PTR records; in lower case without the last dot."""

    values: tuple[str, ...]
    ttl: float = 300.0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Texts:
    """TXT records, the strings of each joined."""

    values: tuple[bytes, ...]
    ttl: float = 300.0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Tlsa:
    """RFC 6698 section 2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TlsaRecords:
    values: tuple[Tlsa, ...]
    ttl: float = 300.0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class NoData:
    """The name exists, and has no such record."""

    ttl: float = 300.0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class NoName:
    """NXDOMAIN."""

    ttl: float = 300.0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """SERVFAIL, a time-out, nonsense: nothing is known, so nothing follows but to ask again."""

    reason: str
    ttl: float = 30.0


Answer = MxRecords | Addresses | Names | Texts | TlsaRecords | NoData | NoName | Failure
