"""What a provider remembers of its senders: attempts by sender and mailbox, open connections, the rate of late.

Decides nothing. Bounded, and lost when the process ends: a restarted greylist asks everybody again, as real ones do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_REMEMBERED = 200_000  # pairs of sender and mailbox; the oldest are forgotten first


@dataclass(slots=True)
class Memory:
    """One provider's counters; times are seconds of any clock that only goes forward."""

    rate: float  # messages per second, 0 for no limit
    burst: int
    connections: int = 0
    connected: int = 0
    _attempts: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    _tokens: float = -1.0
    _filled: float = 0.0

    def attempt(self, sender: str, mailbox: str, now: float) -> tuple[int, float]:
        """Count an attempt; its number, from 1, and the seconds since the first."""
        key = (sender, mailbox)
        number, first = self._attempts.get(key, (0, now))
        if not number and len(self._attempts) >= _REMEMBERED:
            del self._attempts[next(iter(self._attempts))]
        self._attempts[key] = (number + 1, first)
        return number + 1, now - first

    def forget(self, sender: str, mailbox: str) -> None:
        """Begin again with this pair: its next attempt is number 1."""
        self._attempts.pop((sender, mailbox), None)

    def has_room(self, now: float) -> bool:
        """Whether the rate limit lets one more recipient in (a token bucket)."""
        if not self.rate:
            return True
        if self._tokens < 0:
            self._tokens, self._filled = float(self.burst), now
        self._tokens = min(float(self.burst), self._tokens + (now - self._filled) * self.rate)
        self._filled = now
        return self._tokens >= 1.0

    def spend(self) -> None:
        """Take what an accepted recipient costs."""
        if self.rate:
            self._tokens -= 1.0
