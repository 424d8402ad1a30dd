"""A sink in a process of its own, which kills itself (-9) at a chosen step: `child.py CONFIG STEP`, STEP may be empty.

It touches CONFIG.idle when all it has read is written.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from sinks.clickhouse.core import READ, Block, Mark, Place
from sinks.clickhouse.intake import GROUP, Intake
from sinks.clickhouse.tables import ClickHouseSinkConfig, Tables, connect
from sinks.clickhouse.writer import Writer
from topics.deadletters import DeadLetters
from topics.kafka import Cluster
from topics.publisher import Publisher


class Fast(Cluster):
    """Static membership of the classic protocol: the next life need not wait for the last one's session to time out.
    And no fetch waits for more, so that the end is known when it is reached.
    """

    def consumer_config(self, group: str, client_id: str, **extra: Any) -> dict[str, Any]:
        settings = {**extra, "group.instance.id": "sink", "fetch.min.bytes": 1}
        return super().consumer_config(group, client_id, **settings)


class Deadly(Intake):
    death = ""

    def commit(self, marks: Mapping[Place, Mark]) -> None:
        kind = "mark" if any(mark.last is not None for mark in marks.values()) else "done"
        _die_at(f"before {kind}", self.death)
        super().commit(marks)
        _die_at(f"after {kind}", self.death)


class DeadlyTables(Tables):
    death = ""

    def insert(self, block: Block) -> None:
        _die_at("before insert", self.death)
        super().insert(block)
        _die_at("after insert", self.death)


def _die_at(step: str, death: str) -> None:
    if step == death:
        os.kill(os.getpid(), signal.SIGKILL)


def main(path: Path, death: str) -> None:
    given = orjson.loads(path.read_bytes())
    cluster = Fast(given.pop("bootstrap"), given.pop("prefix"), "classic")
    config = ClickHouseSinkConfig(cluster, **given)
    Deadly.death = DeadlyTables.death = death
    stop = threading.Event()
    with (
        Publisher(cluster, GROUP) as publisher,
        closing(DeadlyTables(lambda: connect(config, config.database))) as tables,
        closing(Deadly(cluster, READ)) as intake,
    ):
        writer = Writer(intake, tables, DeadLetters(publisher, GROUP), publisher.flush)
        while not (intake.assigned and len(intake.at_end) == given_partitions() and not writer._held):
            writer.turn(stop)
    path.with_suffix(".idle").touch()


def given_partitions() -> int:
    return sum(topic.embedded for topic in READ)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
