"""Random histories of the queue owner's core: arrivals, replies, clocks, aborts, crashes and changes of owner."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas import ids
from schemas.messages import ENDS
from sinks.smtp.commands import Rules, Transaction
from sinks.smtp.policy import Limits, Policy
from sinks.smtp.state import MAX_BYTES, Kind, Phase, decode, key_of
from tests.smtp_owner.world import DAY, Log, World, result

END_TYPES = {str(end.model_fields["type"].default) for end in ENDS}
KINDS = st.sampled_from([Kind.DELIVERED, Kind.DELIVERED, Kind.DEFERRED, Kind.BOUNCED, Kind.UNKNOWN])
SITES = st.sampled_from(["a.test", "b.test", "c.test"])


class History(RuleBasedStateMachine):
    @initialize(
        on_doubt=st.sampled_from(["resend", "give_up"]),
        connections=st.integers(1, 3),
        cache=st.sampled_from([0, 10_000, 10**9]),
        orders=st.sampled_from([1, 2, 64]),
    )
    def begin(self, on_doubt: Literal["resend", "give_up"], connections: int, cache: int, orders: int) -> None:
        self.rules_of_owner = Rules(
            policy=lambda command: Policy(on_doubt=on_doubt),
            limits=lambda lane: Limits(connections=connections, messages_per_connection=3, idle_s=30),
            sessions=4,
            cache_bytes=cache,
            orders=orders,
        )
        self.log = Log()
        self.accepted: list[str] = []
        self.dots: Counter[str] = Counter()  # dots written, by message_id
        self.facts: dict[str, tuple[str, str]] = {}  # event_id -> type, message_id
        self.flight: Transaction | None = None
        self.written: set[int] = set()  # sessions whose dot is written
        self.world = World(self.log, self.rules_of_owner)

    # Arrivals

    @rule(count=st.integers(1, 6), site=SITES, urgent=st.booleans(), life=st.sampled_from([20, 400, DAY]))
    def arrive(self, count: int, site: str, urgent: bool, life: float) -> None:
        names = [f"m{len(self.accepted) + n}" for n in range(count)]
        self.accepted += names
        self.world.add(*names, urgent=urgent, site=site, expires=self.world.now + life)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def arrive_again(self, data: st.DataObject) -> None:
        self.world.add(data.draw(st.sampled_from(self.accepted)))

    # The journal

    @rule()
    def take(self) -> None:
        if self.flight is None:
            self.flight = self.world.begin()

    @precondition(lambda self: self.flight is not None)
    @rule()
    def commit(self) -> None:
        flight, self.flight = self.flight, None
        self.world.commit(flight)

    @precondition(lambda self: self.flight is not None)
    @rule()
    def abort(self) -> None:
        assert self.flight is not None
        number, self.flight = self.flight.number, None
        self.world.owner.aborted(number, self.world.now)
        self.world.obey()

    @precondition(lambda self: self.world.publishes)
    @rule(ok=st.booleans())
    def publish(self, ok: bool) -> None:
        publish = self.world.publishes.pop(0)
        for fact in publish.facts:
            self.facts[fact.event_id] = (fact.type, fact.message_id)  # perhaps written, though reported as failed
        self.world.owner.acked(publish.ticket, ok, self.world.now)
        self.world.obey()

    @precondition(lambda self: self.world.fetches)
    @rule()
    def fetch(self) -> None:
        self.world.answer(self.world.fetches.pop(0))

    # Sessions

    @precondition(lambda self: self.world.open)
    @rule(ok=st.booleans(), data=st.data())
    def connect(self, ok: bool, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.world.open)))
        if ok:
            self.world.opened(session)
        else:
            self.world.open.pop(session)
            self.world.owner.open_failed(session, result(Kind.DEFERRED, self.world.now), self.world.now)
            self.world.obey()

    @precondition(lambda self: self.world.started)
    @rule(data=st.data())
    def compose(self, data: st.DataObject) -> None:
        self.world.composed(data.draw(st.sampled_from(sorted(self.world.started))))

    @precondition(lambda self: self.world.started)
    @rule(data=st.data())
    def written_body(self, data: st.DataObject) -> None:
        self.world.ready(data.draw(st.sampled_from(sorted(self.world.started))))

    @precondition(lambda self: self.world.dots)
    @rule(data=st.data())
    def write_dot(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.world.dots)))
        dot = self.world.dots[session]
        if self.world.boot > dot.not_after and session not in self.written:
            del self.world.dots[session]
            self.world.owner.late(session)
            self.world.obey()
            return
        message_id = self.world.started[session].record.command.message_id
        state = decode(self.log.states[key_of(message_id)])
        assert state.phase is Phase.SENDING
        assert state.attempts == self.world.started[session].attempt
        if session not in self.written:
            self.written.add(session)
            self.dots[message_id] += 1

    @precondition(lambda self: self.written)
    @rule(kind=KINDS, keep=st.booleans(), rest=st.booleans(), data=st.data())
    def answer(self, kind: Kind, keep: bool, rest: bool, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.written)))
        self.written.discard(session)
        if session in self.world.started:
            self.world.outcome(session, kind, keep=keep, rest=rest)

    @precondition(lambda self: bool(set(self.world.started) - set(self.world.dots)))
    @rule(kind=st.sampled_from([Kind.DEFERRED, Kind.BOUNCED]), keep=st.booleans(), data=st.data())
    def refuse(self, kind: Kind, keep: bool, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(set(self.world.started) - set(self.world.dots))))
        self.world.outcome(session, kind, keep=keep)

    # Time and owners

    @rule(seconds=st.sampled_from([0.1, 1, 11, 100, 1000]))
    def wait(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def pause_and_resume(self) -> None:
        self.world.owner.pause()
        self.world.tick(1)
        self.world.owner.resume(self.world.now)
        self.world.obey()

    @rule()
    def crash(self) -> None:
        self.change_owner()

    @rule()
    def lose(self) -> None:
        self.world.owner.lost(0)
        self.world.obey()
        self.change_owner()

    @rule()
    def leave(self) -> None:
        self.world.owner.revoke(0, self.world.now)
        self.world.obey()
        if self.flight is not None:
            self.commit()
        for session in list(self.world.dots):
            self.dots[self.world.started[session].record.command.message_id] += session not in self.written
            self.written.discard(session)
            self.world.outcome(session, Kind.DELIVERED)
        while self.world.commit():
            pass
        assert self.world.drained
        assert all(decode(value).phase is not Phase.SENDING or self.doubtful() for value in self.log.states.values())
        self.change_owner()

    def doubtful(self) -> bool:
        return bool(self.world.fetches)  # left by a former owner, its body not read yet

    def change_owner(self) -> None:
        heir = World(self.log, self.rules_of_owner, now=self.world.now + 20, boot=self.world.boot + 20)
        self.world, self.flight = heir, None
        self.written.clear()
        self.world.take_in()

    # What must hold

    @invariant()
    def at_most_one_sending_per_connection(self) -> None:
        depth = self.world.owner.depth
        assert depth.composing <= depth.sending <= depth.sessions <= 4

    @invariant()
    def states_are_small(self) -> None:
        assert all(len(value) <= MAX_BYTES for value in self.log.states.values())

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        if self.flight is not None:
            self.commit()
        for session in self.written & set(self.world.started):
            self.world.outcome(session, Kind.DELIVERED)
        for _ in range(2_000):
            while self.world.publishes:
                self.publish(ok=True)
            self.world.settle()
            self.world.opened()
            self.world.ready()
            self.world.commit()
            for session in list(self.world.dots):
                self.dots[self.world.started[session].record.command.message_id] += 1
                self.world.outcome(session, Kind.DELIVERED)
            for fact in self.world.facts:
                self.facts[fact.event_id] = (fact.type, fact.message_id)
            ends = [message_id for kind, message_id in self.facts.values() if kind in END_TYPES]
            if len(ends) == len(self.accepted) and self.world.owner.depth.messages == 0:
                break
            self.world.tick(30)
        expected = Counter(ids.message_id("default", name) for name in self.accepted)
        assert Counter(ends) == expected
        doubts = Counter(message_id for kind, message_id in self.facts.values() if kind == "attempt.unknown")
        deferrals = Counter(message_id for kind, message_id in self.facts.values() if kind == "attempt.deferred")
        for message_id, dots in self.dots.items():
            assert dots <= 1 + doubts[message_id] + deferrals[message_id]


History.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistory = History.TestCase
