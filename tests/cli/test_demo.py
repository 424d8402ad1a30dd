"""What the demo prints and how it judges, without a stack: results are plain data."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.cli import report
from pipeline.cli.demo import Bars, conclude, judge
from pipeline.cli.output import Failure
from pipeline.cli.steps import Steps
from pipeline.demo.figures import Example, ProviderRow, Summary
from pipeline.demo.run import Progress, Result
from pipeline.demo.verdict import Verdict

WRONG = ("the-id",)
ENDPOINTS = {"mails": "http://127.0.0.1:1"}


def result(verdict: Verdict) -> Result:
    return Result(
        name="demo-1",
        summary=Summary({"delivered": 1_090, "bounced": 9, "suppressed": 1}, 4, 10.0),
        verdict=verdict,
        providers=[
            ProviderRow("gomail", 1_000, 990, 9, 4, 1, 1.5, 0.25),
            ProviderRow("nowhere.test", 1, 0, 1, 0, 0, 0.0, None),
        ],
        funnel={"opened": 300, "opened_human": 120, "clicked": 40, "clicked_human": 20, "unsubscribed": 1},
        example=Example("0000-id", "delivered", 3),
    )


CLEAN = result(Verdict((), (), (), seen=1_090))


def printed(found: Result, file: Path | None = None) -> str:
    output = io.StringIO()
    conclude(found, Console(file=output, width=80), file)
    return output.getvalue()


def test_the_numbers_fit_a_terminal_and_are_all_there() -> None:
    text = printed(CLEAN)
    assert max(map(len, text.splitlines())) <= 80
    assert "demo-1, as ClickHouse has it: 1,100 messages in 10.0 s, 110 a second" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "accepted 1,100 100.0% opened 300" in lines
    assert "gomail 1,000 990 9 4 1 1.50 0.2 s" in lines
    assert "The witness, 1,090 mails in its log, agrees: 0 lost, 0 doubled, 0 phantom." in lines


def test_the_numbers_are_written_for_programs(tmp_path: Path) -> None:
    printed(CLEAN, tmp_path / "numbers.json")
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert (numbers["accepted"], numbers["late_bounced"], numbers["messages_per_second"]) == (1_100, 4, 110.0)


def test_a_witness_that_agrees_is_no_failure() -> None:
    judge(CLEAN)


@pytest.mark.parametrize("verdict", [Verdict(WRONG, (), ()), Verdict((), WRONG, ()), Verdict((), (), WRONG)])
def test_a_witness_that_disagrees_is_a_failure_and_names_the_messages(verdict: Verdict) -> None:
    broken = result(verdict)
    text = printed(broken)
    assert "disagrees" in text
    assert "the-id" in text
    with pytest.raises(Failure) as failed:
        judge(broken)
    assert failed.value.status == 1


@pytest.mark.parametrize(("keep", "said"), [(True, "http://127.0.0.1:1"), (False, "`mailriver up`")])
def test_it_says_where_to_look_next(keep: bool, said: str) -> None:
    text = report.where_next(CLEAN, ENDPOINTS, keep)
    assert said in text
    assert "mailriver message 0000-id   (3 attempts)" in text


def test_a_full_bar_shows_its_average_rate() -> None:
    output = io.StringIO()
    with Bars(Console(file=output, width=120, force_terminal=True)) as bars:
        bars.show(Progress(published=0, accepted=0, ended=0, total=100))
        bars.show(Progress(published=100, accepted=100, ended=100, total=100))
    last = [line for line in output.getvalue().splitlines() if "published" in line][-1]
    assert "100/100" in last
    assert " 0/s" not in last


def test_each_step_is_shown_with_its_time() -> None:
    output, now = io.StringIO(), [0.0]
    with Steps(Console(file=output, width=80), clock=lambda: now[0]) as steps:
        for step, seconds in (("Kafka", 1.0), ("roles", 2.5)):
            steps(step)
            now[0] += seconds
    assert [line.split() for line in output.getvalue().splitlines()] == [
        ["Kafka", "1.0", "s"], ["roles", "2.5", "s"], ["ready", "3.5", "s"],
    ]  # fmt: skip


def test_a_step_that_fails_is_named() -> None:
    output = io.StringIO()
    steps = Steps(Console(file=output, width=80))
    steps("roles")
    steps.__exit__(Failure, Failure("no"), None)
    assert "roles: not finished" in output.getvalue()
