"""A rate over all owners, played with four of them and one log: followed within 5 % over a minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from sinks.smtp.allowances import Answer, Draw
from sinks.smtp.paces import Paces

TENANT = "acme"
START = 1_760_000_000.0
TICK = 0.05


@dataclass
class World:
    """Owners with so much to send each second, that hear of the log with a delay."""

    rate: float
    seed: int
    sent: list[float] = field(default_factory=list)
    now: float = START

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.log: list[tuple[float, Draw]] = []  # when it is written, what
        self.owners = [Paces(f"run-{number}", lambda tenant: self.rate) for number in range(4)]
        self.heard = [0] * 4
        self.waiting = [0.0] * 4

    def play(self, seconds: float, demands: Sequence[float]) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.log.sort(key=lambda each: each[0])
            for number in self.rng.sample(range(4), 4):
                self.turn(number, demands[number])

    def turn(self, number: int, demand: float) -> None:
        owner = self.owners[number]
        while self.heard[number] < len(self.log) and self.log[self.heard[number]][0] <= self.now:
            owner.heard(self.log[self.heard[number]][1], self.now)
            self.heard[number] += 1
        self.waiting[number] = min(self.waiting[number] + demand * TICK, 1e6)
        while self.waiting[number] >= 1:
            answer = owner.ask(TENANT, self.now)
            if answer.draw is not None:
                latest = self.log[-1][0] if self.log else 0.0
                self.log.append((max(latest, self.now + self.rng.uniform(0.01, 0.3)), answer.draw))
            if answer.until:
                break
            owner.began(TENANT, self.now)
            self.waiting[number] -= 1
            self.sent.append(self.now)

    def minutes(self) -> list[int]:
        """Sent in each minute, a new one begun every 5 s, after the first ten seconds."""
        first, last = START + 10.0, self.now - 60.0
        begins = [first + 5.0 * step for step in range(int((last - first) / 5.0) + 1)]
        return [sum(begin <= at < begin + 60.0 for at in self.sent) for begin in begins]


DEMANDS = {
    "even": (100.0, 100.0, 100.0, 100.0),
    "one has it all": (400.0, 0.0, 0.0, 0.0),
    "uneven": (300.0, 60.0, 7.0, 0.5),
}


@pytest.mark.parametrize("demand", DEMANDS)
@pytest.mark.parametrize("rate", [1.0, 10.0, 80.0])
@pytest.mark.parametrize("seed", range(3))
def test_four_owners_follow_the_rate_within_five_percent(rate: float, demand: str, seed: int) -> None:
    world = World(rate, seed)
    world.play(150.0, DEMANDS[demand])
    minutes = world.minutes()
    assert len(minutes) > 10
    assert all(0.95 * rate * 60 <= count <= 1.05 * rate * 60 for count in minutes), minutes


@pytest.mark.parametrize("seed", range(5))
def test_demand_that_moves_from_owner_to_owner_never_sends_more(seed: int) -> None:
    world = World(10.0, seed)
    for turn in range(20):
        demands = [0.0] * 4
        demands[turn % 4] = 50.0
        world.play(10.0, demands)
    assert max(world.minutes()) <= 1.05 * 600


def test_no_rate_is_no_question() -> None:
    assert Paces("run", lambda tenant: 0.0).ask(TENANT, START) == Answer()


def test_a_sender_that_was_silent_saves_nothing_up() -> None:
    owner = Paces("run", lambda tenant: 1.0)
    first = owner.ask(TENANT, START)
    assert first.draw == Draw(TENANT, 0, 1, "run", START)
    assert owner.heard(first.draw, START)
    owner.heard(Draw(TENANT, 0, 2, "another", START + 100), START + 100)
    draw = owner.ask(TENANT, START + 100).draw
    assert draw is not None
    owner.heard(draw, START + 100)
    assert owner.ask(TENANT, START + 100).until == START + 102.0  # after the other's


def test_a_clock_far_ahead_takes_nobody_with_it() -> None:
    owner = Paces("run", lambda tenant: 1.0)
    owner.heard(Draw(TENANT, 0, 2, "another", START + 86_400), START)
    draw = owner.ask(TENANT, START).draw
    assert draw is not None
    owner.heard(draw, START)
    assert owner.ask(TENANT, START).until <= START + 40
