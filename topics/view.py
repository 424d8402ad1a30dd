"""The newest value per key of a compacted topic, in memory, kept up to date in the background.

Decides what is known and how old that knowledge is; what a record means is left to `fold`, and reading to
`topics.view_reader`. A view that cannot see the topic's end says so by its `age`, and never pretends: who must not act
on old knowledge (suppression) compares the age first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from topics.kafka import Cluster
from topics.record import Record
from topics.registry import Topic
from topics.view_reader import Reader, elapsed

V = TypeVar("V")
Fold = Callable[[Record], V | None]
"""The value to keep for the record's key; None forgets the key. Tombstones forget it without asking. Raises ValueError
(such as `Undecodable`) for what it cannot read: then the old value stays. Return little: a view may hold millions."""
OnChange = Callable[[str, V | None], None]

log = structlog.get_logger(__name__)


class View(Generic[V]):
    """Reads may come from any thread and take no lock. Listeners are called in the reading thread."""

    def __init__(
        self,
        cluster: Cluster,
        topics: Topic | Sequence[Topic],
        fold: Fold[V],
        *,
        name: str = "view",
        reader: Reader | None = None,
        on_change: OnChange[V] | None = None,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        """With a `reader`, shared by a process's views, the caller starts and closes that. Else it has its own."""
        self.topics = (topics,) if isinstance(topics, Topic) else tuple(topics)
        self.unreadable = 0  # records that fold refused, since the start
        self._fold = fold
        self._clock = clock
        self._entries: dict[str, V] = {}
        self._loading = self._entries  # the same dict, except while the topic is read again
        self._listeners: list[OnChange[V]] = [on_change] if on_change else []
        self._known_at: float | None = None
        self._ready = threading.Event()
        self._own: Reader | None = None
        if reader:
            reader.add(self)
        else:
            self._own = Reader(cluster, name, clock=clock)
            self._own.add(self)
            self._own.start()

    def get(self, key: str) -> V | None:
        return self._entries.get(key)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[str, V]]:
        """A copy: the view goes on changing."""
        return list(self._entries.items())

    def age(self) -> float:
        """Seconds since the view surely held everything that Kafka had acked; infinite before it is ready."""
        known_at = self._known_at
        return float("inf") if known_at is None else max(0.0, self._clock() - known_at)

    @property
    def ready(self) -> bool:
        """It has once held all that the topic held when it began to read."""
        return self._ready.is_set()

    def wait_ready(self, timeout: float) -> bool:
        return self._ready.wait(timeout)

    def listen(self, on_change: OnChange[V]) -> None:
        """Call `on_change(key, value or None)` after every change from now on. It must be quick and not raise."""
        self._listeners.append(on_change)

    def close(self) -> None:
        """End the view's own reader, where it has one."""
        if self._own:
            self._own.close()

    # What follows is for the reader, on its thread.

    def feed(self, record: Record) -> None:
        try:
            key = (record.key or b"").decode()
            value = None if record.value is None else self._fold(record)
        except ValueError as error:
            self.unreadable += 1
            log.warning("view_record_unreadable", position=record.position, error=type(error).__name__)
            return
        if value is None:
            if self._loading.pop(key, None) is None:
                return
        else:
            self._loading[key] = value
        if self._loading is self._entries:
            self._tell(key, value)

    def caught_up(self, at: float) -> None:
        """All that was acked before `at` has been fed."""
        if self._loading is not self._entries:
            old, self._entries = self._entries, self._loading
            for key in old.keys() - self._entries.keys():
                self._tell(key, None)
            for key, value in self._entries.items():
                if old.get(key) != value:
                    self._tell(key, value)
        self._known_at = at
        self._ready.set()

    def read_again(self) -> None:
        """The topic will be fed from its beginning. Until it is complete again, readers see the old entries, ageing."""
        self._loading = {} if self._ready.is_set() else self._entries
        self._loading.clear()

    def _tell(self, key: str, value: V | None) -> None:
        for listener in self._listeners:
            try:
                listener(key, value)
            except Exception:
                # It must not end the reading of all views of the process; the trace is in the log.
                log.exception("view_listener_failed", topics=[topic.name for topic in self.topics])
