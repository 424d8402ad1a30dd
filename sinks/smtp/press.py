"""Compose and sign in a process of its own: orders come in over a socket, finished messages go back, in order.

    python -m sinks.smtp.press FD

A frame is four bytes of length and a pickle: the peer is our own parent, and the socket has no name. First comes the
`Setup`, then lists of `Order`, or a dict of signers in place of the setup's; back go lists of (order's number,
composition). It ends when the parent's end closes, and not by a signal: the parent drains first, also when a terminal
sends its Ctrl-C to both.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog

from schemas.lanes import MessageQueue
from schemas.state import CampaignSet
from schemas.tenant import Tenant
from schemas.tokens import Keyring
from sinks.smtp import rsa
from sinks.smtp.compose import Composer, Composition, Draft, Missing, Unsendable, finished
from sinks.smtp.dkim import Signer
from topics import memory
from topics.claims import Claims

BATCH: Final = rsa.LANES  # messages at most that are signed in one go, and go back so
_CHUNK: Final = 256 * 1024
_LENGTH: Final = 4  # bytes of a frame's length
_NICENESS: Final = 5  # the owner and the broker go first: a dot waits for them, and composing fills what they leave

Printed = list[tuple[int, Composition]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a composer knows, as its parameters."""

    tenants: Mapping[str, Tenant]
    keyring: Keyring
    signers: Mapping[str, Signer | None]
    claims: Claims | None = None


class Order(NamedTuple):
    number: int
    value: bytes  # of the lane's record
    urgent: bool
    campaign: CampaignSet | None = None  # the first time that this process has to know it


def framed(content: object) -> bytes:
    data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(_LENGTH, "big") + data


class Frames:
    """Chunks of a stream in, whole frames out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, chunk: bytes) -> list[Any]:
        self._data += chunk
        found = []
        at = 0
        while len(self._data) - at >= _LENGTH:
            end = at + _LENGTH + int.from_bytes(self._data[at : at + _LENGTH], "big")
            if len(self._data) < end:
                break
            found.append(pickle.loads(self._data[at + _LENGTH : end]))  # noqa: S301 - our own process wrote it
            at = end
        del self._data[:at]
        return found


class Press:
    def __init__(self, setup: Setup) -> None:
        self._campaigns: dict[str, CampaignSet] = {}
        self._signers = dict(setup.signers)
        self._composer = Composer(setup.tenants, setup.keyring, self._signers, self._campaigns.get, setup.claims)

    def sign_by(self, signers: Mapping[str, Signer | None]) -> None:
        self._signers.clear()
        self._signers.update(signers)
        rsa.forget()

    def print(self, orders: Sequence[Order]) -> Printed:
        drafts = [self._draft(order) for order in orders]
        try:
            compositions = finished(drafts)
        except Exception:
            compositions = [_finished_alone(draft) for draft in drafts]
        return [(order.number, each) for order, each in zip(orders, compositions, strict=True)]

    def _draft(self, order: Order) -> Draft | Unsendable | Missing:
        try:
            if order.campaign is not None:
                self._campaigns[order.campaign.key] = order.campaign
            return self._composer.draft(MessageQueue.model_validate_json(order.value))
        except Exception:
            return _internal_error()


def _finished_alone(draft: Draft | Unsendable | Missing) -> Composition:
    try:
        return finished([draft])[0]
    except Exception:
        return _internal_error()


def _internal_error() -> Unsendable:
    """A bug ends one message, not the process on which all others wait. No content in the log."""
    log.exception("compose_failed")
    return Unsendable("internal error")


def serve(peer: socket.socket) -> None:
    """Until the parent's end closes."""
    frames = Frames()
    press: Press | None = None
    orders: list[Order] = []
    while (chunk := _arrived(peer, wait=not orders)) != b"":
        for content in frames.feed(chunk) if chunk else ():
            if press is None:
                press = Press(content)
                memory.settle()
            elif isinstance(content, dict):
                press.sign_by(content)
            else:
                orders += content
        if press is not None and orders:
            peer.sendall(framed(press.print(orders[:BATCH])))
            del orders[:BATCH]


def _arrived(peer: socket.socket, *, wait: bool) -> bytes | None:
    """Empty when the peer has closed, None when there is nothing and nothing is waited for."""
    try:
        return peer.recv(_CHUNK, 0 if wait else socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None


def main() -> None:
    os.nice(_NICENESS)
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_, signal.SIG_IGN)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Without the parent nobody waits for what is being composed.
    with socket.socket(fileno=int(sys.argv[1])) as peer, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve(peer)


if __name__ == "__main__":
    main()
