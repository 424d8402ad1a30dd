"""Tenants in turn at one site: nobody starves, weights are kept, order within a tenant too."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Priority, Stream
from schemas.messages import MessageDelivered
from sinks.smtp.commands import Rules
from sinks.smtp.policy import Limits
from sinks.smtp.queue import Entry, LaneRecord, Partition, Site
from sinks.smtp.state import PRIORITIES, Kind, Phase, State
from sinks.smtp.turns import Turns
from tests.smtp_owner.test_core import deliver_all, one_connection
from tests.smtp_owner.world import World, command

SITE = Site("default/a.test#0", Partition(0, {}), Limits())
NORMAL, HIGH, LOW = Priority.NORMAL, Priority.HIGH, Priority.LOW
BODY = command("x")


def entry(tenant: int, number: int, size: int = 100, *, here: bool = True, priority: Priority = NORMAL) -> Entry:
    state = State(
        Phase.QUEUED, False, number, SITE.lane, 0, 0, 0, 0, 0, tenant=tenant, priority=PRIORITIES.index(priority)
    )
    made = Entry(bytes(16), SITE, state)
    made.body = LaneRecord(False, number, SITE.lane, BODY, bytes(size)) if here else None
    return made


def priority_of(entry: Entry) -> Priority:
    return PRIORITIES[entry.state().priority]


def taken(turns: Turns, most: int = 1_000_000) -> list[Entry]:
    found: list[Entry] = []
    while len(found) < most and (head := turns.head(0.0)) is not None:
        turns.pop()
        found.append(head)
    return found


def test_a_tenant_alone_goes_in_order() -> None:
    turns = Turns(lambda tenant: 1)
    entries = [entry(1, number) for number in range(30)]
    for each in entries:
        turns.push(each)
    assert taken(turns) == entries
    assert len(turns) == 0


def test_who_comes_late_does_not_wait_for_a_million() -> None:
    turns = Turns(lambda tenant: 1)
    for number in range(10_000):
        turns.push(entry(1, number))
    taken(turns, 100)
    late = entry(2, 0)
    turns.push(late)
    assert late in taken(turns, 9)


def test_a_tenant_that_rests_holds_nobody_up() -> None:
    turns = Turns(lambda tenant: 1)
    for number in range(3):
        turns.push(entry(1, number))
        turns.push(entry(2, number))
    head = turns.head(0.0)
    assert head is not None
    assert head.tenant == 1
    turns.rest(10.0)
    assert turns.rested_at(0.0) == 10.0
    assert [each.tenant for each in taken(turns)] == [2, 2, 2]
    assert turns.head(9.9) is None
    assert turns.head(10.0) is head
    assert turns.rested_at(10.0) == inf


def test_what_is_set_apart_holds_none_of_its_tenants_mail_up() -> None:
    turns = Turns(lambda tenant: 1)
    entries = [entry(1, number) for number in range(6)]
    for each in entries:
        turns.push(each)
    went = []
    while (head := turns.head(0.0)) is not None:
        if head in entries[::2]:
            turns.rest(10.0, "campaign")
        else:
            went.append(head)
            turns.pop()
    assert went == entries[1::2]
    assert (len(turns), turns.rested_at(0.0)) == (3, 10.0)
    assert turns.head(10.0) is entries[0]
    turns.rest(20.0, "campaign")  # known to be apart: nothing moves
    assert turns.head(19.9) is None
    turns.wake()
    assert taken(turns) == entries[::2]
    assert len(turns) == 0


def test_who_waits_for_a_body_is_known() -> None:
    turns = Turns(lambda tenant: 1)
    turns.push(entry(1, 0, here=False))
    turns.push(entry(2, 0))
    assert not turns.lacking
    assert turns.head(0.0) is not None
    assert turns.lacking


def test_within_a_tenant_priority_goes_before_arrival() -> None:
    turns = Turns(lambda tenant: 1)
    order = [NORMAL, LOW, HIGH, NORMAL, HIGH, LOW]
    entries = [entry(1, number, priority=priority) for number, priority in enumerate(order)]
    for each in entries:
        turns.push(each)
    assert list(turns) == [entries[number] for number in (2, 4, 0, 3, 1, 5)]
    assert taken(turns, 1) == [entries[2]]
    turns.push_front(entries[2])  # its connection failed
    late = entry(1, 9, priority=HIGH)
    assert taken(turns, 3) == [entries[number] for number in (2, 4, 0)]
    turns.push(late)
    assert taken(turns) == [late, *(entries[number] for number in (3, 1, 5))]
    assert len(turns) == 0


def test_a_high_priority_takes_nothing_from_other_tenants() -> None:
    turns = Turns(lambda tenant: 1)
    for number in range(1_000):
        turns.push(entry(1, number, priority=HIGH))
        turns.push(entry(2, number, priority=LOW))
    assert Counter(each.tenant for each in taken(turns, 800)) == {1: 400, 2: 400}


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(Priority), st.booleans()), max_size=60))
def test_each_comes_once_and_no_lower_before_a_higher(arrivals: list[tuple[int, Priority, bool]]) -> None:
    turns = Turns(lambda tenant: 1)
    waiting: list[Entry] = []
    for number, (tenant, priority, one_goes) in enumerate(arrivals):
        turns.push(made := entry(tenant, number, priority=priority))
        waiting.append(made)
        if one_goes:
            (head,) = taken(turns, 1)
            own = [each for each in waiting if each.tenant == head.tenant]
            ranks = [(HIGH, NORMAL, LOW).index(priority_of(each)) for each in own]
            assert head is own[ranks.index(min(ranks))]
            waiting.remove(head)
    assert len(turns) == len(waiting)
    assert set(turns.empty()) == set(waiting)


def test_turns_are_in_proportion_to_weights() -> None:
    weights = {1: 1, 2: 3}
    turns = Turns(weights.__getitem__)
    for number in range(4_000):
        for tenant in weights:
            turns.push(entry(tenant, number))
    counts = Counter(each.tenant for each in taken(turns, 3_200))
    assert counts == {1: 800, 2: 2_400}


def test_large_messages_cost_more() -> None:
    turns = Turns(lambda tenant: 1)
    for number in range(1_000):
        turns.push(entry(1, number))
        turns.push(entry(2, number, 3 * 64 * 1024))
    counts = Counter(each.tenant for each in taken(turns, 1_000))
    assert counts[1] == pytest.approx(4 * counts[2], rel=0.05)


def test_a_body_on_its_way_holds_no_other_tenant_up() -> None:
    turns = Turns(lambda tenant: 1)
    waiting, ready = entry(1, 0, here=False), entry(2, 0)
    turns.push(waiting)
    turns.push(ready)
    assert taken(turns) == [ready]
    assert list(turns) == [waiting]


def test_what_has_ended_as_it_waited_goes_without_a_body_and_free_of_charge() -> None:
    turns = Turns(lambda tenant: 1)
    ended = entry(1, 0, here=False)
    ended.phase = Phase.ENDED
    turns.push(ended)
    assert taken(turns) == [ended]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 700_000), st.booleans()), max_size=60))
def test_everything_goes_once_and_in_order_within_its_tenant(arrivals: list[tuple[int, int, bool]]) -> None:
    turns = Turns(lambda tenant: tenant)
    gone: list[Entry] = []
    pushed: list[Entry] = []
    for number, (tenant, size, take) in enumerate(arrivals):
        pushed.append(entry(tenant, number, size))
        turns.push(pushed[-1])
        if take:
            gone += taken(turns, 1)
        assert len(turns) == len(pushed) - len(gone) == len(list(turns))
    gone += taken(turns)
    for tenant in range(1, 6):
        assert [each for each in gone if each.tenant == tenant] == [each for each in pushed if each.tenant == tenant]


def test_the_owner_lets_tenants_take_turns_also_after_a_restart() -> None:
    rules = Rules(limits=one_connection)
    first = World(rules=rules)
    first.owner.pause()
    first.add(*(f"big-{number}" for number in range(60)), tenant="big")
    first.add("small", tenant="small")
    first.commit()
    heir = World(first.log, rules)
    heir.settle()
    deliver_all(heir)
    ends = [fact.message_id for fact in heir.facts if isinstance(fact, MessageDelivered)]
    assert len(ends) == 61
    assert ends.index(command("small").message_id) < 12


def test_a_password_reset_waits_for_one_connection_and_for_no_campaign() -> None:
    """However much bulk mail waits, and while more of it comes in: the next connection that is free takes it."""
    world = World(rules=Rules(limits=lambda lane: Limits(connections=3)))
    world.add(*(f"bulk-{number}" for number in range(3_000)), stream=Stream.MARKETING)
    world.opened()
    world.ready()
    world.commit()
    world.add("reset", urgent=True)
    world.add(*(f"more-{number}" for number in range(500)), stream=Stream.MARKETING)
    free = next(iter(world.dots))
    world.outcome(free, Kind.DELIVERED)
    assert world.started[free].record.command.idempotency_key == "reset"


def test_who_has_no_body_here_does_not_wait_for_all_who_have() -> None:
    world = World(rules=Rules(limits=one_connection))
    world.add("reset", urgent=True)
    world.opened()
    world.outcome(1, Kind.DEFERRED)
    world.add(*(f"bulk-{number}" for number in range(500)), stream=Stream.MARKETING)
    world.play(3)  # it has been asked for again when its time comes, whatever bulk mail has its body here
    waited = world.phase("reset")
    world.now += 100.0
    world.play(3)
    assert (waited, world.phase("reset")) == (Phase.QUEUED, Phase.DONE)
    assert world.phase("bulk-499") is Phase.QUEUED or world.phase("bulk-499") is Phase.SENDING


def test_a_priority_is_kept_over_a_restart() -> None:
    world = World(rules=Rules(limits=one_connection))
    world.add("first", "late", priority=LOW)
    world.add("soon", priority=HIGH)
    world.add("middle")
    world.settle()
    again = World(world.log, Rules(limits=one_connection), now=world.now + 10)
    again.settle()
    deliver_all(again)
    ends = [fact for fact in again.facts if isinstance(fact, MessageDelivered)]
    assert [fact.message_id for fact in ends][-3:] == [command(name).message_id for name in ("soon", "middle", "late")]
