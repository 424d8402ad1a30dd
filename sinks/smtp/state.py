"""What the queue owner remembers of a message, and its bytes on `mail.queue.GROUP`: at most 300, never an address.

The body, the address and all labels stay in the lane record, which `offset` names; a fact is rebuilt from both.
Everything an attempt found out travels in `Result`. What does not fit is cut in the order of `_RANKED`, the reply's
text first, so a fact that a new owner publishes again has the same id as the lost one and may have a shorter text.
Key: the 16 bytes of the message_id. Scheduling is queue.py's, the order of phases core.py's.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from hashlib import sha256
from operator import attrgetter, gt
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

from schemas.envelope import Priority

MAX_BYTES: Final = 300
_KEY_BYTES: Final = 16
PRIORITIES: Final = (Priority.NORMAL, Priority.HIGH, Priority.LOW)  # by their numbers on disk
_MAX_LANE: Final = 120  # bytes of a lane's name in a record
_VERSION: Final = 1  # of marks
_VERSION_WAITING: Final = 3  # with the tenant
_VERSION_OWED: Final = 4  # and with a result
_READ: Final = {1: (False, 1), 2: (False, 2), 3: (True, 2), 4: (True, 2)}  # has the tenant, layout of the strings


class Phase(IntEnum):
    """`queued -> sending -> ended -> done`; `sending -> queued`; `queued -> moved`. Values are on disk."""

    QUEUED = 1
    SENDING = 2  # an attempt may have written its final dot
    ENDED = 3  # its facts are not all acknowledged yet
    DONE = 4  # a marker: the message_id may not be taken in again until `keep_until`
    MOVED = 5  # the same marker, on the lane that it left


class Kind(IntEnum):
    """What an attempt, or the wait for one, came to. Values are on disk."""

    DELIVERED = 1
    DEFERRED = 2
    BOUNCED = 3
    HELD = 4  # not tried, for a local cause
    UNKNOWN = 5  # the dot went out, no reply was read
    EXPIRED = 6
    SUPPRESSED = 7
    CANCELLED = 8
    FAILED = 9  # no reply will ever decide it


class Result(NamedTuple):
    """The result of an attempt (`started_at` above 0), or an end without one. Times in ms since the epoch.

    `text` has been through `schemas.redact` already; `reason` is the suppression, the cause of a hold, a failure or a
    doubt.
    """

    kind: Kind
    at: int
    started_at: int = 0
    code: int = 0
    enhanced: str = ""
    text: str = ""
    stage: str = ""
    bounce_class: str = ""
    disposition: str = ""
    rule: str = ""
    classifier_version: int = 0
    reason: str = ""
    source: str = ""
    worker: str = ""
    session_id: str = ""
    mx_host: str = ""
    mx_ip: str = ""
    connect_ms: float = 0.0
    transfer_ms: float = 0.0
    tls_version: str = ""
    tls_cipher: str = ""
    tls_verified: bool = False
    tls_policy: str = ""
    tls_failure: str = ""


class State(NamedTuple):
    """One record of the state topic. `result` is there while its facts are owed.

    A named tuple, as what else is made several times for each message: a frozen dataclass takes four times as long.
    """

    phase: Phase
    urgent: bool  # which of the two lane topics `offset` is of
    offset: int
    lane: str  # pool/site#shard; empty once it has ended
    attempts: int
    accepted_at: int  # ms
    next_at: int  # ms; when it may be tried
    expires_at: int  # seconds, as `keep_until`
    keep_until: int  # end of the duplicate window
    result: Result | None = None
    tenant: int = 0  # `tenant_number` of its name; 0 where it was not written yet
    priority: int = 0  # its place in PRIORITIES; NORMAL where it was not written yet


class Unreadable(ValueError):
    """A state record that this version cannot read. The partition is not served: guessing could mail twice."""


# version, phase, flags, attempts, offset, accepted_at, next_at, expires_at, keep_until
_HEAD = struct.Struct(">BBBHQQQII")
_TENANT = struct.Struct(">I")
_MARK = struct.Struct(">BBBQI")  # version, phase, flags, offset, keep_until
_RESULT = struct.Struct(">BQQHHff")  # kind, at, started_at, code, classifier_version, connect_ms, transfer_ms
_URGENT, _OWED, _VERIFIED = 1, 2, 4
_PRIORITY: Final = 3  # of the flags' bits, the first of two
_SEPARATOR = "\x1f"

# In the order in which room is given; the number is the most bytes each may have.
_RANKED: Final = (
    ("reason", 48), ("enhanced", 10), ("bounce_class", 20), ("disposition", 12), ("stage", 9), ("mx_ip", 39),
    ("source", 24), ("rule", 24), ("mx_host", 64), ("session_id", 16), ("worker", 24), ("tls_version", 8),
    ("tls_policy", 13), ("tls_failure", 25), ("tls_cipher", 32), ("text", MAX_BYTES),
)  # fmt: skip
_STRINGS_2: Final = tuple(name for name, _ in _RANKED)
_texts: Final = attrgetter(*_STRINGS_2)
_MOST: Final = tuple(most for _, most in _RANKED)
_STRINGS_1: Final = tuple(name for name in _STRINGS_2 if name not in ("tls_policy", "tls_failure"))


def encode(state: State) -> bytes:
    flags = _URGENT if state.urgent else 0
    if state.phase >= Phase.DONE:
        return _MARK.pack(_VERSION, state.phase, flags, state.offset, state.keep_until)
    flags |= state.priority << _PRIORITY
    result = state.result
    if result is not None:
        flags |= _OWED | (_VERIFIED if result.tls_verified else 0)
    head = _HEAD.pack(
        _VERSION_WAITING if result is None else _VERSION_OWED, state.phase, flags, min(state.attempts, 0xFFFF),
        state.offset, state.accepted_at, state.next_at, state.expires_at, state.keep_until,
    )  # fmt: skip
    lane = state.lane.encode()
    head += _TENANT.pack(state.tenant) + bytes((len(lane),)) + lane
    if result is None:
        return head
    head += _RESULT.pack(
        result.kind,
        result.at,
        result.started_at,
        result.code,
        result.classifier_version,
        result.connect_ms,
        result.transfer_ms,
    )
    return head + _strings(result, MAX_BYTES - len(head))


def decode(value: bytes) -> State:
    try:
        return _decode(value)
    except (struct.error, ValueError, IndexError, UnicodeDecodeError):
        raise Unreadable(f"a state record of {len(value)} bytes, version {value[:1].hex() or 'none'}") from None


def _decode(value: bytes) -> State:
    if value[0] not in _READ:
        raise ValueError("version")
    has_tenant, strings = _READ[value[0]]
    phase = Phase(value[1])
    if phase >= Phase.DONE:
        _, _, flags, offset, keep_until = _MARK.unpack(value)
        return State(phase, bool(flags & _URGENT), offset, "", 0, 0, 0, 0, keep_until)
    _, _, flags, attempts, offset, accepted_at, next_at, expires_at, keep_until = _HEAD.unpack_from(value)
    at = _HEAD.size
    tenant = 0
    if has_tenant:
        (tenant,) = _TENANT.unpack_from(value, at)
        at += _TENANT.size
    start, at = at + 1, at + 1 + value[at]
    lane = value[start:at].decode()
    if len(value) < at or (len(value) > at and not flags & _OWED):
        raise ValueError("length")
    result = None
    if flags & _OWED:
        kind, decided, started, code, classifier, connect_ms, transfer_ms = _RESULT.unpack_from(value, at)
        parts = value[at + _RESULT.size :].decode().split(_SEPARATOR)
        names = _STRINGS_1 if strings == 1 else _STRINGS_2
        texts = dict(zip(names, parts, strict=True))
        result = Result(
            Kind(kind), decided, started, code, classifier_version=classifier, connect_ms=connect_ms,
            transfer_ms=transfer_ms, tls_verified=bool(flags & _VERIFIED), **texts,
        )  # fmt: skip
    return State(
        phase, bool(flags & _URGENT), offset, lane, attempts, accepted_at, next_at, expires_at, keep_until, result,
        tenant, flags >> _PRIORITY & 3,
    )  # fmt: skip


def _strings(result: Result, room: int) -> bytes:
    texts = _texts(result)
    whole = _SEPARATOR.join(texts)
    if (
        len(whole) <= room
        and whole.isascii()
        and whole.count(_SEPARATOR) == len(_RANKED) - 1
        and not any(map(gt, map(len, texts), _MOST))
    ):
        return whole.encode()  # as nearly always: nothing to be cut
    room -= len(_RANKED) - 1  # the separators
    parts: list[bytes] = []
    for text, most in zip(texts, _MOST, strict=True):
        if not text:
            parts.append(b"")
            continue
        part = str(text).replace(_SEPARATOR, " ").encode()
        if len(part) > min(most, room):
            # A cut inside a character drops the character.
            part = part[: max(0, min(most, room))].decode(errors="ignore").encode()
        room -= len(part)
        parts.append(part)
    return _SEPARATOR.encode().join(parts)


def lane_name(key: str) -> str:
    """The lane's key as it stands in states: itself, or a stable short form when a record has no room for it."""
    raw = key.encode()
    if len(raw) <= _MAX_LANE:
        return key
    return raw[: _MAX_LANE - 33].decode(errors="ignore") + "~" + sha256(raw).hexdigest()[:32]


def tenant_number(name: str) -> int:
    """A tenant in four bytes: for turns among tenants, where it does no harm if two should share one."""
    return crc32(name.encode())


def key_of(message_id: str) -> bytes:
    key = bytes.fromhex(message_id.replace("-", ""))
    if len(key) != _KEY_BYTES:
        raise ValueError("a message_id is an UUID")
    return key


def message_id_of(key: bytes) -> str:
    return str(UUID(bytes=key))
