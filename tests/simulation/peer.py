"""The model SMTP peer: what the next hop does with each message, and its own list of what it took.

The list is the independent witness: it shares nothing with the sender but the message's id. A dot that is on the wire
arrives even if its sender dies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.simulation.kernel import Future, Kernel


class Answer(Enum):
    GO = "go"  # connected, or ready for the dot
    ACCEPT = "250"
    DEFER = "451"
    BOUNCE = "550"
    CUT = "cut"  # the connection ended without a reply


class Behaviour(Enum):
    """What happens to one attempt, drawn when it starts."""

    ACCEPT = "accept"
    NO_CONNECTION = "no connection"
    DEFER_RCPT = "defer at rcpt"
    BOUNCE_RCPT = "bounce at rcpt"
    CUT_BODY = "cut in the body"
    DEFER_DOT = "defer at the dot"
    BOUNCE_DOT = "bounce at the dot"
    CUT_BEFORE = "cut at the dot, not taken"
    CUT_AFTER = "taken, reply lost"
    SILENT = "taken, no reply for minutes"


LOSSY: Final = frozenset({Behaviour.CUT_BEFORE, Behaviour.CUT_AFTER, Behaviour.SILENT})
_ROUGH: Final = tuple(Behaviour)
_KIND: Final = tuple(behaviour for behaviour in Behaviour if behaviour not in LOSSY)


@dataclass(frozen=True, slots=True)
class Receipt:
    at: float
    message: str
    attempt: int
    sender: str


@dataclass(slots=True)
class Peer:
    kernel: Kernel
    trouble: float = 0.3  # share of attempts that do not simply succeed
    lossy: bool = True  # replies to dots may be lost
    patience: float = 300.0  # how long a silent peer keeps the connection
    received: list[Receipt] = field(default_factory=list)
    unanswered: set[tuple[str, int]] = field(default_factory=set)  # attempts whose dot got no reply

    def behave(self) -> Behaviour:
        random = self.kernel.random
        if random.random() >= self.trouble:
            return Behaviour.ACCEPT
        return random.choice(_ROUGH if self.lossy else _KIND)

    def connect(self, behaviour: Behaviour) -> Future:
        return self._later(Answer.CUT if behaviour is Behaviour.NO_CONNECTION else Answer.GO)

    def envelope(self, behaviour: Behaviour) -> Future:
        """MAIL, RCPT, DATA and the body up to the final dot."""
        match behaviour:
            case Behaviour.DEFER_RCPT:
                return self._later(Answer.DEFER)
            case Behaviour.BOUNCE_RCPT:
                return self._later(Answer.BOUNCE)
            case Behaviour.CUT_BODY:
                return self._later(Answer.CUT)
            case _:
                return self._later(Answer.GO)

    def dot(self, behaviour: Behaviour, message: str, attempt: int, sender: str) -> Future:
        """The final dot is written now; whatever happens to its sender, the peer sees it."""
        if behaviour in LOSSY:
            self.unanswered.add((message, attempt))
        answer = Future()
        self.kernel.at(self._trip(), self._decide, answer, behaviour, message, attempt, sender)
        return answer

    def _decide(self, answer: Future, behaviour: Behaviour, message: str, attempt: int, sender: str) -> None:
        reply, delay = Answer.ACCEPT, self._trip()
        match behaviour:
            case Behaviour.DEFER_DOT:
                reply = Answer.DEFER
            case Behaviour.BOUNCE_DOT:
                reply = Answer.BOUNCE
            case Behaviour.CUT_BEFORE | Behaviour.CUT_AFTER:
                reply = Answer.CUT
            case Behaviour.SILENT:
                reply, delay = Answer.CUT, self.patience
            case _:
                pass
        if behaviour not in (Behaviour.DEFER_DOT, Behaviour.BOUNCE_DOT, Behaviour.CUT_BEFORE):
            self.received.append(Receipt(self.kernel.now, message, attempt, sender))
        self.kernel.at(delay, answer.resolve, reply)

    def _later(self, reply: Answer) -> Future:
        answer = Future()
        self.kernel.at(self._trip(), answer.resolve, reply)
        return answer

    def _trip(self) -> float:
        """Mostly quick; now and then a slow line."""
        random = self.kernel.random
        return random.uniform(0.002, 0.05) if random.random() < 0.9 else random.uniform(0.5, 8.0)
