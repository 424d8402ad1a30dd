"""`python -m tests.simulation --seed N`: run one history again and print it; `--count N`: run N from there on."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation import mutations, profiles
from tests.simulation.history import explain, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--mutation", choices=sorted(mutations.ALL), help="break this rule")
    parser.add_argument("--profile", choices=sorted(profiles.BY_NAME), help="other than the seed's own")
    parser.add_argument("--digest", action="store_true", help="print only the hash of the trace")
    chosen = parser.parse_args()
    started = time.monotonic()
    broken = mutations.ALL.get(chosen.mutation)
    profile = chosen.profile or (broken.profile if broken else None)
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        found = run(seed, profile, broken.worker if broken else None)
        if chosen.digest:
            print(seed, found.digest)
        elif chosen.count == 1 or found.broken is not None:
            print(explain(found, whole=chosen.count == 1))
        if found.broken is not None:
            return 1
    if chosen.count > 1 and not chosen.digest:
        took = time.monotonic() - started
        print(f"{chosen.count} histories hold, {took / chosen.count * 1000:.1f} ms each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
