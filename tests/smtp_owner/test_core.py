"""The queue owner's core, by histories: what is done to it, and what must follow."""

from __future__ import annotations

from sinks.smtp.state import Kind, Phase
from tests.smtp_owner.world import World


def test_a_message_is_delivered_and_ends_once() -> None:
    world = World()
    world.add("one")
    world.opened()
    world.ready()
    assert not world.dots, "the dot waits for the commit"
    world.commit()
    assert list(world.dots) == [1]
    assert world.phase("one") is Phase.SENDING
    world.outcome(1, Kind.DELIVERED, code=250)
    world.settle()
    assert world.types() == ["attempt.delivered", "message.delivered"]
    assert world.phase("one") is Phase.DONE
