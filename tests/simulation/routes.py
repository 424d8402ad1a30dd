"""What a simulated `plan` knows of sites: some domains change theirs, once or twice, and what is published afterwards
goes by the lane of the first.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

from schemas import ids
from schemas.lanes import MessageQueue
from sinks.smtp.queue import Relaned

if TYPE_CHECKING:
    from tests.simulation.worker import Worker
    from tests.simulation.world import World


class Routes:
    def __init__(self, world: World, until: float) -> None:
        self._world = world
        # Of its own, so that a history without changes is the one that it was.
        random = Random(f"routes {world.seed}")
        self._lanes = world.shape.lanes
        self._changes: dict[str, list[float]] = {}  # of a domain's site, by its first one
        for site in ("site0", "site1", "site2"):
            if random.random() < 0.4:
                self._changes[site] = sorted(random.uniform(2.0, until) for _ in range(random.choice((1, 1, 2))))

    def placed(self, command: MessageQueue, now: float) -> MessageQueue:
        """As `plan` writes it now."""
        changed = sum(at <= now for at in self._changes.get(command.site, ()))
        if not changed:
            return command
        site, via = f"{command.site}.{changed}", ""
        if self._partition(site) != self._partition(command.site):
            via = ids.lane_key("default", command.site, 0)
        return command.model_copy(update={"site": site, "via": via})

    def relane(self) -> None:
        """An owner learns that a message's site is another."""
        random, world = self._world.kernel.random, self._world
        for worker in list(world.workers.values()):
            for name in sorted(world.commands):
                command = world.commands[name]
                site = f"site{random.randrange(3)}"
                moved = command.model_copy(update={"site": site})
                number = self._partition(site)
                if site != command.site and worker.process.alive and not worker.process.frozen:
                    to = Relaned(number, False, ids.lane_key("default", site, 0), moved)
                    worker.post(partial(self._moved, worker, name, to))

    def _moved(self, worker: Worker, name: str, to: Relaned) -> None:
        if worker.owner.relane(name, to, worker.wall()):
            self._world.note(worker.name, "moves", self._world.short(name), to.lane)

    def lane(self, command: MessageQueue) -> int:
        """The partition that it is written to."""
        return self._partition(command.via.split("/")[1].split("#")[0] if command.via else command.site)

    def _partition(self, site: str) -> int:
        return ids.lane_partition("default", site, 0, self._lanes)
