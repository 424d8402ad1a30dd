"""What a message costs in transactions and in bytes, and what the stack costs when nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from bench import accounting, workload
from bench.throughput import Row, row, stack
from bench.watch import Watch
from pipeline import wiring
from topics.registry import QUEUE

_OFFSETS = "__consumer_offsets"  # every transaction of ours moves offsets, of one group: one marker each
_SETTLE_S = 10.0


def journal(messages: Sequence[int]) -> Iterator[Row]:
    """Transactions a second and partitions of each, and bytes for each message: Kafka's logs, and all that was written
    to disk by the broker and by ClickHouse.
    """
    with stack() as started:
        parts = started.parts
        logs = parts.settings.data / "kafka" / "broker-0" / "log"
        writers = [parts.pids[name] for name in ("kafka", "clickhouse-server")]
        started.warm([f"first@{domain}" for domain in workload.domains()])
        for count in messages:
            watch = Watch(wiring.cluster(parts.settings))
            since, before = {topic: watch.ends(topic) for topic in (_OFFSETS, QUEUE)}, accounting.log_bytes(logs)
            disk = sum(map(accounting.written, writers))
            outcome = started.deliver([*workload.recipients(count)])
            transactions, partitions = watch.markers(since[_OFFSETS]), watch.markers(since[QUEUE])
            watch.close()
            grown = accounting.spent(before, accounting.log_bytes(logs))
            yield row(outcome) | {
                "transactions_per_second": round(transactions / outcome.seconds, 1),
                "messages_per_transaction": round(count / max(1, transactions), 1),
                "state_partitions_per_transaction": round(partitions / max(1, transactions), 2),
                "kafka_bytes_per_message": round(sum(grown.values()) / count),
                "disk_bytes_per_message": round((sum(map(accounting.written, writers)) - disk) / count),
                **{f"bytes_{topic}": round(size / count) for topic, size in sorted(grown.items()) if size >= count},
            }


def idle(seconds: Sequence[int]) -> Iterator[Row]:
    """Share of one core, and memory in MiB, by part and of all, with nothing to do."""
    with stack() as started:
        time.sleep(_SETTLE_S)
        for span in seconds:
            before, began = accounting.cpu_of(started.parts.pids), time.monotonic()
            time.sleep(span)
            passed = time.monotonic() - began
            cpu = accounting.spent(before, accounting.cpu_of(started.parts.pids))
            memory = accounting.memory_of(started.parts.pids)
            yield {
                "seconds": span,
                "core_share": round(sum(cpu.values()) / passed, 4),
                "memory_mib": round(sum(memory.values())),
                **{f"core_share_{name}": round(value / passed, 4) for name, value in cpu.items()},
                **{f"memory_mib_{name}": round(value) for name, value in memory.items()},
            }
