"""Limits of sources and campaigns over all owners, played with four cores, one log of draws, and sessions that are
bound to their source.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import pytest

from schemas.codec import encode
from schemas.operations import AllowanceDrawn
from schemas.rules.shaping import Shaping
from schemas.rules.shaping_file import merged
from sinks.smtp.commands import GO, Rules
from sinks.smtp.config import SmtpConfig
from sinks.smtp.policy import Limits
from sinks.smtp.reach import SinkReach
from sinks.smtp.shapes import Shapes
from sinks.smtp.sharing import Heard, Sharing
from sinks.smtp.sources import Pool, Source, Sources
from sinks.smtp.state import Kind
from sinks.smtp.steering import Steering
from tests.smtp_owner.stage import KEYRING
from tests.smtp_owner.world import START, Log, World
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import ALLOWANCES

A, B = Source("a.test", "a", "192.0.2.1"), Source("b.test", "b", "192.0.2.2")


@dataclass
class Draws:
    """`mail.allowances`, and owners that read it a little later."""

    rng: Random
    records: list[tuple[float, Record]] = field(default_factory=list)
    drawn: Counter[str] = field(default_factory=Counter)
    now: float = START

    def publish(self, event: AllowanceDrawn) -> None:
        encoded = encode(event, source="test")
        at = max(self.records[-1][0] if self.records else 0.0, self.now + self.rng.uniform(0.01, 0.3))
        number = len(self.records)
        record = Record(ALLOWANCES.name, 0, number, encoded.key, encoded.value, [*encoded.headers], 0)
        self.records.append((at, record))
        self.drawn[event.whose] += 1


class Player(World):
    """One owner, with the sources and limits of a file."""

    def __init__(self, crew: Crew, run: str, log: Log | None = None) -> None:
        self.crew = crew
        self.heard, self.position = Heard(), 0
        config = SmtpConfig(
            *(Cluster("127.0.0.1:1"), {}, KEYRING, {}, SinkReach({}), (), Source("mta.test"), {"default": crew.pool})
        )
        publisher = cast(Publisher, crew.draws)
        shapes = Shapes(crew.shaping)
        sharing = Sharing(shapes, publisher, self.heard, run)
        steering = Steering(config, shapes, publisher, sharing, lambda: self.owner)
        self.sources = Sources(
            *(config.pools, A, lambda: self.now, crew.rng, lambda alarm: None, lambda source, site: False),
            lambda source: sharing.spent(source, self.now),
        )
        self.source: dict[int, str] = {}
        rules = Rules(
            admit=steering.admits(lambda command, now: GO),
            began=sharing.began,
            limits=lambda lane: Limits(connections=4),
            shape=steering.shape,
            source_until=steering.source_until,
            sources_until=steering.sources_until,
        )
        self.shapes = shapes
        super().__init__(log, rules, now=crew.draws.now)

    def opened(self, *sessions: int) -> None:
        for session in sessions or list(self.open):
            site = self.open.pop(session).command.site
            source = self.sources.choose("default", site, "other", ["198.18.0.1"])
            assert source is not None
            self.source[session] = source.name
            self.owner.opened(session, self.now, source.name)
        self.obey()

    def outcome(self, session: int, kind: Kind, *, keep: bool = True, rest: bool = False, **fields: Any) -> None:
        command = self.started[session].record.command
        self.crew.sent.append((self.now, self.source[session], command.campaign_id or ""))
        super().outcome(session, kind, keep=keep, rest=rest, **fields)

    def hear(self) -> None:
        records = self.crew.draws.records
        while self.position < len(records) and records[self.position][0] <= self.now:
            self.heard.feed(records[self.position][1])
            self.position += 1


class Crew:
    """Four owners."""

    def __init__(self, text: str, pool: tuple[Source, ...], seed: int = 1) -> None:
        self.rng = Random(seed)
        self.draws = Draws(self.rng)
        self.pool = Pool(pool)
        self.shaping = merged(Shaping(), text, "mine.toml")
        self.sent: list[tuple[float, str, str]] = []  # when, from which source, of which campaign
        self.runs = 4
        self.players = [Player(self, f"run-{number}") for number in range(4)]

    def play(self, seconds: float, crashes: float = 0.0) -> None:
        for _ in range(round(seconds * 10)):
            for number, player in enumerate(self.players):
                player.hear()
                player.play(0.1)
                if self.rng.random() < crashes:
                    self.runs += 1
                    self.players[number] = Player(self, f"run-{self.runs}", player.log)
            self.draws.now = max(player.now for player in self.players)

    def minutes(self, source: str = "", campaign: str = "") -> list[int]:
        """Begun in each minute, a new one every 5 s, after the first ten seconds."""
        found = [at for at, of, by in self.sent if source in ("", of) and campaign in ("", by)]
        begins = [START + 10.0 + 5.0 * step for step in range(int((self.draws.now - START - 70.0) / 5.0) + 1)]
        return [sum(begin <= at < begin + 60.0 for at in found) for begin in begins]


@pytest.mark.parametrize("shares", [(25, 25, 25, 25), (100, 0, 0, 0), (60, 30, 9, 1)])
def test_a_pools_only_source_follows_its_rate(shares: tuple[int, ...]) -> None:
    crew = Crew("[source.a]\nmessage_rate = 10", (A,))
    for player, share in zip(crew.players, shares, strict=True):
        player.add(*(f"m{number}" for number in range(20 * share)))
    crew.play(82)
    minutes = crew.minutes("a")
    # Whoever has little to send ends before, and the others follow the rate without it.
    assert len(minutes) >= 3
    assert all(570 <= count <= 630 for count in minutes), minutes


@pytest.mark.parametrize("seed", range(4))
def test_a_source_at_its_daily_cap_is_passed_over_and_nothing_waits(seed: int) -> None:
    crew = Crew("[source.a]\ndaily = 60", (A, B), seed)
    for player in crew.players:
        player.add(*(f"m{number}" for number in range(500)))
    crew.play(40)
    assert Counter(source for _, source, _ in crew.sent) == {"a": 60, "b": 1_940}


@pytest.mark.parametrize("seed", range(4))
def test_the_cap_of_a_pools_only_source_is_never_exceeded_whoever_crashes(seed: int) -> None:
    crew = Crew("[source.a]\ndaily = 300", (A,), seed)
    for player in crew.players:
        player.add(*(f"m{number}" for number in range(150)))
        player.commit()
    crew.play(40, crashes=0.002)
    assert len(crew.sent) <= 300
    assert len(crew.sent) >= 300 - 6 * crew.runs


def test_sessions_that_open_together_do_not_share_what_is_left() -> None:
    crew = Crew("[source.a]\ndaily = 1", (A,))
    crew.players[0].add(*(f"m{number}" for number in range(60)))
    crew.play(5)
    assert len(crew.players[0].source) > 1
    assert len(crew.sent) == 1


def test_a_source_whose_rate_is_low_keeps_its_session_and_the_other_goes_on() -> None:
    crew = Crew("[source.a]\nmessage_rate = 2", (A, B))
    for player in crew.players:
        player.add(*(f"m{number}" for number in range(300)))
    crew.play(20)
    sources = Counter(source for _, source, _ in crew.sent)
    assert sources.total() == 1_200
    assert 10 < sources["a"] <= 2 * 20 * 1.05
    opened = sum(len(player.source) for player in crew.players)
    assert opened <= 4 * 4 * 4  # connections at a time are 4 of each owner: not one for each message


def test_a_campaign_follows_its_rate_and_its_tenants_other_mail_passes_it() -> None:
    crew = Crew('[campaign."default/slow"]\nmessage_rate = 5', (A,))
    for player in crew.players:
        player.add(*(f"s{number}" for number in range(200)), campaign_id="slow")
        player.add(*(f"q{number}" for number in range(60)), campaign_id="quick")
        player.add(*(f"x{number}" for number in range(60)))
    crew.play(12)
    assert Counter(campaign for _, _, campaign in crew.sent if campaign != "slow") == {"quick": 240, "": 240}
    crew.play(70)
    minutes = crew.minutes(campaign="slow")
    assert all(285 <= count <= 315 for count in minutes), minutes
    assert set(crew.draws.drawn) == {"campaign:default/slow"}


@pytest.mark.parametrize("whose", ["source.a", "tenant.default"])
def test_a_cap_that_is_raised_lets_what_waits_go_on(whose: str) -> None:
    crew = Crew(f"[{whose}]\ndaily = 10", (A,))
    crew.players[0].add(*(f"m{number}" for number in range(40)))
    crew.play(5)
    assert len(crew.sent) == 10
    for player in crew.players:
        player.shapes.shaping = merged(Shaping(), f"[{whose}]\ndaily = 25", "mine.toml")
        player.owner.reshape(player.now)
    crew.play(10)
    assert len(crew.sent) == 25


def test_who_has_no_limit_asks_nobody() -> None:
    crew = Crew('[source.b]\ndaily = 1\n[campaign."other/slow"]\ndaily = 1', (A,))
    crew.players[0].add(*(f"m{number}" for number in range(40)), campaign_id="slow")
    crew.play(3)
    assert len(crew.sent) == 40
    assert not crew.draws.drawn
