"""What a watcher is shown of a dialogue, and what never."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from schemas.address import parse
from schemas.rules import selector
from schemas.rules.controls import Action, Control
from schemas.tracing import LINE_MAX, SessionTraced
from sinks.smtp.tracing import PER_SECOND, Tracer, shown
from tests.smtp_owner.world import START, command
from topics.errors import Later
from topics.publisher import Publisher

ANN = parse("ann.long@example.test")
AT = datetime.fromtimestamp(START, UTC)
WATCH = Control("t-1", Action.TRACE, selector.parse({"domain": "a.test"}), START + 60, AT, "watched")


@pytest.mark.parametrize(
    ("direction", "data", "lines"),
    [
        (">", b"MAIL FROM:<b+a-xyz@bounces.brand.test> SIZE=9\r\n", ["> MAIL FROM:<address> SIZE=9"]),
        (">", b"RCPT TO:<ann.long@example.test>\r\nDATA\r\n", ["> RCPT TO:<address>", "> DATA"]),
        (">", b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n", ["> AUTH PLAIN <hidden>"]),
        ("<", b"334 UGFzc3dvcmQ6\r\n", ["< 334 <hidden>"]),
        ("<", b"550 5.1.1 no ann.long here\r\n", ["< 550 5.1.1 no <address> here"]),
        ("<", b"250-mx\r\n250 PIPELINING\r\n", ["< 250-mx", "< 250 PIPELINING"]),
        ("<", b"250 \xff\x1b[31m\r\n", None),
    ],
)
def test_lines_are_masked(direction: str, data: bytes, lines: list[str] | None) -> None:
    found = shown(direction, data, (ANN,))
    assert lines is None or found == lines
    assert not any("\x1b" in line for line in found)


def test_a_line_has_a_limit() -> None:
    assert len(shown("<", b"2" * 10_000)[0]) <= LINE_MAX


class Heard:
    """A publisher that keeps."""

    def __init__(self) -> None:
        self.events: list[SessionTraced] = []
        self.fails = False

    def publish(self, event: SessionTraced) -> None:
        if self.fails:
            raise Later("full")
        self.events.append(event)


class Stage:
    def __init__(self, *, watched: bool = True) -> None:
        self.now = START
        self.heard = Heard()
        found = WATCH if watched else None
        self.tracer = Tracer(cast(Publisher, self.heard), "w1", lambda command, now: found, lambda: self.now)

    def lines(self) -> list[str]:
        return [line for event in self.heard.events for line in event.lines]


def test_an_address_in_two_pieces_is_seen_whole() -> None:
    stage = Stage()
    tap = stage.tracer.tap(command("ann"), "s-1", None)
    assert tap is not None
    tap("<", b"550 no an")
    tap("<", b"n@a.te")
    assert stage.lines() == []
    tap("<", b"st here\r\n250 ok\r\n")
    assert stage.lines() == ["< 550 no <address> here", "< 250 ok"]


def test_nobody_watches_nothing_is_heard() -> None:
    stage = Stage(watched=False)
    assert stage.tracer.tap(command("ann"), "s-1", None) is None
    stage.tracer.note(command("ann"), "s-1", "opened")
    assert stage.heard.events == []


def test_it_ends_with_its_time() -> None:
    stage = Stage()
    tap = stage.tracer.tap(command("ann"), "s-1", None)
    assert tap is not None
    stage.now += timedelta(minutes=1).total_seconds()
    tap(">", b"DATA\r\n")
    assert stage.heard.events == []


def test_a_busy_site_is_shown_in_part_and_says_so() -> None:
    stage = Stage()
    tap = stage.tracer.tap(command("ann"), "s-1", None)
    assert tap is not None
    for _ in range(PER_SECOND * 3):
        tap(">", b"DATA\r\n")
    assert len(stage.heard.events) == PER_SECOND
    assert "left out" in stage.lines()[-1]
    stage.now += 1
    tap(">", b"QUIT\r\n")
    assert stage.lines()[-1] == "> QUIT"
    assert len({event.event_id for event in stage.heard.events}) == PER_SECOND + 1


def test_what_cannot_be_told_stops_no_mail() -> None:
    stage = Stage()
    stage.heard.fails = True
    tap = stage.tracer.tap(command("ann"), "s-1", None)
    assert tap is not None
    tap(">", b"DATA\r\n")
