"""Carry the core's session commands out: open, send, let the dot go, close; and tell the core what came of it.

One task per connection while it opens; afterwards everything is the loop's callbacks. A message is composed and signed
while its session waits. Which message goes where is the core's decision; what an outcome means, results.py's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from schemas.lanes import MessageQueue
from sinks.smtp.calling import Caller, Uncalled
from sinks.smtp.clock import boottime
from sinks.smtp.commands import Close, Dot, Drop, Open, Start
from sinks.smtp.compose import Composed, Missing, Unsendable
from sinks.smtp.dialogue import Envelope
from sinks.smtp.links import Link
from sinks.smtp.outcome import Accepted, Broken, Cause, Outcome, Stage
from sinks.smtp.places import Places, Way
from sinks.smtp.press import Printed
from sinks.smtp.pressroom import Pressroom
from sinks.smtp.queue import LaneRecord
from sinks.smtp.results import Attempt, result_of, unroutable
from sinks.smtp.routing import Permanent, Route, Temporary
from sinks.smtp.session import Session
from sinks.smtp.shapes import Manner
from sinks.smtp.state import Kind, Result
from sinks.smtp.sts_policies import NO_POLICY, StsView
from sinks.smtp.tls_policies import TlsPolicies, carries, reported
from sinks.smtp.tracing import Tracer, opening_of

log = structlog.get_logger(__name__)


Router = Callable[[str, str], Awaitable[Route | Permanent | Temporary]]
"""Where mail for a domain goes, of a pool."""


class Ears(Protocol):
    """Who hears of sessions: the core, behind the agent. Each call ends with what the core says to it being done."""

    def opened(self, session: int, source: str) -> None: ...
    def open_failed(self, session: int, command: MessageQueue, result: Result, *, rest: bool) -> None: ...
    def misplaced(self, session: int, command: MessageQueue, route: Route) -> bool: ...
    def composed(self, sessions: Sequence[int]) -> None: ...
    def still(self, session: int) -> bool: ...
    def ready(self, session: int) -> None: ...
    def outcome(self, session: int, command: MessageQueue, result: Result, *, keep: bool, rest: bool) -> None: ...
    def late(self, session: int) -> None: ...
    def closed(self, session: int) -> None: ...


class Connections:
    def __init__(
        self,
        ears: Ears,
        route: Router,
        caller: Caller,
        manner: Callable[[str], Manner],
        policies: TlsPolicies,
        suspended: Callable[[str, str], bool],
        places: Places,
        press: Pressroom,
        worker: str,
        tracer: Tracer | None = None,
    ) -> None:
        self._ears = ears
        self._route = route
        self._caller = caller
        self._manner = manner
        self._policies = policies
        self._suspended = suspended
        self._places = places
        self._press = press
        self._worker = worker
        self._tracer = tracer
        self._since = int(time.time())  # the core counts sessions anew after each restart
        self._links: dict[int, Link] = {}
        self._orders: dict[int, Link] = {}
        self._order = 0
        self._leaving: set[Session] = set()

    def obey(self, command: Open | Start | Dot | Drop | Close) -> None:
        match command:
            case Open(number, _, message):
                link = self._links[number] = Link(number, message)
                link.opening = asyncio.get_running_loop().create_task(self._open(link))
            case Start(number, _, record):
                self._start(self._links[number], record)
            case Dot(number, not_after):
                self._dot(self._links[number], not_after)
            case Drop(number):
                self._drop(self._links.pop(number))
            case Close(number):
                self._close(self._links.pop(number))

    def printed(self, printed: Printed) -> None:
        """Messages are composed. On the loop's thread."""
        links = [(self._orders.pop(number), number, composition) for number, composition in printed]
        # First, so that the processes have their next orders before these are sent.
        self._ears.composed([link.number for link, number, _ in links if link.order == number])
        for link, number, composition in links:
            if link.order != number or self._links.get(link.number) is not link:
                continue  # dropped in the meantime
            match composition:
                case Composed(envelope, wire):
                    self._send(link, envelope, wire)
                case Unsendable(reason):
                    self._over(link, self._local(Kind.FAILED, reason), keep=True, rest=False)
                case Missing(cause):
                    self._over(link, self._local(Kind.HELD, cause), keep=True, rest=False)

    async def close(self) -> None:
        """Cut what is left, and wait until nothing of it runs."""
        links, self._links = list(self._links.values()), {}
        for link in links:
            self._drop(link)
        openings = [link.opening for link in links if link.opening is not None]
        await asyncio.gather(*openings, return_exceptions=True)
        for session in list(self._leaving):
            session.drop()

    # Opening

    async def _open(self, link: Link) -> None:
        command = link.command
        try:
            known = self._places.known(command)
            route, view = await asyncio.gather(self._route(command.recipient_domain, command.pool), self._view(command))
            link.sts = (command.recipient_domain, view)
            if not isinstance(route, Route):
                self._failed(link, unroutable(route, self._attempt(link)), rest=False)
            elif self._links.get(link.number) is link:
                if self._ears.misplaced(link.number, command, route):
                    del self._links[link.number]
                else:
                    link.way = Way(command.recipient_domain, known, route)
                    manner = self._manner(route.site)
                    link.manner = replace(manner, tls=route.relay.tls) if route.relay is not None else manner
                    self._called(link, await self._caller.call(command.pool, route, view, link.manner))
        except Exception:
            # Whatever broke, the message must not wait for ever on a connection that nobody opens.
            log.exception("open_failed", session=link.number)
            self._failed(link, self._local(Kind.HELD, "internal_error"), rest=True)

    async def _view(self, command: MessageQueue) -> StsView:
        # RFC 8461 section 5: a policy is about the domain's own MX hosts.
        relayed = self._places.relay(command) is not None
        return NO_POLICY if relayed else await self._policies.of(command.recipient_domain)

    def _called(self, link: Link, answer: Session | Uncalled) -> None:
        link.opening = None
        if isinstance(answer, Session):
            self._opened(link, answer)
            return
        attempt = self._attempt(link, answer)
        result, rest = result_of(answer.outcome, link.command, attempt)
        if self._tracer is not None:
            what = (
                f"no session with {result.mx_host} [{result.mx_ip}]: {result.stage} {result.code or ''} {result.text}"
            )
            self._tracer.note(link.command, attempt.session_id, what)
        self._failed(link, result, rest=rest)

    def _opened(self, link: Link, session: Session) -> None:
        if self._links.get(link.number) is not link:
            session.drop()
            return
        link.session = session
        session.on_closed = lambda _: self._lost(link)
        if self._tracer is not None:
            self._tracer.note(link.command, self._session_id(link), opening_of(session.info), session.info)
        self._ears.opened(link.number, session.info.source)

    def _failed(self, link: Link, result: Result, *, rest: bool) -> None:
        link.opening = None
        if self._links.get(link.number) is link:
            del self._links[link.number]
            self._ears.open_failed(link.number, link.command, result, rest=rest)

    # Messages

    def _start(self, link: Link, record: LaneRecord) -> None:
        link.command = record.command
        link.envelope = None
        link.started = time.time()
        link.used += 1
        way = link.way
        if link.session is not None and self._suspended(link.session.info.source, record.command.site):
            self._gone(link)  # the core opens another, from another source
        elif way is None or not self._places.leads(way, record.command):
            self._gone(link)  # it opens another, by a route that is asked for now
        elif way.relayed or record.command.recipient_domain == link.sts[0] or self._may_carry(link, record):
            self._print(link, record)

    def _may_carry(self, link: Link, record: LaneRecord) -> bool:
        """Whether the open session is good enough for another domain of its site. If that is to be asked first, the
        message goes on when it is known; if not, the core is told that the connection is gone, and opens another.
        """
        domain = record.command.recipient_domain
        view = self._policies.known(domain)
        if view is None:
            link.opening = asyncio.get_running_loop().create_task(self._ask(link, record))
            self._ears.composed((link.number,))  # others may be, as long as that takes
            return False
        session = link.session
        if session is None or not carries(session.info, view):
            self._gone(link)
            return False
        link.sts = (domain, view)
        return True

    async def _ask(self, link: Link, record: LaneRecord) -> None:
        domain = record.command.recipient_domain
        try:
            view = await self._policies.of(domain)
        except Exception:
            # Whatever broke, the message must not wait for ever on an answer that nobody gives.
            log.exception("policy_failed", session=link.number)
            self._gone(link)
            return
        if self._links.get(link.number) is not link:
            return
        link.opening = None
        if link.session is None or not carries(link.session.info, view):
            self._gone(link)
        else:
            link.sts = (domain, view)
            self._print(link, record)

    def _print(self, link: Link, record: LaneRecord) -> None:
        self._order += 1
        link.order = self._order
        self._orders[self._order] = link
        self._press.order(self._order, record)

    def _send(self, link: Link, envelope: Envelope, wire: bytes) -> None:
        session = link.session
        if session is None or not session.usable:
            self._gone(link)  # the peer closed it while the message was composed: nobody's fault
            return
        if not self._ears.still(link.number):
            return  # suppressed or suspended while it was composed
        link.envelope = envelope
        if self._tracer is not None:
            session.tap = self._tracer.tap(link.command, self._session_id(link), session.info)
        session.send(
            envelope,
            wire,
            on_outcome=lambda outcome: self._outcome(link, outcome),
            on_ready=lambda: self._ears.ready(link.number),
        )

    def _dot(self, link: Link, not_after: float) -> None:
        # The last moment at which it can be kept back: the process may have been stopped since the core said so.
        if boottime() > not_after:
            self._ears.late(link.number)
        elif link.session is not None and link.envelope is not None:
            link.session.release_dot(link.envelope)

    def _outcome(self, link: Link, outcome: Outcome) -> None:
        if self._links.get(link.number) is not link or link.session is None:
            return
        match outcome:
            case Broken(Stage.MAIL, Cause.LOST) if link.used > 1:
                self._gone(link)  # it was closed as it lay idle, and we wrote before we saw it
                return
            case Accepted() | _:
                result, rest = result_of(outcome, link.command, self._attempt(link))
                self._over(link, result, keep=link.session.usable, rest=rest)

    def _over(self, link: Link, result: Result, *, keep: bool, rest: bool) -> None:
        link.envelope = None
        keep = keep and link.session is not None and link.session.usable
        if not keep:
            self._links.pop(link.number, None)
            self._retire(link)
        self._ears.outcome(link.number, link.command, result, keep=keep, rest=rest)

    # Ends

    def _lost(self, link: Link) -> None:
        """The connection has ended; a transaction on it has had its outcome before."""
        if link.session is not None:
            self._leaving.discard(link.session)
        self._gone(link)

    def _gone(self, link: Link) -> None:
        if self._links.pop(link.number, None) is link:
            self._retire(link)
            self._ears.closed(link.number)

    def _drop(self, link: Link) -> None:
        if link.opening is not None:
            link.opening.cancel()
        if link.session is not None:
            link.session.drop()

    def _close(self, link: Link) -> None:
        if link.session is not None:
            self._retire(link)

    def _retire(self, link: Link) -> None:
        session = link.session
        if session is not None:
            self._leaving.add(session)
            session.on_closed = self._leaving.discard
            session.quit()

    # Facts

    def _attempt(self, link: Link, tried: Uncalled | None = None) -> Attempt:
        now = time.time()
        info = link.session.info if link.session is not None else None
        policy, failure = (
            reported(info, link.sts[1], link.manner.tls) if info is not None else ("", link.sts[1].failure)
        )
        if tried is not None:
            policy, failure = tried.tls_policy, tried.tls_failure or failure
        return Attempt(
            worker=self._worker,
            session_id=self._session_id(link),
            started_at=int(link.started * 1000),
            at=int(now * 1000),
            connect_ms=info.connect_ms if info is not None and link.used == 1 else 0.0,
            transfer_ms=(now - link.started) * 1000 if link.used else 0.0,
            info=info,
            mx_host=tried.mx_host if tried is not None else "",
            mx_ip=tried.mx_ip if tried is not None else "",
            source=tried.source if tried is not None else "",
            tls_policy=policy,
            tls_failure=failure,
        )

    def _session_id(self, link: Link) -> str:
        return f"{self._since:x}-{link.number}"

    def _local(self, kind: Kind, reason: str) -> Result:
        return Result(kind, int(time.time() * 1000), reason=reason, worker=self._worker)
