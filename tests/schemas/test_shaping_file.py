"""The shaping file: what it says, how layers combine, and what is said of a bad one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.redact import redact
from schemas.rules import patterns, quantities
from schemas.rules.reply_rules import Amount, Reply, ReplyRule, Scope, Verdict, first, reply_of, trials
from schemas.rules.shaping import Ceilings, Shaping
from schemas.rules.shaping_file import ShapingError, load, merged

SHIPPED = load()
RULE = """
[[rule]]
id = "mine"
codes = [421]
text = 'slow down'
suspend = true
hold = "30 min"
must_match = ["421 4.7.0 slow down"]
must_not_match = ["421 4.7.0 closing"]
"""


def over_shipped(text: str) -> Shaping:
    return merged(SHIPPED, text, "mine.toml")


@pytest.mark.parametrize("rule", SHIPPED.rules, ids=lambda rule: rule.id)
def test_each_shipped_rule_matches_what_it_must_and_nothing_else(rule: ReplyRule) -> None:
    tried = [trial for trial in trials(SHIPPED.rules) if trial.rule is rule]
    assert {trial.wanted for trial in tried} == {True, False}
    assert [trial for trial in tried if not trial.passed] == []


def test_shipped_figures_say_whose_they_are_and_of_when() -> None:
    assert len(SHIPPED.providers) >= 30
    for name in SHIPPED.providers:
        origin = SHIPPED.origins[name]
        assert origin.source, name
        assert origin.date, name
        assert SHIPPED.by_provider[name].keys() >= {"connections", "messages_per_connection"}, name


def test_layers_the_most_particular_word_holds_and_knows_its_line() -> None:
    shaping = over_shipped(
        '[default]\nconnections = 3\ntimeouts = { connect = "5 s" }\n\n'
        '[provider.yahoo]\nmessages_per_connection = 7\n\n[site.yahoo]\ntls = "required"\n'
    )
    assert shaping.at("unheard.example") == Ceilings(3, 100, 100 / 60, 100.0, timeouts={"connect": 5.0})
    # The shipped provider's word is more particular than the operator's general one.
    assert shaping.at("yahoo") == Ceilings(10, 7, 100 / 60, 100.0, tls="required", timeouts={"connect": 5.0})
    places = {name: str(each.place) for name, each in shaping.explain("yahoo").items()}
    assert places["messages_per_connection"] == "mine.toml:6"
    assert places["tls"] == "mine.toml:9"
    assert places["timeouts.connect"] == "mine.toml:3"
    assert places["connections"].startswith("shaping.toml (shipped):")


@pytest.mark.parametrize(
    ("table", "selector"),
    [
        ("tenant.acme", "tenant:acme"),
        ("source.warm-1", "source:warm-1"),
        ('campaign."acme/spring-2026"', "campaign:acme/spring-2026"),
    ],
)
def test_senders_have_a_cap_a_day_and_a_rate(table: str, selector: str) -> None:
    shaping = over_shipped(f'[{table}]\ndaily = 50_000\n\nmessage_rate = "60/min"\n')
    assert {name: (each.value, str(each.place)) for name, each in shaping.spanning[selector].items()} == {
        "daily": (50_000, "mine.toml:2"),
        "message_rate": (1.0, "mine.toml:4"),
    }


def test_a_file_can_stand_alone() -> None:
    alone = over_shipped('shipped = false\n[provider.here]\nmx = [".mx.here.example"]\n')
    assert (dict(alone.providers), alone.rules) == ({"here": (".mx.here.example",)}, ())
    assert alone.at("yahoo") == Ceilings()


def test_the_operators_rules_come_first_and_replace_or_end_shipped_ones() -> None:
    busy = Reply(421, "4.7.0", "too many connections, slow down")
    before = first(SHIPPED.rules, busy, "x")
    assert before is not None
    assert before.id == "any.connections"
    mine = over_shipped(RULE)
    decides = first(mine.rules, busy, "x")
    assert decides is not None
    assert (decides.id, str(decides.place)) == ("mine", "mine.toml:2")
    ended = over_shipped('[[rule]]\nid = "any.connections"\noff = true\n')
    assert first(ended.rules, busy, "x") is None
    replaced = over_shipped(RULE.replace('"mine"', '"any.connections"'))
    assert [rule.id for rule in replaced.rules].count("any.connections") == 1


def test_what_a_rule_says() -> None:
    text = RULE.replace(
        "suspend = true", 'rate = "10/min"\nconnections = "50%"\nverdict = "defer"\nafter = 3\nwithin = "1 h"'
    )
    rule = over_shipped(f"version = 4\n{text}").rules[0]
    assert (rule.rate, rule.connections, rule.verdict) == (Amount(10 / 60), Amount(0.5, True), Verdict.DEFER)
    assert (rule.hold_s, rule.after, rule.within_s, rule.version, rule.scope) == (1800, 3, 3600, 4, Scope.SITE)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[default]\nconnections = 0", 2, "greater than or equal to 1"),
        ("[default]\n\nconections = 5", 3, "default.conections: is not known here"),
        ('[default]\nmessage_rate = "100 per min"', 2, "a rate is written as"),
        ("[default\n", 1, "not TOML"),
        ('[default]\ntls = "maybe"', 2, "'opportunistic'"),
        ('[default]\nidle = "soon"', 2, "a time is written as"),
        ("[default.timeouts]\nbanner = 5\nbaner = 5", 3, "no stage; there are connect, banner"),
        ("[provider.new]\nconnections = 5", 1, "say what its MX hosts end in"),
        ('[provider.new]\nmx = ["mx.example."]', 2, "begins with a dot"),
        ('[provider.new]\nmx = [".google.com"]', 2, "is google's already"),
        (RULE.replace('must_not_match = ["421 4.7.0 closing"]', ""), 2, "must not"),
        (RULE.replace('must_match = ["421 4.7.0 slow down"]', ""), 2, "must match"),
        (RULE.replace("'slow down'", "'slow (down'"), 5, "no regular expression"),
        (RULE.replace("'slow down'", "'(a+)+b'"), 5, "several ways"),
        (RULE.replace("'slow down'", "'.*'"), 5, "matches everything"),
        (RULE.replace('"421 4.7.0 slow down"', '"slow down"'), 8, "as on the wire"),
        (RULE.replace("codes = [421]\ntext = 'slow down'", ""), 2, "which replies"),
        (RULE.replace("suspend = true", ""), 2, "what follows"),
        (RULE.replace('hold = "30 min"', ""), 2, "hold for a time"),
        (RULE.replace("suspend = true", "connections = 0"), 6, "at least 1"),
        (RULE.replace("suspend = true", 'rate = "150%"'), 6, "below 100%"),
        (RULE.replace("suspend = true", 'scope = "tenant"\nconnections = 1'), 2, "can be suspended"),
        (RULE.replace("codes = [421]", 'providers = ["nobody"]'), 4, "is no provider"),
        (RULE.replace("codes = [421]", "codes = [250]"), 4, "greater than or equal to 400"),
        (RULE + RULE, 12, "there twice"),
        ('[[rule]]\nid = "mine"\noff = true', 2, "no rule of the shipped file"),
        ("[tenant.acme]\ndaily = -1", 2, "greater than or equal to 0"),
        ("[tenant.acme]\nconnections = 5", 2, "is not known here"),
        ("[source.a]\ndaily = 5\nmessage_rate = -1", 3, "greater than or equal to 0"),
        ('[source."a b"]\ndaily = 5', 1, "pattern"),
        ("[campaign.spring]\ndaily = 5", 1, "named with its tenant"),
        ('[campaign."acme/spring/2"]\ndaily = 5', 1, "named with its tenant"),
        ("[sites.x]\nconnections = 1", 1, "is not known here"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ShapingError, match=r"^mine\.toml:") as caught:
        over_shipped(text)
    assert (caught.value.line, reason in caught.value.reason) == (line, True), caught.value


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(ShapingError, match=r"none\.toml:1: cannot be read"):
        load(missing)
    missing.write_bytes(b"\xff\xfe")
    with pytest.raises(ShapingError, match="not UTF-8"):
        load(missing)


def test_a_rule_that_another_hides_fails_its_trial() -> None:
    both = over_shipped(RULE + RULE.replace('"mine"', '"never"'))
    failed = [trial for trial in trials(both.rules) if not trial.passed]
    assert [(trial.rule.id, trial.hidden_by) for trial in failed] == [("never", "mine")]


def test_rules_see_a_reply_as_facts_keep_it() -> None:
    assert reply_of("550 5.1.1 <ann@example.test>: unknown") == Reply(550, "5.1.1", "<address>: unknown")
    assert reply_of("550-5.1.1").code == 550
    assert reply_of("421 mx.example").enhanced == ""
    assert redact("ann@example.test") not in ("", "ann@example.test")


@pytest.mark.parametrize(
    "pattern",
    [r"(ab|cd)*e", r"(a*)*b", r"(.+)+x", r"(\w+\s?)+$", r".*a.*b", r"(?=a)b", r"(a)\1", r"\d+\.\d+\.\d+", "x" * 401],
)
def test_patterns_that_a_stranger_could_turn_against_us(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"way|look-around|longer"):
        patterns.compiled(pattern)


@pytest.mark.parametrize(
    ("text", "rate"), [("60/min", 1.0), ("3600 / h", 1.0), ("0.5/s", 0.5), (2, 2.0), ("86400/day", 1.0)]
)
def test_rates(text: object, rate: float) -> None:
    assert quantities.per_second(text) == rate


def test_quantities_for_people() -> None:
    assert [quantities.rate_text(rate) for rate in (0, 100 / 60, 100, 1 / 3600, 0.3)] == [
        "no limit", "100/min", "100/s", "1/h", "18/min",
    ]  # fmt: skip
    assert [quantities.time_text(s) for s in (60, 5400, 7200, 0.5)] == ["1 min", "90 min", "2 h", "0.5 s"]


def test_the_page_shows_a_file_that_can_be_used() -> None:
    page = (Path(__file__).parents[2] / "docs" / "shaping.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    shaping = over_shipped(f"{blocks[1]}\n{blocks[2]}")
    assert shaping.spanning["tenant:acme"]["daily"].value == 50_000
    assert set(shaping.spanning) == {"tenant:acme", "source:warm-1", "campaign:acme/spring-2026"}
    assert [trial for trial in trials(shaping.rules) if not trial.passed] == []
    assert shaping.providers["examplemail"] == (".mx.examplemail.example",)
    assert f"{len(SHIPPED.providers)} of them" in page
