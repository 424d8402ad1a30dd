"""How soon a control holds: from the moment that Kafka has it to the last attempt that any worker begins after it."""

from __future__ import annotations

import getpass
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from bench import run, workload
from bench.parts import Size
from bench.throughput import Row, Stack, stack
from bench.watch import Watch
from bench.workload import Content
from pipeline import wiring
from schemas.signing import signed
from schemas.state import ControlSet
from topics.publisher import Publisher
from topics.registry import ATTEMPTS

_WORKERS = 2
_EACH, _RATE = 1_500, 300.0  # messages of each mailing, and so many a second: a suspension comes in their midst
_STILL_S = 3.0  # without an attempt: all have heard of it


def controls(counts: Sequence[int]) -> Iterator[Row]:
    """Ms from the acknowledgement of a suspension to the last attempt that began, and from that of its end to the first
    one; the median and the worst of so many suspensions of everything, while mail flows.
    """
    with stack(size=Size(workers=_WORKERS)) as started:
        started.warm([*workload.recipients(_EACH)])
        for count in counts:
            watch = Watch(wiring.cluster(started.parts.settings))
            found = [_suspended(started, watch) for _ in range(count)]
            watch.close()
            stops, starts = [stop for stop, _ in found], [start for _, start in found]
            yield {
                "suspensions": count,
                "workers": _WORKERS,
                "stop_p50_ms": round(run.percentiles(stops)[0]),
                "stop_worst_ms": round(max(stops)),
                "go_on_p50_ms": round(run.percentiles(starts)[0]),
                "go_on_worst_ms": round(max(starts)),
            }


def _suspended(started: Stack, watch: Watch) -> tuple[float, float]:
    """Everything is suspended once, while a mailing is under way, and goes on. Below 0: before the answer was here."""
    parts = started.parts
    fresh = workload.mailing(
        Content.CAMPAIGN, f"held-{time.time_ns()}", workload.recipients(_EACH), parts.recipient_secret
    )
    since = watch.ends(ATTEMPTS)
    with Publisher(wiring.cluster(parts.settings), "bench") as publisher:
        sending = threading.Thread(target=run.publish, args=(publisher, fresh, _RATE))
        sending.start()
        _attempts_at_least(watch, sum(place.offset for place in since) + _EACH // 10)
        suspended = _set(started, "suspend")
        sending.join()
    still = time.monotonic()
    seen = 0
    while time.monotonic() - still < _STILL_S:
        time.sleep(0.1)
        now = sum(place.offset for place in watch.ends(ATTEMPTS))
        if now > seen:
            seen, still = now, time.monotonic()
    resumed = _set(started, "resume")
    _attempts_at_least(watch, sum(place.offset for place in since) + _EACH)
    begun = [_at(fact["started_at"]) for fact in watch.read(since, watch.ends(ATTEMPTS))]
    last = max(at for at in begun if at < resumed)
    first = min((at for at in begun if at >= resumed), default=resumed)
    return (last - suspended) * 1000, (first - resumed) * 1000


def _attempts_at_least(watch: Watch, count: int) -> None:
    while sum(place.offset for place in watch.ends(ATTEMPTS)) < count:
        time.sleep(0.02)


def _set(started: Stack, action: str) -> float:
    """Suspend all, or let all go on. Returns when Kafka has said that it has it."""
    settings = started.parts.settings
    now = datetime.now(UTC)
    event = ControlSet.from_cause(
        f"bench/{action}/{now.isoformat()}",
        occurred_at=now,
        control_id="bench",
        action=action,
        selector={"all": "yes"},
        reason="bench",
        by=getpass.getuser(),
    )
    with Publisher(wiring.cluster(settings), "bench-controls", settings={"linger.ms": 0}) as publisher:
        publisher.publish(signed(event, wiring.keyring(settings)))
        publisher.flush()
        return time.time()


def _at(text: object) -> float:
    return datetime.fromisoformat(str(text)).timestamp()
