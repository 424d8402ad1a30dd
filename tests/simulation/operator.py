"""The operator of a simulated world: suspends, resumes, purges, takes back and moves, at random; each owner hears of it
a little later than the others.

What a control means is decided by the real rules. Seen from outside: no attempt starts that a control known to its
owner forbids.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from schemas.lanes import MessageQueue
from schemas.rules import selector
from schemas.rules.controls import Action, Control, Controls
from sinks.smtp.commands import GO, Park, Verdict
from sinks.smtp.desk import key_of, verdict_of
from tests.simulation.host import EPOCH, Host

if TYPE_CHECKING:
    from tests.simulation.world import World

_LATE: Final = 1.0  # seconds until the last owner knows of a control
_LOOK: Final = 0.7  # seconds between an owner's looks at what time has brought
_POOLS: Final = ("default", "second", "third")


class Operator:
    def __init__(self, world: World, until: float) -> None:
        """`until`: by then all suspensions are lifted; purges and moves stay as they are."""
        self._world = world
        # Of its own, so that a history without controls is the one that it was.
        self._random = Random(f"operator {world.seed}")
        self._until = until
        self._issued: dict[str, Control] = {}
        self._known: dict[str, Controls] = {}  # by owner

    def plan(self) -> None:
        for number in range(self._random.choice((0, 1, 2, 4))):
            self._world.kernel.at(self._random.uniform(0.5, self._until - 2.0), self._issue, f"c{number}")

    def started(self, owner: Host) -> None:
        """It reads all controls before it takes any message."""
        self._known[owner.name] = Controls(self._issued.values())
        self._world.kernel.at(_LOOK, self._look, owner)

    # What owners ask

    def admit(self, name: str, command: MessageQueue, now: float) -> Verdict:
        control = self._known[name].of(command, now)
        return GO if control is None else verdict_of(control, command, now, name, self._world.shape.lanes)

    def gate(self, name: str, lane: str, now: float) -> Park | None:
        control = self._known[name].closing(lane, now)
        return None if control is None else Park(key_of(control.control_id), control.until)

    def reviews(self, name: str, lane: str, now: float) -> bool:
        return self._known[name].reviews(lane, now)

    def attempted(self, owner: Host, command: MessageQueue) -> None:
        now = owner.wall()
        control = self._known[owner.name].of(command, now)
        held = control is not None and control.action is not Action.MOVE
        self._world.expect(not held, owner.name, f"{self._world.short(command)} is tried in spite of {control}")

    # What it does

    def _issue(self, control_id: str) -> None:
        random, now = self._random, EPOCH + self._world.kernel.now
        action = random.choice((Action.SUSPEND, Action.PURGE, Action.MOVE))
        terms = {selector.BEFORE: datetime.fromtimestamp(now, UTC).isoformat()} if action is not Action.SUSPEND else {}
        match random.randrange(4):
            case 0:
                terms["site"] = f"site{random.randrange(3)}"
            case 1:
                terms["pool"] = random.choice(_POOLS)
            case 2:
                terms["domain"] = f"site{random.randrange(3)}.test"
            case _:
                terms["tenant"] = "default"
        until = EPOCH + self._until if action is Action.SUSPEND else now + random.uniform(0.5, 8.0)
        pool = random.choice(_POOLS) if action is Action.MOVE else ""
        at = datetime.fromtimestamp(now, UTC)
        self._tell(Control(control_id, action, selector.parse(terms), until, at, "because", pool))
        if random.random() < 0.6:
            back = self._world.kernel.now + random.uniform(0.1, 10.0)
            self._world.kernel.at(back - self._world.kernel.now, self._take_back, control_id)

    def _take_back(self, control_id: str) -> None:
        control = self._issued[control_id]
        if control.action is Action.PURGE and control.until <= EPOCH + self._world.kernel.now:
            return
        del self._issued[control_id]
        self._world.note("operator", "takes back", control_id)
        self._spread(control_id)

    def _tell(self, control: Control) -> None:
        self._issued[control.control_id] = control
        self._world.note("operator", control.action.name, control.control_id, control.selector, control.pool)
        self._spread(control.control_id)

    def _spread(self, control_id: str) -> None:
        for worker in self._world.workers.values():
            self._world.kernel.at(self._random.uniform(0.0, _LATE), self._reach, worker, control_id)

    def _reach(self, worker: Host, control_id: str) -> None:
        if worker.process.alive:
            worker.post(partial(self._learn, worker, control_id))

    def _learn(self, worker: Host, control_id: str) -> None:
        """On the owner's loop, as a driver does it: first what is known, then what waited for it."""
        self._known[worker.name] = Controls(self._issued.values())
        worker.owner.unpark([key_of(control_id)], worker.wall())
        worker.owner.review(worker.wall())

    def _look(self, worker: Host) -> None:
        """Time has passed: the grace of a purge may be over."""
        if worker.process.alive and not worker.stopped:
            if self._known[worker.name].reviewing(worker.wall()):
                worker.post(partial(worker.owner.review, worker.wall()))
            self._world.kernel.at(_LOOK, self._look, worker)
