"""What a deep queue costs: the rate beside it, the owner's memory, bytes written, and a restart's restore.

The queue of `depths` is held by `send_at`, a day ahead: its messages are accepted, planned and owned, and wait. Depths
are reached one after the other on one stack, so each point has what the ones before it left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

from bench import accounting, run, workload
from bench.throughput import Row, Stack, row, stack
from bench.watch import Watch
from bench.workload import Content
from pipeline import wiring
from processors.plan.agent import GROUP as PLAN
from schemas import ids
from sinks.clickhouse.intake import GROUP as SINK_GROUP
from sinks.smtp.state import Phase, State, encode, tenant_number
from topics.publisher import Publisher
from topics.registry import LANES, MESSAGES, QUEUE, SENDS, lanes

_AHEAD = timedelta(days=1)
_OWNERS = f"smtp.{lanes().group}"
_LOOK_S = 0.5
_STALLED_S = 120.0
_RESTORE_S = 900.0
_PORTION = 50_000  # messages of a campaign: so many records are made at once
_LEFT = 8  # offsets of all lanes behind the last record: markers of transactions, which no group commits


def depths(wanted: Sequence[int], messages: int) -> Iterator[Row]:
    """By messages queued: rate, the owner's memory (MiB), bytes for each message queued, seconds of a restart."""
    with stack() as started:
        started.deliver([f"first@{domain}" for domain in workload.domains()])
        queued = 0
        for depth in sorted(wanted):
            cost = _fill(started, depth - queued, queued)
            queued = depth
            memory = accounting.memory_of({"smtp": started.parts.pids["smtp"]})["smtp"]
            outcome = started.warm([*workload.recipients(messages)])
            found: Row = {"queued": depth, "owner_mib": round(memory)} | cost | row(outcome) | _restart(started)
            yield found


def restores(wanted: Sequence[int], messages: int) -> Iterator[Row]:
    """By messages queued, each written to the queue's topic as its owner would have: what a start with them takes, and
    the rate beside them. Their bodies are on no lane, and not asked for before their time.
    """
    with stack() as started:
        started.deliver([f"first@{domain}" for domain in workload.domains()])
        queued = 0
        for depth in sorted(wanted):
            restart = _restart(started, partial(_write_states, started, depth - queued))
            queued = depth
            found: Row = {"queued": depth} | restart
            yield found | row(started.warm([*workload.recipients(messages)]))


def _write_states(started: Stack, count: int) -> None:
    now = time.time()
    day = _AHEAD.total_seconds()
    tenant = tenant_number(workload.TENANT)
    with Publisher(wiring.cluster(started.parts.settings), "bench") as publisher:
        for number in range(count):
            lane = ids.lane_key("default", f"mx.s{number % workload.SITES + 1}.test", 0)
            next_at = int((now + day) * 1000) + number % 1_000_000
            expires_at = keep_until = int(now + 2 * day)
            state = State(
                *(Phase.QUEUED, False, number, lane, 1),
                *(int(now * 1000), next_at, expires_at, keep_until),
                tenant=tenant,
            )
            publisher.send(QUEUE, uuid4().bytes, encode(state), partition=number % QUEUE.embedded)


def _fill(started: Stack, count: int, before: int) -> Row:
    """Bytes for each message queued, of Kafka's logs and of all that broker and ClickHouse had written to disk."""
    if not count:
        return {}
    parts = started.parts
    logs = parts.settings.data / "kafka" / "broker-0" / "log"
    writers = [parts.pids[name] for name in ("kafka", "clickhouse-server")]
    log, disk = sum(accounting.log_bytes(logs).values()), sum(map(accounting.written, writers))
    began = time.monotonic()
    cluster = wiring.cluster(parts.settings)
    send_at = (datetime.now(UTC) + _AHEAD).isoformat()
    with Publisher(cluster, "bench") as publisher:
        for first in range(0, count, _PORTION):
            name = f"later-{before + first}"
            people = workload.recipients(min(_PORTION, count - first), seed=before + first + 2)
            mailing = workload.mailing(Content.CAMPAIGN, name, people, parts.recipient_secret, send_at=send_at)
            run.publish(publisher, mailing)
    _wait_for_owner(Watch(cluster))
    seconds = time.monotonic() - began
    return {
        "fill_per_second": round(count / seconds),
        "kafka_bytes_per_queued": round((sum(accounting.log_bytes(logs).values()) - log) / count),
        "disk_bytes_per_queued": round((sum(map(accounting.written, writers)) - disk) / count),
    }


def _wait_for_owner(watch: Watch) -> None:
    """Until plan, the queue owner and ClickHouse's sink have read all that there is, or nothing moves any more."""
    seen, moved = -1, time.monotonic()
    while time.monotonic() - moved < _STALLED_S:
        written = sum(place.offset for place in watch.ends(MESSAGES))
        behind = watch.lag(PLAN, SENDS) + max(0, watch.lag(_OWNERS, LANES) - _LEFT) + watch.lag(SINK_GROUP, MESSAGES)
        if not behind:
            break
        if written - behind != seen:
            seen, moved = written - behind, time.monotonic()
        time.sleep(_LOOK_S)
    watch.close()


def _restart(started: Stack, meanwhile: Callable[[], None] = lambda: None) -> Row:
    """Stop the owner cleanly and start it again: seconds until it is ready, and what its log says of the restore."""
    parts = started.parts
    log = parts.settings.data / "logs" / "smtp.log"
    place = log.stat().st_size
    with parts.supervisor.held("smtp"):
        meanwhile()
        began = time.monotonic()
    parts.supervisor.wait_ready(["smtp"], _RESTORE_S)
    ready = time.monotonic() - began
    restored = _restored(log, place)
    return {
        "restart_ready_s": round(ready, 2),
        "restored_keys": sum(int(each["keys"]) for each in restored),
        "restore_longest_s": max((float(each["seconds"]) for each in restored), default=0.0),
        "owner_mib_restored": round(accounting.memory_of({"smtp": parts.pids["smtp"]})["smtp"]),
    }


def _restored(log: Path, place: int) -> list[dict[str, str]]:
    with log.open("rb") as file:
        file.seek(place)
        lines = file.read().decode(errors="replace").splitlines()
    return [json.loads(line) for line in lines if '"restored"' in line]
