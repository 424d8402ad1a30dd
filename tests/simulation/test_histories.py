"""Thousands of small histories, each by its seed: whatever goes wrong, P1, P2 and P4 hold (see `judge`).

MAILRIVER_HISTORIES sets how many are run in all, MAILRIVER_FIRST_SEED where they begin: a long run takes others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.history import explain, run
from tests.simulation.mutations import LongTransactions
from tests.simulation.profiles import PROFILES

HISTORIES = int(os.environ.get("MAILRIVER_HISTORIES", "5000"))
FIRST = int(os.environ.get("MAILRIVER_FIRST_SEED", "0"))


@pytest.mark.parametrize("number", range(len(PROFILES)), ids=[profile.name for profile in PROFILES])
def test_promises_hold_in_every_history(number: int) -> None:
    for seed in range(FIRST + number, FIRST + HISTORIES, len(PROFILES)):
        history = run(seed)
        assert history.broken is None, explain(history)


def test_the_same_seed_is_the_same_history() -> None:
    for seed in range(16):
        assert run(seed).digest == run(seed).digest
    assert run(1).digest != run(9).digest


def test_a_history_does_not_depend_on_the_process_that_runs_it() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "7", "--count", "3", "--digest"],
            env={**os.environ, "PYTHONHASHSEED": salt}, check=True, capture_output=True, text=True,
        ).stdout
        for salt in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1


def test_much_goes_wrong_in_them() -> None:
    """Else they would hold for no reason."""
    seen: Counter[str] = Counter()
    for seed in range(96):
        history = run(seed)
        for line in history.world.trace:
            seen[line.what] += 1
            if line.what in ("fact", "commit"):
                seen.update(str(detail) for detail in line.details[1:])
        seen["in doubt"] += history.world.judge.unknown
        seen["received twice"] += history.world.judge.duplicates
    expected = (
        "died", "frozen", "lost", "cut off", "aborted", "revoked", "left", "down", "loses", "moves", "MOVED",
        "SUSPEND", "PURGE", "MOVE", "takes back", "in doubt", "received twice",
        "message.delivered", "message.bounced", "message.expired", "message.suppressed", "message.cancelled",
        "message.unknown", "message.duplicate", "attempt.deferred", "attempt.held", "attempt.unknown",
    )  # fmt: skip
    assert [what for what in expected if not seen[what]] == []


def test_a_transaction_longer_than_the_session_is_safe_since_a_new_owner_waits_for_it() -> None:
    for seed in range(60):
        history = run(seed, "zombie", LongTransactions)
        assert history.broken is None, explain(history)
