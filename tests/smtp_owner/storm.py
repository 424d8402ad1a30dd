"""A rebalance storm: workers join and leave all the time while mail flows, each leaving cleanly.

    python -m tests.smtp_owner.storm --minutes 5 --every 20

runs the long one on a broker of its own, and prints what came of it. tests/smtp_owner/test_storm.py has the short one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded.kafka import EmbeddedKafka, KafkaPlan, prepare
from schemas import ids
from schemas.messages import MessageEnded
from tests.smtp_owner.internet import Internet, internet
from tests.smtp_owner.stage import Worker, command, config, create_topics, facts, queue
from tests.smtp_owner.test_agent import finished
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, MESSAGES

_PARTITIONS = 4
_SLICE = 10  # messages published together
_SLICE_S = 0.2


@dataclass(frozen=True, slots=True)
class Storm:
    """What was sent, and what came of it, by message_id."""

    sent: frozenset[str]
    ended: list[str]
    doubtful: int  # attempts whose end nobody knows
    twice: list[str]  # received more than once
    changes: int

    @property
    def harmless(self) -> bool:
        return sorted(self.ended) == sorted(self.sent) and not self.doubtful and not self.twice


def run(cluster: Cluster, world: Internet, publisher: Publisher, changes: int, pause: Callable[[], None]) -> Storm:
    """One worker stays; two others come and go, `changes` times, with a pause after each."""
    create_topics(cluster, lanes=_PARTITIONS)
    over = threading.Event()
    sent: list[str] = []

    def publish() -> None:
        for number in itertools.count():
            names = [f"m{number}-{each}" for each in range(_SLICE)]
            mails = [command(name, domain=f"d{n}.test") for n, name in enumerate(names)]
            queue(publisher, *mails, lanes=_PARTITIONS)
            sent.extend(ids.message_id("default", name) for name in names)
            if over.wait(_SLICE_S):
                return

    publishing = threading.Thread(target=publish, daemon=True)
    guests: dict[str, Worker] = {}
    with Worker(config(cluster, world, instance="a", presses=1)):
        publishing.start()
        for name in itertools.islice(itertools.cycle("bc"), changes):
            if (guest := guests.pop(name, None)) is None:
                guests[name] = Worker(config(cluster, world, instance=name, presses=1)).start()
            else:
                guest.stop()
                if guest.error is not None:
                    raise guest.error
            pause()
        over.set()
        publishing.join()
        for guest in guests.values():
            guest.stop()
        finished(cluster, len(sent), timeout=120)
    return Storm(
        frozenset(sent),
        [fact.message_id for fact in facts(cluster, MESSAGES) if isinstance(fact, MessageEnded)],
        sum(fact.type == "attempt.unknown" for fact in facts(cluster, ATTEMPTS)),
        [message for message, count in world.received.items() if count > 1],
        changes,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.smtp_owner.storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two changes")
    chosen = parser.parse_args()
    changes = int(chosen.minutes * 60 / chosen.every)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka(KafkaPlan(Path(folder)), prepare(progress=True)) as broker,
        internet() as world,
    ):
        cluster = Cluster(broker.bootstrap)
        with Publisher(cluster, "plan") as publisher:
            storm = run(cluster, world, publisher, changes, lambda: time.sleep(chosen.every))
    print(f"{len(storm.sent)} messages, {storm.changes} joins and leaves: {len(storm.ended)} ends,", end=" ")
    print(f"{len(storm.twice)} received twice, {storm.doubtful} in doubt")
    return 0 if storm.harmless else 1


if __name__ == "__main__":
    sys.exit(main())
