from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rules.bounces import ROLL_UP, BounceClass, Disposition
from schemas.rules.replies import RULES, Verdict, classify, classify_silence
from schemas.rules.rule import Rule, Sample


def parts(sample: Sample) -> tuple[int, str, str]:
    match = re.fullmatch(r"(\d{3})(?: (\d\.\d+\.\d+))? (.*)", sample.reply)
    assert match is not None
    return int(match[1]), match[2] or "", match[3]


def verdict(sample: Sample) -> Verdict:
    code, enhanced, text = parts(sample)
    return classify(code, enhanced, text, stage=sample.stage, provider=sample.provider)


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_a_rule_decides_its_examples_and_spares_the_others(rule: Rule) -> None:
    assert rule.matches
    assert rule.spares
    for sample in rule.matches:
        by_code = Disposition.TRANSIENT if sample.reply.startswith("4") else Disposition.PERMANENT
        assert verdict(sample) == Verdict(rule.bounce_class, rule.disposition or by_code, rule.id), sample
    for sample in rule.spares:
        code, enhanced, text = parts(sample)
        assert not rule.fits(code, enhanced, text.lower(), sample.stage, sample.provider), sample


def test_no_two_rules_have_one_name() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "bounce_class", "disposition"),
    [
        (550, "5.1.1", "", BounceClass.INVALID_RECIPIENT, Disposition.PERMANENT),
        (450, "4.1.1", "", BounceClass.INVALID_RECIPIENT, Disposition.TRANSIENT),
        (0, "5.1.1", "", BounceClass.INVALID_RECIPIENT, Disposition.PERMANENT),
        (0, "4.4.7", "", BounceClass.MESSAGE_EXPIRED, Disposition.TRANSIENT),
        (552, "5.2.2", "", BounceClass.MAILBOX_FULL, Disposition.TRANSIENT),
        (552, "", "", BounceClass.MAILBOX_FULL, Disposition.TRANSIENT),
        (550, "5.7.1", "", BounceClass.POLICY_RELATED, Disposition.BLOCK),
        (556, "", "", BounceClass.BAD_DOMAIN, Disposition.PERMANENT),
        (421, "", "", BounceClass.SYSTEM_ERROR, Disposition.TRANSIENT),
        (550, "", "", BounceClass.UNCLASSIFIED, Disposition.UNDETERMINED),
        (550, "", "go away", BounceClass.UNCLASSIFIED, Disposition.UNDETERMINED),
        (450, "", "not now", BounceClass.UNCLASSIFIED, Disposition.TRANSIENT),
        (503, "5.5.1", "", BounceClass.PROTOCOL_ERROR, Disposition.PERMANENT),
    ],
)
def test_codes_without_a_telling_text(
    code: int, enhanced: str, text: str, bounce_class: BounceClass, disposition: Disposition
) -> None:
    judged = classify(code, enhanced, text)
    assert (judged.bounce_class, judged.disposition) == (bounce_class, disposition)


@given(st.integers(400, 599), st.from_regex(r"[45]\.\d{1,3}\.\d{1,3}|", fullmatch=True), st.text(max_size=300))
def test_any_refusal_has_a_verdict(code: int, enhanced: str, text: str) -> None:
    assert classify(code, enhanced, text, stage="rcpt", provider="google").rule


@pytest.mark.parametrize("piece", ["user ", "account ", "a", "mailbox address ", "exceeds ", "domain "])
def test_a_hostile_text_is_judged_in_linear_time(piece: str) -> None:
    classify(550, "", piece * 1_000_000)


def test_every_class_has_one_of_seven_groups() -> None:
    assert set(ROLL_UP) == set(BounceClass)
    assert len(set(ROLL_UP.values())) == 7


def test_silence_is_nobody_s_refusal() -> None:
    assert classify_silence("timeout").bounce_class is BounceClass.NO_ANSWER_FROM_HOST
    assert classify_silence("aborted").disposition is Disposition.TRANSIENT
