"""What the people and machines behind a mailbox will do with a message: a pure plan, by seed.

The plan follows from the seed, the mailbox and the subject, so a run with other ids, or the same message received
twice, leads to the same deeds. Doing them is `actor`'s, their times are scaled there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.simulator.chance import between, draws
from pipeline.simulator.config import ComplaintsTo, People
from pipeline.simulator.magic import Act, read


class Kind(StrEnum):
    """What somebody does."""

    DSN = "dsn"  # the mailbox's host bounces the message after all
    COMPLAINT = "complaint"  # "this is spam": the provider's feedback loop reports it
    PREFETCH = "prefetch"  # a privacy proxy loads the images
    SCAN = "scan"  # a gateway follows every link
    OPEN = "open"
    CLICK = "click"
    UNSUBSCRIBE = "unsubscribe"  # the mail program's button: RFC 8058


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing done `delay` seconds (unscaled) after the message arrived. `choice` in [0, 1) picks a link."""

    kind: Kind
    delay: float
    status: str = ""  # of a DSN
    choice: float = 0.0
    to: ComplaintsTo = ComplaintsTo.RETURN_PATH


def plan(seed: int, people: People, domain: str, localpart: str, subject: str) -> tuple[Deed, ...]:
    """The deeds that follow from one accepted message for one mailbox, in order of time."""
    magic = read(localpart)
    kinds = _forced(magic.act) if magic else _drawn(people, draws(seed, "people", domain, localpart.lower(), subject))
    if not kinds:
        return ()
    moment = draws(seed, "moment", domain, localpart.lower(), subject)
    opened = between(0.5, 8.0, moment[0])
    deeds = []
    for kind in kinds:
        match kind:
            case Kind.DSN:
                status = magic.argument if magic else "5.1.1"
                deeds.append(Deed(kind, between(0.5, 5.0, moment[4]), status=status))
            case Kind.COMPLAINT:
                # A forced complaint arrives also where the provider reports to nobody.
                nobody = people.complaints_to is ComplaintsTo.NOBODY
                to = ComplaintsTo.RETURN_PATH if nobody else people.complaints_to
                deeds.append(Deed(kind, between(2.0, 10.0, moment[3]), to=to))
            case Kind.PREFETCH:
                deeds.append(Deed(kind, between(0.1, 0.5, moment[5])))
            case Kind.SCAN:
                deeds.append(Deed(kind, between(0.2, 0.9, moment[6])))
            case Kind.OPEN:
                deeds.append(Deed(kind, opened, choice=moment[7]))
            case Kind.CLICK:
                deeds.append(Deed(kind, opened + between(0.5, 4.0, moment[1]), choice=moment[7]))
            case Kind.UNSUBSCRIBE:
                deeds.append(Deed(kind, between(2.0, 10.0, moment[2])))
    return tuple(sorted(deeds, key=lambda deed: deed.delay))


def _drawn(people: People, chance: Sequence[float]) -> list[Kind]:
    if chance[0] < people.late_bounces:
        return [Kind.DSN]  # nobody reads it
    kinds = []
    if chance[1] < people.prefetch:
        kinds.append(Kind.PREFETCH)
    if chance[2] < people.scans:
        kinds.append(Kind.SCAN)
    if chance[3] < people.opens:
        kinds.append(Kind.OPEN)
        if chance[4] < people.clicks:
            kinds.append(Kind.CLICK)
    if chance[5] < people.unsubscribes:
        kinds.append(Kind.UNSUBSCRIBE)
    if chance[6] < people.complaints and people.complaints_to is not ComplaintsTo.NOBODY:
        kinds.append(Kind.COMPLAINT)
    return kinds


def _forced(act: Act) -> list[Kind]:
    match act:
        case Act.LATE:
            return [Kind.DSN]
        case Act.COMPLAINT:
            return [Kind.COMPLAINT]
        case Act.OPEN:
            return [Kind.OPEN]
        case Act.CLICK:
            return [Kind.OPEN, Kind.CLICK]
        case Act.UNSUBSCRIBE:
            return [Kind.UNSUBSCRIBE]
        case _:
            return []
