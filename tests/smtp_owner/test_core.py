"""The queue owner's core, by histories: what is done to it, and what must follow."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas import ids
from schemas.lanes import MessageQueue
from sinks.smtp.commands import GO, Park, Refuse, Rules, Verdict
from sinks.smtp.policy import Limits, Policy
from sinks.smtp.queue import Relaned
from sinks.smtp.state import Kind, Phase, Result, key_of
from tests.smtp_owner.world import DAY, START, Log, World, command, result


def one_connection(lane: str) -> Limits:
    return Limits(connections=1)


def sent(world: World) -> list[str]:
    return [each.record.command.idempotency_key for each in world.started.values()]


def deliver_all(world: World) -> None:
    while world.open or world.started:
        world.opened()
        world.ready()
        world.commit()
        for session in list(world.dots):
            world.outcome(session, Kind.DELIVERED)
        world.settle()


def test_a_message_is_delivered_and_ends_once() -> None:
    world = World()
    world.add("one")
    world.opened()
    world.ready()
    world.commit()
    assert world.phase("one") is Phase.SENDING
    world.outcome(1, Kind.DELIVERED, code=250)
    world.settle()
    assert world.types() == ["attempt.delivered", "message.delivered"]
    assert world.phase("one") is Phase.DONE


class TestDot:
    def test_waits_for_its_commit(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        assert not world.dots
        transaction = world.begin()
        assert transaction is not None
        assert not world.dots
        world.commit(transaction)
        assert list(world.dots) == [1]

    def test_waits_for_the_body_when_the_commit_is_first(self) -> None:
        world = World()
        world.add("one")
        world.commit()
        world.opened()
        assert not world.dots
        world.ready()
        assert list(world.dots) == [1]

    def test_of_the_next_message_needs_its_own_commit(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("one", "two")
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DELIVERED)
        assert sent(world) == ["two"]
        world.ready()
        assert not world.dots
        world.commit()
        assert list(world.dots) == [1]

    def test_goes_only_within_ten_seconds_of_its_commit(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.commit()
        world.boot += 10.1
        world.ready()
        assert not world.dots
        renewed = world.commit()
        assert renewed is not None
        assert len(renewed.records) == 1
        assert world.dots[1].not_after == world.boot + 10

    def test_that_comes_too_late_to_be_written_waits_for_a_fresh_commit(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        late = world.dots.pop(1)
        world.boot += 60
        assert late.not_after < world.boot
        world.owner.late(1)
        world.obey()
        assert not world.dots
        world.commit()
        assert list(world.dots) == [1]

    def test_counts_from_the_beginning_of_the_commit(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        transaction = world.begin()
        assert transaction is not None
        began = world.boot
        world.owner.committed(transaction.number, began, world.now)  # whatever the clock says by then
        world.obey()
        assert world.dots[1].not_after == began + 10

    def test_is_not_sent_after_an_abort(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        transaction = world.begin()
        assert transaction is not None
        world.owner.aborted(transaction.number, world.now)
        world.obey()
        assert not world.dots
        world.commit()
        assert list(world.dots) == [1]


class TestTransaction:
    def test_has_the_offsets_of_both_lanes(self) -> None:
        world = World()
        world.add("one", "two")
        transaction = world.begin()
        assert transaction is not None
        assert {(each.urgent, each.offset) for each in transaction.offsets} == {(False, 2), (True, 0)}

    def test_of_an_outcome_alone_has_offsets_too(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DELIVERED)
        transaction = world.begin()
        assert transaction is not None
        assert [(each.urgent, each.offset) for each in transaction.offsets] == [(False, 1), (True, 0)]

    def test_is_one_at_a_time(self) -> None:
        world = World()
        world.add("one")
        first = world.begin()
        assert first is not None
        world.add("two")
        assert world.begin() is None
        world.commit(first)
        second = world.begin()
        assert second is not None
        assert [record.key for record in second.records] == [key_of(ids.message_id("default", "two"))]

    def test_is_not_begun_when_nothing_waits(self) -> None:
        world = World()
        world.add("one")
        world.settle()
        assert world.begin() is None

    def test_after_an_abort_writes_all_of_it_again(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("one", "two")
        first = world.begin()
        assert first is not None
        world.owner.aborted(first.number, world.now)
        again = world.begin()
        assert again is not None
        assert set(again.records) == set(first.records)
        assert again.offsets == first.offsets

    def test_after_an_abort_keeps_the_outcome_of_a_dot(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DELIVERED)
        aborted = world.begin()
        assert aborted is not None
        world.owner.aborted(aborted.number, world.now)
        world.obey()
        assert not world.publishes, "facts go out after the commit"
        world.settle()
        assert world.types() == ["attempt.delivered", "message.delivered"]
        assert not world.started

    def test_of_offsets_alone_is_repeated_too(self) -> None:
        world = World()
        world.add("one", "one")
        deliver_all(world)
        world.add("one")
        world.commit()
        world.owner.acked(world.publishes[-1].ticket, True, world.now)
        transaction = world.begin()
        assert transaction is not None
        assert not transaction.records
        world.owner.aborted(transaction.number, world.now)
        world.commit()
        assert world.log.offsets[False] == 3

    def test_of_an_assignment_that_was_abandoned_releases_no_dot(self) -> None:
        world = World()
        world.add("one")
        first = world.begin()
        assert first is not None
        world.owner.pause()
        world.opened()
        world.owner.resume(world.now)
        world.obey()
        world.ready()
        world.commit(first)
        assert not world.dots
        world.commit()
        assert list(world.dots) == [1]

    def test_numbers_are_checked(self) -> None:
        world = World()
        world.add("one")
        transaction = world.begin()
        assert transaction is not None
        with pytest.raises(ValueError, match="not the one in flight"):
            world.owner.committed(transaction.number + 1, world.boot, world.now)


class TestFacts:
    def test_wait_for_the_commit_and_are_owed_until_acked(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.BOUNCED, code=550)
        assert not world.publishes
        world.commit()
        assert world.phase("one") is Phase.ENDED
        kinds = [fact.type for fact in world.publishes[0].facts]
        assert kinds == ["attempt.bounced", "message.bounced", "bounce.received"]
        world.owner.acked(world.publishes[0].ticket, True, world.now)
        world.commit()
        assert world.phase("one") is Phase.DONE

    def test_that_failed_go_again_at_the_next_tick(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DELIVERED)
        world.commit()
        [first] = world.publishes
        world.publishes.clear()
        world.owner.acked(first.ticket, False, world.now)
        world.obey()
        assert not world.publishes
        world.tick(0.1)
        assert world.publishes == [first]
        world.settle()
        assert world.phase("one") is Phase.DONE

    def test_of_a_lost_owner_are_published_again_with_the_same_ids(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DELIVERED, code=250, text="2.0.0 queued as 4711", mx_host="mx.a.test")
        world.commit()
        [published] = world.publishes
        heir = World(world.log)
        heir.settle()
        assert heir.facts == list(published.facts)
        assert heir.phase("one") is Phase.DONE

    def test_of_a_deferral_survive_the_owner_too(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DEFERRED, code=451)
        world.commit()
        [published] = world.publishes
        heir = World(world.log)
        heir.settle()
        assert heir.facts == list(published.facts)
        assert heir.types() == ["attempt.deferred"]
        heir.tick(100)
        heir.settle()
        deliver_all(heir)
        assert heir.types() == ["attempt.deferred", "attempt.delivered", "message.delivered"]


class TestIntake:
    def test_drops_a_repeat_with_a_fact(self) -> None:
        world = World()
        world.add("one", "one")
        deliver_all(world)
        world.add("one")
        world.settle()
        duplicates = [fact for fact in world.facts if fact.type == "message.duplicate"]
        assert [fact.model_dump()["position"] for fact in duplicates] == ["mail.lanes.main:0:1", "mail.lanes.main:0:2"]
        assert world.types().count("message.delivered") == 1

    def test_does_not_pass_a_repeat_before_its_fact_is_acked(self) -> None:
        world = World()
        world.add("one", "one", "two")
        world.commit()
        assert world.log.offsets[False] == 1
        world.settle()
        assert world.log.offsets[False] == 3

    def test_of_the_same_record_again_is_no_repeat(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("one", "two", "one")
        world.commit()
        assert world.log.offsets[False] == 2
        world.log.offsets[False] = 0  # as if the fact of a repeat before them were owed
        heir = World(world.log)
        heir.take_in()
        heir.settle()
        assert [fact.type for fact in heir.facts if fact.type == "message.duplicate"] == ["message.duplicate"]
        assert {fact.event_id for fact in heir.facts} >= {fact.event_id for fact in world.publishes[0].facts}

    def test_waits_for_send_at(self) -> None:
        world = World()
        world.add("one", send_at=datetime.fromtimestamp(START + 60, UTC))
        world.settle()
        assert not world.open
        assert world.phase("one") is Phase.QUEUED
        world.tick(59)
        world.settle()
        assert not world.open
        world.tick(1.5)
        world.settle()
        assert world.open
        assert world.phase("one") is Phase.SENDING

    def test_takes_the_urgent_first(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("one", "two", "three")
        world.add("now", urgent=True)
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DELIVERED)
        assert sent(world) == ["now"]

    def test_of_an_expired_message_ends_it(self) -> None:
        world = World()
        world.add("one", expires=START - 1)
        world.settle()
        assert world.types() == ["message.expired"]
        assert not world.open

    def test_of_a_partition_that_is_not_owned_is_ignored(self) -> None:
        world = World()
        world.owner.lost(0)
        world.add("one")
        assert world.begin() is None


class TestRetry:
    def test_waits_by_the_schedule(self) -> None:
        world = World()
        world.add("one")
        for attempt, wait in enumerate((60, 120, 300), 1):
            world.opened()
            world.ready()
            world.commit()
            [session] = world.dots
            world.outcome(session, Kind.DEFERRED, keep=False)
            world.settle()
            assert world.types() == ["attempt.deferred"] * attempt
            world.tick(wait - 1)
            world.settle()
            assert not world.open
            world.tick(wait / 10 + 2)
            world.settle()
            assert world.open

    def test_ends_expired_when_no_attempt_fits_in(self) -> None:
        world = World()
        world.add("one", expires=START + 30)
        world.opened()
        world.ready()
        world.commit()
        world.outcome(1, Kind.DEFERRED, code=452)
        world.settle()
        assert world.types() == ["attempt.deferred", "message.expired"]
        assert world.facts[1].model_dump()["reply_code"] == 452

    def test_expires_while_it_waits(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("slow")
        world.add("one", expires=START + 30)
        world.settle()
        world.tick(35)
        world.settle()
        assert world.types() == ["message.expired"]

    def test_local_causes_count_no_attempt(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        held = Result(Kind.HELD, int(world.now * 1000), reason="no key")
        world.started.pop(1)
        world.owner.outcome(1, held, world.now, keep=True)
        world.settle()
        assert world.types() == ["attempt.held"]
        state = world.log.state("one")
        assert state is not None
        assert state.attempts == 0
        world.tick(70)
        world.settle()
        deliver_all(world)
        assert world.facts[-1].model_dump()["attempts"] == 1


class TestTakeOver:
    """A message found `sending`: the former owner may have written its dot (RFC 1047)."""

    def left_sending(self) -> Log:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        return world.log

    def test_gives_up_by_policy(self) -> None:
        heir = World(self.left_sending(), Rules(policy=lambda command: Policy(on_doubt="give_up")))
        assert not heir.open
        heir.settle()
        assert heir.types() == ["attempt.unknown", "message.unknown"]
        assert not heir.open
        assert heir.phase("one") is Phase.DONE

    def test_sends_again_by_policy(self) -> None:
        heir = World(self.left_sending(), Rules(policy=lambda command: Policy(on_doubt="resend")))
        heir.settle()
        assert heir.types() == ["attempt.unknown"]
        deliver_all(heir)
        assert heir.types() == ["attempt.unknown", "attempt.delivered", "message.delivered"]
        assert heir.facts[1].model_dump()["attempt"] == 2

    def test_repeated_names_the_same_facts(self) -> None:
        log = self.left_sending()
        first, second = World(log), None
        first.commit()
        for fetch in first.fetches:
            first.answer(fetch)
        first.commit()
        [published] = first.publishes
        second = World(log)
        second.settle()
        assert {fact.event_id for fact in second.facts} == {fact.event_id for fact in published.facts}

    def test_of_a_queued_message_reads_its_body_again(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("one", "two")
        world.commit()
        heir = World(world.log, Rules(limits=one_connection))
        heir.settle()
        deliver_all(heir)
        assert heir.types() == ["attempt.unknown", "message.unknown", "attempt.delivered", "message.delivered"]

    def test_of_a_message_whose_record_is_gone_ends_it(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("one", "two")
        world.commit()
        heir = World(world.log, Rules(policy=lambda command: Policy(on_doubt="resend")))
        while heir.fetches or heir.publishes or heir.commit():
            for fetch in heir.fetches:
                heir.answer(fetch, gone=[wanted.key for wanted in fetch.wanted])
            heir.fetches.clear()
            for publish in heir.publishes:
                heir.facts += publish.facts
                heir.owner.acked(publish.ticket, True, heir.now)
            heir.publishes.clear()
            heir.obey()
            heir.tick(100)
        assert sorted(heir.types()) == ["attempt.unknown", "message.failed", "message.failed"]
        assert not heir.open


class TestLeaving:
    def test_abandons_what_has_no_dot_yet(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.owner.revoke(0, world.now)
        world.obey()
        assert world.dropped == [1]
        assert not world.drained
        world.commit()
        assert world.drained
        assert world.phase("one") is Phase.QUEUED
        state = world.log.state("one")
        assert state is not None
        assert state.attempts == 0

    def test_waits_for_the_answer_to_a_dot(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        world.commit()
        world.owner.revoke(0, world.now)
        world.obey()
        assert not world.dropped
        assert not world.drained
        world.outcome(1, Kind.DELIVERED)
        assert not world.drained
        world.commit()
        assert world.drained
        heir = World(world.log)
        heir.settle()
        assert heir.types() == ["attempt.delivered", "message.delivered"]

    def test_takes_nothing_more(self) -> None:
        world = World()
        world.owner.revoke(0, world.now)
        world.add("one")
        assert world.begin() is None
        assert not world.open

    def test_by_loss_drops_everything_at_once(self) -> None:
        world = World()
        world.add("one")
        world.opened()
        world.ready()
        transaction = world.begin()
        assert transaction is not None
        world.owner.lost(0)
        world.obey()
        assert world.dropped == [1]
        world.owner.committed(transaction.number, world.boot, world.now)
        world.obey()
        assert not world.dots
        world.owner.outcome(1, result(Kind.DELIVERED, world.now), world.now, keep=True)
        world.owner.tick(world.now + DAY)
        world.obey()
        assert world.begin() is None
        assert not world.publishes

    def test_and_coming_back_starts_from_the_log(self) -> None:
        world = World()
        world.add("one")
        transaction = world.begin()
        assert transaction is not None
        world.owner.lost(0)
        world.obey()
        world.owner.aborted(transaction.number, world.now)
        world.owner.assigned(0, [], dict(world.log.offsets), world.now)
        world.read = dict(world.log.offsets)
        world.take_in()
        deliver_all(world)
        assert world.types() == ["attempt.delivered", "message.delivered"]


class TestSites:
    def test_connections_are_limited(self) -> None:
        world = World(rules=Rules(limits=lambda lane: Limits(connections=3)))
        world.add(*(f"m{n}" for n in range(40)))
        world.opened()
        assert (len(world.started), len(world.open)) == (2, 1)
        world.commit()
        deliver_all(world)
        assert world.types().count("message.delivered") == 40

    def test_a_few_messages_share_the_connection_that_is_opening(self) -> None:
        world = World()
        world.add("one", "two", "three")
        assert len(world.open) == 1

    def test_an_urgent_message_waits_for_no_other_to_connect(self) -> None:
        world = World()
        world.add("one")
        world.add("now", urgent=True)
        assert [each.command.idempotency_key for each in world.open.values()] == ["one", "now"]

    def test_a_connection_carries_so_many_messages(self) -> None:
        world = World(rules=Rules(limits=lambda lane: Limits(connections=1, messages_per_connection=2)))
        world.add(*(f"m{n}" for n in range(5)))
        deliver_all(world)
        assert world.closed == [1, 2]

    def test_an_idle_connection_is_used_again_then_closed(self) -> None:
        world = World(rules=Rules(limits=lambda lane: Limits(idle_s=20)))
        world.add("one")
        deliver_all(world)
        world.tick(10)
        world.add("two")
        assert sent(world) == ["two"]
        deliver_all(world)
        world.tick(21)
        assert world.closed == [1]

    def test_a_failed_connection_rests_the_site(self) -> None:
        world = World()
        world.add("one", "two")
        [session] = world.open
        world.open.clear()
        world.owner.open_failed(session, result(Kind.DEFERRED, world.now, code=421), world.now)
        world.settle()
        assert not world.open
        assert world.types() == ["attempt.deferred"]
        world.tick(9)
        assert not world.open
        world.tick(1.1)
        assert len(world.open) == 1

    def test_a_rest_doubles_until_something_is_delivered(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add(*(f"m{n}" for n in range(9)))
        for wait in (10, 20, 40):
            [session] = world.open
            world.open.clear()
            world.owner.open_failed(session, result(Kind.DEFERRED, world.now), world.now)
            world.settle()
            world.tick(wait - 1)
            assert not world.open
            world.tick(1.1)
        world.opened()
        world.ready()
        world.commit()
        world.outcome(4, Kind.DELIVERED)
        world.outcome(4, Kind.DEFERRED, keep=False, rest=True)
        world.settle()
        world.tick(9)
        assert not world.open
        world.tick(1.1)
        assert len(world.open) == 1

    def test_a_bad_domain_rests_nobody(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("one", "two")
        world.open.clear()
        world.owner.open_failed(1, result(Kind.BOUNCED, world.now), world.now, rest=False)
        world.settle()
        assert world.types() == ["attempt.bounced", "message.bounced", "bounce.received"]
        assert [each.command.idempotency_key for each in world.open.values()] == ["two"]

    def test_a_rate_is_held(self) -> None:
        world = World(rules=Rules(limits=lambda lane: Limits(connections=100, messages_per_second=10)))
        world.add(*(f"m{n}" for n in range(100)))
        world.play(5)
        assert 49 <= world.types().count("message.delivered") <= 53

    def test_the_workers_connections_are_dealt_in_turn(self) -> None:
        world = World(rules=Rules(sessions=4))
        for site in ("a.test", "b.test", "c.test", "d.test"):
            world.add(f"{site}-1", f"{site}-2", site=site)
        assert len(world.open) == 2  # half of them, for sites that nobody knows
        deliver_all(world)
        assert world.types().count("message.delivered") == 8

    def test_nothing_starts_while_paused(self) -> None:
        world = World()
        world.add("one")
        world.owner.pause()
        world.opened()
        assert not world.started
        world.add("two", site="b.test")
        assert not world.open
        world.commit()
        assert {world.phase("one"), world.phase("two")} == {Phase.QUEUED}
        world.owner.resume(world.now)
        world.obey()
        deliver_all(world)
        assert world.types().count("message.delivered") == 2


class TestAdmission:
    def test_is_asked_again_when_the_attempt_starts(self) -> None:
        suppressed: set[str] = set()

        def admit(command: object, now: float) -> Verdict:
            if suppressed:
                return Refuse(Result(Kind.SUPPRESSED, int(now * 1000), reason="unsubscribe"))
            return GO

        world = World(rules=Rules(admit=admit))
        world.add("one")
        assert world.open
        suppressed.add("one")
        world.opened()
        assert not world.started
        world.settle()
        assert world.types() == ["message.suppressed"]
        ended = world.facts[0].model_dump()
        assert (ended["suppression"], ended["attempts"]) == ("unsubscribe", 0)

    def test_of_a_suppressed_one_opens_no_connection(self) -> None:
        refusal = Refuse(Result(Kind.SUPPRESSED, int(START * 1000), reason="complaint"))
        world = World(rules=Rules(admit=lambda command, now: refusal))
        world.add("one")
        assert not world.open
        world.settle()
        assert world.types() == ["message.suppressed"]

    def test_may_set_a_message_aside_for_a_time(self) -> None:
        world = World(rules=Rules(admit=lambda command, now: GO if now > START + 50 else Park("window", START + 60)))
        world.add("one")
        world.settle()
        assert not world.types()
        world.tick(61)
        world.settle()
        deliver_all(world)
        assert world.types() == ["attempt.delivered", "message.delivered"]


class TestBodies:
    def test_beyond_the_cache_are_read_again(self) -> None:
        world = World(rules=Rules(limits=one_connection, cache_bytes=20_000))
        world.add(*(f"m{n}" for n in range(100)))
        assert world.owner.depth.cached_bytes < 5_000
        for _ in range(100):
            world.settle()
            assert world.owner.depth.cached_bytes < 40 * 2_600
            world.opened()
            world.ready()
            world.commit()
            [session] = world.dots
            world.outcome(session, Kind.DELIVERED)
        world.settle()
        assert world.types().count("message.delivered") == 100
        assert world.owner.depth.cached_bytes == 0


class TestMoving:
    def test_writes_moved_and_the_command_in_one_transaction(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("busy", "one")
        world.settle()
        moved = command("one", site="big.test", attempts=0, moved_from="mail.lanes.main:0:1")
        to = Relaned(3, False, "default/big.test#0", moved)
        assert world.owner.relane(moved.message_id, to, world.now)
        transaction = world.begin()
        assert transaction is not None
        assert transaction.moves == (to,)
        world.owner.aborted(transaction.number, world.now)
        again = world.begin()
        assert again is not None
        assert again.moves == (to,)
        assert again.records == transaction.records
        world.commit(again)
        assert world.phase("one") is Phase.MOVED
        assert world.begin() is None

    def test_is_refused_for_what_is_being_sent(self) -> None:
        world = World()
        world.add("one")
        moved = command("one", site="big.test", moved_from="mail.lanes.main:0:0")
        assert not world.owner.relane(moved.message_id, Relaned(0, False, "x", moved), world.now)

    def test_may_come_back_to_the_same_partition(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("busy", "one")
        world.settle()
        moved = command("one", site="big.test", moved_from="mail.lanes.main:0:1")
        world.owner.relane(moved.message_id, Relaned(0, False, "default/big.test#0", moved), world.now)
        world.settle()
        world.log.append(moved)
        world.take_in()
        assert world.phase("one") is Phase.MOVED
        deliver_all(world)
        assert world.types().count("message.delivered") == 2
        world.add("one")
        world.settle()
        assert world.types()[-1] == "message.duplicate"

    def test_back_keeps_its_state_beyond_the_window_of_its_mark(self) -> None:
        world = World(rules=Rules(limits=one_connection))
        world.add("busy", expires=START + 3 * DAY)
        world.add("one", expires=START + 3 * DAY)
        world.settle()
        moved = command("one", site="a.test", moved_from="mail.lanes.main:0:1", expires=START + 3 * DAY)
        world.owner.relane(moved.message_id, Relaned(0, False, "default/a.test#0", moved), world.now)
        world.settle()
        world.log.append(moved)
        world.take_in()
        world.settle()
        world.tick(DAY + 61)
        world.settle()
        assert world.phase("one") is Phase.QUEUED


class TestWindow:
    def test_a_marker_is_forgotten_after_the_duplicate_window(self) -> None:
        world = World()
        world.add("one")
        deliver_all(world)
        assert world.phase("one") is Phase.DONE
        world.tick(DAY - 1)
        world.settle()
        assert world.phase("one") is Phase.DONE
        world.tick(62)
        world.settle()
        assert world.log.states == {}
        assert world.owner.depth.marks == 0


class TestVia:
    """A send of a domain whose site has changed comes by the lane where a repeat of it would be known."""

    def onward(self, queued: MessageQueue) -> Relaned:
        on = queued.model_copy(update={"via": ""})
        return Relaned(1, False, on.key, on)

    def test_one_that_is_not_known_goes_on_without_an_attempt(self) -> None:
        world = World(rules=Rules(onward=self.onward))
        world.add("one", site="b.test", via="default/a.test#0")
        assert not world.open
        transaction = world.commit()
        assert transaction is not None
        assert [
            (move.partition, move.lane, move.command.via, move.command.moved_from) for move in transaction.moves
        ] == [(1, "default/b.test#0", "", "")]
        assert world.phase("one") is Phase.MOVED
        assert world.types() == []

    def test_one_that_is_known_is_a_repeat(self) -> None:
        world = World(rules=Rules(onward=self.onward))
        world.add("one")
        deliver_all(world)
        world.add("one", site="b.test", via="default/a.test#0")
        transaction = world.begin()
        assert transaction is None or not transaction.moves
        world.settle()
        assert world.types()[-1] == "message.duplicate"

    def test_a_repeat_of_one_that_went_on_is_one_too(self) -> None:
        world = World(rules=Rules(onward=self.onward))
        world.add("one", site="b.test", via="default/a.test#0")
        world.settle()
        world.add("one", site="b.test", via="default/a.test#0")
        world.settle()
        assert world.types() == ["message.duplicate"]

    def test_one_that_goes_on_is_written_again_after_an_abort(self) -> None:
        world = World(rules=Rules(onward=self.onward))
        world.add("one", site="b.test", via="default/a.test#0")
        first = world.begin()
        assert first is not None
        world.owner.aborted(first.number, world.now)
        again = world.commit()
        assert again is not None
        assert again.moves == first.moves
