"""Mail by hosts that the operator named, and domains that move, with a real worker."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.attempts import AttemptMade
from schemas.state import SiteLearned
from sinks.smtp.reach import SinkReach
from sinks.smtp.relays import Relay, Relays
from sinks.smtp.tls import TlsMode
from tests.smtp_owner.internet import ADDRESS, Internet
from tests.smtp_owner.stage import Worker, command, config, ends, facts, names, queue
from tests.smtp_owner.test_agent import finished
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import ATTEMPTS, SITES

pytestmark = pytest.mark.stack
RELAY = "198.18.0.9"
PARTNER = Relay("partner", RELAY, 2525, TlsMode.NONE, domains=frozenset({"partner.test"}))
BULK = Relay("bulk", RELAY, 2526, TlsMode.NONE, pools=frozenset({"bulk"}))


def learned(cluster: Cluster) -> dict[str, str]:
    return {fact.domain: fact.site for fact in facts(cluster, SITES) if isinstance(fact, SiteLearned)}


def made(cluster: Cluster) -> list[AttemptMade]:
    return [fact for fact in facts(cluster, ATTEMPTS) if isinstance(fact, AttemptMade)]


def test_mail_goes_by_its_relay_and_a_pools_relay_is_nothing_to_the_domain(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    reach = SinkReach({**world.ports, f"{RELAY}:2525": world.smtp, f"{RELAY}:2526": world.smtp})
    with Worker(config(cluster, world, relays=Relays([PARTNER, BULK]), reach=reach)):
        queue(publisher, *(command(name, domain="partner.test") for name in names("p", 5)))
        queue(publisher, *(command(name, domain=f"d{n}.test", pool="bulk") for n, name in enumerate(names("b", 5))))
        queue(publisher, *(command(name, domain="d0.test") for name in names("d", 5)))
        finished(cluster, 15)
    by = {(attempt.pool, attempt.recipient_domain): attempt.mx_ip for attempt in made(cluster)}
    assert by == {
        ("default", "partner.test"): RELAY,
        ("default", "d0.test"): ADDRESS,
        **{("bulk", f"d{n}.test"): RELAY for n in range(5)},
    }
    sites = learned(cluster)
    assert sites.pop("partner.test") == "relay-partner"
    assert set(sites) == {"d0.test"}
    assert len(world.received) == 15
    assert set(world.received.values()) == {1}


def test_in_sink_mode_a_relay_outside_the_port_map_gets_nothing(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    host, _, port = world.smtp.rpartition(":")
    relay = Relay("all", host, int(port), TlsMode.NONE)
    with Worker(config(cluster, world, relays=Relays([relay]))):
        queue(publisher, command("ann"))
        finished(cluster, 1)
    assert ends(cluster) == ["message.failed"]
    assert not world.received


def test_a_domain_that_moves_while_a_connection_is_open_is_routed_anew(
    cluster: Cluster, world: Internet, publisher: Publisher
) -> None:
    with Worker(config(cluster, world)) as worker:
        queue(publisher, command("ann"))
        finished(cluster, 1)
        assert worker.agent is not None
        assert worker.agent.depth.sessions == 1, "it is idle, and open"
        at = datetime.now(UTC)
        moved = SiteLearned.from_cause("moved", occurred_at=at, domain="a.test", site="elsewhere", provider="other")
        publisher.publish(moved)
        publisher.flush(10)
        known = worker.agent._knowledge.site
        wait_until(lambda: known("a.test") == ("elsewhere", ()), what="the worker to know")
        queue(publisher, command("bob"))
        finished(cluster, 2)
    assert len({attempt.session_id for attempt in made(cluster)}) == 2
