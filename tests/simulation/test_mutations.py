"""Each rule of the journal is broken once, and the simulation sees it."""

from __future__ import annotations

import pytest

from tests.simulation.history import run
from tests.simulation.mutations import ALL


@pytest.mark.parametrize("name", ALL)
def test_a_broken_rule_is_noticed(name: str) -> None:
    mutation = ALL[name]
    broken = (run(seed, mutation.profile, mutation.worker).broken for seed in range(mutation.within))
    assert any(found is not None for found in broken), f"{mutation.within} histories hold without this rule"
