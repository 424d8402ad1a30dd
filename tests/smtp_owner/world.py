"""The queue owner's core with everything around it played by hand: a lane, a log of states, sessions, facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas import ids
from schemas.envelope import MailEvent, Stream
from schemas.lanes import Inline, MessageQueue
from sinks.smtp import commands
from sinks.smtp.commands import Rules, Transaction
from sinks.smtp.core import Owner
from sinks.smtp.queue import LaneRecord
from sinks.smtp.state import Kind, Phase, Result, State, decode

START = 1_760_000_000.0
DAY = 86_400.0

HELLO = Inline(from_="news@brand.test", subject="Hello", text="Hello")


def command(name: str, *, site: str = "a.test", expires: float = START + DAY, **fields: Any) -> MessageQueue:
    at = datetime.fromtimestamp(START, UTC)
    message_id = ids.message_id("default", name)
    return MessageQueue.from_cause(
        message_id,
        occurred_at=at,
        message_id=message_id,
        recipient_id="r" * 26,
        recipient_domain="a.test",
        recipient=f"{name}@a.test",
        idempotency_key=name,
        site=site,
        accepted_at=at,
        expires_at=datetime.fromtimestamp(expires, UTC),
        **{"stream": Stream.TRANSACTIONAL, "content": HELLO, **fields},
    )


def result(kind: Kind, now: float, **fields: Any) -> Result:
    return Result(kind, int(now * 1000), int(now * 1000) - 50, stage="dot", **fields)


@dataclass
class Log:
    """What Kafka holds of one partition: two lanes, the states, the committed offsets."""

    lanes: dict[bool, list[LaneRecord]] = field(default_factory=lambda: {False: [], True: []})
    states: dict[bytes, bytes] = field(default_factory=dict)
    offsets: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})

    def append(self, queued: MessageQueue, *, urgent: bool = False) -> LaneRecord:
        lane = queued.key
        record = LaneRecord(urgent, len(self.lanes[urgent]), lane, queued, bytes(500))
        self.lanes[urgent].append(record)
        return record

    def state(self, name: str) -> State | None:
        value = self.states.get(bytes.fromhex(ids.message_id("default", name).replace("-", "")))
        return decode(value) if value is not None else None


class World:
    """One worker. Commands pile up in lists by kind until a test takes them."""

    def __init__(
        self, log: Log | None = None, rules: Rules | None = None, *, now: float = START, boot: float = 1000.0
    ) -> None:
        self.now = now
        self.boot = boot
        self.log = log or Log()
        self.read = dict(self.log.offsets)
        self.owner = Owner(rules or Rules())
        self.open: dict[int, commands.Open] = {}
        self.started: dict[int, commands.Start] = {}
        self.dots: dict[int, commands.Dot] = {}
        self.dropped: list[int] = []
        self.closed: list[int] = []
        self.publishes: list[commands.Publish] = []
        self.fetches: list[commands.Fetch] = []
        self.facts: list[MailEvent] = []  # acknowledged
        self.drained = False
        states = [(key, decode(value)) for key, value in self.log.states.items()]
        self.owner.assigned(0, states, dict(self.log.offsets), self.now)
        self.obey()

    def obey(self) -> None:
        for each in self.owner.take():
            match each:
                case commands.Open():
                    self.open[each.session] = each
                case commands.Start():
                    self.started[each.session] = each
                case commands.Dot():
                    self.dots[each.session] = each
                case commands.Drop():
                    self.dropped.append(each.session)
                    self._forget(each.session)
                case commands.Close():
                    self.closed.append(each.session)
                    self._forget(each.session)
                case commands.Publish():
                    self.publishes.append(each)
                case commands.Fetch():
                    self.fetches.append(each)
                case commands.Drained():
                    self.drained = True

    def _forget(self, session: int) -> None:
        for known in (self.open, self.started, self.dots):
            known.pop(session, None)

    def take_in(self) -> None:
        for urgent in (True, False):
            fresh = self.log.lanes[urgent][self.read[urgent] :]
            self.read[urgent] += len(fresh)
            self.owner.intake(0, fresh, self.now)
        self.obey()

    def add(self, *names: str, urgent: bool = False, **fields: Any) -> None:
        for name in names:
            self.log.append(command(name, **fields), urgent=urgent)
        self.take_in()

    def begin(self) -> Transaction | None:
        transaction = self.owner.transaction(self.now)
        self.obey()
        return transaction

    def commit(self, transaction: Transaction | None = None) -> Transaction | None:
        transaction = transaction or self.begin()
        if transaction is not None:
            for record in transaction.records:
                if record.value is None:
                    self.log.states.pop(record.key, None)
                else:
                    self.log.states[record.key] = record.value
            for offset in transaction.offsets:
                self.log.offsets[offset.urgent] = offset.offset
            self.owner.committed(transaction.number, self.boot, self.now)
            self.obey()
        return transaction

    def settle(self) -> None:
        """Commit, acknowledge and answer fetches until nothing of that is left."""
        while True:
            committed = self.commit()
            publishes, self.publishes = self.publishes, []
            for publish in publishes:
                self.facts += publish.facts
                self.owner.acked(publish.ticket, True, self.now)
            fetches, self.fetches = self.fetches, []
            for fetch in fetches:
                self.answer(fetch)
            self.obey()
            if committed is None and not publishes and not fetches:
                return

    def answer(self, fetch: commands.Fetch, *, gone: Sequence[bytes] = ()) -> None:
        found: commands.Bodies = {}
        for wanted in fetch.wanted:
            found[wanted.key] = None if wanted.key in gone else self.log.lanes[wanted.urgent][wanted.offset]
        self.owner.bodies(fetch.ticket, found, self.now)
        self.obey()

    def opened(self, *sessions: int) -> None:
        for session in sessions or list(self.open):
            self.open.pop(session)
            self.owner.opened(session, self.now)
        self.obey()

    def composed(self, *sessions: int) -> None:
        self.owner.composed(sessions or list(self.started), self.now)
        self.obey()

    def ready(self, *sessions: int) -> None:
        """Composed, and written."""
        sessions = sessions or tuple(self.started)
        self.composed(*sessions)
        for session in sessions:
            self.owner.ready(session, self.boot)
        self.obey()

    def outcome(self, session: int, kind: Kind, *, keep: bool = True, rest: bool = False, **fields: Any) -> None:
        self.started.pop(session)
        self.dots.pop(session, None)
        self.owner.outcome(session, result(kind, self.now, **fields), self.now, keep=keep, rest=rest)
        self.obey()

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.boot += seconds
        self.owner.tick(self.now)
        self.obey()

    def play(self, seconds: float) -> None:
        """Everything goes well, ten times a second."""
        for _ in range(round(seconds * 10)):
            self.opened()
            self.ready()
            self.commit()
            for session in list(self.dots):
                self.outcome(session, Kind.DELIVERED)
            self.settle()
            self.tick(0.1)

    def types(self) -> list[str]:
        return [fact.type for fact in self.facts]

    def phase(self, name: str) -> Phase | None:
        state = self.log.state(name)
        return state.phase if state is not None else None
