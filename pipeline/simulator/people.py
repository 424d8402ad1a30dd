"""What the people and machines behind a mailbox will do with a message: a pure plan, by seed.

The plan follows from the seed, the mailbox and the subject, so a run with other ids, or the same message received
twice, leads to the same deeds. Doing them is `actor`'s, their times are scaled there.
"""

from __future__ import annotations

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
    mailbox = localpart.lower()
    chance = draws(seed, "people", domain, mailbox, subject)
    moment = draws(seed, "moment", domain, mailbox, subject)
    opened = Deed(Kind.OPEN, between(0.5, 8.0, moment[0]))
    clicked = Deed(Kind.CLICK, opened.delay + between(0.5, 4.0, moment[1]), choice=moment[7])
    unsubscribed = Deed(Kind.UNSUBSCRIBE, between(2.0, 10.0, moment[2]))
    complaint = Deed(Kind.COMPLAINT, between(2.0, 10.0, moment[3]), to=people.complaints_to)
    bounce = Deed(Kind.DSN, between(0.5, 5.0, moment[4]), status="5.1.1")
    if magic is not None:
        return _forced(magic.act, magic.argument, opened, clicked, unsubscribed, complaint, bounce)
    if chance[0] < people.late_bounces:
        return (bounce,)  # nobody reads it
    deeds = []
    if chance[1] < people.prefetch:
        deeds.append(Deed(Kind.PREFETCH, between(0.1, 0.5, moment[5])))
    if chance[2] < people.scans:
        deeds.append(Deed(Kind.SCAN, between(0.2, 0.9, moment[6])))
    if chance[3] < people.opens:
        deeds.append(opened)
        if chance[4] < people.clicks:
            deeds.append(clicked)
    if chance[5] < people.unsubscribes:
        deeds.append(unsubscribed)
    if chance[6] < people.complaints and people.complaints_to is not ComplaintsTo.NOBODY:
        deeds.append(complaint)
    return tuple(sorted(deeds, key=lambda deed: deed.delay))


def _forced(
    act: Act, argument: str, opened: Deed, clicked: Deed, unsubscribed: Deed, complaint: Deed, bounce: Deed
) -> tuple[Deed, ...]:
    match act:
        case Act.LATE:
            return (Deed(Kind.DSN, bounce.delay, status=argument),)
        case Act.COMPLAINT:
            # A forced complaint arrives also where the provider reports to nobody.
            to = ComplaintsTo.RETURN_PATH if complaint.to is ComplaintsTo.NOBODY else complaint.to
            return (Deed(Kind.COMPLAINT, complaint.delay, to=to),)
        case Act.OPEN:
            return (opened,)
        case Act.CLICK:
            return (opened, clicked)
        case Act.UNSUBSCRIBE:
            return (unsubscribed,)
        case _:
            return ()
