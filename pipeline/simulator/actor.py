"""Does what people and machines do with mail: sends their reports back by SMTP, follows links, presses buttons.

What is done and when is `people`'s plan; here it happens, only ever towards two loopback addresses, and each deed is
noted in `deeds.jsonl`. A person acts once; a provider's report and an unsubscribe button try again while the other
side is away. Deeds still ahead when the process ends are forgotten.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiosmtplib
import orjson
import structlog

from pipeline.simulator.addresses import Endpoint
from pipeline.simulator.config import ComplaintsTo, General, Provider
from pipeline.simulator.people import Deed, Kind, plan
from pipeline.simulator.reading import Letter, read
from pipeline.simulator.reports import Reporter, Subject, bounce, complaint
from pipeline.simulator.visits import Visitor
from pipeline.simulator.witness import Entry, read_raw

log = structlog.get_logger(__name__)

DEEDS_NAME = "deeds.jsonl"
_MOST_PENDING = 100_000
_AT_ONCE = 32
_TRIES = 8
_FIRST_PAUSE = 0.5  # seconds; doubled at each try
_LONGEST_PAUSE = 30.0
_SMTP_SECONDS = 30.0


class Later(Exception):
    """The other side is away or says "not now"; what it said is the text."""


@dataclass(frozen=True, slots=True)
class Job:
    """A deed about an entry, for one of its mailboxes."""

    deed: Deed
    provider: Provider
    entry: Entry
    mailbox: str
    number: int
    tries: int = 1


class Actor:
    """All people and machines of the simulated internet."""

    def __init__(
        self, seed: int, general: General, folder: Path, inbound: Endpoint, visitor: Visitor, clock: Callable[[], float]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._scale = general.time_scale
        self._folder = folder
        self._inbound = inbound
        self._visitor = visitor
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._timers: dict[Job, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = os.open(folder / DEEDS_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def arrived(self, provider: Provider, entry: Entry) -> None:
        """A message is in its mailboxes: plan what follows."""
        for mailbox in entry.rcpt_to:
            localpart, _, domain = mailbox.rpartition("@")
            for number, deed in enumerate(plan(self._seed, provider.people, domain, localpart, entry.subject)):
                if len(self._timers) >= _MOST_PENDING:
                    self.counts["forgotten"] += 1
                    continue
                self._wait(Job(deed, provider, entry, mailbox, number), deed.delay * self._scale)

    @property
    def pending(self) -> int:
        """Deeds planned or under way."""
        return len(self._timers) + len(self._tasks)

    async def stop(self) -> None:
        """Forget what is ahead and end what is under way."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._visitor.close()
        os.close(self._log)

    def _wait(self, job: Job, seconds: float) -> None:
        self._timers[job] = self._loop.call_later(seconds, self._begin, job)

    def _begin(self, job: Job) -> None:
        del self._timers[job]
        task = self._loop.create_task(self._act(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _act(self, job: Job) -> None:
        async with self._gate:
            try:
                result = await self._do(job)
            except Later as error:
                if job.tries < _TRIES:
                    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (job.tries - 1))
                    self._wait(replace(job, tries=job.tries + 1), pause)
                    return
                result = f"gave up: {error}"
            self._note(job, result)

    async def _do(self, job: Job) -> str:
        raw = read_raw(self._folder, job.entry)
        if raw is None:
            return "the body is no longer kept"
        match job.deed.kind:
            case Kind.DSN:
                return await self._bounce(job, raw)
            case Kind.COMPLAINT:
                return await self._complain(job, raw)
        letter = read(raw)
        match job.deed.kind:
            case Kind.PREFETCH:
                return await self._visitor.prefetch(letter.images)
            case Kind.OPEN:
                return await self._visitor.open(letter.images, job.deed.choice, proxy=job.provider.people.image_proxy)
            case Kind.SCAN:
                return await self._visitor.scan(letter.links)
            case Kind.CLICK:
                return await self._visitor.click(_choice(letter, job.deed.choice), job.deed.choice)
            case Kind.UNSUBSCRIBE if not letter.one_click:
                return "no one-click header"
            case Kind.UNSUBSCRIBE:
                status = await self._visitor.unsubscribe(letter.one_click)
                if status == 0 or status == 429 or status >= 500:
                    raise Later(f"HTTP {status}")
                return f"HTTP {status}"
        raise AssertionError(f"no way to do {job.deed.kind}")

    async def _bounce(self, job: Job, raw: bytes) -> str:
        if not job.entry.mail_from:
            return "no return path"  # RFC 5321 section 4.5.5: never a report about a report
        report = bounce(job.provider.people.dsn, job.deed.status, self._about(job, raw), self._reporter(job))
        return await self._mail(job.entry.mail_from, report)

    async def _complain(self, job: Job, raw: bytes) -> str:
        to = job.entry.mail_from
        if job.deed.to is ComplaintsTo.ABUSE:
            found = re.search(r"@([A-Za-z0-9.-]+)", read(raw).header("From"))
            to = f"abuse@{found[1]}" if found else to
        if not to:
            return "no return path"
        redacts = job.provider.people.redacts
        return await self._mail(to, complaint(self._about(job, raw), to, self._reporter(job), redacts=redacts))

    async def _mail(self, to: str, report: bytes) -> str:
        try:
            client = aiosmtplib.SMTP(
                hostname=self._inbound.host,
                port=self._inbound.port,
                local_hostname="reports.sim.test",
                validate_certs=False,  # opportunistic, as between real hosts
                timeout=_SMTP_SECONDS,
            )
            async with client:
                # RFC 3464 section 2: a report has the null return path.
                options = [] if report.isascii() else ["BODY=8BITMIME"]
                _, said = await client.sendmail("", [to], report, mail_options=options)
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500:
                return f"refused: {error.code} {error.message}"
            raise Later(f"{error.code} {error.message}") from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            refusal = error.recipients[0]
            if refusal.code >= 500:
                return f"refused: {refusal.code} {refusal.message}"
            raise Later(f"{refusal.code} {refusal.message}") from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Later(type(error).__name__) from error
        return f"accepted: {said}"

    def _about(self, job: Job, raw: bytes) -> Subject:
        return Subject(job.entry.mail_from, job.mailbox, raw, job.entry.time)

    def _reporter(self, job: Job) -> Reporter:
        name = f"{job.deed.kind.value}-{job.entry.seq}-{job.number}"
        return Reporter(job.provider.hosts[0].name, name, self._clock())

    def _note(self, job: Job, result: str) -> None:
        self.counts[job.deed.kind.value] += 1
        line = {
            "time": round(self._clock(), 6),
            "kind": job.deed.kind.value,
            "seq": job.entry.seq,
            "mailriver_id": job.entry.mailriver_id,
            "mailbox": job.mailbox,
            "result": result[:300],
            "tries": job.tries,
        }
        try:
            os.write(self._log, orjson.dumps(line) + b"\n")
        except OSError as error:
            log.warning("simulator.deed.unnoted", error=type(error).__name__)


def _choice(letter: Letter, draw: float) -> str:
    """The link that a person follows: hardly ever the one at the foot that unsubscribes."""
    links = [url for url in letter.links if "unsubscribe" not in url.lower() and url != letter.one_click]
    return links[int(draw * len(links))] if links else ""
