"""No more is begun than composing has room for; what waits, waits in the queue, and sites come in turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.messages import MessageDelivered
from sinks.smtp.commands import Rules
from sinks.smtp.orders import Orders
from sinks.smtp.policy import Limits
from sinks.smtp.queue import Partition, Site
from tests.smtp_owner.world import World

PARTITION = Partition(0, {False: 0, True: 0})


def site(name: str) -> Site:
    return Site(name, PARTITION, Limits())


def names(kind: str, count: int) -> list[str]:
    return [f"{kind}{number}" for number in range(count)]


def started(world: World) -> list[str]:
    return [each.record.command.idempotency_key for each in world.started.values()]


class TestOrders:
    @given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=80), st.integers(1, 5))
    def test_whoever_is_named_may_begin_and_nobody_waits_beside_room(
        self, asked: list[tuple[int, bool]], most: int
    ) -> None:
        orders, sites = Orders(most), [site(str(number)) for number in range(5)]
        taken: list[int] = []
        waiting: set[tuple[Site, bool]] = set()
        for number, urgent in asked:
            if orders.admits(sites[number], urgent):
                taken.append(orders.take(urgent))
            else:
                waiting.add((sites[number], urgent))
            assert orders.begun == len(taken) <= 2 * most
        for each in taken:
            orders.give(each)
        while (named := orders.next()) is not None:
            assert orders.admits(named, True)
            waiting -= {(named, True), (named, False)}
        assert not waiting

    def test_sites_come_in_turn_and_each_begins_a_few(self) -> None:
        orders = Orders(1)
        giant, small = site("giant"), site("small")
        taken = orders.take(False)
        assert not orders.admits(giant, False)
        assert not orders.admits(small, False)
        begun: list[str] = []
        for _ in range(12):
            orders.give(taken)
            while (named := orders.next()) is not None:
                while orders.admits(named, False):
                    taken = orders.take(False)
                    begun.append(named.lane)
        assert set(begun[:2]) == {"giant", "small"}
        assert abs(begun.count("giant") - begun.count("small")) <= 1

    def test_nobody_passes_those_who_wait(self) -> None:
        orders = Orders(1)
        first, second = site("first"), site("second")
        taken = orders.take(False)
        assert not orders.admits(first, False)
        orders.give(taken)
        assert not orders.admits(second, False)
        assert orders.next() is first
        assert orders.admits(first, False)

    def test_urgent_mail_has_room_of_its_own_and_bulk_is_not_starved_by_it(self) -> None:
        orders = Orders(1)
        orders.take(False)
        assert not orders.admits(site("a"), False)
        assert orders.admits(site("b"), True)
        urgent = orders.take(True)
        assert not orders.admits(site("b"), True)
        assert orders.next() is None
        orders.give(urgent)
        named = orders.next()
        assert named is not None
        assert named.lane == "b"


class TestOwner:
    def test_what_composing_has_no_room_for_is_not_begun(self) -> None:
        world = World(rules=Rules(orders=2, limits=lambda lane: Limits(connections=10)))
        world.add(*names("m", 30))
        while world.open:
            world.opened()
        world.commit()
        begun = len(world.started)
        assert begun <= 4  # two, and what was being connected for by then
        assert world.owner.depth.sending == begun
        assert len(world.open) + begun == world.owner.depth.sessions
        world.composed(next(iter(world.started)))
        world.composed()
        assert len(world.started) + len(world.open) > begun

    def test_sites_share_it_in_turn(self) -> None:
        world = World(rules=Rules(orders=4, limits=lambda lane: Limits(connections=4)))
        world.add(*names("big", 200), site="big.test")
        world.add(*names("small", 8), site="small.test")
        small = {ids.message_id("default", name) for name in names("small", 8)}
        for _ in range(15):
            world.play(0.1)
        ended = [fact.message_id for fact in world.facts if isinstance(fact, MessageDelivered)]
        assert small <= set(ended)
        assert len(ended) < 80

    def test_an_urgent_message_passes_the_line(self) -> None:
        world = World(rules=Rules(orders=1))
        world.add(*names("m", 20))
        world.opened()
        world.add("now", urgent=True, site="b.test")
        world.opened()
        assert "now" in started(world)

    def test_a_connection_that_breaks_gives_its_room_back(self) -> None:
        world = World(rules=Rules(orders=1, limits=lambda lane: Limits(connections=1)))
        world.add("one")
        world.opened()
        world.add("two", site="b.test")
        assert not world.open
        session = next(iter(world.started))
        world.started.pop(session)
        world.owner.closed(session, world.now)
        world.obey()
        world.play(5)
        assert world.types().count("message.delivered") == 2


class TestOpening:
    def test_a_site_that_does_not_answer_is_called_by_two(self) -> None:
        world = World(rules=Rules(limits=lambda lane: Limits(connections=50)))
        world.add(*names("m", 300))
        world.tick(1)
        assert len(world.open) == 2

    def test_one_that_does_by_twice_as_many_each_time(self) -> None:
        world = World(rules=Rules(limits=lambda lane: Limits(connections=50), orders=500))
        world.add(*names("m", 500))
        calls = []
        while world.open:
            calls.append(len(world.open))
            world.opened()
        assert sum(calls) == 50
        assert calls[:4] == [2, 2, 4, 8]
