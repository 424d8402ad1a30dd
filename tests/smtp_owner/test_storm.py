"""Workers that come and go while mail flows: nothing lost, nothing twice, nothing in doubt (P1, P4)."""

from __future__ import annotations

import pytest

from tests.smtp_owner import storm
from tests.smtp_owner.internet import Internet
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher

pytestmark = pytest.mark.stack


def test_a_rebalance_storm_harms_no_message(kafka: str, topic_prefix: str, world: Internet) -> None:
    cluster = Cluster(kafka, prefix=topic_prefix)

    def pause() -> None:
        """Until mail flows again."""
        before = world.received.total()
        wait_until(lambda: world.received.total() > before + 20, timeout=90, what="mail after the change")

    with Publisher(cluster, "plan") as publisher:
        found = storm.run(cluster, world, publisher, 5, pause)
    assert found.harmless, found
