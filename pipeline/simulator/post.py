"""What the SMTP dialogue and the provider behind it say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.simulator.behaviour import Verdict


@dataclass(frozen=True, slots=True)
class Received:
    """A message whose final dot has come: exactly its bytes, dots unstuffed."""

    mail_from: str
    recipients: tuple[tuple[str, str], ...]  # (localpart, domain in lower case)
    body: bytes
    encrypted: bool
    answered: bool  # whether a 250 follows


class Post(Protocol):
    """What a provider's host decides about mail, seen from one connection."""

    def connect(self) -> Verdict: ...

    def mail_from(self, sent: int, encrypted: bool) -> Verdict: ...

    def rcpt_to(self, sender: str, localpart: str, domain: str) -> Verdict: ...

    def serves(self, domain: str) -> bool: ...

    def keep(self, mail: Received) -> str:
        """Write the message down; its name in the 250. Raises OSError when it cannot be written."""
