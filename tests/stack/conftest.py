"""The whole stack, started once for these tests: real broker, ClickHouse, roles and simulated internet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.embedded.stack import Stack, StackPlan, running
from tests.stack.questions import Questions


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(StackPlan(tmp_path_factory.mktemp("stack"), progress=False)) as stack:
        yield stack


@pytest.fixture(scope="session")
def ask(stack: Stack) -> Questions:
    return Questions(stack)
