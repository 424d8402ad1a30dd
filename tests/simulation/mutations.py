"""Rules of the journal, each broken in the driver."""

from __future__ import annotations

from tests.simulation.worker import Worker

ALL: dict[str, type[Worker]] = {}
