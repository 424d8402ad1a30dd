"""An override or an operator that suspends a source: the pool's others go on; where there is none, its sites wait."""

from __future__ import annotations

from math import inf
from typing import cast

from sinks.smtp.config import SmtpConfig
from sinks.smtp.core import Owner
from sinks.smtp.overrides import Action, Override
from sinks.smtp.policy import Limits
from sinks.smtp.reach import SinkReach
from sinks.smtp.shapes import Shapes
from sinks.smtp.sharing import Heard, Sharing
from sinks.smtp.sources import Pool, Source
from sinks.smtp.steering import Steering
from tests.smtp_owner.stage import KEYRING
from topics.kafka import Cluster
from topics.publisher import Publisher

NOW = 1_000.0
TWO = {"default": Pool((Source("a.test", "a", "192.0.2.1"), Source("b.test", "b", "192.0.2.2")))}


def steering(*suspended: str, kept: dict[str, float] | None = None) -> Steering:
    base = SmtpConfig(
        cluster=Cluster("127.0.0.1:1"),
        tenants={},
        keyring=KEYRING,
        signers={},
        reach=SinkReach({}),
        nameservers=(),
        source=Source("mta.test"),
        pools=TWO,
    )

    def by_operator(source: str, site: str, now: float) -> float:
        return (kept or {}).get(source, 0.0)

    shapes, nobody = Shapes(base.shaping), cast(Publisher, None)
    steering = Steering(base, shapes, nobody, Sharing(shapes, nobody, Heard(), "1"), Owner, by_operator)
    for n, name in enumerate(suspended):
        steering.hear(Override(f"source:{name}", Action.SUSPEND, 0.0, NOW - 1, NOW + 60 + n), NOW)
    return steering


def until(steering: Steering, pool: str = "default") -> float:
    return steering.shape(f"{pool}/google#0", Limits(), NOW).suspended_until


def test_the_pools_other_source_goes_on() -> None:
    one = steering("a")
    assert (one.suspends("a", "google", NOW), one.suspends("b", "google", NOW)) == (True, False)
    assert until(one) == 0.0


def test_without_another_the_site_waits_for_the_first_that_may() -> None:
    assert until(steering("a", "b")) == NOW + 60


def test_another_pool_is_not_concerned() -> None:
    assert until(steering("a", "b"), "other") == 0.0


def test_what_an_operator_keeps_back_counts_as_what_a_reply_does() -> None:
    both = steering("a", kept={"b": inf})
    assert both.suspends("b", "google", NOW)
    assert until(both) == NOW + 60
    one = steering(kept={"b": inf})
    assert until(one) == 0.0
    assert one.shape("default/google#0", Limits(), NOW).bounded
    assert one.source_until("default/google#0", "b", NOW) == inf
    assert one.sources_until("default/google#0", NOW) == 0.0
