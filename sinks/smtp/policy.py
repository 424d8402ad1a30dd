"""When a message is tried again, and what bounds the traffic to one site. Plain values; where they come from is the
agent's.

RFC 5321 section 4.5.4.1: a retry interval of at least 30 minutes, give up after 4 to 5 days; two tries in the first
hour, then every two or three hours. First retries here come sooner, as all large senders do: greylisting ends within
minutes, and what must wait longer says so by its reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from schemas.envelope import Stream
from schemas.lanes import MessageQueue
from schemas.tenant import OnDoubt, Tenant

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0

# The wait after the first attempt, after the second, …; the last one repeats until the message expires.
BULK: Final = (5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR)
TRANSACTIONAL: Final = (_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, _HOUR, 2 * _HOUR)

# A site that refuses connections: the wait doubles with each failure in a row.
_BACKOFF_FIRST: Final = 10.0
_BACKOFF_MOST: Final = 300.0

BURST_S: Final = 0.1  # by which a rate may run ahead: ticks are not exact


@dataclass(frozen=True, slots=True)
class Policy:
    """How one message is treated: by its tenant and stream."""

    on_doubt: OnDoubt = "give_up"
    duplicate_window_s: int = 86_400

    @classmethod
    def of(cls, command: MessageQueue, tenants: Mapping[str, Tenant]) -> Policy:
        tenant = tenants.get(command.tenant)
        return cls() if tenant is None else cls(tenant.policy(command.stream).on_doubt, tenant.duplicate_window_s)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one site may be asked to take from this owner."""

    connections: int = 10
    messages_per_connection: int = 100
    messages_per_second: float = 0.0  # 0: no limit
    idle_s: float = 60.0
    connections_per_second: float = 0.0  # 0: no limit

    def dealt(self, shard: int, shards: int) -> Limits:
        """The part of one of a site's shards: whole connections, and an equal part of each rate."""
        if shards == 1:
            return self
        each, rest = divmod(self.connections, shards)
        return replace(
            self,
            connections=max(1, each + (shard < rest)),
            messages_per_second=self.messages_per_second / shards,
            connections_per_second=self.connections_per_second / shards,
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What holds for a site at a moment, and when to ask again. `bounded`: not each source may always be used."""

    limits: Limits
    suspended_until: float = 0.0
    again_at: float = inf
    bounded: bool = False


def retry_wait(stream: Stream, attempts: int, key: bytes, scale: float = 1.0) -> float:
    """Seconds from the `attempts`-th attempt to the next.

    `key` spreads messages by up to a tenth, the same way every time: what was deferred in one minute does not come
    back in one second.
    """
    waits = BULK if stream.is_bulk else TRANSACTIONAL
    spread = 1.0 + (key[-1] + attempts * 61) % 256 / 2560
    return waits[min(attempts, len(waits)) - 1] * spread * scale


def backoff(failures: int, scale: float = 1.0) -> float:
    """Seconds for which a site rests after its `failures`-th failed connection, or 421, in a row."""
    return min(_BACKOFF_FIRST * 2.0 ** min(failures - 1, 16), _BACKOFF_MOST) * scale
