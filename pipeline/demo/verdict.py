"""Compare what mailriver says of its messages with what the witness saw. Pure.

Lost: said to be delivered and never seen, or accepted and without an end. Doubled: seen twice. Phantom: seen, though
mailriver says that it was not sent (suppressed, bounced, …) or knows nothing of it. A message whose end is `unknown`
may have been seen or not: that is what unknown says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    lost: tuple[str, ...]
    duplicates: tuple[str, ...]
    phantom: tuple[str, ...]
    seen: int = 0  # mails that arrived, copies included

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.phantom)


def compare(published: int, statuses: Mapping[str, str], seen: Sequence[str]) -> Verdict:
    """`statuses`: status by message_id, as v_messages has it; `seen`: the message_id of each mail that arrived.

    `published` sends were made: those that never became a message are lost too.
    """
    copies = Counter(seen)
    lost = [
        message_id
        for message_id, status in statuses.items()
        if status == "in_flight" or (status == "delivered" and not copies[message_id])
    ]
    lost += ["(never accepted)"] * max(0, published - len(statuses))
    phantom = [message_id for message_id in copies if statuses.get(message_id) not in ("delivered", "unknown")]
    return Verdict(
        lost=tuple(sorted(lost)),
        duplicates=tuple(sorted(message_id for message_id, count in copies.items() if count > 1)),
        phantom=tuple(sorted(phantom)),
        seen=len(seen),
    )
