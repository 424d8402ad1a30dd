"""What holds for a site, as the core obeys it: rates of connections, ceilings that change, suspensions."""

from __future__ import annotations

from math import inf

from schemas.attempts import AttemptDelivered
from schemas.lanes import MessageQueue
from sinks.smtp.commands import GO, Rest, Rules, Verdict
from sinks.smtp.policy import Limits, Shape
from sinks.smtp.state import Kind
from tests.smtp_owner.world import START, World


class Hand:
    """What holds for every lane, as the test says."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.suspended_until = 0.0

    def rules(self) -> Rules:
        return Rules(limits=lambda lane: self.limits, shape=self.shape)

    def shape(self, lane: str, limits: Limits, now: float) -> Shape:
        return Shape(limits, self.suspended_until, self.suspended_until if self.suspended_until > now else inf)


def add(world: World, count: int) -> None:
    world.add(*(f"m{number}" for number in range(count)))


def delivered(world: World) -> int:
    return world.types().count("message.delivered")


def test_connections_are_opened_at_their_rate() -> None:
    hand = Hand(Limits(connections=50, messages_per_connection=1, connections_per_second=2.0))
    world = World(rules=hand.rules())
    add(world, 100)
    world.play(10)
    assert 20 <= delivered(world) <= 22  # each message takes one


def test_a_site_that_falls_silent_is_not_asked_for_more_than_its_rate() -> None:
    hand = Hand(Limits(messages_per_second=1 / 60, idle_s=1))
    world = World(rules=hand.rules())
    world.add("one")
    world.play(5)
    world.add("two")
    world.play(50)
    assert delivered(world) == 1
    world.play(6)
    assert delivered(world) == 2


def test_fewer_connections_close_what_is_idle_and_then_what_becomes_so() -> None:
    hand = Hand(Limits(connections=4))
    world = World(rules=hand.rules())
    add(world, 16)
    world.opened()
    world.opened()
    world.ready()
    world.commit()
    busy = sorted(world.dots)
    assert len(busy) == 4
    hand.limits = Limits(connections=1)
    world.owner.reshape(world.now)
    world.obey()
    assert not world.closed  # a transaction is not cut off for it
    for session in busy:
        world.outcome(session, Kind.DELIVERED)
    assert len(world.closed) == 3
    world.play(5)
    assert delivered(world) == 16


def test_a_suspended_site_starts_nothing_until_its_time() -> None:
    hand = Hand(Limits())
    world = World(rules=hand.rules())
    add(world, 3)
    hand.suspended_until = world.now + 60
    world.owner.reshape(world.now)
    world.opened()  # it was being opened when the suspension came
    assert not world.started
    world.play(59)
    assert (delivered(world), world.types()) == (0, [])
    world.play(3)
    assert delivered(world) == 3


def test_a_suspension_that_is_lifted_ends_at_once() -> None:
    hand = Hand(Limits())
    hand.suspended_until = 2_000_000_000.0
    world = World(rules=hand.rules())
    add(world, 3)
    assert not world.open
    hand.suspended_until = 0.0
    world.owner.reshape(world.now)
    world.obey()
    assert world.open


def test_a_tenant_that_rests_leaves_the_site_to_others() -> None:
    begun: list[str] = []

    def admit(command: MessageQueue, now: float) -> Verdict:
        return Rest(START + 30.0) if command.tenant == "slow" and now < START + 30.0 else GO

    world = World(rules=Rules(admit=admit, began=lambda command, source, now: begun.append(command.tenant)))
    for number in range(4):
        world.add(f"s{number}", tenant="slow")
        world.add(f"q{number}", tenant="quick")
    world.play(29)
    assert begun == ["quick"] * 4
    assert delivered(world) == 4
    assert not [kind for kind in world.types() if kind == "attempt.held"]
    world.play(2)
    assert begun == ["quick"] * 4 + ["slow"] * 4
    assert delivered(world) == 8


def test_what_is_forbidden_while_it_is_composed_does_not_start() -> None:
    stands = [True]
    world = World(rules=Rules(stands=lambda command, source, now: stands[0], limits=lambda lane: Limits(connections=1)))
    world.add("one", "two")
    world.opened()
    stands[0] = False
    assert world.owner.still(1, world.now + 0.05), "what was asked a moment ago is not asked again"
    assert not world.owner.still(1, world.now + 0.5)
    world.obey()
    stands[0] = True
    world.play(2)
    assert [fact.attempt for fact in world.facts if isinstance(fact, AttemptDelivered)] == [1, 1]
    assert delivered(world) == 2


def test_what_is_composed_while_all_stands_still_waits() -> None:
    world = World()
    world.add("one")
    world.opened()
    world.owner.pause()
    assert not world.owner.still(1, world.now + 0.5)
    world.owner.resume(world.now + 1.0)
    world.obey()
    assert world.owner.still(1, world.now + 2.0)


def test_a_tenant_whose_allowance_is_gone_as_its_connection_opens_is_not_begun() -> None:
    left = [1]

    def admit(command: MessageQueue, now: float) -> Verdict:
        return GO if left[0] > 0 else Rest(START + 60.0)

    def began(command: MessageQueue, source: str, now: float) -> None:
        left[0] -= 1

    world = World(rules=Rules(admit=admit, began=began))
    add(world, 20)  # several connections are opened for it: each asked while one was left
    world.play(30)
    assert (delivered(world), left) == (1, [0])
