"""What a simulated owner has: its process, clocks, clients, and the inbox of its event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sinks.smtp.commands import Transaction
from sinks.smtp.core import Owner
from sinks.smtp.queue import LaneRecord
from tests.simulation.broker import LOST, Connection, Link
from tests.simulation.clients import Consumer, FactProducer, Producer
from tests.simulation.group import Metadata
from tests.simulation.kernel import Future, Process, Steps
from tests.simulation.log import Record
from tests.simulation.peer import Behaviour
from tests.simulation.transactions import Refusal

if TYPE_CHECKING:
    from tests.simulation.world import World

LANE: Final = ("lane", "lane.urgent")  # by urgency
STATE: Final = "state"
EPOCH: Final = 1_800_000_000.0  # wall time at which the world begins
Name = tuple[str, int]


class Wire:
    """A session with the peer."""

    __slots__ = ("behaviour", "message", "number", "open", "started")

    def __init__(self, number: int, behaviour: Behaviour) -> None:
        self.number = number
        self.behaviour = behaviour
        self.open = True
        self.message: tuple[str, int] | None = None  # and the attempt's number
        self.started = 0


class Host:
    transaction_timeout = 10.0
    early = 0.5  # share of transactions whose records leave before their offsets do: the client decides

    def __init__(self, world: World, instance: int, incarnation: int) -> None:
        self.world = world
        self.kernel = world.kernel
        self.broker = world.broker
        self.instance = instance
        self.name = f"w{instance}.{incarnation}"
        self.process = Process(self.name)
        self.link = Link()
        self.skew = world.kernel.random.uniform(-0.5, 0.5)
        self.owner = Owner(world.rules(self.name))
        self.wires: dict[int, Wire] = {}
        self.hung_up: set[int] = set()  # sessions closed, whose last outcome may not be committed
        self._settling: set[int] = set()  # those of them that the transaction under way has the outcomes of
        self.producer = Producer(self.broker, self.link, f"smtp.main.{instance}", self.transaction_timeout)
        self.consumer = Consumer(self.broker, self.link, self.process, self.name, LANE)
        self.publisher = FactProducer(self.broker, self.link, self.process, world.fact)
        self.stopping = False
        self.stopped = False
        self._reader = Connection(self.link)
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = Future()
        self._journal: tuple[Transaction, Metadata] | None = None
        self._journal_wake = Future()
        self._busy = True  # until the producer is initialised
        self._busy_since: float | None = None
        self._handed: Metadata | None = None  # by the consumer's thread
        self._metadata: Metadata | None = None  # as of the newest poll that the loop knows of
        self._terms: dict[int, object] = {}  # a partition's assignment, so that a late restore is told from a new one
        self._drained: dict[int, Future] = {}
        self._deadline: dict[int, float] = {}

    # Clocks

    def wall(self) -> float:
        return EPOCH + self.kernel.now + self.skew

    def boot(self) -> float:
        """CLOCK_BOOTTIME: it does not stop with the process."""
        return self.kernel.now

    def note(self, what: str, *details: Any) -> None:
        self.world.note(self.name, what, *details)

    def die(self, why: str) -> None:
        """The process ends; the supervisor starts another."""
        self.world.died(self, why)

    # Calls

    def post(self, call: Callable[[], None]) -> None:
        """To the event loop, which alone touches the core."""
        self._inbox.append(call)
        self._wake.resolve()

    def ask(self, handle: Callable[..., Any], *args: Any) -> Steps:
        while True:
            reply = yield self.broker.request(self._reader, handle, *args)
            if reply is not LOST and reply is not Refusal.UNSTABLE:
                return reply
            yield self.kernel.sleep(0.05)


def lane_record(urgent: bool, record: Record) -> LaneRecord:
    return LaneRecord(urgent, record.offset, record.key, record.value, bytes(700))
