"""Run one history by its seed, and say what went wrong in a form that a person can follow."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass

from tests.simulation.judge import Violation
from tests.simulation.profiles import BY_NAME, of
from tests.simulation.worker import Worker
from tests.simulation.world import Seen, World


@dataclass(frozen=True, slots=True)
class History:
    world: World
    broken: Exception | None
    digest: str


def run(seed: int, profile: str | None = None, worker: type[Worker] | None = None) -> History:
    world = World(seed, BY_NAME[profile] if profile else of(seed), worker or Worker)
    broken: Exception | None = None
    try:
        world.run()
    except Exception as error:
        # A Violation; or the core itself fell over, which would end an owner's process.
        broken = error
        if not isinstance(error, Violation):
            world.trace.append(
                Seen(world.kernel.now, "python", "raised", tuple(traceback.format_exc().splitlines()[-6:]))
            )
    return History(world, broken, world.digest())


def explain(history: History, *, whole: bool = False) -> str:
    """The trace; of a broken one, unless `whole`, the lines about the message concerned and what befell the others."""
    world, broken = history.world, history.broken
    lines = world.trace
    if broken is not None and not whole:
        names = set(re.findall(r"\bm\d+\b", str(broken)))
        about = ("accepted", "commit", "dot", "fact", "outcome", "moves")
        lines = [
            seen for seen in lines
            if seen.what not in about or any(str(detail).split("/")[0] in names for detail in seen.details)
        ]  # fmt: skip
    head = f"seed {world.seed}, profile {world.profile.name}, {world.shape}"
    text = [head, *map(str, lines)]
    if broken is not None:
        again = f"python -m tests.simulation --seed {world.seed} --profile '{world.profile.name}'"
        text += ["", f"BROKEN: {type(broken).__name__}: {broken}", f"again:  {again}"]
    return "\n".join(text)
