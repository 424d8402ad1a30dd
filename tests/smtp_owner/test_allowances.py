"""A day's cap over all owners, played with four of them and one log: never exceeded, and nearly all of it used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from sinks.smtp.allowances import DAY_S, LOOK_S, Allowances, Answer, Draw

TENANT = "acme"
NOON = 20_759 * DAY_S + DAY_S / 2


@dataclass
class World:
    """Owners that read one log, each at its own pace, crash and start anew."""

    cap: int
    seed: int
    owners: int = 4
    log: list[Draw] = field(default_factory=list)
    started: Counter[int] = field(default_factory=Counter)  # by day
    now: float = NOON

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.runs = 0
        self.crew = [self.fresh() for _ in range(self.owners)]

    def fresh(self) -> tuple[Allowances, list[int]]:
        self.runs += 1
        return Allowances(f"run-{self.runs}", lambda tenant: self.cap), [0]

    def turn(self, *, crashes: float = 0.0) -> None:
        self.now += self.rng.uniform(0.0, 2.0)
        for number in self.rng.sample(range(self.owners), self.owners):
            owner, position = self.crew[number]
            for _ in range(self.rng.randrange(4)):  # some of what there is to read
                if position[0] < len(self.log):
                    owner.heard(self.log[position[0]])
                    position[0] += 1
            for _ in range(self.rng.randrange(12)):
                answer = owner.ask(TENANT, self.now)
                if answer.draw is not None and self.rng.random() > 0.05:  # else it is lost on its way
                    self.log.append(answer.draw)
                if answer.until:
                    assert answer.until > self.now
                    break
                owner.began(TENANT, self.now)
                self.started[int(self.now // DAY_S)] += 1
            if self.rng.random() < crashes:
                self.crew[number] = self.fresh()


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("cap", [1, 7, 500, 3_000])
def test_four_owners_never_exceed_the_cap_and_use_it_up(cap: int, seed: int) -> None:
    world = World(cap, seed)
    for _ in range(2_000):
        world.turn()
    assert world.started[20_759] == cap


@pytest.mark.parametrize("seed", range(25))
def test_owners_that_crash_lose_what_they_were_given_and_no_more(seed: int) -> None:
    cap = 3_000
    world = World(cap, seed)
    for _ in range(2_000):
        world.turn(crashes=0.002)
    portion = cap // 100
    assert cap - world.runs * 2 * portion <= world.started[20_759] <= cap


def test_a_new_day_has_a_cap_of_its_own() -> None:
    world = World(200, 1)
    world.now = 20_760 * DAY_S - 600.0
    for _ in range(2_000):
        world.turn()
    assert (world.started[20_759], world.started[20_760]) == (200, 200)


def test_who_has_no_cap_asks_nobody() -> None:
    free = Allowances("run", lambda tenant: 0)
    assert free.ask(TENANT, NOON) == Answer()
    free.began(TENANT, NOON)
    assert free.ask(TENANT, NOON) == Answer()


def test_when_the_day_is_used_up_it_is_waited_for_the_next() -> None:
    owner = Allowances("run", lambda tenant: 10)
    assert not owner.heard(Draw(TENANT, 20_759, 10, "another"))
    assert owner.ask(TENANT, NOON) == Answer(20_760 * DAY_S)
    assert owner.ask("other", NOON).draw is not None


def test_a_draw_that_nobody_heard_of_is_made_again() -> None:
    owner = Allowances("run", lambda tenant: 1_000)
    first = owner.ask(TENANT, NOON)
    assert first.draw == Draw(TENANT, 20_759, 10, "run")
    assert first.until == NOON + LOOK_S
    assert owner.ask(TENANT, NOON + 1) == Answer(NOON + 1 + LOOK_S)
    assert owner.ask(TENANT, NOON + 5).draw is not None
    assert owner.heard(first.draw)  # it was only late
    assert owner.ask(TENANT, NOON + 6) == Answer()


def test_a_cap_that_is_lowered_holds_for_what_is_drawn_from_then_on() -> None:
    caps = [1_000]
    owner = Allowances("run", lambda tenant: caps[0])
    owner.heard(Draw(TENANT, 20_759, 10, "run"))
    caps[0] = 10
    for _ in range(10):
        assert owner.ask(TENANT, NOON) == Answer()
        owner.began(TENANT, NOON)
    assert owner.ask(TENANT, NOON).until == 20_760 * DAY_S
