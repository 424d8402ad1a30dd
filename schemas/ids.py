"""Names of things that every stage must compute alike: events, messages, recipients, lanes.

All are pure functions of what is named: a retry, a crash or a replay names the same thing the same way. What goes
into an event's cause, and which secret a deployment uses, is left to the callers.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from hashlib import _Hash

# Drawn once, never to change: every stored id depends on them.
EVENT_NAMESPACE: Final = UUID("d4ecc65e-4537-4aca-a28f-e7434f987717")
MESSAGE_NAMESPACE: Final = UUID("079a47a0-6a31-4843-be83-2ca9e785e61d")

# 128 bits of the HMAC. Among 10^10 recipients two share an id with a probability of 10^-19, and without the secret
# nobody can try out addresses. In base32, lower case: 26 characters, safe in URLs, keys and stores blind to case.
_RECIPIENT_ID_BYTES: Final = 16
_SECRET_MIN_BYTES: Final = 16
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648 section 6, in lower case
_PAIRS: Final = [first + second for first in _BASE32 for second in _BASE32]

# RFC 9562 section 4.1: the top bits of this hexadecimal digit become 10.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def event_id(type: str, cause: str) -> str:
    """UUIDv5 of (type, cause): the same fact has the same id, however often it is written."""
    return _named(EVENT_NAMESPACE.bytes, type, cause.encode())


def message_id(tenant: str, key: bytes | str) -> str:
    """UUIDv5 of (tenant, Kafka key of the send). A text key stands for its UTF-8 bytes; a key may be any bytes."""
    return _named(MESSAGE_NAMESPACE.bytes, tenant, key.encode() if isinstance(key, str) else key)


def campaign_key(campaign_id: str, recipient_id: str) -> str:
    """The Kafka key that a campaign's send must have. The last slash divides it: a recipient_id has none."""
    if "/" in recipient_id:
        raise ValueError("a recipient_id has no slash")
    return f"{campaign_id}/{recipient_id}"


def recipient_id(secret: bytes, tenant: str, canonical: str) -> str:
    """The pseudonym of an address within a tenant: 26 characters of `a-z2-7`.

    `canonical` comes from `schemas.address.canonical`. Tenants get different ids for one address, so that their
    histories cannot be joined. Raises ValueError when the secret is under 16 bytes.
    """
    mac = _keyed(secret, tenant).copy()
    mac.update(canonical.encode())
    number = int.from_bytes(mac.digest()[:_RECIPIENT_ID_BYTES], "big") << 2  # 128 bits and 2 of padding
    return "".join([_PAIRS[number >> at & 1023] for at in range(120, -1, -10)])


def shard(message_id: str, k: int) -> int:
    """Which of a site's k shards owns the message. A UUIDv5 is a hash already: its first 32 bits are enough."""
    return int(message_id[:8], 16) % k


def lane_key(pool: str, site: str, shard: int) -> str:
    """The Kafka key of a lane."""
    return f"{pool}/{site}#{shard}"


def lane_partition(pool: str, site: str, shard: int, n: int) -> int:
    """The partition of a lane among n: a site's shards lie on neighbouring partitions, so on as many as there are."""
    return (_lane_base(pool, site) + shard) % n


def key_partition(key: bytes, n: int) -> int:
    """Where Kafka's own producers (murmur2) put a key among n partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % n


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 (seed 0x9747b28c), unsigned. Java's `Utils.murmur2` gives the same bits, signed."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        k = (k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 & 0xFFFFFFFF) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ h >> 15


@lru_cache(maxsize=65_536)  # sites repeat from message to message; bounded, since domains come from outside
def _lane_base(pool: str, site: str) -> int:
    return murmur2(f"{pool}/{site}".encode()) & 0x7FFFFFFF


# A hash that has its first part already: copying it costs less than hashing that again. Types and tenants are few.


def _named(namespace: bytes, first: str, second: bytes) -> str:
    digest = _hashed(namespace, first).copy()
    digest.update(second)
    return _uuid5(digest.hexdigest())


@lru_cache(maxsize=4_096)
def _hashed(namespace: bytes, first: str) -> _Hash:
    return sha1(namespace + _begun(first), usedforsecurity=False)


@lru_cache(maxsize=4_096)
def _keyed(secret: bytes, tenant: str) -> hmac.HMAC:
    if len(secret) < _SECRET_MIN_BYTES:
        raise ValueError(f"the secret of recipient ids needs at least {_SECRET_MIN_BYTES} bytes")
    return hmac.new(secret, _begun(tenant), "sha256")


def _begun(first: str) -> bytes:
    # The length in front: a plain separator would make ("a", "b/c") and ("a/b", "c") one.
    return b"%d:%b" % (len(first.encode()), first.encode())


def _uuid5(digest: str) -> str:
    # RFC 9562 section 5.5: the first 128 bits of SHA-1, with version 5 and the variant set. By hand, since the standard
    # library takes no bytes before 3.12, and an UUID object costs more than the hash.
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
