"""Which TLS policy holds between a recipient domain and one of its MX hosts: DANE, MTA-STS, or what is configured.

DANE is a matter of the host: its TLSA records hold for all mail that goes there, also of domains whose own MX records
are unsigned (RFC 7672 section 2.2.1 leaves that to the sender). MTA-STS is a matter of the domain. So a connection
may carry mail of another domain exactly when it proved what that domain's MTA-STS policy asks for: `carries`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from sinks.smtp.answers import Answer, Failure, TlsaRecords
from sinks.smtp.dane import usable
from sinks.smtp.mta_sts import StsMode
from sinks.smtp.outcome import Broken, Cause, Stage
from sinks.smtp.session import SessionInfo
from sinks.smtp.sts_policies import StsPolicies, StsView
from sinks.smtp.tls import Demand, TlsFailure, TlsMode

_SMTP: Final = 25


class TlsPolicies(Protocol):
    def known(self, domain: str) -> StsView | None:
        """The domain's MTA-STS policy where it is known now; None: ask `of`."""
        ...

    async def of(self, domain: str) -> StsView: ...

    async def demand(self, view: StsView, host: str, secure: bool, mode: TlsMode) -> Demand | Broken:
        """What a connection to this MX host must prove; Broken: mail to the domain may not go there now.

        `secure`: DNSSEC vouches for the host's address. `mode`: the configured one.
        """
        ...


class PublishedPolicies:
    """`lookup` answers TLSA."""

    def __init__(self, sts: StsPolicies, lookup: Callable[[str, str], Awaitable[Answer]]) -> None:
        self._sts = sts
        self._lookup = lookup

    def known(self, domain: str) -> StsView | None:
        return self._sts.known(domain)

    async def of(self, domain: str) -> StsView:
        return await self._sts.of(domain)

    async def demand(self, view: StsView, host: str, secure: bool, mode: TlsMode) -> Demand | Broken:
        if secure:
            # RFC 7672 section 2.2.2: not asked of hosts with unsigned addresses, whose servers may not know the type.
            match await self._lookup(f"_{_SMTP}._tcp.{host}", "TLSA"):
                case Failure():
                    # Section 2.1.1: bogus, or kept from us. The host is not used until that is over.
                    return Broken(Stage.CONNECT, Cause.TLS, failure=TlsFailure.DNSSEC_INVALID)
                case TlsaRecords(values=values, secure=True):
                    if records := usable(values):
                        # RFC 8461 section 2: MTA-STS must not override DANE.
                        return Demand(TlsMode.DANE, "dane", records)
                    # RFC 7672 section 2.2: records that nobody can use still say that it speaks TLS.
                    mode = TlsMode.REQUIRED if mode in (TlsMode.NONE, TlsMode.OPPORTUNISTIC) else mode
                    if view.enforced is None:
                        return Demand(mode, "dane")
        if (enforced := view.enforced) is not None:
            # RFC 8461 section 5: only to hosts that the policy names, never in clear, never to an unproven one.
            if not enforced.names(host):
                return Broken(Stage.CONNECT, Cause.TLS, failure=TlsFailure.VALIDATION)
            return Demand(TlsMode.VERIFIED, "sts")
        if view.policy is not None and view.policy.mode is StsMode.TESTING:
            return Demand(mode, "sts-testing")
        return Demand(mode, mode)


def carries(info: SessionInfo, view: StsView) -> bool:
    """Whether an open session may carry mail of a domain with this policy."""
    enforced = view.enforced
    if enforced is None or (info.tls_policy == "dane" and info.tls_verified):
        return True
    return info.tls_verified and enforced.names(info.mx_host)


def reported(info: SessionInfo, view: StsView, mode: TlsMode) -> tuple[str, str]:
    """(policy, failure) of mail of this domain on this session: the session may have been opened for another's."""
    failure = info.tls_failure or view.failure
    if info.tls_policy == "dane":
        return "dane", failure
    if view.policy is None or view.policy.mode is StsMode.NONE:
        return mode, failure
    if view.enforced is not None:
        return "sts", failure
    if not failure and not (info.tls_verified and view.policy.names(info.mx_host)):
        failure = TlsFailure.VALIDATION
    return "sts-testing", failure
