"""The pure dialogue: golden scripts, then every stage against every way in which it can go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.smtp.dialogue import Dialogue, Envelope, Features, Step
from sinks.smtp.outcome import Accepted, Broken, Cause, InDoubt, Outcome, Refused, Stage
from sinks.smtp.replies import Reply

PIPELINED = Features(pipelining=True, size=0, eight_bit=True, smtputf8=True)
PLAIN = Features()
ENVELOPE = Envelope("b+1@r.brand.test", "ann@example.test", size=1234)
OK, GO, BYE = Reply(250, (b"ok",)), Reply(354, (b"go",)), Reply(421, (b"4.3.2 bye",))
REFUSALS = {"4xx": Reply(450, (b"4.2.1 later",)), "5xx": Reply(550, (b"5.1.1 no",)), "421": BYE}


@dataclass
class Peer:
    """Drives a dialogue as a session would; what went out stands in `wire`, BODY for the body."""

    dialogue: Dialogue
    wire: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    ready: int = 0
    closed: bool = False

    def do(self, step: Step) -> None:
        if step.write:
            self.wire += step.write.decode().splitlines()
        if step.body:
            self.wire.append("BODY")
            self.do(self.dialogue.body_written())
        self.ready += step.ready
        self.closed = self.closed or step.close
        if step.outcome is not None:
            self.outcomes.append(step.outcome)

    def begin(self, envelope: Envelope = ENVELOPE) -> Peer:
        self.do(self.dialogue.begin(envelope))
        return self

    def says(self, *replies: Reply | bytes) -> Peer:
        lines = [r if isinstance(r, bytes) else b"%d %b\r\n" % (r.code, r.lines[0]) for r in replies]
        self.do(self.dialogue.receive(b"".join(lines)))
        return self

    def release(self) -> Peer:
        self.do(self.dialogue.release_dot())
        return self

    @property
    def outcome(self) -> Outcome:
        (outcome,) = self.outcomes
        return outcome


def peer(features: Features = PIPELINED) -> Peer:
    return Peer(Dialogue(features))


class TestGolden:
    def test_a_message_takes_two_round_trips(self) -> None:
        p = peer().begin()
        assert p.wire == ["MAIL FROM:<b+1@r.brand.test> SIZE=1234", "RCPT TO:<ann@example.test>", "DATA"]
        p.says(OK, OK, GO)
        assert (p.wire[3:], p.ready) == (["BODY"], 1)
        p.release()
        assert p.wire[4:] == ["."]
        p.says(OK)
        assert (p.outcome, p.closed, p.dialogue.is_idle) == (Accepted(OK), False, True)

    def test_the_next_message_needs_no_rset(self) -> None:
        p = peer().begin().says(OK, OK, GO).release().says(OK)
        p.wire.clear()
        assert p.begin().wire[0].startswith("MAIL")

    def test_after_a_refusal_rset_goes_before_the_next(self) -> None:
        p = peer().begin().says(OK, REFUSALS["5xx"], Reply(503, (b"no rcpt",)))
        assert p.outcome == Refused(REFUSALS["5xx"], Stage.RCPT)
        p.wire.clear()
        p.begin()
        assert [line.split(" ")[0] for line in p.wire] == ["RSET", "MAIL", "RCPT", "DATA"]
        p.says(OK, OK, OK, GO).release().says(OK)
        assert p.outcomes[1] == Accepted(OK)
        p.wire.clear()
        assert p.begin().wire[0].startswith("MAIL")

    def test_without_pipelining_one_command_at_a_time(self) -> None:
        p = peer(PLAIN).begin()
        assert p.wire == ["MAIL FROM:<b+1@r.brand.test>"]
        p.says(OK)
        assert p.wire[1:] == ["RCPT TO:<ann@example.test>"]
        p.says(OK)
        assert p.wire[2:] == ["DATA"]
        p.says(GO).release().says(OK)
        assert p.wire[3:] == ["BODY", "."]
        assert p.outcome == Accepted(OK)

    def test_without_pipelining_a_refusal_ends_it_at_once(self) -> None:
        p = peer(PLAIN).begin().says(REFUSALS["4xx"])
        assert (p.outcome, p.wire[1:]) == (Refused(REFUSALS["4xx"], Stage.MAIL), [])
        p.wire.clear()
        assert p.begin().wire == ["RSET"]
        assert p.says(OK).wire[1].startswith("MAIL")

    def test_the_release_may_come_before_354(self) -> None:
        p = peer().begin().release()
        assert "." not in p.wire
        p.says(OK, OK, GO)
        assert p.wire[3:] == ["BODY", "."]

    def test_parameters_are_those_that_the_peer_offers(self) -> None:
        p = peer().begin(Envelope("", "änn@example.test", size=9, eight_bit=True))
        assert p.wire[0] == "MAIL FROM:<> SIZE=9 BODY=8BITMIME SMTPUTF8"

    @pytest.mark.parametrize("envelope", [Envelope("", "änn@x.test"), Envelope("", "a@x.test", eight_bit=True)])
    def test_what_the_peer_cannot_carry_is_not_begun(self, envelope: Envelope) -> None:
        p = peer(PLAIN).begin(envelope)
        assert (p.outcome, p.wire) == (Broken(Stage.MAIL, Cause.UNSUPPORTED), [])
        assert p.dialogue.is_idle


# A dialogue brought to the stage in question: what the peer said before, and whether the dot was released.
STAGES = {
    Stage.MAIL: ((), False),
    Stage.RCPT: ((OK,), False),
    Stage.DATA: ((OK, OK), False),
    Stage.BODY: ((OK, OK, GO), False),
    Stage.DOT: ((OK, OK, GO), True),
}
REST = {Stage.MAIL: 2, Stage.RCPT: 1, Stage.DATA: 0, Stage.BODY: 0, Stage.DOT: 0}  # replies still to come after one


def at(stage: Stage, features: Features) -> Peer:
    p = peer(features).begin()
    before, released = STAGES[stage]
    for reply in before:
        p.says(reply)
    if released:
        p.release()
    assert p.dialogue.stage is stage
    return p


@pytest.mark.parametrize("features", [PIPELINED, PLAIN], ids=["pipelined", "plain"])
@pytest.mark.parametrize("stage", list(STAGES))
class TestStageMatrix:
    @pytest.mark.parametrize("kind", list(REFUSALS))
    def test_refused(self, stage: Stage, features: Features, kind: str) -> None:
        p = at(stage, features).says(REFUSALS[kind])
        if kind != "421" and features.pipelining:
            for _ in range(REST[stage]):
                assert p.outcomes == []  # the answers to what was piped behind it are still on their way
                p.says(Reply(503, (b"bad sequence",)))
        assert p.outcome == Refused(REFUSALS[kind], stage)
        assert p.closed == (kind == "421" or stage is Stage.BODY)
        assert p.dialogue.is_idle != p.closed

    @pytest.mark.parametrize("cause", [Cause.LOST, Cause.TIMEOUT])
    def test_lost_or_silent(self, stage: Stage, features: Features, cause: Cause) -> None:
        p = at(stage, features)
        p.do(p.dialogue.lost(cause))
        assert p.outcome == (InDoubt(cause) if stage is Stage.DOT else Broken(stage, cause))
        assert p.closed
        p.do(p.dialogue.lost(cause))
        assert len(p.outcomes) == 1

    @pytest.mark.parametrize("nonsense", [b"hello\r\n", b"250-a\r\n550 b\r\n", b"x" * 2000])
    def test_nonsense(self, stage: Stage, features: Features, nonsense: bytes) -> None:
        p = at(stage, features).says(nonsense)
        assert p.outcome == (InDoubt(Cause.PROTOCOL) if stage is Stage.DOT else Broken(stage, Cause.PROTOCOL))
        assert p.closed

    def test_a_positive_reply_that_does_not_belong_there(self, stage: Stage, features: Features) -> None:
        odd = OK if stage in (Stage.DATA, Stage.BODY) else GO
        p = at(stage, features).says(odd)
        expected = InDoubt(Cause.PROTOCOL, odd) if stage is Stage.DOT else Broken(stage, Cause.PROTOCOL, odd)
        assert (p.outcome, p.closed) == (expected, True)

    def test_abort(self, stage: Stage, features: Features) -> None:
        p = at(stage, features)
        p.do(p.dialogue.abort())
        assert p.outcomes == ([] if stage is Stage.DOT else [Broken(stage, Cause.ABORTED)])
        assert p.closed == (stage is not Stage.DOT)


class TestOutOfStep:
    def test_a_lost_connection_after_a_refusal_is_still_that_refusal(self) -> None:
        p = peer().begin().says(REFUSALS["5xx"])
        p.do(p.dialogue.lost(Cause.LOST))
        assert p.outcome == Refused(REFUSALS["5xx"], Stage.MAIL)

    def test_354_after_a_refused_recipient_sends_nothing(self) -> None:
        p = peer().begin().says(OK, REFUSALS["5xx"], GO)
        assert (p.outcome, p.closed) == (Refused(REFUSALS["5xx"], Stage.RCPT), True)
        assert "BODY" not in p.wire
        assert "." not in p.wire

    @pytest.mark.parametrize("early", [b"250 queued\r\n", b"250 que"])
    def test_the_answer_to_a_dot_not_yet_written_is_not_believed(self, early: bytes) -> None:
        p = peer().begin().says(OK, OK, GO, early).release()
        assert isinstance(p.outcome, Broken)
        assert (p.outcome.stage, p.outcome.cause, p.closed) == (Stage.BODY, Cause.PROTOCOL, True)
        assert "." not in p.wire

    def test_the_answer_to_a_command_not_yet_written_is_not_believed(self) -> None:
        p = peer(PLAIN).begin().says(OK, OK)
        assert (p.outcome, p.closed) == (Broken(Stage.RCPT, Cause.PROTOCOL), True)

    @pytest.mark.parametrize("extra", [b"250 again\r\n", b"25"])
    def test_more_than_was_asked_for_ends_the_session_and_not_the_message(self, extra: bytes) -> None:
        p = peer().begin().says(OK, OK, GO).release().says(OK, extra)
        assert (p.outcome, p.closed) == (Accepted(OK), True)

    def test_a_word_to_an_idle_session_closes_it(self) -> None:
        p = peer().says(BYE)
        assert (p.outcomes, p.closed, p.dialogue.is_idle) == ([], True, False)

    @pytest.mark.parametrize(
        ("reply", "outcome"),
        [(BYE, Refused(BYE, Stage.MAIL)), (REFUSALS["5xx"], Broken(Stage.MAIL, Cause.PROTOCOL, REFUSALS["5xx"]))],
    )
    def test_a_refused_rset_is_not_the_message_s_fault(self, reply: Reply, outcome: Outcome) -> None:
        p = peer().begin().says(REFUSALS["4xx"], OK, Reply(503, (b"x",)))
        p.begin().says(reply)
        assert (p.outcomes[1], p.closed) == (outcome, True)

    def test_a_release_without_a_transaction_does_nothing(self) -> None:
        p = peer().release().begin().says(OK, OK, GO)
        assert "." not in p.wire

    def test_a_release_of_the_last_message_does_not_hold_for_the_next(self) -> None:
        p = peer().begin().release().says(OK, OK, GO).says(OK)
        p.wire.clear()
        assert "." not in p.begin().says(OK, OK, GO).wire

    def test_begin_twice_is_our_own_mistake(self) -> None:
        p = peer().begin()
        with pytest.raises(RuntimeError):
            p.begin()


@pytest.mark.parametrize(
    "address", ["a@b.test\r\nDATA", "a@b.test>", "<a@b.test", "a b@c.test", "a\0@b.test", "", "a@b.test NOTIFY=NEVER"]
)
def test_an_address_that_could_write_commands_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"recipient|address"):
        Envelope("", address)


REPLIES = st.sampled_from([OK, GO, BYE, *REFUSALS.values(), b"25", b"0 x\r\n", b"250-", b"250 a\r\n"])
ACTIONS = st.lists(st.one_of(REPLIES, st.sampled_from(["release", "begin", "lost", "abort"])), max_size=25)


@settings(max_examples=400)
@given(ACTIONS, st.sampled_from([PIPELINED, PLAIN]))
def test_whatever_a_peer_says(actions: list[Reply | bytes | str], features: Features) -> None:
    """One outcome per transaction; no dot without 354 and release; Broken never after a dot, InDoubt never before."""
    p = peer(features)
    begun, released = 0, False
    for action in actions:
        match action:
            case "begin" if p.dialogue.is_idle:
                begun, released = begun + 1, False
                p.wire.clear()
                p.begin()
            case "begin":
                continue
            case "release":
                released = released or not p.dialogue.is_idle
                p.release()
            case "lost":
                p.do(p.dialogue.lost(Cause.LOST))
            case "abort":
                p.do(p.dialogue.abort())
            case Reply() | bytes():
                p.says(action)
        if "." in p.wire:
            assert released
            assert "BODY" in p.wire
        if p.outcomes and len(p.outcomes) == begun:
            match p.outcomes[-1]:
                case Broken():
                    assert "." not in p.wire
                case InDoubt() | Accepted():
                    assert "." in p.wire
                case Refused(stage=stage):
                    assert (stage is Stage.DOT) == ("." in p.wire)
        assert len(p.outcomes) in (begun, begun - 1)
        assert len(p.outcomes) == begun or not (p.closed or p.dialogue.is_idle)
