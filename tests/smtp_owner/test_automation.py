"""From replies to overrides, by histories: which rule decides, when it fires, what follows and how it lets go."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.rules.reply_rules import Verdict, reply_of
from schemas.rules.shaping_file import load, merged
from sinks.smtp.automation import Automation, Judgement, Traffic
from sinks.smtp.overrides import Action, Override, Overrides
from sinks.smtp.policy import Limits

CEILINGS = Limits(connections=10, messages_per_second=100.0)
TRAFFIC = Traffic("default", "yahoo", "acme", "spring", "192.0.2.1")
BUSY = "421 4.7.0 slow down"


class History:
    """One owner, its rules, and what replies did to it."""

    def __init__(self, actions: str = "", **values: str) -> None:
        text = "" if not actions else (
            f"version = 7\n[[rule]]\nid = 'mine'\ncodes = [421]\ntext = 'slow down'\n{actions}\n"
            f"must_match = ['{BUSY}']\nmust_not_match = ['421 closing']\n"
        )  # fmt: skip
        self.shaping = merged(load(), text, "mine.toml") if text else load()
        self.overrides = Overrides()
        self.automation = Automation(self.shaping.rules_at, self.overrides)
        self.told: list[Override] = []

    def reply(self, line: str, now: float, **traffic: Any) -> Judgement:
        whose = Traffic(**{name: traffic.get(name, getattr(TRAFFIC, name)) for name in Traffic.__dataclass_fields__})
        judged = self.automation.judge(reply_of(line), whose, CEILINGS, now)
        for fired in judged.fired:
            self.overrides.put(fired.override, now)
            self.told.append(fired.override)
        return judged

    def limits(self, now: float) -> Limits:
        return self.overrides.shape("default/yahoo#0", CEILINGS, now).limits


def test_a_reply_that_no_rule_knows_sets_nothing_off() -> None:
    assert History().reply("450 4.2.0 Greylisted", 0.0) == Judgement()


def test_a_suspension_names_rule_version_and_the_replies_that_fired_it() -> None:
    history = History("suspend = true\nhold = '1 h'\nafter = 3\nwithin = '10 min'")
    assert not history.reply(BUSY, 0.0).fired
    assert not history.reply(BUSY, 10.0).fired
    fired = history.reply("421 4.7.0 slow down, ann@example.test", 20.0).fired
    assert fired[0].override == Override("site:default/yahoo", Action.SUSPEND, 0.0, 20.0, 3620.0, "mine")
    assert (fired[0].rule.id, fired[0].rule.version) == ("mine", 7)
    assert fired[0].evidence == (BUSY, BUSY, "421 4.7.0 slow down, <address>")


def test_replies_too_far_apart_do_not_count_together() -> None:
    history = History("suspend = true\nhold = '1 h'\nafter = 3\nwithin = '10 min'")
    for now in (0.0, 400.0, 800.0, 1200.0):
        assert not history.reply(BUSY, now).fired
    assert history.reply(BUSY, 1300.0).fired


def test_what_all_connections_hear_at_once_is_one_occasion() -> None:
    history = History("rate = '50%'\nhold = '30 min'")
    for _ in range(10):
        history.reply(BUSY, 0.0)
    assert [each.value for each in history.told] == [50.0]


def test_decrease_multiplies_and_increase_adds() -> None:
    history = History("rate = '50%'\nconnections = '50%'\nhold = '10 min'")
    for now in (0.0, 60.0, 120.0):
        history.reply(BUSY, now)
    assert history.limits(121.0) == Limits(connections=1, messages_per_second=12.5)
    assert history.limits(720.0).messages_per_second == 17.5  # held until 720, then 5 more each minute
    assert history.limits(780.0).messages_per_second == 22.5
    # It hears it again while it recovers: half of where it is, not of where it was.
    history.reply(BUSY, 781.0)
    assert history.limits(782.0).messages_per_second == 11.25
    for now in range(800, 20_000, 40):
        history.reply(BUSY, float(now))
    assert history.limits(20_000.0).messages_per_second == pytest.approx(1 / 60)
    assert history.limits(40_000.0) == CEILINGS


def test_a_milder_rule_neither_loosens_nor_shortens() -> None:
    history = History("rate = '10/min'\nhold = '10 min'")
    strict = Override("site:default/yahoo", Action.LIMIT_RATE, 0.01, 0.0, 5_000.0, "stricter")
    history.overrides.put(strict, 0.0)
    history.reply(BUSY, 60.0)
    assert (history.told[0].value, history.told[0].until) == (0.01, 5_000.0)


@pytest.mark.parametrize(
    ("scope", "selector"),
    [
        ("scope = 'site'", "site:default/yahoo"),
        ("scope = 'site'\neverywhere = true", "site:yahoo"),
        ("scope = 'source'", "source:192.0.2.1>yahoo"),
        ("scope = 'source'\neverywhere = true", "source:192.0.2.1"),
        ("scope = 'tenant'", "tenant:acme>yahoo"),
        ("scope = 'campaign'", "campaign:acme/spring>yahoo"),
        ("scope = 'campaign'\neverywhere = true", "campaign:acme/spring"),
    ],
)
def test_whom_a_suspension_is_about(scope: str, selector: str) -> None:
    history = History(f"suspend = true\nhold = '1 h'\n{scope}")
    history.reply(BUSY, 0.0)
    assert [each.selector for each in history.told] == [selector]


def test_a_message_without_a_campaign_suspends_none() -> None:
    history = History("suspend = true\nhold = '1 h'\nscope = 'campaign'")
    assert history.reply(BUSY, 0.0, campaign=None).fired == ()


def test_counts_are_kept_apart_by_whom_they_are_about() -> None:
    history = History("suspend = true\nhold = '1 h'\nscope = 'tenant'\nafter = 2")
    assert not history.reply(BUSY, 0.0, tenant="a").fired
    assert not history.reply(BUSY, 0.0, tenant="b").fired
    assert history.reply(BUSY, 0.0, tenant="a").fired


def test_a_rule_can_say_what_becomes_of_the_message() -> None:
    judged = History("verdict = 'bounce'").reply(BUSY, 0.0)
    assert (judged.verdict, judged.fired) == (Verdict.BOUNCE, ())


def test_shipped_rules_at_their_provider() -> None:
    history = History()
    history.reply("421 4.7.0 [TSS04] Messages from 198.51.100.7 temporarily deferred", 0.0)
    assert [(each.action, each.rule, each.until) for each in history.told] == [
        (Action.SUSPEND, "yahoo.complaints", 7200.0)
    ]
    history.reply("421 4.7.0 [TSS04] Messages from 198.51.100.7 temporarily deferred", 100.0, site="google")
    assert {(each.selector, each.rule) for each in history.told[1:]} == {("site:default/google", "any.deferred")}
