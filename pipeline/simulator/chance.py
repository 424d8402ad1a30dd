"""Chance that is a function of the seed: the same seed and the same subject always draw the same numbers.

Pure; nothing in the simulator uses another source of randomness for what it decides.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

_WORDS = struct.Struct(">8I")
_SCALE = 2.0**-32


def draws(seed: int, *subject: str) -> list[float]:
    """Eight numbers in [0, 1) for a subject such as ("mailbox", domain, localpart): one hash, a few microseconds."""
    text = "\x1f".join((str(seed), *subject))
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_WORDS.size).digest()
    return [word * _SCALE for word in _WORDS.unpack(digest)]


def between(low: float, high: float, draw: float) -> float:
    """The value at `draw` of the range from `low` to `high`."""
    return low + (high - low) * draw
