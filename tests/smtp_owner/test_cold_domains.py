"""Known domains beside very many new ones, of which some never answer and hold their connections until a time-out."""

from __future__ import annotations

from sinks.smtp.commands import Rules
from sinks.smtp.policy import Limits
from sinks.smtp.state import Kind
from tests.smtp_owner.world import World, result

_STEP_S = 0.1  # a connection opens in one, a message takes one
_TIMEOUT_S = 30.0
_SESSIONS = 100
_PER_SITE = 4  # connections
_KNOWN = 10  # sites
_MAILS = 200  # of each known site
_COLD = 3_000  # a mail for each
_SILENT = 20  # one in so many


def seconds_of_known(cold: int) -> float:
    """Until the known sites' mail is delivered, with as many cold domains that came before it."""
    world = World(rules=Rules(sessions=_SESSIONS, limits=lambda lane: Limits(connections=_PER_SITE)))
    known = [f"known{number}.test" for number in range(_KNOWN)]
    for site in known:
        world.add(f"first@{site}", site=site)
    world.play(2)  # that is what makes them known
    for number in range(cold):
        world.add(f"cold{number}", site=f"cold{number}.test")
    for number in range(_MAILS):
        for site in known:
            world.add(f"{number}@{site}", site=site)
    silent = {f"default/cold{number}.test#0" for number in range(0, cold, _SILENT)}
    began, ends = world.now, 0
    dials: dict[int, float] = {}
    while ends < _KNOWN * _MAILS:
        assert world.now - began < 3_600
        for session, opening in list(world.open.items()):
            waits = _TIMEOUT_S if opening.lane in silent else 0.0
            if world.now - dials.setdefault(session, world.now) >= waits:
                if waits:
                    del world.open[session]
                    world.owner.open_failed(session, result(Kind.DEFERRED, world.now), world.now)
                    world.obey()
                else:
                    world.opened(session)
        world.ready()
        world.commit()
        for session, start in list(world.started.items()):
            if session in world.dots:
                ends += start.record.lane.startswith("default/known")
                world.outcome(session, Kind.DELIVERED)
        world.settle()
        world.tick(_STEP_S)
    return world.now - began


def test_domains_that_never_answer_do_not_hold_up_those_that_do() -> None:
    alone = seconds_of_known(0)
    assert seconds_of_known(_COLD) <= alone * 1.05


if __name__ == "__main__":
    print(seconds_of_known(0), seconds_of_known(_COLD))
