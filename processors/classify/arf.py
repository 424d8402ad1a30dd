"""Feedback reports (RFC 5965, RFC 6430, RFC 9477), and complaints that only send our mail back as an attachment.

Decides what is complained of and about which message. A report may name its message in several places; all genuine
tokens must name the same one. Whose address the report quotes does not count: feedback loops take addresses out, and
whoever forwards his mail complains from another one.
"""

from __future__ import annotations

import re
from typing import Final

from processors.classify.findings import Aside, Complained
from processors.classify.mime import Headers, Mail, Part, groups, header_of
from processors.classify.origin import of_original, of_return_path
from schemas.address import AddressError, parse_domain
from schemas.feedback import ComplaintKind
from schemas.redact import redact
from schemas.tokens import Keyring

_REPORT: Final = "message/feedback-report"
_ORIGINALS: Final = (
    "message/rfc822",
    "text/rfc822-headers",
    "message/rfc822-headers",
    "message/global",
    "message/global-headers",
)
_MOST_ORIGINALS: Final = 3
_USER_AGENT: Final = 128  # characters
_FROM_DOMAIN: Final = re.compile(r"@([\w.-]{1,253})>?\s*$")


def is_feedback(mail: Mail) -> bool:
    return mail.first(_REPORT) is not None


def read_feedback(mail: Mail, addressed: str | None, keyring: Keyring) -> Complained | Aside:
    """`addressed`: the message whose return path it was sent to, if any."""
    part = mail.first(_REPORT)
    assert part is not None
    fields = next(iter(groups(part, 1)), Headers(()))
    kinds = fields.all("feedback-type")
    if len(kinds) != 1:  # RFC 5965 section 3.1: exactly one
        return Aside("a feedback report without one Feedback-Type")
    kind = kinds[0].lower()
    if kind.startswith("auth-failure"):
        return Aside("a report of a failed authentication")  # RFC 6591: nobody complains
    named = {addressed, of_return_path(fields.get("original-mail-from"), keyring)} - {None}
    agent = redact(fields.get("user-agent"), limit=_USER_AGENT)
    # RFC 5965 section 7.3: types that we do not know are as good as "other".
    known = ComplaintKind(kind) if kind in set(ComplaintKind) else ComplaintKind.OTHER
    return _complaint(mail, {one for one in named if one is not None}, known, agent, keyring)


def read_returned(mail: Mail, keyring: Keyring) -> Complained | Aside | None:
    """A mail to an address for complaints that carries a mail of ours, and no report: Microsoft's JMRP, or a person who
    forwards it as an attachment. None when there is none of ours.
    """
    found = _complaint(mail, set(), ComplaintKind.ABUSE, "", keyring)
    return None if found == Aside(UNNAMED) else found


UNNAMED: Final = "a complaint that names no message of ours"


def _complaint(mail: Mail, named: set[str], kind: ComplaintKind, agent: str, keyring: Keyring) -> Complained | Aside:
    link = None
    for original in _originals(mail):
        more, found = of_original(header_of(original), keyring)
        named = named | more
        link = link or found
    match len(named):
        case 0:
            return Aside(UNNAMED)
        case 1:
            return Complained(next(iter(named)), kind, _reporter(mail.headers), agent, link)
        case _:
            return Aside("a complaint that names several messages")


def _originals(mail: Mail) -> list[Part]:
    return [part for part in mail.parts if part.kind in _ORIGINALS][:_MOST_ORIGINALS]


def _reporter(headers: Headers) -> str:
    found = _FROM_DOMAIN.search(headers.get("from")[:1_000].rstrip())
    try:
        return parse_domain(found[1]) if found else ""
    except AddressError:
        return ""
