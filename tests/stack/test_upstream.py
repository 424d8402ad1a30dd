"""Any Kafka client is the upstream app: what kcat and others publish is delivered once, and bad records harm nobody."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline.embedded.stack import Stack
from schemas import ids
from tests.stack.questions import Questions
from tests.waiting import wait_until

pytestmark = pytest.mark.stack

SMALLEST = {
    "recipient": "ann@example.test",
    "from": "News <news@brand.test>",
    "subject": "Hello",
    "text": "Good morning, Ann.",
}


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def kcat(stack: Stack, key: str, value: bytes, topic: str = "mail.sends") -> None:
    """Publish one record as Debian's kcat does (librdkafka's own partitioner, CRC32)."""
    program = shutil.which("kcat")
    if program is None:
        pytest.skip("kcat is not installed (Debian: apt-get install kcat)")
    with tempfile.NamedTemporaryFile() as file:  # a file is one record; from a pipe each line would be one
        file.write(value)
        file.flush()
        argv = [program, "-P", "-b", stack.settings.kafka.bootstrap, "-t", topic, "-k", key, file.name]
        subprocess.run(argv, check=True, timeout=30)


def murmur2(stack: Stack, key: str | None, value: bytes | None, **headers: str) -> None:
    """Publish one record as Java clients place it."""
    producer = Producer({"bootstrap.servers": stack.settings.kafka.bootstrap, "partitioner": "murmur2_random",
                         "message.max.bytes": 4_000_000})  # fmt: skip
    producer.produce("mail.sends", value=value, key=key, headers=list(headers.items()))
    assert producer.flush(30) == 0


def restarted(stack: Stack, role: str, before: int) -> bool:
    return stack.supervisor.restarts()[role] > before


def record(**more: Any) -> bytes:
    return json.dumps(SMALLEST | more).encode()


def test_the_smallest_record_is_found_in_the_witness_and_in_the_views(stack: Stack, ask: Questions) -> None:
    key = unique("kcat order 1001")  # any text
    kcat(stack, key, record())
    message = ask.message(key)
    assert message["message_id"] == ids.message_id("default", key)
    columns = ("tenant", "stream", "recipient_domain", "pool", "status", "attempts", "late_bounce", "campaign_id")
    found = {column: message[column] for column in columns}
    assert {**found, "campaign_id": found["campaign_id"] or "", "late_bounce": bool(found["late_bounce"])} == {
        "tenant": "default", "stream": "transactional", "recipient_domain": "example.test", "pool": "default",
        "status": "delivered", "attempts": 1, "late_bounce": False, "campaign_id": "",
    }  # fmt: skip
    assert message["accepted_at"] <= message["ended_at"]
    (mail,) = ask.arrived(message["message_id"])
    assert (mail.rcpt_to, mail.subject) == (("ann@example.test",), "Hello")
    timeline = ask.rows(
        "SELECT type, detail FROM v_message_timeline WHERE message_id = {id:String} ORDER BY occurred_at, type",
        id=message["message_id"],
    )
    assert {"message.accepted", "attempt.delivered", "message.delivered"} <= {step["type"] for step in timeline}


def test_the_same_key_by_two_partitioners_and_after_a_restart_is_delivered_once(stack: Stack, ask: Questions) -> None:
    key = unique("twice")
    kcat(stack, key, record())
    murmur2(stack, key, record())
    message = ask.message(key)
    for role in ("plan", "smtp"):
        before = stack.supervisor.restarts()[role]
        os.kill(stack.supervisor.pid(role), signal.SIGKILL)
        wait_until(partial(restarted, stack, role, before), what=f"the restart of {role}")
    stack.supervisor.wait_ready(["plan", "smtp"], 90)
    kcat(stack, key, record())
    after = unique("after")
    murmur2(stack, after, record())
    ask.message(after)
    duplicates = (
        "SELECT count() AS repeats FROM v_message_timeline "
        "WHERE message_id = {id:String} AND type = 'message.duplicate'"
    )
    wait_until(
        lambda: ask.rows(duplicates, id=message["message_id"])[0]["repeats"] == 2,
        timeout=60,
        what="two dropped repeats",
    )
    assert len(ask.arrived(message["message_id"])) == 1


@pytest.mark.parametrize(
    ("key", "value", "headers", "said"),
    [
        (None, record(), {}, "no key"),
        ("malformed", b'{"recipient": ', {}, "JSON"),
        ("version", record(schema_version=9), {}, "schema_version"),
        ("large", record(text="x" * 2_000_000), {}, "bytes"),
    ],
)
def test_a_bad_record_lands_in_the_dead_letters_and_its_neighbours_are_delivered(
    stack: Stack, ask: Questions, key: str | None, value: bytes, headers: dict[str, str], said: str
) -> None:
    before, after = unique("before"), unique("after")
    murmur2(stack, before, record())
    murmur2(stack, unique(key) if key else None, value, **headers)
    murmur2(stack, after, record())
    assert ask.message(before)["status"] == "delivered"
    assert ask.message(after)["status"] == "delivered"
    letter = ask.dead_letters(said)[0]
    assert letter["topic"] == "mail.sends"
    assert letter["sha256"]


def test_a_refused_send_says_why(stack: Stack, ask: Questions) -> None:
    key = unique("foreign")
    murmur2(stack, key, record(**{"from": "News <news@bank.test>"}))
    query = "SELECT reason FROM v_rejected WHERE idempotency_key = {key:String}"
    (rejected,) = wait_until(lambda: ask.rows(query, key=key), timeout=60, what="the refusal")
    assert rejected["reason"] == "from_not_owned"
