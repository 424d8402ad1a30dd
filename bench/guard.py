"""Whether the send path became dearer: CPU of its steps against a stored figure, as a ratio to a calibration loop.

    python -m bench.guard            # exits 1 when a step group is more than 25 % above its stored figure
    python -m bench.guard --store    # after a wanted change: writes bench/guard.json

Machines differ, and so do minutes of one machine: so the calibration (RSA signatures and JSON round trips) and the
steps are measured in turn, a few milliseconds each, and of many rounds the least counts. CPU time alone: a busy machine
makes the guard slow, and hardly wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `python bench/guard.py` does as well

import orjson
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from bench.steps import fixed, measure, steps, undisturbed

STORED = Path(__file__).with_name("guard.json")
WORSE = 1.25  # times the stored figure
ROUNDS = 80

# Small steps alone are too noisy for 25 %: what belongs together is judged together. Signed one by one, since not every
# processor can do more.
GROUPS = {
    "plan": ("plan", "plan.encode"),
    "queue": ("lane.decode", "queue", "session"),
    "compose": ("render", "body_hash", "sign.rsa"),
    "facts": ("facts", "sink.row"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ratios to the calibration loop, by group; `worse` has those above what is stored."""

    ratios: dict[str, float]
    stored: dict[str, float]

    @property
    def worse(self) -> dict[str, float]:
        return {
            name: ratio / self.stored[name]
            for name, ratio in self.ratios.items()
            if name not in self.stored or ratio > self.stored[name] * WORSE
        }


def ratios(rounds: int = ROUNDS) -> dict[str, float]:
    """What each group costs at its least, over what the calibration costs at its least, both measured in turn."""
    calibrate = _Calibration()
    calibration = float("inf")
    with fixed() as prepared, undisturbed():
        guarded = {step.name: step for step in steps(prepared) if any(step.name in names for names in GROUPS.values())}
        best = dict.fromkeys(guarded, float("inf"))
        for _ in range(rounds):
            calibration = min(calibration, calibrate.microseconds())
            for name, step in guarded.items():
                best[name] = min(best[name], measure(step))
    return {group: sum(best[name] for name in names) / calibration for group, names in GROUPS.items()}


def judge(found: dict[str, float]) -> Verdict:
    return Verdict(found, json.loads(STORED.read_text()))


class _Calibration:
    """Work like ours that no change of ours can touch: 2 signatures and 60 round trips of JSON."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._value = {"name": "x" * 40, "list": list(range(40)), "text": "word " * 400, "inner": {"a": 1.5, "b": None}}

    def microseconds(self) -> float:
        began = time.process_time()
        for _ in range(2):
            self._key.sign(b"calibration", padding.PKCS1v15(), SHA256())
        for _ in range(60):
            orjson.loads(orjson.dumps(self._value))
            json.loads(json.dumps(self._value["inner"]))
        return (time.process_time() - began) * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="store_true")
    options = parser.parse_args(arguments)
    found = ratios()
    if options.store:
        STORED.write_text(json.dumps({name: round(ratio, 4) for name, ratio in found.items()}, indent=2) + "\n")
        return 0
    verdict = judge(found)
    for name, ratio in verdict.ratios.items():
        stored = verdict.stored.get(name, float("nan"))
        print(f"{name:<10}{ratio:8.3f} of the calibration, stored {stored:.3f}: {ratio / stored:.0%}")
    if verdict.worse:
        print(f"more than {WORSE - 1:.0%} dearer: {', '.join(verdict.worse)}")
    return 1 if verdict.worse else 0


if __name__ == "__main__":
    sys.exit(main())
