"""A small world: a broker, a peer, a few queue owners, messages, faults by seed; and what was seen of it all.

A history is published and disturbed for some seconds, then left alone until it is quiet. What must hold is judged by
`judge`; this module makes things happen and writes down what the outside can see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from schemas import ids
from schemas.envelope import MailEvent
from schemas.lanes import Inline, MessageQueue
from sinks.smtp.commands import Park, Refuse, Rules, Verdict
from sinks.smtp.policy import Limits, Policy
from sinks.smtp.sites import onward
from sinks.smtp.state import Kind, Result
from tests.simulation.broker import Broker
from tests.simulation.host import EPOCH, LANE, STATE, Host
from tests.simulation.judge import Judge, Violation
from tests.simulation.kernel import Kernel, Process
from tests.simulation.log import Record
from tests.simulation.operator import Operator
from tests.simulation.peer import Behaviour, Peer
from tests.simulation.profiles import Profile, draw
from tests.simulation.routes import Routes
from tests.simulation.worker import Worker

DISTURBED: Final = 40.0  # seconds
LIMIT: Final = 600.0  # a world that is not quiet by then has lost something
_STEPS: Final = ("loop", "loop", "journal", "journal", "journal", "consumer", "restore", "facts", "fetch", "heartbeat")
_ABSENCES: Final = (3.0, 9.0, 11.0, 14.0, 17.0, 20.0, 30.0)  # seconds; the session's time-out is 15, a dot's 10
_CONTENT: Final = Inline(from_="News <news@brand.test>", subject="Hello", text="…")


@dataclass(slots=True)
class Seen:
    """One line of the trace."""

    at: float
    who: str
    what: str
    details: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.at:9.3f}  {self.who:8} {self.what:10} {' '.join(str(detail) for detail in self.details)}"


@dataclass(slots=True)
class _Planned:
    label: str
    step: int
    act: Callable[[Worker], None]


class World:
    def __init__(self, seed: int, profile: Profile, worker: type[Worker] = Worker) -> None:
        self.seed = seed
        self.profile = profile
        self.kernel = kernel = Kernel(seed)
        self.shape = draw(kernel.random)
        lanes = self.shape.lanes
        self.broker = Broker(kernel, {LANE[0]: lanes, LANE[1]: lanes, STATE: lanes}, lanes)
        self.broker.coordinator.on_commit = self._on_commit
        self.peer = Peer(kernel, profile.peer, profile.lossy_peer)
        self.judge = Judge(self)
        self.operator = Operator(self, DISTURBED)
        self.routes = Routes(self, DISTURBED)
        self.trace: list[Seen] = []
        self.disturbed = True
        self.workers: dict[int, Worker] = {}
        self.commands: dict[str, MessageQueue] = {}
        self.spurious_aborts = profile.aborts
        self.commit_timeout = 3.0
        self._worker = worker
        self._incarnations = 0
        self._plans: dict[str, _Planned] = {}
        self._busy: list[float] = []  # when messages come in
        self._names: dict[str, str] = {}  # of messages, in traces
        kernel.on_step = self._on_step

    # The run

    def run(self) -> None:
        """Raises Violation as soon as a promise is seen to be broken."""
        kernel = self.kernel
        for instance in range(self.shape.workers):
            self.start(instance)
        self._publish()
        self._disturb()
        self.operator.plan()
        kernel.run(DISTURBED)
        self._calm()
        while not self.judge.quiet():
            if kernel.now >= LIMIT:
                self.judge.never_quiet()
            kernel.run(kernel.now + 5.0)
        kernel.run(kernel.now + 12.0)  # nothing may follow
        self.judge.final()

    def digest(self) -> str:
        """The same for the same seed: every line of the trace, and where the generator of choices stands."""
        text = "\n".join(map(str, self.trace)) + repr(self.kernel.random.getstate()[1][-1])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def note(self, who: str, what: str, *details: Any) -> None:
        self.trace.append(Seen(self.kernel.now, who, what, details))

    def expect(self, holds: bool, who: str, what: str) -> None:
        if not holds:
            raise Violation(f"{who}: {what}")

    # Messages

    def _publish(self) -> None:
        random, shape = self.kernel.random, self.shape
        bursts = [random.uniform(2.0, 30.0) for _ in range(2)]
        for number in range(shape.messages):
            at = random.choice((0.0, *bursts, random.uniform(0.0, 30.0)))
            self._busy.append(at)
            site, urgent = f"site{random.randrange(3)}", random.random() < 0.3
            key = f"m{number}"
            name = ids.message_id("default", f"{self.seed}/{key}")
            self._names[name] = key
            accepted = datetime.fromtimestamp(EPOCH + at, UTC)
            expires = random.choice((20.0, 3_600.0, 3_600.0, 3_600.0))
            command = MessageQueue.from_cause(
                key, occurred_at=accepted, message_id=name, recipient_id="r", recipient_domain=f"{site}.test",
                recipient=f"ann@{site}.test", idempotency_key=key, site=site, content=_CONTENT, accepted_at=accepted,
                expires_at=accepted + timedelta(seconds=expires),
            )  # fmt: skip
            self.commands[name] = command
            self.kernel.at(at, self._append, command, urgent)
            if random.random() < 0.25:
                self.kernel.at(min(at + random.uniform(0.0, 20.0), DISTURBED), self._append, command, urgent)

    def _append(self, command: MessageQueue, urgent: bool) -> None:
        command = self.routes.placed(command, self.kernel.now)
        number = self.lane(command)
        offset = self.broker.partitions[LANE[urgent], number].append([(command.key, command)])
        self.judge.accepted(command.message_id, (LANE[urgent], number), offset)
        self.note("plan", "accepted", self.short(command), f"{LANE[urgent]}:{number}:{offset}")

    def lane(self, command: MessageQueue) -> int:
        return self.routes.lane(command)

    def short(self, thing: Any) -> str:
        """How a message is called in a trace; an attempt with its number."""
        if isinstance(thing, tuple):
            return f"{self.short(thing[0])}/{thing[1]}"
        name = thing.message_id if isinstance(thing, MessageQueue) else str(thing)
        return self._names.get(name, name)

    # Rules of the owners

    def rules(self, worker: str) -> Rules:
        shape, operator = self.shape, self.operator
        return Rules(
            admit=partial(self._admit, worker),
            gate=partial(operator.gate, worker),
            reviews=partial(operator.reviews, worker),
            onward=lambda command: onward(command, shape.lanes),
            policy=lambda command: Policy(on_doubt=shape.on_doubt),  # type: ignore[arg-type]  # one of the two, as drawn
            limits=lambda lane: Limits(connections=shape.connections, messages_per_connection=3, idle_s=5.0),
            scale=0.02,
            sessions=shape.connections * 2,
            cache_bytes=shape.cache_bytes,
            batch=shape.batch,
            worker=worker,
        )

    def _admit(self, worker: str, command: MessageQueue, now: float) -> Verdict:
        fate = int(command.message_id[:2], 16)
        if fate < 16:
            return Refuse(Result(Kind.SUPPRESSED, int(now * 1000), reason="manual"))
        if fate < 32 and now < EPOCH + 20.0:
            return Park("suspended", EPOCH + 20.0)
        return self.operator.admit(worker, command, now)

    def is_missing(self, command: MessageQueue, now: float) -> bool:
        """Whether what the message says is not known yet."""
        return 32 <= int(command.message_id[:2], 16) < 48 and now < EPOCH + 20.0

    def behave(self, command: MessageQueue) -> Behaviour:
        return self.peer.behave()

    # What is seen

    def dotted(self, worker: Host, message: str, attempt: int) -> None:
        self.note(worker.name, "dot", self.short((message, attempt)))
        self.judge.dot(worker.name, message, attempt)

    def fact(self, written: tuple[str, MailEvent]) -> None:
        """The broker appended a fact."""
        who, fact = written
        self.note(who, "fact", self.short(fact.message_id), fact.type, getattr(fact, "attempt", ""))
        self.judge.fact(who, fact)

    def _on_commit(self, author: str, records: list[tuple[tuple[str, int], Record]]) -> None:
        worker = self.workers.get(int(author.rsplit(".", 1)[1]))
        self.judge.committed(worker.name if worker is not None else author, records)

    # Faults

    def start(self, instance: int) -> None:
        self._incarnations += 1
        worker = self.workers[instance] = self._worker(self, instance, self._incarnations)
        worker.publisher.trouble = self.profile.facts if self.disturbed else 0.0
        self.operator.started(worker)
        self.note(worker.name, "started")

    def died(self, worker: Host, why: str) -> None:
        """Killed, or ended by itself with an error; started again by the supervisor, at the latest in calm."""
        self.note(worker.name, "died", why)
        self.troubled(worker, "died")
        self.kernel.kill(worker.process)
        if self.workers.get(worker.instance) is worker:
            self.kernel.at(self.kernel.random.uniform(0.5, 4.0), self._again, worker)

    def _again(self, worker: Host) -> None:
        if self.workers.get(worker.instance) is worker:
            self.start(worker.instance)

    def left(self, worker: Host) -> None:
        self.note(worker.name, "left")
        self.kernel.kill(worker.process)
        del self.workers[worker.instance]

    def troubled(self, worker: Host, why: str, seconds: float = 0.0) -> None:
        """From here on, for so long, what this worker has under way may come to be in doubt."""
        self.judge.trouble(worker.name, len(worker.wires) + len(worker.hung_up), why, seconds)

    def _disturb(self) -> None:
        random, profile, kernel = self.kernel.random, self.profile, self.kernel
        for _ in range(random.randint(0, profile.changes)):
            kernel.at(random.uniform(1.0, DISTURBED), self._change)
        for most, act in ((profile.kills, self._kill), (profile.freezes, self._freeze), (profile.cuts, self._cut)):
            for _ in range(random.randint(min(1, most), most)):
                # While there is work: what happens to an idle owner is of little interest.
                kernel.at(random.choice(self._busy) + random.expovariate(0.7), self._plan, act)
        for _ in range(random.randint(min(1, profile.restarts), profile.restarts)):
            at = random.uniform(1.0, DISTURBED - 10.0)
            kernel.at(at, self._broker_down)
            kernel.at(at + random.uniform(1.0, 20.0), self._broker_up)
        for _ in range(random.randint(min(1, profile.losses), profile.losses)):
            at = random.uniform(1.0, DISTURBED - 5.0)
            kernel.at(at, self._lose, random.uniform(0.05, 0.5))
            kernel.at(at + random.uniform(0.5, 5.0), self._lose, 0.0)
        if profile.slow_markers:
            self.broker.coordinator.marker_delay = (0.001, random.choice((0.004, 0.5, 3.0)))
        for _ in range(random.randint(0, 3)):
            kernel.at(random.uniform(1.0, DISTURBED), self._compact)
        for _ in range(random.randint(0, 2)):
            kernel.at(random.uniform(1.0, DISTURBED), self.routes.relane)
        for at in range(2, int(DISTURBED), 6):
            kernel.at(at, self.judge.conserved)

    def _plan(self, act: Callable[[Worker], None]) -> None:
        """Let it happen at some coming step of some worker: any step is as likely as any other of its thread."""
        random = self.kernel.random
        if self.workers:
            worker = self.workers[random.choice(sorted(self.workers))]
            self._plans[worker.name] = _Planned(random.choice(_STEPS), int(random.expovariate(0.12)), act)

    def _on_step(self, process: Process, label: str) -> None:
        plan = self._plans.get(process.name)
        if plan is None or plan.label != label:
            return
        plan.step -= 1
        if plan.step < 0 and self.disturbed:
            del self._plans[process.name]
            worker = next((found for found in self.workers.values() if found.process is process), None)
            if worker is not None:
                plan.act(worker)

    def _kill(self, worker: Worker) -> None:
        self.died(worker, "killed")

    def _freeze(self, worker: Worker) -> None:
        seconds = self.kernel.random.choice(_ABSENCES)
        self.note(worker.name, "frozen", f"{seconds:.0f} s")
        if seconds > 5.0:
            self.troubled(worker, "frozen", seconds)
        self.kernel.freeze(worker.process, seconds)

    def _cut(self, worker: Worker) -> None:
        seconds = self.kernel.random.choice(_ABSENCES)
        self.note(worker.name, "cut off", f"{seconds:.0f} s")
        self.troubled(worker, "cut off", seconds)
        worker.link.up = False
        self.kernel.at(seconds, self._joined_up, worker)

    def _joined_up(self, worker: Worker) -> None:
        self.note(worker.name, "reachable")
        worker.link.up = True

    def _change(self) -> None:
        random = self.kernel.random
        absent = [instance for instance in range(4) if instance not in self.workers]
        staying = [worker for worker in self.workers.values() if not worker.stopping]
        if len(staying) > 1 and (not absent or random.random() < 0.5):
            worker = random.choice(staying)
            self.note(worker.name, "leaving")
            worker.stopping = True
        elif absent:
            self.start(absent[0])

    def _broker_down(self) -> None:
        self.note("broker", "down")
        for worker in self.workers.values():
            self.troubled(worker, "broker down", 20.0)
        self.broker.stop()

    def _broker_up(self) -> None:
        self.note("broker", "up")
        self.broker.start()

    def _lose(self, share: float) -> None:
        self.note("network", "loses", f"{share:.0%}")
        for worker in self.workers.values():
            self.troubled(worker, "losses", 5.0)
        self.broker.loss = share

    def _compact(self) -> None:
        for (topic, _), partition in self.broker.partitions.items():
            if topic == STATE:
                partition.compact()

    def _calm(self) -> None:
        """Faults end; whoever is down comes back."""
        self.note("world", "calm")
        self.disturbed = False
        self._plans.clear()
        self.broker.loss, self.peer.trouble, self.spurious_aborts = 0.0, 0.0, 0.0
        self.broker.coordinator.marker_delay = (0.001, 0.004)
        for worker in self.workers.values():
            worker.publisher.trouble = 0.0
        if not self.workers:
            self.start(0)
