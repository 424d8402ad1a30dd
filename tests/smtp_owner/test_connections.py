"""The driver's side of a session: the last look at the clock before the dot, and connections that end by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import cast

import pytest

from schemas.lanes import MessageQueue
from sinks.smtp.calling import Caller
from sinks.smtp.clock import boottime
from sinks.smtp.commands import Close, Dot, Drop, Open, Start
from sinks.smtp.compose import Composed
from sinks.smtp.connections import Connections
from sinks.smtp.dialer import Dialer
from sinks.smtp.dialogue import Envelope, Features
from sinks.smtp.mta_sts import StsMode, StsPolicy
from sinks.smtp.outcome import Broken, Cause
from sinks.smtp.outcome import Stage as Outcome
from sinks.smtp.places import Places
from sinks.smtp.pressroom import Pressroom
from sinks.smtp.queue import LaneRecord
from sinks.smtp.relays import Relay, Relays
from sinks.smtp.routing import Hop, Route
from sinks.smtp.session import Session, SessionInfo, Timeouts
from sinks.smtp.shapes import Manner
from sinks.smtp.sites import Learned
from sinks.smtp.sources import Alarm, Source, Sources
from sinks.smtp.state import Kind, Result
from sinks.smtp.sts_policies import NO_POLICY, StsView
from sinks.smtp.tls import Demand, TlsMode
from tests.smtp_owner.world import command
from tests.waiting import until_async

ANN = command("ann")
CLEAR = Manner(TlsMode.NONE, Timeouts(banner=7.0))
RECORD = LaneRecord(False, 0, ANN.key, ANN, b"")


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Dialing:
    """Every opening succeeds, on a wire that the test plays the peer of."""

    def __init__(self) -> None:
        self.wire = Wire()

    async def open(self, *asked: object) -> Session:
        self.asked = asked
        session = Session(SessionInfo("mx.a.test", "198.18.0.1", 25, "", Features(pipelining=True)), Timeouts())
        session.connection_made(self.wire)
        self.session = session
        return session


@dataclass
class Policies:
    """MTA-STS policies of domains: `views` are known, those in `later` are told when they are asked for."""

    views: dict[str, StsView] = field(default_factory=dict)
    later: dict[str, StsView] = field(default_factory=dict)

    def known(self, domain: str) -> StsView | None:
        return None if domain in self.later else self.views.get(domain, NO_POLICY)

    async def of(self, domain: str) -> StsView:
        await asyncio.sleep(0)
        return self.views.get(domain, self.later.get(domain, NO_POLICY))

    async def demand(self, view: StsView, host: str, secure: bool, mode: TlsMode) -> Demand | Broken:
        if view.enforced is not None and not view.enforced.names(host):
            return Broken(Outcome.CONNECT, Cause.TLS, failure="validation-failure")
        return Demand(mode, mode)


@dataclass
class Heard:
    """The core's ears."""

    said: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    goes_on: bool = True  # what is composed may be sent
    sessions: list[int] = field(default_factory=list)  # whose messages are composed

    def opened(self, session: int, source: str) -> None:
        self.said.append("opened")
        self.source = source

    def open_failed(self, session: int, command: MessageQueue, result: Result, *, rest: bool) -> None:
        self.said.append(f"open_failed {rest}")
        self.results.append(result)

    def misplaced(self, session: int, command: MessageQueue, route: Route) -> bool:
        return False

    def composed(self, sessions: Sequence[int]) -> None:
        self.sessions += sessions

    def still(self, session: int) -> bool:
        return self.goes_on

    def ready(self, session: int) -> None:
        self.said.append("ready")

    def outcome(self, session: int, command: MessageQueue, result: Result, *, keep: bool, rest: bool) -> None:
        self.said.append(f"{result.kind.name.lower()} {keep}")
        self.results.append(result)

    def late(self, session: int) -> None:
        self.said.append("late")

    def closed(self, session: int) -> None:
        self.said.append("closed")


class Stage:
    def __init__(self, relay: Relay | None = None) -> None:
        self.heard = Heard()
        self.dialing = Dialing()
        self.orders: list[int] = []
        self.alarms: list[Alarm] = []
        self.suspended: set[tuple[str, str]] = set()

        async def route(domain: str, pool: str) -> Route:
            site = relay.site if relay is not None else "a.test"
            return Route(site, "other", ("mx.a.test",), (Hop("198.18.0.1", "mx.a.test"),), relay=relay)

        dialer, press = cast(Dialer, self.dialing), cast(Pressroom, self)
        self.policies = Policies()
        sources = Sources({}, Source("mta.test"), lambda: 0.0, Random(1), self.alarms.append, self.suspends)
        caller = Caller(dialer, sources, self.policies)
        self.learned: dict[str, str] = {}
        places = Places(Relays([relay] if relay is not None else []), self.site)
        self.connections = Connections(
            self.heard, route, caller, lambda site: CLEAR, self.policies, self.suspends, places, press, "1"
        )

    def site(self, domain: str) -> Learned | None:
        return (self.learned[domain], ()) if domain in self.learned else None

    def suspends(self, source: str, site: str) -> bool:
        return (source, site) in self.suspended

    def order(self, number: int, record: LaneRecord) -> None:
        self.orders.append(number)

    @property
    def wire(self) -> Wire:
        return self.dialing.wire

    def peer(self, data: bytes) -> None:
        self.dialing.session.data_received(data)

    async def open(self) -> None:
        self.connections.obey(Open(1, "default/a.test#0", ANN))
        await until_async(lambda: self.heard.said, what="the opening")

    def start(self) -> None:
        self.connections.obey(Start(1, 1, RECORD))
        envelope = Envelope("b+token@bounces.brand.test", "ann@a.test", 10)
        self.connections.printed([(self.orders[-1], Composed(envelope, b"Subject: x\r\n\r\n"))])

    def until_ready(self) -> None:
        self.start()
        self.peer(b"250 ok\r\n250 ok\r\n354 go\r\n")


@pytest.fixture
async def stage() -> Stage:
    stage = Stage()
    await stage.open()
    return stage


async def test_a_site_is_spoken_to_as_its_shaping_says(stage: Stage) -> None:
    *_, demand, timeouts = stage.dialing.asked
    assert (demand, timeouts) == (Demand(CLEAR.tls, CLEAR.tls), CLEAR.timeouts)


async def test_what_may_no_longer_be_sent_when_it_is_composed_is_not(stage: Stage) -> None:
    greeted = stage.wire.written
    stage.heard.goes_on = False
    stage.start()
    assert stage.wire.written == greeted
    stage.heard.goes_on = True
    stage.until_ready()
    assert stage.heard.said == ["opened", "ready"]


async def test_the_dot_is_written_in_time(stage: Stage) -> None:
    stage.until_ready()
    assert (stage.heard.said, stage.heard.sessions) == (["opened", "ready"], [1])
    stage.connections.obey(Dot(1, boottime() + 10))
    assert stage.wire.written.endswith(b"\r\n.\r\n")
    stage.peer(b"250 2.0.0 queued\r\n")
    assert stage.heard.said[-1] == "delivered True"


async def test_a_late_dot_is_not_written(stage: Stage) -> None:
    stage.until_ready()
    stage.connections.obey(Dot(1, boottime() - 0.001))
    assert stage.heard.said[-1] == "late"
    assert not stage.wire.written.endswith(b"\r\n.\r\n")


async def test_what_a_dropped_session_says_is_not_passed_on(stage: Stage) -> None:
    stage.until_ready()
    stage.connections.obey(Drop(1))
    assert stage.wire.closed
    assert stage.heard.said == ["opened", "ready"]


async def test_a_message_composed_for_a_dropped_session_goes_nowhere(stage: Stage) -> None:
    stage.connections.obey(Start(1, 1, RECORD))
    stage.connections.obey(Drop(1))
    stage.connections.printed([(stage.orders[-1], Composed(Envelope("", "ann@a.test"), b""))])
    assert b"MAIL" not in stage.wire.written


async def test_a_reply_lost_after_the_dot_is_a_doubt(stage: Stage) -> None:
    stage.until_ready()
    stage.connections.obey(Dot(1, boottime() + 10))
    stage.dialing.session.connection_lost(None)
    assert stage.heard.said[-1] == "unknown False"
    assert stage.heard.results[0].kind is Kind.UNKNOWN


async def test_an_idle_connection_that_the_peer_closed_costs_no_attempt(stage: Stage) -> None:
    stage.until_ready()
    stage.connections.obey(Dot(1, boottime() + 10))
    stage.peer(b"250 ok\r\n")
    stage.start()
    stage.dialing.session.connection_lost(None)
    assert stage.heard.said[-1] == "closed"


async def test_a_closed_session_says_quit(stage: Stage) -> None:
    stage.connections.obey(Close(1))
    assert stage.wire.written == b"QUIT\r\n"
    stage.dialing.session.connection_lost(None)
    assert stage.heard.said == ["opened"]


async def test_a_connection_of_a_suspended_source_takes_no_more(stage: Stage) -> None:
    stage.suspended.add(("", ANN.site))
    stage.connections.obey(Start(1, 1, RECORD))
    assert stage.heard.said == ["opened", "closed"]
    assert stage.orders == []


# Several domains on one connection

BOB = command("bob").model_copy(update={"recipient_domain": "b.test"})
POLICY = StsPolicy("1", StsMode.ENFORCE, ("mx.a.test",), 86400.0)
ENFORCED = StsView(POLICY)


def next_message(stage: Stage) -> None:
    """The first one is through, and the connection is given one of another domain."""
    stage.until_ready()
    stage.connections.obey(Dot(1, boottime() + 10))
    stage.peer(b"250 ok\r\n")
    stage.orders.clear()
    stage.connections.obey(Start(1, 1, LaneRecord(False, 1, BOB.key, BOB, b"")))


@pytest.mark.parametrize("known", [True, False])
async def test_another_domain_without_a_policy_takes_the_same_connection(stage: Stage, known: bool) -> None:
    (stage.policies.views if known else stage.policies.later)["b.test"] = NO_POLICY
    next_message(stage)
    await until_async(lambda: stage.orders, what="the message to be composed")
    assert stage.heard.said == ["opened", "ready", "delivered True"]


@pytest.mark.parametrize("known", [True, False])
async def test_one_that_asks_for_more_than_it_proved_does_not(stage: Stage, known: bool) -> None:
    (stage.policies.views if known else stage.policies.later)["b.test"] = ENFORCED
    next_message(stage)
    await until_async(lambda: stage.heard.said[-1] == "closed", what="the core to hear that it is gone")
    assert (stage.orders, stage.wire.written.count(b"RCPT")) == ([], 1)


async def test_one_that_asks_for_what_it_proved_does(stage: Stage) -> None:
    stage.dialing.session.info = replace(stage.dialing.session.info, tls_version="TLSv1.3", tls_verified=True)
    stage.policies.views["b.test"] = ENFORCED
    next_message(stage)
    assert stage.orders


async def test_who_looks_at_a_policy_keeps_nobody_from_being_composed(stage: Stage) -> None:
    stage.policies.later["b.test"] = NO_POLICY
    next_message(stage)
    assert (stage.orders, stage.heard.sessions) == ([], [1, 1])


async def test_a_look_at_a_policy_ends_with_its_connection(stage: Stage) -> None:
    stage.policies.later["b.test"] = NO_POLICY
    next_message(stage)
    stage.connections.obey(Drop(1))
    await stage.connections.close()
    assert stage.orders == []


async def test_a_host_that_the_policy_does_not_name_is_not_called() -> None:
    stage = Stage()
    stage.policies.views[ANN.recipient_domain] = StsView(replace(POLICY, mx=("other.test",)))
    stage.connections.obey(Open(1, "default/a.test#0", ANN))
    await until_async(lambda: stage.heard.said, what="the opening")
    assert stage.heard.said == ["open_failed False"]
    result = stage.heard.results[0]
    assert (result.kind, result.bounce_class, result.tls_policy, result.tls_failure) == (
        *(Kind.DEFERRED, "TLSFailure", "sts", "validation-failure"),
    )
    assert not hasattr(stage.dialing, "session")


# What becomes of a domain while a connection is open


async def test_a_domain_that_moved_is_routed_anew(stage: Stage) -> None:
    stage.learned["a.test"] = "elsewhere"
    stage.connections.obey(Start(1, 1, RECORD))
    assert stage.heard.said == ["opened", "closed"]
    assert stage.orders == []


async def test_what_was_known_before_the_route_was_asked_for_is_older_than_it() -> None:
    stage = Stage()
    stage.learned["a.test"] = "before"
    await stage.open()
    stage.start()
    assert stage.orders == [1]


@pytest.mark.parametrize(("site", "expected"), [("a.test", ["opened"]), ("elsewhere", ["opened", "closed"])])
async def test_another_domain_goes_along_only_if_it_is_of_the_site(
    stage: Stage, site: str, expected: list[str]
) -> None:
    stage.learned["b.test"] = site
    stage.connections.obey(Start(1, 1, LaneRecord(False, 1, BOB.key, BOB, b"")))
    assert stage.heard.said == expected


async def test_one_that_nothing_is_known_of_is_where_its_lane_says(stage: Stage) -> None:
    lost = BOB.model_copy(update={"site": "relay-old"})  # of a relay that is no more, say
    stage.connections.obey(Start(1, 1, LaneRecord(False, 1, lost.key, lost, b"")))
    assert stage.heard.said == ["opened", "closed"]


# Relays


async def test_no_policy_of_a_domain_is_about_a_relay() -> None:
    stage = Stage(Relay("bulk", "smtp.relay.test", tls=TlsMode.REQUIRED))
    stage.policies.views |= {domain: StsView(replace(POLICY, mx=("other.test",))) for domain in ("a.test", "b.test")}
    await stage.open()
    assert stage.heard.said == ["opened"]
    *_, demand, timeouts = stage.dialing.asked
    assert (demand, timeouts) == (Demand(TlsMode.REQUIRED, "required"), CLEAR.timeouts)
    next_message(stage)
    assert len(stage.orders) == 1, "another domain goes along"


async def test_what_a_relay_has_not_to_do_with_does_not_go_along() -> None:
    stage = Stage(Relay("bulk", "smtp.relay.test", domains=frozenset({"a.test"})))
    await stage.open()
    left = BOB.model_copy(update={"site": "relay-bulk"})  # it went there before the route was made narrower
    stage.connections.obey(Start(1, 1, LaneRecord(False, 1, left.key, left, b"")))
    assert stage.heard.said == ["opened", "closed"]
