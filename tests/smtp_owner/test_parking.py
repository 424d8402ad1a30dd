"""What keeps messages of the queue owner's core from being tried, and what lets them go, moves or ends them."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas import ids
from schemas.lanes import MessageQueue
from sinks.smtp.commands import GO, Move, Park, Refuse, Rules, Verdict
from sinks.smtp.policy import Limits
from sinks.smtp.queue import Relaned
from sinks.smtp.state import Kind, Phase, Result
from tests.smtp_owner.world import START, World


class Operator:
    """Says what `rules` ask, and may be told otherwise in between."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}  # by idempotency key
        self.closed: dict[str, Park] = {}  # by lane
        self.early = False
        self.asked: list[str] = []
        self.rules = Rules(
            admit=self.admit,
            gate=lambda lane, now: self.closed.get(lane),
            reviews=lambda lane, now: self.early,
            limits=lambda lane: Limits(connections=1),
        )

    def admit(self, command: MessageQueue, now: float) -> Verdict:
        self.asked.append(command.idempotency_key)
        return self.verdicts.get(command.idempotency_key, GO)


def deliver(world: World) -> list[str]:
    """Deliver all that goes; the names, in order."""
    found: list[str] = []
    world.settle()  # bodies of what was parked are read again
    while world.open or world.started:
        world.opened()
        world.ready()
        world.commit()
        for session in list(world.dots):
            found.append(world.started[session].record.command.idempotency_key)
            world.outcome(session, Kind.DELIVERED)
        world.settle()
    return found


def cancelled() -> Refuse:
    return Refuse(Result(Kind.CANCELLED, int(START * 1000), reason="c-1 wrong link"))


def to_pool(name: str, world: World, site: str = "a.test") -> Move:
    queued = next(
        record.command for lane in world.log.lanes.values() for record in lane if record.command.idempotency_key == name
    )
    moved = queued.model_copy(update={"pool": "other", "moved_at": datetime.fromtimestamp(START, UTC)})
    return Move(Relaned(1, False, ids.lane_key("other", site, 0), moved))


class TestParked:
    def test_waits_until_its_key_is_unparked_and_writes_nothing(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {name: Park("c-1") for name in ("one", "two")}
        world.add("one", "two", "three")
        assert deliver(world) == ["three"]
        facts, states = list(world.facts), dict(world.log.states)
        for _ in range(5):
            world.tick(100)
        world.settle()
        assert (world.facts, world.log.states) == (facts, states)
        assert world.owner.depth.parked == 2
        operator.verdicts = {}
        world.owner.unpark(["c-1"], world.now)
        world.obey()
        assert deliver(world) == ["one", "two"]
        assert world.owner.depth.parked == 0

    def test_is_not_asked_about_again_in_the_meantime(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {"one": Park("c-1")}
        world.add("one")
        asked = len(operator.asked)
        world.add("two")
        deliver(world)
        for _ in range(10):
            world.tick(10)
        assert operator.asked[asked:].count("one") == 0

    def test_goes_when_its_time_is_over(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {"one": Park("c-1", START + 60)}
        world.add("one")
        world.tick(30)
        assert not world.open
        operator.verdicts = {}
        world.tick(31)
        assert deliver(world) == ["one"]

    def test_stays_when_another_key_is_unparked(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {"one": Park("c-1")}
        world.add("one")
        operator.verdicts = {}
        world.owner.unpark(["c-2"], world.now)
        world.obey()
        assert not world.open

    def test_expires_all_the_same(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {"one": Park("c-1")}
        world.add("one", expires=START + 50)
        world.tick(100)
        world.settle()
        assert world.types() == ["message.expired"]
        world.owner.unpark(["c-1"], world.now)
        world.obey()
        assert not world.open

    def test_is_parked_again_by_a_new_owner(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {"one": Park("c-1")}
        world.add("one")
        world.settle()
        heir = World(world.log, operator.rules, now=world.now + 20)
        heir.settle()
        assert heir.owner.depth.parked == 1
        assert not heir.open

    def test_is_forgotten_with_its_partition(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {"one": Park("c-1")}
        world.add("one")
        world.owner.lost(0)
        world.owner.unpark(["c-1"], world.now)
        world.obey()
        assert not world.open
        assert world.owner.depth.parked == 0

    def test_while_its_connection_opened_is_not_started(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        world.add("one")
        operator.verdicts = {"one": Park("c-1")}
        world.opened()
        assert not world.started
        world.settle()
        assert world.phase("one") is Phase.QUEUED
        assert world.types() == []
        operator.verdicts = {}
        world.owner.unpark(["c-1"], world.now)
        world.obey()
        assert deliver(world) == ["one"]
        assert [fact.model_dump()["attempt"] for fact in world.facts if fact.type == "attempt.delivered"] == [1]

    def test_goes_before_what_came_since_and_urgent_first(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {name: Park("c-1") for name in ("one", "two", "now")}
        world.add("one", "two")
        world.add("now", urgent=True)
        operator.verdicts = {}
        world.owner.pause()
        world.add("three")
        world.owner.unpark(["c-1"], world.now)
        world.owner.resume(world.now)
        world.obey()
        assert deliver(world) == ["now", "one", "two", "three"]


class TestGate:
    def test_stops_a_lane_before_any_connection_and_asks_about_no_message(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.closed = {"default/a.test#0": Park("c-1")}
        world.add("one", "two")
        world.add("elsewhere", site="b.test")
        assert deliver(world) == ["elsewhere"]
        assert set(operator.asked) == {"elsewhere"}
        operator.closed = {}
        world.owner.unpark(["c-1"], world.now)
        world.obey()
        assert deliver(world) == ["one", "two"]

    def test_that_closes_while_a_connection_opens(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        world.add("one")
        operator.closed = {"default/a.test#0": Park("c-1")}
        world.opened()
        assert not world.started
        assert world.owner.depth.parked == 1

    def test_keeps_no_bodies(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.closed = {"default/a.test#0": Park("c-1")}
        world.add("one", "two")
        world.settle()
        assert world.owner.depth.cached_bytes == 0


class TestReview:
    def deferred(self, operator: Operator) -> World:
        """Two messages: one waits for its next attempt, one for its time."""
        world = World(rules=operator.rules)
        world.add("later")
        world.opened()
        world.outcome(1, Kind.DEFERRED, code=451)
        world.add("timed", send_at=datetime.fromtimestamp(START + 5_000, UTC))
        world.settle()
        return world

    def test_ends_messages_whose_turn_is_far(self) -> None:
        operator = Operator()
        world = self.deferred(operator)
        operator.verdicts = {"later": cancelled()}
        operator.early = True
        world.owner.review(world.now)
        world.tick(0.1)
        world.settle()
        ended = [fact.model_dump() for fact in world.facts if fact.type == "message.cancelled"]
        assert [(end["cancelled_by"], end["attempts"]) for end in ended] == [("c-1 wrong link", 1)]
        assert world.phase("later") is Phase.DONE
        assert world.phase("timed") is Phase.QUEUED

    def test_moves_them_with_their_attempts(self) -> None:
        operator = Operator()
        world = self.deferred(operator)
        operator.verdicts = {name: to_pool(name, world) for name in ("later", "timed")}
        operator.early = True
        world.owner.review(world.now)
        world.tick(0.1)
        for fetch in world.fetches:
            world.answer(fetch)
        transaction = world.begin()
        assert transaction is not None
        assert {move.command.idempotency_key: move.command.attempts for move in transaction.moves} == {
            "later": 1,
            "timed": 0,
        }
        assert {move.lane for move in transaction.moves} == {"other/a.test#0"}
        world.commit(transaction)
        assert world.phase("later") is world.phase("timed") is Phase.MOVED

    def test_is_made_by_a_new_owner_too(self) -> None:
        operator = Operator()
        world = self.deferred(operator)
        operator.verdicts = {"timed": cancelled()}
        operator.early = True
        heir = World(world.log, operator.rules, now=world.now + 20)
        heir.tick(0.1)
        heir.settle()
        assert [fact.type for fact in heir.facts] == ["message.cancelled"]

    def test_touches_neither_what_is_sent_nor_what_has_ended(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        operator.verdicts = {"one": cancelled()}
        operator.early = True
        world.owner.review(world.now)
        world.tick(0.1)
        world.outcome(1, Kind.DELIVERED)
        world.owner.review(world.now)
        world.tick(0.1)
        world.settle()
        assert world.types() == ["attempt.delivered", "message.delivered"]

    def test_comes_back_to_what_was_being_sent(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        world.add("one")
        world.opened()
        operator.verdicts = {"one": cancelled()}
        operator.early = True
        world.owner.review(world.now)
        world.tick(0.1)
        world.outcome(1, Kind.DEFERRED, code=451)
        world.settle()
        world.tick(0.1)
        world.settle()
        assert world.types() == ["attempt.deferred", "message.cancelled"]

    def test_ends_a_parked_message(self) -> None:
        operator = Operator()
        world = World(rules=operator.rules)
        operator.verdicts = {"one": Park("c-1")}
        world.add("one")
        world.settle()
        operator.verdicts = {"one": cancelled()}
        operator.early = True
        world.owner.review(world.now)
        world.tick(0.1)
        world.settle()
        world.owner.unpark(["c-1"], world.now)
        world.settle()
        assert world.types() == ["message.cancelled"]
        assert not world.open

    def test_keeps_no_bodies_of_what_it_lets_be(self) -> None:
        operator = Operator()
        world = self.deferred(operator)
        operator.early = True
        world.owner.review(world.now)
        world.tick(0.1)
        assert world.fetches
        world.settle()
        assert world.owner.depth.cached_bytes == 0

    def test_reads_nothing_where_nothing_is_to_be_reviewed(self) -> None:
        operator = Operator()
        world = self.deferred(operator)
        world.owner.review(world.now)
        world.tick(0.1)
        assert not world.fetches


def test_a_message_moves_at_its_turn() -> None:
    operator = Operator()
    world = World(rules=operator.rules)
    operator.verdicts = {"one": Park("c-1")}
    world.add("one")
    operator.verdicts = {"one": to_pool("one", world)}
    world.owner.unpark(["c-1"], world.now)
    world.obey()
    for fetch in world.fetches:
        world.answer(fetch)
    assert not world.open
    transaction = world.commit()
    assert transaction is not None
    assert [move.lane for move in transaction.moves] == ["other/a.test#0"]
    assert world.phase("one") is Phase.MOVED
