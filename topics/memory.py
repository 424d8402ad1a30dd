"""How often Python looks for garbage in cycles: seldom, and never among what stays.

Nearly all of ours goes by its reference count: of what is made for a message nothing is left in a cycle. Each look at
the young ones (every 700 objects, as Python has it) finds those of the messages under way, all alive; a look at all of
them, with a million messages queued, stops the process for half a second, and finds as little. For every role and the
processes that compose alike.
"""

from __future__ import annotations

import gc
from typing import Final

# Objects made and not freed before a look at the young ones, and how many of those before one at the middle-aged, and
# at all. What a cycle does hold meanwhile is some megabytes.
_THRESHOLDS: Final = (10_000, 20, 20)


def settle() -> None:
    """What is there now stays, and is never looked at again: after a start, or after much was read. Takes no time.

    It is still freed when nothing refers to it.
    """
    gc.set_threshold(*_THRESHOLDS)
    gc.freeze()
