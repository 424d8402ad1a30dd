"""What the views say of histories; and that neither order nor repetition of the facts changes a word of it (P5)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from schemas import attempts, feedback, messages
from schemas.envelope import Event
from schemas.state import ControlSet
from sinks.clickhouse.migrate import views
from tests.clickhouse_sink.conftest import Database
from tests.clickhouse_sink.history import Story, numbered
from topics.record import Record

pytestmark = pytest.mark.stack
NOW = datetime.now(UTC).replace(microsecond=0)
START = NOW - timedelta(hours=2)
FATES = ["delivered", "bounced", "suppressed", "expired", "failed", "cancelled", "unknown", "in_flight"]
_seed = count(1)
_offset = count(0)


@pytest.fixture
def story() -> Story:
    return Story(START, seed=next(_seed))


def write(database: Database, events: Iterable[Event]) -> None:
    """Each event in a block of its own topic, with offsets that nobody else has."""
    database.insert([one._replace(offset=next(_offset)) for one in numbered(events)])


def message(database: Database, message_id: str) -> dict[str, object]:
    found = database.one("SELECT * FROM v_messages WHERE message_id = {id:String}", id=message_id)
    # clickhouse-connect gives times of UTC columns without a zone.
    return {name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for name, value in found.items()}


@pytest.mark.parametrize("fate", FATES)
def test_a_message_has_the_status_of_its_end(database: Database, story: Story, fate: str) -> None:
    made = story.message(fate)
    write(database, story.events)
    found = message(database, made.id)
    assert found["status"] == fate
    assert (found["ended_at"] is None) == (fate == "in_flight")
    assert found["accepted_at"] == made.accepted_at
    assert found["idempotency_key"] == f"{story.seed}/1"
    assert (found["tenant"], found["stream"], found["campaign_id"]) == ("default", "marketing", "spring")
    assert (found["recipient_domain"], found["pool"], found["late_bounce"]) == ("mail.test", "default", False)
    assert found["recipient_id"] == made.common["recipient_id"]
    assert (found["subject_ref"], found["tags"], found["metadata"]) == ("customer-1", ["letter"], {"batch": "7"})
    assert found["provider"] == ("" if fate == "in_flight" else "google"), "accepted did not know it; the end did"
    assert found["class"] == ("InvalidRecipient" if fate == "bounced" else "")
    assert found["attempts"] == made.attempts


def test_a_message_under_way_counts_its_attempts(database: Database, story: Story) -> None:
    made = story.message("in_flight")
    made.common["provider"] = "google"
    made.attempt(attempts.AttemptDeferred, next_at=NOW, reply_code=451)
    made.attempt(attempts.AttemptDeferred, next_at=NOW, reply_code=451)
    write(database, story.events)
    found = message(database, made.id)
    assert (found["status"], found["attempts"], found["provider"]) == ("in_flight", 2, "google")


def test_what_waits_is_in_the_queue_and_what_has_ended_is_not(database: Database, story: Story) -> None:
    fresh = story.message("in_flight")
    deferred = story.message("in_flight")
    deferred.common |= {"provider": "google", "pool": "other"}
    deferred.attempt(attempts.AttemptDeferred, next_at=NOW, reply_code=421)
    deferred.attempt(attempts.AttemptDeferred, next_at=NOW, reply_code=451)
    ended = story.message("delivered")
    write(database, story.events)
    query = "SELECT * FROM v_queue WHERE message_id IN ({a:String}, {b:String}, {c:String}) ORDER BY attempts"
    columns = "message_id", "attempts", "deferrals", "site", "provider", "pool", "source", "reply_code", "campaign_id"
    result = database.client.query(query, parameters={"a": fresh.id, "b": deferred.id, "c": ended.id})
    rows = [tuple(row[name] for name in columns) for row in result.named_results()]
    assert rows == [
        (fresh.id, 0, 0, "mail.test", "", "default", "", 0, "spring"),
        (deferred.id, 2, 2, "site", "google", "other", "mta-1", 451, "spring"),
    ]


def moved(to: str, at: datetime, *, pools: tuple[str, ...] = (), **selector: str) -> ControlSet:
    """What waits by then goes to another pool."""
    return ControlSet.from_cause(
        f"{to}/{at}/{selector}", occurred_at=at, control_id=f"c-{to}-{at}", action="move", reason="blocked",
        selector={**selector, "accepted_before": at.isoformat()}, until=at + timedelta(hours=1),
        arguments={"pool": to, "pools": list(pools)} if pools else {"pool": to},
    )  # fmt: skip


def waits_in(database: Database, message_id: str) -> tuple[str, datetime | None]:
    found = database.one("SELECT pool, next_at FROM v_queue WHERE message_id = {id:String}", id=message_id)
    at = found["next_at"]
    assert at is None or isinstance(at, datetime)
    return str(found["pool"]), at.replace(tzinfo=UTC) if at is not None else None


def test_what_was_moved_is_in_its_new_pool_before_its_next_attempt(database: Database, story: Story) -> None:
    untried = story.message("in_flight")
    tried = story.message("in_flight")
    tried.attempt(attempts.AttemptDeferred, next_at=NOW, reply_code=451)
    at = NOW - timedelta(minutes=10)
    campaign = str(story.seed)  # of this story's messages alone
    story.events[:] = [event.model_copy(update={"campaign_id": campaign}) for event in story.events]
    write(database, story.events)
    assert waits_in(database, untried.id) == ("default", None)
    write(database, [moved("second", at, campaign=campaign, pool="default")])
    for each in (untried, tried):
        assert waits_in(database, each.id) == ("second", at), "and it is tried at once"
    # Not for these: another campaign, pool, site, provider, tenant, stream, domain; accepted later.
    for number, other in enumerate(
        [{"campaign": "x"}, {"pool": "default"}, {"site": "x"}, {"provider": "x"}, {"tenant": "x"},
         {"stream": "onboarding"}, {"domain": "x.test"}]
    ):  # fmt: skip
        selector: dict[str, Any] = {"campaign": campaign, **other}
        write(database, [moved("third", at + timedelta(minutes=1, seconds=number), **selector)])
    write(database, [moved("third", START - timedelta(hours=1), campaign=campaign)])
    assert waits_in(database, untried.id)[0] == "second"
    # In order: from pool to pool, and back.
    write(database, [moved("default", at + timedelta(minutes=3), campaign=campaign, source="a", pools=("second",))])
    write(database, [moved("fourth", at + timedelta(minutes=2), campaign=campaign, source="b", pools=("third",))])
    assert waits_in(database, untried.id)[0] == "default"


def test_a_newer_attempt_knows_its_pool_better_than_a_move_that_came_before(database: Database, story: Story) -> None:
    made = story.message("in_flight", campaign_id=f"of-{story.seed}")
    made.common["pool"] = "mended"
    made.later(600)
    made.attempt(attempts.AttemptDeferred, next_at=NOW, reply_code=451)
    write(database, story.events)
    write(database, [moved("second", made.accepted_at + timedelta(minutes=1), campaign=f"of-{story.seed}")])
    assert waits_in(database, made.id) == ("mended", NOW)


def test_a_bounce_after_delivery_is_no_second_end(database: Database, story: Story) -> None:
    made = story.message("delivered")
    made.bounce()
    write(database, story.events)
    found = message(database, made.id)
    assert (found["status"], found["late_bounce"], found["class"]) == ("delivered", True, "MailboxFull")


def test_an_acceptance_that_came_twice_is_the_first_one(database: Database, story: Story) -> None:
    """`plan` writes it again for a repeated send; only the queue owner knows that it is one."""
    made = story.message("delivered")
    first = story.events[0]
    again = first.model_copy(
        update={"occurred_at": NOW, "recorded_at": NOW, "expires_at": NOW + timedelta(days=9), "pool": "other"}
    )
    write(database, [again, *story.events[1:]])
    write(database, [first])
    found = message(database, made.id)
    assert (found["accepted_at"], found["pool"]) == (first.occurred_at, "default")
    assert found["expires_at"] == made.accepted_at + timedelta(days=3)


def test_rejected_sends_are_no_messages(database: Database, story: Story) -> None:
    fields = {"message_id": f"m{story.seed}", "recipient_id": "r", "recipient_domain": "mail.test"}
    story.tell(messages.MessageRejected, "x", START, idempotency_key="k", reason="sender", detail="not yours", **fields)
    write(database, story.events)
    where = "WHERE message_id = {id:String}"
    assert database.rows(f"SELECT count() FROM v_messages {where}", id=f"m{story.seed}") == [(0,)]
    found = database.rows(f"SELECT reason, detail FROM v_rejected {where}", id=f"m{story.seed}")
    assert found == [("sender", "not yours")]


def test_an_end_without_an_acceptance_is_no_message_yet(database: Database, story: Story) -> None:
    made = story.message("delivered", campaign_id="orphans")
    write(database, story.events[1:])
    assert database.rows("SELECT 1 FROM v_messages WHERE message_id = {id:String}", id=made.id) == []
    assert database.rows("SELECT difference FROM v_conservation WHERE campaign_id = 'orphans'") == [(-1,)]
    write(database, story.events[:1])
    assert database.rows("SELECT difference FROM v_conservation WHERE campaign_id = 'orphans'") == [(0,)]


def test_the_timeline_tells_the_story(database: Database, story: Story) -> None:
    made = story.message("deferred")
    made.bounce()
    made.opened()
    made.clicked(3)
    write(database, story.events)
    query = "SELECT type, detail FROM v_message_timeline WHERE message_id = {id:String} ORDER BY occurred_at"
    told = database.rows(query, id=made.id)
    assert [kind for kind, _detail in told] == [
        "message.accepted", "attempt.deferred", "attempt.delivered", "message.delivered", "bounce.received",
        "message.opened", "open.judged", "message.clicked", "click.judged",
    ]  # fmt: skip
    details: dict[object, object] = dict(told)  # type: ignore[arg-type]  # rows of two
    assert str(details["attempt.deferred"]).startswith(
        "#1 mx.provider.test at dot Greylisted 451 try again later next "
    )
    assert details["attempt.delivered"] == "#2 mx.provider.test at dot 250 ok"
    assert details["bounce.received"] == "MailboxFull transient mx.provider.test 552 552 5.2.2 mailbox full"
    assert details["click.judged"] == "link 3 human by rule"


def test_the_timeline_of_a_person_has_suppressions(database: Database, story: Story) -> None:
    made = story.message("delivered")
    made.suppress(START + timedelta(minutes=30), scope="marketing")
    made.suppress(START + timedelta(minutes=40), scope="marketing", active=False)
    write(database, story.events)
    query = "SELECT type FROM v_recipient_timeline WHERE recipient_id = {id:String} ORDER BY occurred_at"
    assert [kind for (kind,) in database.rows(query, id=made.common["recipient_id"])] == [
        "message.accepted", "attempt.delivered", "message.delivered", "suppression.set", "suppression.lifted"
    ]  # fmt: skip


def test_the_funnel_counts_messages_and_people(database: Database, story: Story) -> None:
    campaign = f"funnel-{story.seed}"
    made = {fate: story.message(fate, campaign_id=campaign) for fate in FATES}
    machine = story.message("delivered", campaign_id=campaign)
    machine.opened("proxy")
    machine.clicked(1, "scanner")
    person = made["delivered"]
    person.opened()
    person.clicked(1)
    person.clicked(2)
    person.bounce()
    for kind in ("abuse", "not-spam"):
        one = person if kind == "abuse" else machine
        story.tell(feedback.ComplaintReceived, f"{kind}/{one.id}", one.later(), kind=kind, **one.common)
    story.tell(feedback.RecipientUnsubscribed, person.id, person.later(), via="page", **person.common)
    write(database, story.events)
    found = database.one("SELECT * FROM v_campaign_funnel WHERE campaign_id = {c:String}", c=campaign)
    assert found == {
        "tenant": "default", "campaign_id": campaign, "accepted": 9, "delivered": 2, "bounced": 1, "late_bounced": 1,
        "suppressed": 1, "expired": 1, "failed": 1, "cancelled": 1, "unknown": 1, "in_flight": 1, "opened": 2,
        "opened_human": 1, "clicked": 2, "clicked_human": 1, "unsubscribed": 1, "complained": 1,
    }  # fmt: skip


def test_the_newest_verdict_on_an_open_counts(database: Database, story: Story) -> None:
    campaign = f"judged-{story.seed}"
    made = story.message("delivered", campaign_id=campaign)
    opened = made.opened("human", 1)
    query = "SELECT opened, opened_human FROM v_campaign_funnel WHERE campaign_id = {c:String}"
    write(database, story.events)
    assert database.rows(query, c=campaign) == [(1, 1)]
    write(database, [made.judge(opened, "scanner", 2)])
    assert database.rows(query, c=campaign) == [(1, 0)]


def test_the_ledger_balances_until_a_message_ends_twice(database: Database, story: Story) -> None:
    campaign = f"ledger-{story.seed}"
    for _ in range(3):
        story.message("delivered", campaign_id=campaign)
    twice = story.message("in_flight", campaign_id=campaign)
    query = """SELECT sum(accepted), sum(ended), sum(in_flight), sum(difference) FROM v_conservation
        WHERE campaign_id = {c:String}"""
    write(database, story.events)
    assert database.rows(query, c=campaign) == [(4, 3, 1, 0)]
    write(database, [twice.end(messages.MessageDelivered), twice.end(messages.MessageBounced)])
    assert database.rows(query, c=campaign) == [(4, 5, 0, -1)]


def test_silence_past_the_deadline_is_overdue(database: Database, story: Story) -> None:
    old = Story(NOW - timedelta(days=4), seed=story.seed)
    silent, ended = old.message("in_flight"), old.message("delivered")
    young = story.message("in_flight")
    write(database, [*old.events, *story.events])
    ids = [silent.id, ended.id, young.id]
    query = "SELECT message_id, overdue_s FROM v_overdue WHERE message_id IN {ids:Array(String)}"
    found = database.rows(query, ids=ids)
    assert [one for one, _ in found] == [silent.id]
    assert int(str(found[0][1])) >= 86_400 - 7_200


@pytest.mark.parametrize(
    ("started", "lifted", "until", "scope", "breach"),
    [
        (2.0, None, None, "*", True),
        (2.0, None, None, "marketing", True),
        (2.0, None, None, "newsletter", False),
        (0.9, None, None, "*", False),  # P3: within a second
        (-5.0, None, None, "*", False),  # before
        (60.0, 30.0, None, "*", False),  # lifted before
        (20.0, 30.0, None, "*", True),
        (60.0, None, 30.0, "*", False),  # ended by itself
        (20.0, None, 30.0, "*", True),
    ],
)
def test_an_attempt_after_a_suppression_is_a_breach(
    database: Database,
    story: Story,
    started: float,
    lifted: float | None,
    until: float | None,
    scope: str,
    breach: bool,
) -> None:
    made = story.message("in_flight")
    acknowledged = made.at + timedelta(minutes=5)
    expires = None if until is None else acknowledged + timedelta(seconds=until)
    made.suppress(acknowledged - timedelta(milliseconds=5), scope=scope, until=expires)  # recorded 5 ms later
    if lifted is not None:
        made.suppress(acknowledged + timedelta(seconds=lifted), scope=scope, active=False)
        made.suppress(acknowledged + timedelta(hours=1), scope=scope)
    made.at = acknowledged + timedelta(seconds=started - 1)
    made.attempt(attempts.AttemptDelivered)
    write(database, story.events)
    query = "SELECT late_s FROM v_suppression_breaches WHERE message_id = {id:String}"
    found = database.rows(query, id=made.id)
    assert (found != []) is breach
    if breach:
        assert float(str(found[0][0])) == pytest.approx(started)


def test_a_suppression_set_again_is_one_suppression(database: Database, story: Story) -> None:
    """The second's grace of the repeat hides nothing: the first one has held since long before."""
    made = story.message("in_flight")
    for minutes in (5, 10):
        made.suppress(made.accepted_at + timedelta(minutes=minutes))
    made.at = made.accepted_at + timedelta(minutes=10) - timedelta(seconds=0.5)
    made.attempt(attempts.AttemptDelivered)
    write(database, story.events)
    query = "SELECT count() FROM v_suppression_breaches WHERE message_id = {id:String}"
    assert database.rows(query, id=made.id) == [(1,)]


def test_a_message_that_may_have_been_sent_twice_is_listed(database: Database, story: Story) -> None:
    made = story.message("in_flight")
    made.attempt(attempts.AttemptUnknown)
    made.attempt(attempts.AttemptDelivered)
    once = story.message("deferred")
    write(database, story.events)
    query = "SELECT message_id, delivered, unknown FROM v_duplicates WHERE message_id IN {ids:Array(String)}"
    assert database.rows(query, ids=[made.id, once.id]) == [(made.id, 1, 1)]


def test_the_present_suppression_is_that_of_the_last_record(database: Database, story: Story) -> None:
    made, other = story.message("in_flight"), story.message("in_flight")
    made.suppress(START)
    made.suppress(START + timedelta(minutes=1), active=False)
    other.suppress(START)
    other.suppress(START + timedelta(minutes=1), active=False)
    other.suppress(START)  # by the same cause as the first: the same id, and it holds again
    write(database, story.events)
    ids = [made.common["recipient_id"], other.common["recipient_id"]]
    where = "WHERE recipient_id IN {ids:Array(String)}"
    assert database.rows(f"SELECT recipient_id FROM v_suppressions {where}", ids=ids) == [(ids[1],)]
    assert database.rows(f"SELECT count() FROM v_suppression_history {where}", ids=ids) == [(5,)]


def test_the_health_of_a_provider_is_told_by_the_minute(database: Database) -> None:
    story = Story(START + timedelta(minutes=30), seed=next(_seed))
    for fate in ("delivered", "bounced", "deferred"):
        story.message(fate, domain="small.test")
    write(database, story.events)
    query = """SELECT sum(attempts), sum(delivered), sum(deferred), sum(bounced), max(transfer_p50_ms)
        FROM v_provider_health WHERE provider = 'small.test' AND minute >= {from:DateTime('UTC')}"""
    found = database.rows(query, **{"from": START + timedelta(minutes=29)})
    assert found == [(4, 2, 1, 1, 42.5)], "a domain without a known provider stands for itself"


def test_sessions_are_counted_by_policy_and_result(database: Database) -> None:
    story = Story(START, seed=next(_seed))
    for session, fields in (
        ("s-1", {"tls_policy": "sts", "tls_version": "TLSv1.3"}),
        ("s-1", {"tls_policy": "sts", "tls_version": "TLSv1.3"}),  # a second message on it
        ("s-2", {"tls_policy": "sts-testing", "tls_version": "TLSv1.3", "tls_failure": "certificate-expired"}),
        ("s-3", {"tls_policy": "dane", "tls_failure": "dnssec-invalid"}),
        ("s-4", {"tls_policy": "opportunistic", "tls_version": "TLSv1.3", "tls_failure": "certificate-not-trusted"}),
        ("s-5", {"tls_policy": "opportunistic", "tls_failure": "starttls-not-supported"}),
        ("s-6", {"tls_policy": "opportunistic"}),  # it never came to TLS
        ("s-7", {"tls_policy": "none"}),
    ):
        made = story.message("in_flight", domain="gmx.test")
        made.attempt(attempts.AttemptDelivered, worker="w1", mx_ip="198.18.0.9", session_id=session, **fields)
    write(database, story.events)
    query = """SELECT policy_type, result_type, sum(sessions) FROM v_tls_report
        WHERE policy_domain = 'gmx.test' AND receiving_ip = '198.18.0.9' GROUP BY ALL ORDER BY ALL"""
    assert database.rows(query) == [
        ("no-policy-found", "", 1),
        ("no-policy-found", "starttls-not-supported", 1),
        ("sts", "", 1),
        ("sts", "certificate-expired", 1),
        ("tlsa", "dnssec-invalid", 1),
    ]


# P5


def dump(database: Database) -> dict[str, Counter[str]]:
    """All rows of all views. `overdue_s` goes on by itself."""
    return {
        view: Counter(
            repr(row)
            for row in database.rows(f"SELECT * {'EXCEPT overdue_s' if view == 'v_overdue' else ''} FROM {view}")
        )
        for view in views(database.client, database.name)
    }


def tables(database: Database) -> list[str]:
    query = "SELECT name FROM system.tables WHERE database = {d:String} AND engine LIKE '%MergeTree'"
    return [str(name) for (name,) in database.rows(query, d=database.name) if name != "migrations"]


def empty(database: Database) -> None:
    for name in tables(database):
        database.client.command(f"TRUNCATE TABLE {name}")


@pytest.fixture
def fresh(database: Database) -> Iterator[Database]:
    """The tables of `database`, empty before and after."""
    empty(database)
    yield database
    empty(database)


def history() -> list[Record]:
    """A campaign that began days ago, in which facts were written again by a second owner: same id, recorded later."""
    story = Story(NOW - timedelta(days=4), seed=99)
    story.campaign(150)
    story.start = START
    story.campaign(150)
    again = [
        event.model_copy(update={"recorded_at": event.occurred_at + timedelta(seconds=30), "pool": "second"})
        for event in story.events[::7]
        if hasattr(event, "pool")
    ]
    held = [
        attempts.AttemptHeld.from_cause(
            f"{event.key}/9", occurred_at=START + timedelta(seconds=second), attempt=9, cause=f"cause {second}",
            recorded_at=START + timedelta(seconds=second), started_at=START, next_at=NOW, message_id=event.key,
            recipient_id="r", recipient_domain="mail.test",
        )
        for event in story.events[:20]
        for second in (1, 2)
    ]  # fmt: skip
    return numbered([*story.events, *again, *held])


def shuffled(records: list[Record], chance: random.Random) -> Iterator[list[Record]]:
    """All of them, out of order, in blocks of any size."""
    rest = records[:]
    chance.shuffle(rest)
    while rest:
        size = chance.randint(100, 800)
        yield rest[:size]
        rest = rest[size:]


def test_order_and_repetition_of_facts_change_no_view(fresh: Database) -> None:
    records = history()
    fresh.insert(records)
    told = dump(fresh)
    assert all(told[view] for view in ("v_messages", "v_attempts", "v_overdue", "v_engagement", "v_campaign_funnel"))
    chance = random.Random(1)
    for _ in range(2):  # everything twice more, in other blocks under other tokens
        for some in shuffled(records, chance):
            fresh.insert(some)
    assert changed(told, fresh) == []
    empty(fresh)
    for some in shuffled(records, chance):  # and as if this had been the first time
        fresh.insert(some)
    assert changed(told, fresh) == []
    for name in tables(fresh):
        fresh.client.command(f"OPTIMIZE TABLE {name} FINAL")
    assert changed(told, fresh) == [], "merging changed what the views say"


def changed(told: dict[str, Counter[str]], database: Database) -> list[str]:
    return [view for view, rows in dump(database).items() if rows != told[view]]


# Look-ups


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM v_messages WHERE message_id = {id:String}",
        "SELECT message_id, status FROM v_messages WHERE message_id IN {ids:Array(String)}",
        "SELECT * FROM v_message_timeline WHERE message_id = {id:String}",
        "SELECT * FROM v_attempts WHERE message_id = {id:String}",
        "SELECT * FROM v_outcomes WHERE message_id IN {ids:Array(String)}",
        "SELECT * FROM v_overdue WHERE message_id = {id:String}",
        "SELECT * FROM v_duplicates WHERE message_id = {id:String}",
    ],
)
def test_a_look_up_by_message_id_uses_the_primary_index_of_every_table(database: Database, query: str) -> None:
    story = Story(START, seed=next(_seed)).campaign(60)
    write(database, story.events)
    ids = [event.key for event in story.events if event.type == "message.accepted"]
    told = "\n".join(str(line) for (line,) in database.rows(f"EXPLAIN indexes = 1 {query}", id=ids[0], ids=ids))
    reads = told.count("ReadFromMergeTree")
    assert reads
    assert told.count("Condition: (message_id in ") == reads, told
