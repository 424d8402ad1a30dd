"""docker-compose.kafka.yml as `docker compose` would see it with both passwords given and nothing else."""

from __future__ import annotations

import pytest

from tests.compose.model import SECRETS, Compose, load


@pytest.fixture(scope="session")
def compose() -> Compose:
    return load(SECRETS)
