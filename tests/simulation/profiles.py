"""What goes wrong in a history, and how often: a profile per kind of fault, and a storm of all."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """Numbers are the most that a history draws; shares are of attempts, facts, transactions or requests."""

    name: str
    kills: int = 0
    freezes: int = 0  # beyond the session time-out, mostly
    cuts: int = 0  # a worker that cannot reach the broker for a while, and runs on
    changes: int = 2  # workers that join or leave cleanly
    restarts: int = 0  # of the broker
    losses: int = 0  # spells in which requests and answers vanish
    peer: float = 0.3
    lossy_peer: bool = False
    facts: float = 0.0
    aborts: float = 0.0
    slow_markers: bool = False

    @property
    def calm(self) -> bool:
        """Nothing that could put a message in doubt happens."""
        return not (self.kills or self.freezes or self.cuts or self.restarts or self.losses or self.lossy_peer)


PROFILES: Final = (
    Profile("calm", facts=0.1, aborts=0.1, slow_markers=True),
    Profile("crash", kills=3),
    Profile("zombie", freezes=3, changes=1),
    Profile("cut off", cuts=3, slow_markers=True),
    Profile("broker", restarts=1, losses=2, aborts=0.1, slow_markers=True),
    Profile("peer", changes=1, peer=0.7, lossy_peer=True),
    Profile("facts", kills=2, facts=0.5),
    Profile("storm", 2, 2, 1, 2, 1, 2, 0.5, True, 0.3, 0.1, True),
)
BY_NAME: Final = {profile.name: profile for profile in PROFILES}


def of(seed: int) -> Profile:
    """A seed names its profile too, so that a number alone runs a history again."""
    return PROFILES[seed % len(PROFILES)]


@dataclass(frozen=True, slots=True)
class Shape:
    """What differs between worlds, drawn first."""

    lanes: int
    workers: int
    messages: int
    connections: int
    on_doubt: str
    cache_bytes: int
    batch: int


def draw(random: Random) -> Shape:
    return Shape(
        lanes=random.randint(1, 3),
        workers=random.choice((1, 2, 2, 3)),
        messages=random.randint(2, 10),
        connections=random.randint(1, 3),
        on_doubt=random.choice(("resend", "give_up")),
        cache_bytes=random.choice((6_000, 1_000_000)),
        batch=random.choice((1, 2_000)),
    )
