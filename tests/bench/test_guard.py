"""The send path is not dearer than it was: CPU of its steps against the stored figures."""

from __future__ import annotations

import json

from bench import guard


def test_no_group_of_steps_is_a_quarter_dearer_than_stored() -> None:
    verdict = guard.judge(guard.ratios())
    if verdict.worse:  # once more before it is believed: others may use the machine
        verdict = guard.judge(guard.ratios())
    assert not verdict.worse, f"{verdict.worse} times the stored figure; wanted? python -m bench.guard --store"


def test_a_dearer_group_is_noticed() -> None:
    stored = json.loads(guard.STORED.read_text())
    assert set(stored) == set(guard.GROUPS)
    slower = {**stored, "compose": stored["compose"] * 1.3}
    assert set(guard.judge(slower).worse) == {"compose"}
    assert not guard.judge({name: ratio * 1.2 for name, ratio in stored.items()}).worse
