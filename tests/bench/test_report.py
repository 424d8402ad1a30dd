"""What a measurement reports: the names that other tools read, and ratios run by run."""

from __future__ import annotations

import pytest

from bench.peers import PeerOutcome
from bench.report import Found, figures
from bench.run import Outcome


def _outcome(*, seconds: float, received: int = 1_000) -> Outcome:
    return Outcome(
        messages=1_000,
        delivered=1_000,
        received=received,
        seconds=seconds,
        latency=(40.0, 80.0, 120.0),
        cpu={"kafka": 0.5, "smtp": 1.5},
        sink_cpu=0.1,
        memory={"kafka": 250.2, "smtp": 99.9},
        idle=0.25,
    )


def _found(**peers: list[PeerOutcome]) -> Found:
    full = [_outcome(seconds=1.0), _outcome(seconds=2.0), _outcome(seconds=4.0)]
    return Found("campaign", full, [_outcome(seconds=2.0)], [0.5], dict(peers))


def test_every_figure_has_its_least_its_middle_and_its_most() -> None:
    report = figures(_found())
    assert report["messages_per_second"] == {"min": 250.0, "median": 500.0, "max": 1000.0}
    assert report["cpu_seconds_per_1000"]["all"]["median"] == 2.0
    assert report["cpu_seconds_per_1000"]["smtp"]["median"] == 1.5
    assert report["latency_ms"]["p99"]["median"] == 120.0
    assert report["memory_mib"] == {"kafka": 250, "smtp": 100, "all": 350}
    assert report["content"] == "campaign"
    assert report["each_message_once"] is True


def test_a_ratio_is_taken_run_by_run() -> None:
    theirs = [PeerOutcome(100, 100, seconds, 0.5) for seconds in (1.0, 1.0, 1.0)]
    report = figures(_found(haraka=theirs, postfix_dkim=theirs, postfix=theirs))
    for name in ("haraka", "postfix_dkim", "postfix"):
        assert report[f"ratio_vs_{name}"] == {"min": 2.5, "median": 5.0, "max": 10.0}
        assert report["peers"][name]["cpu_seconds_per_1000"]["median"] == 5.0


@pytest.mark.parametrize("received", [999, 1_001])
def test_a_message_that_is_missing_or_came_twice_is_told(received: int) -> None:
    found = _found()
    found.half.append(_outcome(seconds=1.0, received=received))
    assert figures(found)["each_message_once"] is False
