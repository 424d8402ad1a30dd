"""How long a transactional mail takes while a campaign to the same provider is still being expanded and delivered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from bench import run, workload
from bench.parts import Running
from bench.throughput import Row, stack
from bench.watch import Watch
from bench.workload import Content
from pipeline import wiring
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import MESSAGES, SENDS_URGENT

_EVERY_S = 0.1
_SITE = 1  # of both


def urgent(counts: Sequence[int]) -> Iterator[Row]:
    """Ms from Kafka's time of the send to the 250, of resets (one each 100 ms) and of the campaign beside them."""
    with stack() as started:
        started.warm([f"first@{domain}" for domain in workload.domains()])
        for count in counts:
            yield _beside(started.parts, count)


def _beside(parts: Running, count: int) -> Row:
    cluster = wiring.cluster(parts.settings)
    people = (f"person{number}@{workload.domain(_SITE, number % workload.DOMAINS_PER_SITE)}" for number in range(count))
    bulk = workload.mailing(Content.CAMPAIGN, f"beside-{time.time_ns()}", people, parts.recipient_secret)
    watch, over = Watch(cluster), threading.Event()
    since = watch.ends(MESSAGES)
    resets = threading.Thread(target=_resets, args=(cluster, over))
    with Publisher(cluster, "bench") as publisher:
        resets.start()
        run.publish(publisher, bulk)
    run.wait_for_facts(watch, since, 2 * count)
    over.set()
    resets.join()
    run.wait_for_sink(watch)
    story = watch.read(since, watch.ends(MESSAGES))
    watch.close()
    found: Row = {"campaign": count}
    for name, stream in (("reset", "transactional"), ("campaign", "marketing")):
        of = [fact for fact in story if fact["stream"] == stream]
        _, waits, delivered = run.timing(of)
        p50, p95, p99 = run.percentiles(waits)
        found |= {f"{name}s_delivered": delivered, f"{name}_p50_ms": round(p50), f"{name}_p95_ms": round(p95)}
        found |= {f"{name}_p99_ms": round(p99), f"{name}_worst_ms": round(max(waits))}
    return found


def _resets(cluster: Cluster, over: threading.Event) -> None:
    with Publisher(cluster, "bench-urgent", settings={"linger.ms": 0}) as publisher:
        number = 0
        while not over.wait(_EVERY_S):
            address = f"reset{number}@{workload.domain(_SITE, number % workload.DOMAINS_PER_SITE)}"
            (send,) = workload.sends(f"reset-{time.time_ns()}", [address], 1_024, stream="transactional")
            publisher.send(SENDS_URGENT, send.key, send.value)
            number += 1
