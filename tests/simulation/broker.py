"""The model broker behind its network: requests and answers that take time, get lost, or find it down.

One broker, all its topics. What is on its disk survives a restart; what was on the wire does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.simulation.group import Group
from tests.simulation.kernel import Future, Kernel
from tests.simulation.log import Partition
from tests.simulation.transactions import Coordinator

Name = tuple[str, int]


class Lost:
    """No answer came within the request's time-out: what was asked may have been done or not."""


LOST: Final = Lost()


class Link:
    """The way from one host to the broker; all connections of a worker share it."""

    __slots__ = ("up",)

    def __init__(self) -> None:
        self.up = True


class Connection:
    """Requests arrive in the order in which they were sent, answers likewise."""

    __slots__ = ("answered", "arrived", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.arrived = 0.0
        self.answered = 0.0


class Broker:
    def __init__(self, kernel: Kernel, topics: dict[str, int], lanes: int, *, session: float = 15.0) -> None:
        self.kernel = kernel
        self.partitions = {
            (topic, at): Partition((topic, at)) for topic, count in topics.items() for at in range(count)
        }
        self.group = Group(lanes, session)
        self.coordinator = Coordinator(kernel, self.partitions)
        self.up = True
        self.latency = (0.001, 0.004)
        self.loss = 0.0  # share of requests or answers that vanish
        self.request_timeout = 1.0

    def request(self, connection: Connection, handle: Callable[..., Any], *args: Any) -> Future:
        """Resolved with what `handle` returned at the broker, or LOST."""
        kernel, answer = self.kernel, Future()
        if not connection.link.up or (self.loss and kernel.random.random() < self.loss):
            kernel.at(self.request_timeout, answer.resolve, LOST)
        else:
            connection.arrived = max(connection.arrived, kernel.now + kernel.random.uniform(*self.latency))
            kernel.at(connection.arrived - kernel.now, self._arrive, connection, answer, handle, args)
        return answer

    def stop(self) -> None:
        self.up = False

    def start(self) -> None:
        """A coordinator that comes up gives every member a fresh session."""
        self.up = True
        for member in self.group.members.values():
            member.heard = self.kernel.now
        for partition in self.partitions.values():
            for watcher in tuple(partition.watchers):
                watcher()

    def _arrive(
        self, connection: Connection, answer: Future, handle: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        kernel = self.kernel
        if not self.up:
            kernel.at(self.request_timeout, answer.resolve, LOST)
            return
        value = handle(*args)
        if not connection.link.up or (self.loss and kernel.random.random() < self.loss):
            kernel.at(self.request_timeout, answer.resolve, LOST)
        else:
            connection.answered = max(connection.answered, kernel.now + kernel.random.uniform(*self.latency))
            kernel.at(connection.answered - kernel.now, answer.resolve, value)
