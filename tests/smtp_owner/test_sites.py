"""To which lane a message belongs, by what connecting has taught of its domain."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schemas import ids
from sinks.smtp.routing import Hop, Route
from sinks.smtp.sites import lane_for, placed
from tests.smtp_owner.world import command

ROUTE = Route("google", "google", ("mx.google.test",), (Hop("198.18.0.1", "mx.google.test"),))


def shards(count: int) -> Callable[[str, str], int]:
    return lambda site, message_id: ids.shard(message_id, count)


@pytest.mark.parametrize("count", [1, 4])
def test_a_message_in_its_place_stays(count: int) -> None:
    ann = command("ann", site="google")
    ann = ann.model_copy(update={"shard": ids.shard(ann.message_id, count)})
    assert placed(ann, ROUTE, shards(count)) is ann


def test_the_site_is_corrected_once() -> None:
    ann = command("ann", site="a.test")
    found = placed(ann, ROUTE, shards(1))
    assert (found.site, found.provider, found.rerouted) == ("google", "google", True)
    back = Route("other", "", ("mx.other.test",), ROUTE.hops)
    assert placed(found, back, shards(1)) is found


def test_another_number_of_shards_moves_what_is_in_the_wrong_one_again_and_again() -> None:
    ann = command("ann", site="google")
    for count in (4, 2, 7, 1):
        ann = placed(ann, ROUTE, shards(count))
        assert ann.shard == ids.shard(ann.message_id, count)


def test_only_messages_of_the_domain_that_was_asked_for_move() -> None:
    to = lane_for("a.test", ROUTE, shards(1), 4)
    moved = to(command("ann", site="a.test"))
    assert moved is not None
    assert (moved.lane, moved.partition) == ("default/google#0", ids.lane_partition("default", "google", 0, 4))
    other = command("bob", site="a.test").model_copy(update={"recipient_domain": "b.test"})
    assert to(other) is None
