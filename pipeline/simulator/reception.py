"""The reception desk of a provider: joins its behaviour, its memory and the witness for the SMTP server.

The order in `keep` is the promise: the message is in the witness's log before anybody hears "250", and only then do
the people behind the mailbox learn of it.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.simulator import magic
from pipeline.simulator.behaviour import Connected, Cut, MailFrom, RcptTo, Verdict, decide
from pipeline.simulator.config import Provider
from pipeline.simulator.memory import Memory
from pipeline.simulator.post import Received
from pipeline.simulator.witness import Entry
from pipeline.simulator.witness_log import WitnessLog


class Reception:
    """One provider, all its hosts."""

    def __init__(
        self,
        seed: int,
        provider: Provider,
        domains: frozenset[str],
        witness: WitnessLog,
        arrived: Callable[[Provider, Entry], None],
        clock: Callable[[], float],
    ) -> None:
        self.seed = seed
        self.provider = provider
        self.domains = domains
        self.witness = witness
        self.arrived = arrived
        self.clock = clock
        self.memory = Memory(provider.limits.messages_per_second, provider.limits.burst)


class Desk:
    """A reception as one connection to one host sees it."""

    def __init__(self, reception: Reception, host: str, peer: str) -> None:
        self._reception = reception
        self._host = host
        self._peer = peer
        memory = reception.memory
        self._nth, self._others = memory.connected, memory.connections
        memory.connected += 1
        memory.connections += 1

    def connect(self) -> Verdict:
        """Whether the client is welcome."""
        return decide(self._reception.seed, self._reception.provider, Connected(self._host, self._nth, self._others))

    def leave(self) -> None:
        """The connection has ended."""
        self._reception.memory.connections -= 1

    def mail_from(self, sent: int, encrypted: bool) -> Verdict:
        """Whether a transaction may begin."""
        return decide(self._reception.seed, self._reception.provider, MailFrom(self._host, sent, encrypted))

    def serves(self, domain: str) -> bool:
        """Whether the domain's mailboxes are here."""
        return domain in self._reception.domains

    def rcpt_to(self, sender: str, localpart: str, domain: str) -> Verdict:
        """What becomes of a recipient."""
        reception, memory = self._reception, self._reception.memory
        now = reception.clock()
        mailbox = f"{localpart.lower()}@{domain}"
        attempt, waited = memory.attempt(sender, mailbox, now)
        event = RcptTo(self._host, domain, localpart, attempt, waited, memory.has_room(now))
        verdict = decide(reception.seed, reception.provider, event)
        if verdict.accepted:
            memory.spend()
            # A magic name does its trick for every message, also when all come from one sender address.
            if verdict.cut is Cut.NEVER and attempt > 1 and magic.read(localpart):
                memory.forget(sender, mailbox)
        return verdict

    def keep(self, mail: Received) -> str:
        """Write the message down, then let its readers know; the name for the 250. Raises OSError."""
        reception = self._reception
        entry = reception.witness.append(
            provider=reception.provider.name,
            mail_from=mail.mail_from,
            recipients=mail.recipients,
            body=mail.body,
            tls=mail.encrypted,
            peer=self._peer,
            answered=mail.answered,
        )
        reception.arrived(reception.provider, entry)
        return f"queued as {entry.seq}"
