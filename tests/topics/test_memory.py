"""What has settled is no longer looked at for cycles, and is freed all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from topics import memory


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Thing:
    pass


def test_what_has_settled_is_looked_at_no_more() -> None:
    thing = Thing()
    assert any(each is thing for each in gc.get_objects())
    memory.settle()
    assert not any(each is thing for each in gc.get_objects())
    assert gc.get_threshold()[0] > 700


def test_it_goes_when_nothing_refers_to_it() -> None:
    thing = Thing()
    gone = weakref.ref(thing)
    memory.settle()
    del thing
    assert gone() is None
