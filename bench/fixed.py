"""Fixed inputs of the steps, each step a method that does it for one message."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from bench import workload
from processors.plan.core import Accepted, Rules, decide
from processors.plan.core import Send as PlanSend
from schemas import codec
from schemas.lanes import FromCampaign, MessageQueue
from schemas.state import CampaignSet
from schemas.tenant import Tenant
from schemas.tokens import Keyring
from sinks.clickhouse.core import row
from sinks.smtp import facts, state
from sinks.smtp.answers import Addresses, Answer, MxRecords
from sinks.smtp.commands import Dot, Open, Publish, Start
from sinks.smtp.commands import Rules as OwnerRules
from sinks.smtp.compose import Composed, Composer, finished
from sinks.smtp.core import Owner
from sinks.smtp.dialogue import Features
from sinks.smtp.dkim import Key, Signer, Unsigned, hash_body, signed
from sinks.smtp.dns import Cache, Router
from sinks.smtp.lines import relaxed
from sinks.smtp.policy import Limits
from sinks.smtp.queue import LaneRecord
from sinks.smtp.rsa import LANES
from sinks.smtp.session import Session, SessionInfo, Timeouts
from sinks.smtp.state import Kind, Phase, Result, State
from topics.record import Record
from topics.registry import ATTEMPTS, MESSAGES

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_REPLIES = (
    b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n",
    b"250 2.0.0 Ok: queued as 1\r\n",
)


class _Known:
    def campaign(self, tenant: str, campaign_id: str) -> CampaignSet | None:
        return None

    def site(self, domain: str) -> tuple[str, str]:
        return (f"mx.{domain}", "")

    def former_site(self, domain: str, after: datetime) -> str:
        return ""


class _Nowhere(asyncio.Transport):
    """Takes what is written, and forgets it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class Fixed:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._numbers = count()
        self._tenant = Tenant(
            sending_domains=(workload.SENDING_DOMAIN,),
            return_path_domain=f"bounces.{workload.SENDING_DOMAIN}",
            tracking_url=f"http://click.{workload.SENDING_DOMAIN}",
        )
        self._rules = Rules({"default": self._tenant}, frozenset({"default"}), b"s" * 32, 4)
        self._sends = list(workload.sends("fixed", list(workload.recipients(500))))
        planned = [self._plan(send) for send in self._sends]
        self._planned = planned[0]
        self._lane = codec.encode(self._planned.queue, source="plan")
        self._records = [
            LaneRecord(False, offset, each.queue.key, each.queue, bytes(11_000)) for offset, each in enumerate(planned)
        ]
        self._rsa = Signer([Key("r1", rsa.generate_private_key(public_exponent=65537, key_size=2048))])
        self._ed25519 = Signer([Key("e1", ed25519.Ed25519PrivateKey.generate())])
        self._waiting: list[Unsigned] = []
        self._campaign = workload.campaign("c1")
        self._composer = Composer(
            {"default": self._tenant}, Keyring({"a": b"k" * 32}, "a"), {workload.SENDING_DOMAIN: None},
            {"default/c1": self._campaign}.get,
        )  # fmt: skip
        self._of_campaign = self._planned.queue.model_copy(
            update={"content": FromCampaign(campaign_id="c1", variables={"name": "Ann"}), "campaign_id": "c1"}
        )
        [composed] = finished([self._composer.draft(self._planned.queue)])
        assert isinstance(composed, Composed)
        self._composed = composed
        self._headers, _, self._body = composed.wire.partition(b"\r\n\r\n")
        self._headers += b"\r\n"
        self._relaxed = relaxed(self._body)
        self._digest = hash_body(self._relaxed)
        self._owner, self._offset = self._fresh_owner(), 0
        self._router = Router(Cache(self._lookup, time.monotonic), Random(1))
        info = SessionInfo("mx.s1.test", "198.18.0.1", 25, "127.0.0.1", Features(pipelining=True, eight_bit=True))
        self._session = self._loop.run_until_complete(self._connected(info))
        self._result = Result(
            Kind.DELIVERED, 1_767_268_800_500, 1_767_268_800_400, 250, "2.0.0", "Ok: queued as 12345", "dot",
            worker="1", session_id="1-77", mx_host="mx.s1.test", mx_ip="198.18.0.1", transfer_ms=55.5,
        )  # fmt: skip
        self._states = [
            State(phase, False, 7, self._planned.queue.key, 1, 1, 2, 3, 4, result)
            for phase, result in ((Phase.SENDING, None), (Phase.ENDED, self._result), (Phase.DONE, None))
        ]
        self._owed = facts.owed(self._planned.queue, self._states[1])
        self._facts = [
            (MESSAGES, codec.encode(self._planned.accepted, source="plan")),
            *zip((ATTEMPTS, MESSAGES), self._encoded_facts(), strict=True),
        ]

    # The steps

    def decode_send(self) -> None:
        codec.decode_send(self._sends[0].value, None)

    def plan(self) -> None:
        self._plan(self._sends[0])

    def encode_planned(self) -> None:
        for event in (self._planned.accepted, self._planned.recipient, self._planned.queue):
            codec.encode(event, source="plan", recorded_at=_NOW)

    def decode_lane(self) -> MessageQueue:
        return cast(MessageQueue, codec.decode(self._lane.value, self._lane.headers))

    def own(self) -> None:
        """One message through the core: taken in, connected or reused, sent, its outcome, its facts, done."""
        if self._offset == len(self._records):
            self._owner, self._offset = self._fresh_owner(), 0
        now = 1_767_268_800.0 + self._offset / 100
        owner, record = self._owner, self._records[self._offset]
        self._offset += 1
        owner.intake(0, [record], now)
        self._obey(now)
        while (transaction := owner.transaction(now)) is not None:
            owner.committed(transaction.number, now, now)
            self._obey(now)

    def route(self) -> None:
        self._loop.run_until_complete(self._router.route("d1.s1.test"))

    def compose_unsigned(self) -> None:
        # Each another text, as personal mail is: what is kept of the last ones does not help.
        self._composer.draft(self._records[next(self._numbers) % len(self._records)].command)

    def compose_campaign(self) -> None:
        self._composer.draft(self._of_campaign)

    def hash_body(self) -> None:
        hash_body(self._relaxed)

    def sign_rsa(self) -> None:
        signed(self._unsigned(self._rsa))

    def sign_rsa_together(self) -> None:
        """Eight messages' signatures in every eighth call."""
        self._waiting += self._unsigned(self._rsa)
        if len(self._waiting) == LANES:
            signed(self._waiting)
            self._waiting = []

    def sign_ed25519(self) -> None:
        signed(self._unsigned(self._ed25519))

    def session(self) -> None:
        session, envelope = self._session, self._composed.envelope
        done: list[Any] = []
        session.send(envelope, self._composed.wire, on_outcome=done.append, on_ready=lambda: None)
        session.data_received(_REPLIES[0])
        session.release_dot(envelope)
        session.data_received(_REPLIES[1])
        assert done

    def facts(self) -> None:
        self._encoded_facts()

    def encode_states(self) -> None:
        for each in self._states:
            state.encode(each)

    def rows(self) -> None:
        for topic, encoded in self._facts:
            row(Record(topic.name, 0, 1, encoded.key, encoded.value, list(encoded.headers), 1), topic)

    # What they are made of

    def _plan(self, send: workload.Send) -> Accepted:
        decision = decide(PlanSend(send.key, send.value, [], _NOW, "mail.sends:0:1"), self._rules, _Known(), _NOW)
        assert isinstance(decision, Accepted)
        return decision

    def _unsigned(self, signer: Signer) -> list[Unsigned]:
        return signer.prepare(self._headers, self._digest, domain=workload.SENDING_DOMAIN, now=1_767_268_800)

    def _encoded_facts(self) -> list[codec.Encoded]:
        return [codec.encode(fact, source="smtp/1", recorded_at=_NOW + timedelta(seconds=1)) for fact in self._owed]

    def _fresh_owner(self) -> Owner:
        owner = Owner(OwnerRules(limits=lambda lane: Limits(connections=2, messages_per_connection=10_000)))
        owner.assigned(0, [], {False: 0, True: 0}, 1_767_268_800.0)
        return owner

    def _obey(self, now: float) -> None:
        owner = self._owner
        while commands := owner.take():
            for command in commands:
                match command:
                    case Open(session):
                        owner.opened(session, now)
                    case Start(session):
                        owner.ready(session, now)
                    case Dot(session):
                        owner.outcome(session, self._result, now, keep=True)
                    case Publish(ticket):
                        owner.acked(ticket, True, now)

    async def _lookup(self, name: str, kind: str) -> Answer:
        return MxRecords(((10, "mx.s1.test"),), 1e9) if kind == "MX" else Addresses(("198.18.0.1",), 1e9)

    async def _connected(self, info: SessionInfo) -> Session:
        session = Session(info, Timeouts())
        session.connection_made(_Nowhere())
        return session
