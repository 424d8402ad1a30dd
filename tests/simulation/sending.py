"""The simulated owner's sessions: what the core says of them, to the model peer, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from schemas.lanes import MessageQueue
from sinks.smtp.state import Kind, Result
from tests.simulation.host import Host, Wire
from tests.simulation.peer import Answer

DOT_TIMEOUT: Final = 100.0


class Sending(Host):
    def _open(self, number: int, message: MessageQueue) -> None:
        wire = self.wires[number] = Wire(number, self.world.behave(message))
        wire.started = int(self.wall() * 1000)
        self.world.peer.connect(wire.behaviour).then(partial(self._hear, wire, self._opened))

    def _opened(self, wire: Wire, answer: Answer) -> None:
        if answer is Answer.GO:
            self.owner.opened(wire.number, self.wall())
            return
        self.hang_up(wire.number)
        result = Result(Kind.DEFERRED, int(self.wall() * 1000), wire.started, stage="connect", worker=self.name)
        self.owner.open_failed(wire.number, result, self.wall())

    def _start(self, number: int, attempt: int, message: MessageQueue) -> None:
        wire = self.wires[number]
        wire.message, wire.started = (message.message_id, attempt), int(self.wall() * 1000)
        wire.behaviour = self.world.behave(message)
        if self.world.is_missing(message, self.wall()):
            self.post(lambda: self._held(wire) if wire.open else None)
        else:
            self.world.peer.envelope(wire.behaviour).then(partial(self._hear, wire, self.written))

    def _held(self, wire: Wire) -> None:
        """Nothing was sent: what the message is made of is not here yet."""
        self.note("outcome", self.world.short(wire.message), Kind.HELD.name)
        result = Result(Kind.HELD, int(self.wall() * 1000), reason="unknown_campaign", worker=self.name)
        self.owner.outcome(wire.number, result, self.wall(), keep=True)

    def written(self, wire: Wire, answer: Answer) -> None:
        if answer is Answer.GO:
            self.owner.ready(wire.number, self.boot())
        else:
            self._outcome(wire, answer, Kind.DEFERRED, "rcpt" if answer is not Answer.CUT else "body")

    def dot(self, wire: Wire, not_after: float) -> None:
        if not self.in_time(not_after):
            self.post(partial(self.owner.late, wire.number))
            return
        assert wire.message is not None
        self.world.dotted(self, *wire.message)
        answer = self.world.peer.dot(wire.behaviour, *wire.message, self.name)
        either = self.kernel.either(answer, self.kernel.sleep(DOT_TIMEOUT))
        either.then(lambda first: self._hear(wire, self._answered, Answer.CUT if first is not answer else answer.value))

    def in_time(self, not_after: float) -> bool:
        return self.boot() <= not_after

    def _answered(self, wire: Wire, answer: Answer) -> None:
        self._outcome(wire, answer, Kind.UNKNOWN, "dot")

    def _outcome(self, wire: Wire, answer: Answer, cut: Kind, stage: str) -> None:
        kinds = {Answer.ACCEPT: Kind.DELIVERED, Answer.DEFER: Kind.DEFERRED, Answer.BOUNCE: Kind.BOUNCED}
        kind, keep = kinds.get(answer, cut), answer is not Answer.CUT
        reason = "reply_lost" if kind is Kind.UNKNOWN else ""
        result = Result(
            kind, int(self.wall() * 1000), wire.started, code=int(answer.value) if keep else 0, stage=stage,
            reason=reason, worker=self.name, session_id=str(wire.number),
        )  # fmt: skip
        self.note("outcome", self.world.short(wire.message), kind.name, stage)
        if not keep:
            self.hang_up(wire.number)
        self.owner.outcome(wire.number, result, self.wall(), keep=keep)

    def _hear(self, wire: Wire, handle: Callable[[Wire, Answer], None], answer: Answer) -> None:
        if wire.open:
            self.post(lambda: handle(wire, answer) if wire.open else None)

    def hang_up(self, number: int) -> None:
        wire = self.wires.pop(number, None)
        if wire is not None:
            wire.open = False
            self.hung_up.add(number)
