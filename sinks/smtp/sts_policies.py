"""The MTA-STS policy of a recipient domain: asked for, and kept as long as it says (RFC 8461 sections 3.3 and 5.1).

Kept in this process's memory alone: after a restart the first look at a domain is once more one that an attacker on
the way can hide the policy from, as it is for every sender that meets a domain for the first time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sinks.smtp.answers import Answer, Failure, Texts
from sinks.smtp.mta_sts import StsMode, StsPolicy, Unusable, parse, record_id

_KEPT_MAX: Final = 20_000
_TRY_AGAIN_S: Final = 300.0  # section 3.3: not more often, for one id
_FAILED = "sts-policy-fetch-error"  # RFC 8460 section 4.3, as all that `StsView.failure` may be
_INVALID = "sts-policy-invalid"
_UNTRUSTED = "sts-webpki-invalid"


class FetchError(Exception):
    """No policy file came. `untrusted`: the host's certificate is the reason."""

    def __init__(self, reason: str, *, untrusted: bool = False) -> None:
        super().__init__(reason)
        self.untrusted = untrusted


class Fetch(Protocol):
    async def __call__(self, domain: str) -> bytes:
        """The content of the domain's policy file. Raises FetchError."""
        ...


@dataclass(frozen=True, slots=True)
class StsView:
    """What holds for mail to a domain now. `failure`: a policy was announced and could not be had (RFC 8460)."""

    policy: StsPolicy | None = None
    failure: str = ""

    @property
    def enforced(self) -> StsPolicy | None:
        return self.policy if self.policy is not None and self.policy.mode is StsMode.ENFORCE else None


NO_POLICY: Final = StsView()


@dataclass(slots=True)
class _Kept:
    view: StsView
    id: str  # of the newest record that was acted upon
    asked_until: float  # no look at DNS before
    fetched_at: float = 0.0
    tried_at: float = float("-inf")

    def valid(self, now: float) -> bool:
        return self.view.policy is not None and now < self.fetched_at + self.view.policy.max_age


class StsPolicies:
    """`clock` in seconds; it may start anywhere. `lookup` answers TXT."""

    def __init__(
        self, lookup: Callable[[str, str], Awaitable[Answer]], fetch: Fetch, clock: Callable[[], float]
    ) -> None:
        self._lookup = lookup
        self._fetch = fetch
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._asked: dict[str, asyncio.Task[StsView]] = {}

    def known(self, domain: str) -> StsView | None:
        """What was found lately, or None: `of` must be asked."""
        kept = self._kept.get(domain)
        if kept is None or kept.asked_until <= self._clock():
            return None
        return kept.view

    async def of(self, domain: str) -> StsView:
        if (view := self.known(domain)) is not None:
            return view
        task = self._asked.get(domain)
        if task is None:
            task = asyncio.create_task(self._find(domain))
            self._asked[domain] = task
            task.add_done_callback(lambda _: self._asked.pop(domain, None))
        # Shielded: one that gives up must not take the answer from the others.
        return await asyncio.shield(task)

    async def _find(self, domain: str) -> StsView:
        answer = await self._lookup(f"_mta-sts.{domain}", "TXT")
        now = self._clock()
        kept = self._kept.get(domain) or _Kept(NO_POLICY, "", 0.0)
        if not kept.valid(now):
            kept.view = StsView(None, kept.view.failure)
        id = record_id(answer.values) if isinstance(answer, Texts) else ""
        if id and self._wanted(kept, id, now):
            await self._fetched(domain, kept, id, now)
        elif not id and kept.view.policy is None:
            # Section 5.1: a policy once seen holds until it expires, whatever DNS says now; without one, none.
            kept.view = NO_POLICY
        kept.asked_until = now + (min(answer.ttl, _TRY_AGAIN_S) if kept.view.failure else answer.ttl)
        if isinstance(answer, Failure):
            kept.asked_until = now + answer.ttl
        if kept.valid(now) and kept.view.policy is not None:
            kept.asked_until = min(kept.asked_until, kept.fetched_at + kept.view.policy.max_age)
        self._kept[domain] = kept
        self._kept.move_to_end(domain)
        if len(self._kept) > _KEPT_MAX:
            self._forget(now)
        return kept.view

    def _wanted(self, kept: _Kept, id: str, now: float) -> bool:
        if id == kept.id and now - kept.tried_at < _TRY_AGAIN_S:
            return False
        policy = kept.view.policy
        # Section 5.1 asks for a fresh one before the old one ends: half of its age is early enough for many tries.
        return policy is None or policy.id != id or now - kept.fetched_at > policy.max_age / 2

    async def _fetched(self, domain: str, kept: _Kept, id: str, now: float) -> None:
        kept.id, kept.tried_at = id, now
        try:
            policy = parse(await self._fetch(domain), id)
        except FetchError as error:
            # Section 3.3: what is kept goes on to hold; with nothing kept, as if there were no policy.
            kept.view = StsView(kept.view.policy, _UNTRUSTED if error.untrusted else _FAILED)
        except Unusable:
            kept.view = StsView(kept.view.policy, _INVALID)
        else:
            kept.view, kept.fetched_at = StsView(policy), now

    def _forget(self, now: float) -> None:
        """The one unused for longest goes; one without a policy rather than one with."""
        for domain, kept in list(self._kept.items())[: _KEPT_MAX // 100]:
            if not kept.valid(now):
                del self._kept[domain]
                return
        self._kept.popitem(last=False)
