"""Threads that compose and sign messages, in small batches, so that neither the event loop nor one core does it all.

Per message it costs neither a future nor a wake-up of the loop: results are handed over as many as there are.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

import structlog

from schemas.lanes import MessageQueue
from sinks.smtp.compose import Composition, Unsendable

_BATCH: Final = 8

Printed = list[tuple[int, Composition]]

log = structlog.get_logger(__name__)


class Pressroom:
    """`done` is called in one of the threads with what is ready, by the numbers given to `order`."""

    def __init__(
        self, compose: Callable[[MessageQueue], Composition], done: Callable[[Printed], None], threads: int
    ) -> None:
        self._compose = compose
        self._done = done
        self._orders: queue.SimpleQueue[tuple[int, MessageQueue] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"pressroom-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def order(self, number: int, command: MessageQueue) -> None:
        self._orders.put((number, command))

    def close(self) -> None:
        for _ in self._threads:
            self._orders.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            printed: Printed = []
            while order is not None:
                printed.append((order[0], self._print(order[1])))
                if len(printed) >= _BATCH or self._orders.empty():
                    break
                order = self._orders.get()
            if printed:
                self._done(printed)
            if order is None:
                return

    def _print(self, command: MessageQueue) -> Composition:
        try:
            return self._compose(command)
        except Exception:
            # A bug in rendering ends one message, not the thread on which all others wait. No content in the log.
            log.exception("compose_failed", message_id=command.message_id)
            return Unsendable("internal error")
