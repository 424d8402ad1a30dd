"""What a connection must prove before mail goes over it, and what is remembered of hosts that could not. Pure.

A policy of the recipient's side (tls_policies.py) is the floor: it may ask for more than the configured mode, never for
less. Below that floor the best that a host is known to do is used: a verified certificate, else encryption with
whomever, else clear text. What a host failed at is remembered, so that not every connection is made twice.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from sinks.smtp.answers import Tlsa

DAY_S: Final = 86_400.0
_HOSTS_MAX: Final = 50_000


class TlsMode(StrEnum):
    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # RFC 7435: encrypted where it works, in clear where it does not
    REQUIRED = "required"  # encrypted, whoever the peer is
    VERIFIED = "verified"  # encrypted, and the certificate names the MX host
    DANE = "dane"  # encrypted, and the certificate is one that `Demand.tlsa` names


class TlsFailure(StrEnum):
    """RFC 8460 section 4.3: result types that a session can come to."""

    NOT_SUPPORTED = "starttls-not-supported"
    MISMATCH = "certificate-host-mismatch"
    EXPIRED = "certificate-expired"
    NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"


@dataclass(frozen=True, slots=True)
class Demand:
    """`policy`: which rule asks for it: the configured mode's name, "dane", "sts" or "sts-testing"."""

    mode: TlsMode
    policy: str
    tlsa: tuple[Tlsa, ...] = ()


class Rung(IntEnum):
    """What a host can do at best; a higher one is better."""

    CLEAR = 0
    UNVERIFIED = 1
    VERIFIED = 2


def rungs(mode: TlsMode, best: Rung) -> tuple[Rung, ...]:
    """What to try, in this order, with a host of which `best` is remembered."""
    match mode:
        case TlsMode.NONE:
            return (Rung.CLEAR,)
        case TlsMode.OPPORTUNISTIC:
            return tuple(rung for rung in (Rung.VERIFIED, Rung.UNVERIFIED, Rung.CLEAR) if rung <= best)
        case TlsMode.REQUIRED:
            return tuple(rung for rung in (Rung.VERIFIED, Rung.UNVERIFIED) if rung <= max(best, Rung.UNVERIFIED))
        case TlsMode.VERIFIED:
            return (Rung.VERIFIED,)
        case TlsMode.DANE:
            return (Rung.UNVERIFIED,)  # what proves the host is looked at after the handshake


def failure_of(error: BaseException | None) -> TlsFailure:
    """The result type of a failed handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        match error.verify_code:
            case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
                return TlsFailure.MISMATCH
            case 9 | 10:  # X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED
                return TlsFailure.EXPIRED
            case _:
                return TlsFailure.NOT_TRUSTED
    return TlsFailure.VALIDATION


class HostMemory:
    """What MX hosts were found unable to do. In memory, for each process; `clock` is a monotonic one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hosts: OrderedDict[str, tuple[Rung, float, str]] = OrderedDict()

    def best(self, host: str) -> tuple[Rung, str]:
        """The best to try, and why not a better one."""
        known = self._hosts.get(host)
        if known is None or known[1] <= self._clock():
            return Rung.VERIFIED, ""
        return known[0], known[2]

    def note(self, host: str, rung: Rung, why: str, seconds: float) -> None:
        self._hosts[host] = (rung, self._clock() + seconds, why)
        self._hosts.move_to_end(host)
        if len(self._hosts) > _HOSTS_MAX:
            self._hosts.popitem(last=False)
