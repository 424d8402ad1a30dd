"""Which mail goes by a host that the operator named, in place of what the domain's MX records say: static routes and
smarthosts.

Pure. Its addresses are found by dns.py, its passwords read by the pipeline. Of several routes that fit a message the
narrowest holds: one that names its domain before one that does not, and among equals one that names its pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from sinks.smtp.tls import TlsMode

_ANY: Final = ""


@dataclass(frozen=True, slots=True)
class Login:
    """For SMTP AUTH. Not shown, wherever a relay is."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Relay:
    """The next hop of mail to some domains, of some pools; empty: of all."""

    name: str
    host: str  # a name in A-labels, or an address
    port: int = 25
    tls: TlsMode = TlsMode.OPPORTUNISTIC
    login: Login | None = None
    domains: frozenset[str] = frozenset()
    pools: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        # RFC 4954 section 4: a password in clear, or given to whoever answers, is everybody's.
        if self.login is not None and self.tls is not TlsMode.VERIFIED:
            raise ValueError("a password is given to a verified host alone")

    @property
    def is_named(self) -> bool:
        """Its host is a name to look up, and no address."""
        try:
            ip_address(self.host)
        except ValueError:
            return True
        return False

    @property
    def site(self) -> str:
        """Its limits are its own, whatever domains its mail is for."""
        return f"relay-{self.name}"


class Relays:
    """ValueError when two routes are for the same mail."""

    def __init__(self, relays: Iterable[Relay] = ()) -> None:
        self._by_mail: dict[tuple[str, str], Relay] = {}
        for relay in relays:
            for domain in sorted(relay.domains) or [_ANY]:
                for pool in sorted(relay.pools) or [_ANY]:
                    other = self._by_mail.setdefault((domain, pool), relay)
                    if other is not relay:
                        mail = f"mail to {domain or 'all domains'} of {f'the pool {pool}' if pool else 'all pools'}"
                        raise ValueError(f"{other.name} and {relay.name} are both for {mail}")

    def __bool__(self) -> bool:
        return bool(self._by_mail)

    def of(self, domain: str, pool: str) -> Relay | None:
        """`domain` in A-labels and lower case."""
        if not self._by_mail:
            return None
        for key in ((domain, pool), (domain, _ANY), (_ANY, pool), (_ANY, _ANY)):
            if (relay := self._by_mail.get(key)) is not None:
                return relay
        return None
