"""Which source address a connection leaves from: by weight among the pool's sources that may serve it and are well.

Pure but for the clock and the random generator, which are handed in. A source that cannot be bound, or whose proxy is
away, is our own fault and no message's: it is taken out, told about once, and tried again after a while that doubles.
Connecting is connecting.py's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from sinks.smtp.routing import IpPolicy

_EHLO_NAME = re.compile(r"[A-Za-z0-9.\-]{1,255}|\[[0-9A-Fa-f.:IPv]{2,50}\]")
_OUT_FIRST_S: Final = 30.0
_OUT_MOST_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Source:
    """Who we are to a peer. Without an address: the system's choice, and whatever family it has.

    `proxy`: the host and port of a SOCKS5 server on whose host the addresses are.
    """

    ehlo_name: str
    name: str = ""
    ipv4: str | None = None
    ipv6: str | None = None
    weight: int = 1
    not_for: frozenset[str] = frozenset()  # mailbox providers
    proxy: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        if _EHLO_NAME.fullmatch(self.ehlo_name) is None:
            raise ValueError("the EHLO name is neither a domain nor an address literal")

    def reaches(self, ip: str) -> bool:
        """Whether it has an address of the family."""
        return self.ipv4 is self.ipv6 is None or self.address(ip) is not None

    def address(self, ip: str) -> str | None:
        """The one to use towards `ip`; None: the system's choice."""
        return self.ipv6 if ":" in ip else self.ipv4


@dataclass(frozen=True, slots=True)
class Pool:
    sources: tuple[Source, ...]
    ip: IpPolicy = IpPolicy.PREFER_IPV4


@dataclass(frozen=True, slots=True)
class Alarm:
    """A source was taken out, or (`well`) serves again."""

    source: str
    well: bool
    reason: str = ""


@dataclass(slots=True)
class _Out:
    until: float
    failures: int


class Sources:
    """`fallback` serves pools that are not configured here: mail of a pool that was removed must not wait for ever.

    `suspended`: whether a source, by its name, is to leave a site alone; `spent`: whether it has used up for now what
    it may send.
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        fallback: Source,
        clock: Callable[[], float],
        rng: Random,
        tell: Callable[[Alarm], None],
        suspended: Callable[[str, str], bool],
        spent: Callable[[str], bool] = lambda source: False,
    ) -> None:
        self._pools = pools
        self._fallback = Pool((fallback,))
        self._clock = clock
        self._rng = rng
        self._tell = tell
        self.suspended = suspended
        self.spent = spent
        self._out: dict[str, _Out] = {}

    def policy(self, pool: str) -> IpPolicy:
        return self._pools.get(pool, self._fallback).ip

    def choose(self, pool: str, site: str, provider: str, ips: Collection[str]) -> Source | None:
        """One that may serve the provider, reaches one of the addresses and is well; None: there is none now."""
        now = self._clock()
        fit = [
            source
            for source in self._pools.get(pool, self._fallback).sources
            if provider not in source.not_for
            and not self.suspended(source.name, site)
            and any(map(source.reaches, ips))
        ]
        # When all have used up theirs, as the last may have meanwhile, the session waits for more.
        fit = [source for source in fit if not self.spent(source.name)] or fit
        fit = [source for source in fit if (out := self._out.get(source.name)) is None or out.until <= now]
        return self._rng.choices(fit, [source.weight for source in fit])[0] if fit else None

    def failed(self, source: Source, reason: str) -> None:
        """It could not be bound, or its proxy did not serve."""
        now = self._clock()
        out = self._out.setdefault(source.name, _Out(0.0, 0))
        if out.until > now:
            return  # another connection that was under way
        out.failures += 1
        out.until = now + min(_OUT_FIRST_S * 2.0 ** (out.failures - 1), _OUT_MOST_S)
        if out.failures == 1:
            self._tell(Alarm(source.name, False, reason))

    def served(self, source: Source) -> None:
        """It could be bound, and its proxy served, whatever the peer then said."""
        if self._out and self._out.pop(source.name, None) is not None:
            self._tell(Alarm(source.name, True))
