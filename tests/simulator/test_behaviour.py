"""How providers answer: tables over the pure decision, and its determinism."""

from __future__ import annotations

import pytest

from pipeline.simulator.behaviour import WELCOME, Connected, Cut, MailFrom, RcptTo, Then, Verdict, decide
from pipeline.simulator.config import Limits, Odds, Provider, Texts, load
from pipeline.simulator.magic import Act, Magic, read
from pipeline.simulator.memory import Memory


def provider(**changes: object) -> Provider:
    base = {"name": "p", "domains": ("p.test",), "hosts": ({"name": "mx.p.test"},), **changes}
    return Provider.model_validate(base)


def rcpt(localpart: str, attempt: int = 1, waited: float = 0.0, room: bool = True) -> RcptTo:
    return RcptTo("mx.p.test", "p.test", localpart, attempt, waited, room)


@pytest.mark.parametrize(
    ("localpart", "magic"),
    [
        ("bounce", Magic(Act.BOUNCE, "550")),
        ("bounce+552", Magic(Act.BOUNCE, "552")),
        ("Bounce+5.7.1+ann", Magic(Act.BOUNCE, "5.7.1")),
        ("bounce+ann", Magic(Act.BOUNCE, "550")),
        ("bounce+451", Magic(Act.BOUNCE, "550")),  # a 4xx is no bounce, so it is a tag
        ("defer+451x2", Magic(Act.DEFER, "451", 2)),
        ("defer+421", Magic(Act.DEFER, "421", 1)),
        ("defer+450x3+ann", Magic(Act.DEFER, "450", 3)),
        ("drop+data", Magic(Act.DROP, "data", 1)),
        ("drop+dotx2", Magic(Act.DROP, "dot", 2)),
        ("late+5.2.2", Magic(Act.LATE, "5.2.2")),
        ("open+17", Magic(Act.OPEN)),
        ("accept", Magic(Act.ACCEPT)),
        ("ann", None),
        ("bounced+550", None),
        ("openness", None),
    ],
)
def test_magic_names(localpart: str, magic: Magic | None) -> None:
    assert read(localpart) == magic


@pytest.mark.parametrize(
    ("event", "reply", "then"),
    [
        (rcpt("bounce+550"), "550 5.1.1 <bounce+550@p.test>: forced by its name", Then.GO_ON),
        (rcpt("bounce+5.7.1", attempt=9), "550 5.7.1 <bounce+5.7.1@p.test>: forced by its name", Then.GO_ON),
        (rcpt("bounce+511"), "511 5.0.0 <bounce+511@p.test>: forced by its name", Then.GO_ON),
        (rcpt("full"), "552 5.2.2 <full@p.test>: mailbox full, forced by its name", Then.GO_ON),
        (rcpt("full+452", attempt=99), "452 4.2.2 <full+452@p.test>: mailbox full, forced by its name", Then.GO_ON),
        (rcpt("block"), "554 5.7.1 Service unavailable; Client host [127.0.0.1] blocked using bl.sim.test", Then.GO_ON),
        (rcpt("defer+421"), "421 4.3.0 <defer+421@p.test>: not now, forced by its name", Then.CLOSE),
        (rcpt("defer+451x2", attempt=2), "451 4.3.0 <defer+451x2@p.test>: not now, forced by its name", Then.GO_ON),
        (rcpt("drop+rcpt"), None, Then.DROP),
    ],
)
def test_forced_refusals(event: RcptTo, reply: str | None, then: Then) -> None:
    assert decide(1, provider(), event) == Verdict(reply, then, accepted=False)


@pytest.mark.parametrize(
    ("event", "verdict"),
    [
        (rcpt("defer+451x2", attempt=3), WELCOME),
        (rcpt("accept"), WELCOME),
        (rcpt("late"), WELCOME),
        (rcpt("drop+data"), Verdict(cut=Cut.AT_DATA)),
        (rcpt("drop+dot"), Verdict(cut=Cut.AFTER_DOT)),
        (rcpt("drop+dot", attempt=2), WELCOME),
        (rcpt("slow"), Verdict(slow=2.0)),
        (rcpt("greylist", attempt=2, waited=3.0), WELCOME),
    ],
)
def test_forced_acceptances(event: RcptTo, verdict: Verdict) -> None:
    assert decide(1, provider(), event) == verdict


def test_a_magic_name_wins_over_everything_its_provider_does() -> None:
    grim = provider(odds=Odds(unknown=1.0, greylist=1.0, defer=1.0))
    assert decide(1, grim, rcpt("accept", room=False)) == WELCOME
    assert decide(1, grim, rcpt("ann")).reply == (
        "550 5.1.1 <ann@p.test>: Recipient address rejected: User unknown in local recipient table"
    )


def test_greylisting_passes_after_its_time_and_not_before() -> None:
    grey = provider(odds=Odds(greylist=1.0), greylist_seconds=2.0)
    assert (decide(1, grey, rcpt("ann")).reply or "").startswith("450 4.2.0")
    assert not decide(1, grey, rcpt("ann", attempt=2, waited=1.9)).accepted
    assert decide(1, grey, rcpt("ann", attempt=2, waited=2.0)).accepted


def test_a_full_mailbox_empties_when_its_reply_is_temporary_and_never_when_permanent() -> None:
    soft = provider(odds=Odds(full=1.0), full_attempts=2)
    assert not decide(1, soft, rcpt("ann", attempt=2)).accepted
    assert decide(1, soft, rcpt("ann", attempt=3)).accepted
    hard = provider(odds=Odds(full=1.0), texts=Texts(full="552 5.2.2 full"))
    assert decide(1, hard, rcpt("ann", attempt=50)).reply == "552 5.2.2 full"


def test_a_sender_over_its_rate_is_told_so() -> None:
    assert (decide(1, provider(), rcpt("ann", room=False)).reply or "").startswith("450 4.7.1")


def test_limits_of_a_connection() -> None:
    tight = provider(limits=Limits(connections=2, messages_per_connection=3), require_tls=True)
    assert decide(1, tight, Connected("mx.p.test", 0, 1)) == WELCOME
    refusal = decide(1, tight, Connected("mx.p.test", 0, 2))
    assert refusal == Verdict(
        "421 4.7.0 mx.p.test Error: too many connections from 127.0.0.1", Then.CLOSE, accepted=False
    )
    assert decide(1, tight, MailFrom("mx.p.test", 2, True)) == WELCOME
    assert decide(1, tight, MailFrom("mx.p.test", 3, True)).then is Then.CLOSE
    assert (decide(1, tight, MailFrom("mx.p.test", 0, False)).reply or "").startswith("530 5.7.0")


def test_the_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    names = [f"person{n}" for n in range(300)]

    def run(seed: int) -> list[Verdict]:
        return [
            decide(seed, p, RcptTo("mx", p.domains[0], name, attempt, 10.0, True))
            for p in load().provider
            for name in names
            for attempt in (1, 2)
        ]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_case_change_does_not_make_another_mailbox() -> None:
    half = provider(odds=Odds(unknown=0.5))
    for n in range(50):
        assert decide(1, half, rcpt(f"ann{n}")).accepted == decide(1, half, rcpt(f"ANN{n}")).accepted


def test_odds_come_true_within_what_chance_allows() -> None:
    some = provider(odds=Odds(unknown=0.10, block=0.05, defer=0.20))
    replies = [decide(3, some, rcpt(f"person{n}")).reply or "250" for n in range(4000)]
    share = {code: sum(reply.startswith(code) for reply in replies) / 4000 for code in ("550", "554", "451")}
    # Four standard deviations; fixed by the seed, so never flaky.
    assert share["550"] == pytest.approx(0.10, abs=0.019)
    assert share["554"] == pytest.approx(0.05, abs=0.014)
    assert share["451"] == pytest.approx(0.85 * 0.20, abs=0.024)


def test_every_shipped_deferral_passes_within_a_few_attempts() -> None:
    # So that a demo ends: no plain mailbox may say 4xx for ever.
    for p in load().provider:
        for n in range(200):
            event = [RcptTo("mx", p.domains[0], f"person{n}", attempt, 60.0, True) for attempt in range(1, 7)]
            last = [decide(1, p, e) for e in event]
            assert any(v.accepted or (v.reply or "").startswith("5") for v in last), (p.name, n)


def test_memory_counts_attempts_by_sender_and_mailbox() -> None:
    memory = Memory(0.0, 1)
    assert memory.attempt("a", "x@p.test", 10.0) == (1, 0.0)
    assert memory.attempt("a", "x@p.test", 12.5) == (2, 2.5)
    assert memory.attempt("b", "x@p.test", 12.5) == (1, 0.0)
    memory.forget("a", "x@p.test")
    assert memory.attempt("a", "x@p.test", 13.0) == (1, 0.0)


def test_the_rate_limit_is_a_bucket_that_fills_with_time() -> None:
    memory = Memory(rate=2.0, burst=3)
    for _ in range(3):
        assert memory.has_room(0.0)
        memory.spend()
    assert not memory.has_room(0.0)
    assert not memory.has_room(0.4)
    assert memory.has_room(0.5)
