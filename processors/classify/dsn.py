"""Delivery status notifications: RFC 3464 in RFC 6522's container, with RFC 6533's internationalized addresses.

Decides which of the recipients it names did not get the mail for good, and what was said. What that means for an
address is left to the core. RFC 3464 section 2.3.3: only `failed` is a failure; delayed, delivered, relayed and
expanded are not, whatever their status.
"""

from __future__ import annotations

import re
from typing import Final

from processors.classify.findings import Aside, Bounced, Failure
from processors.classify.mime import Headers, Mail, groups
from schemas.address import Address, AddressError, parse, parse_domain

KINDS: Final = ("message/delivery-status", "message/global-delivery-status")
_MOST_GROUPS: Final = 101  # one for the message, the others for recipients
_MOST_FAILURES: Final = 20

NOT_FAILED: Final = "a delivery report, but of no failure"
_ACTIONS: Final = frozenset({"failed", "delayed", "delivered", "relayed", "expanded"})

# A reply as it stands in a diagnostic: code, then the enhanced one in one of several forms.
REPLY: Final = re.compile(
    r"(?<![\w.#-])(4[25][0-9]|5[0-57][0-9])(?:-|[ ;:]{1,2}|$)#?\(?([45]\.\d{1,3}\.\d{1,3}(?![\d.]))?"
)
STATUS: Final = re.compile(r"(?<![\w.-])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
# RFC 6533 section 3: utf-8-addr-xtext, for reports that must be ASCII.
_UNITEXT: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def is_dsn(mail: Mail) -> bool:
    return mail.report == "delivery-status" or mail.first(*KINDS) is not None


def read_dsn(mail: Mail, message_id: str) -> Bounced | Aside | None:
    """None when it only claims to be one: then its text may say more."""
    part = mail.first(*KINDS)
    if part is None:
        return None
    actions: set[str] = set()
    failures: list[Failure] = []
    reporting_mta = ""
    for fields in groups(part, _MOST_GROUPS):
        reporting_mta = reporting_mta or _host(fields.get("reporting-mta"))
        if action := _word(fields.get("action")):
            actions.add(action)
            if action == "failed" and len(failures) < _MOST_FAILURES:
                failures.append(_failure(fields))
    if failures:
        return Bounced(message_id, tuple(failures), reporting_mta)
    return Aside(NOT_FAILED) if actions & _ACTIONS else None


def _failure(fields: Headers) -> Failure:
    # RFC 3464 sections 2.3.1 and 2.3.2: as the sender wrote it, and what became of it on the way.
    named = (_address(fields.get(name)) for name in ("original-recipient", "final-recipient"))
    text = fields.get("diagnostic-code").partition(";")[2].strip() or fields.get("diagnostic-code")
    return Failure(tuple(dict.fromkeys(one for one in named if one)), *_codes(fields.get("status"), text), text)


def _codes(status: str, text: str) -> tuple[int, str]:
    """SMTP code and enhanced code. RFC 3464 section 2.3.4: the status is the reporter's own judgement."""
    reply = REPLY.search(text[:1_000])
    own = STATUS.search(status[:100])
    code = int(reply[1]) if reply else 0
    said = (reply[2] or "") if reply else ""
    enhanced = own[0] if own and own[1] != "2" else ""
    if said and (not enhanced or enhanced.endswith(".0.0")):
        # "Other undefined status" (RFC 3463 section 3.1): the reply that it stands for says more.
        enhanced = said
    if enhanced.startswith("4"):
        # Judged by the milder of the two, where they differ.
        code = code if code < 500 else 0
    return code, enhanced


def _address(value: str) -> Address | None:
    kind, _, text = value.partition(";")
    text = text.strip().removeprefix("<").removesuffix(">").strip()
    if kind.strip().lower() == "utf-8":
        text = _UNITEXT.sub(_character, text)
    try:
        return parse(text)
    except AddressError:  # X.400, a bare user name, "redacted"
        return None


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else found[0]


def _host(value: str) -> str:
    """The name of a host, if it is one: what stands there ends up in facts."""
    name = value.partition(";")[2].partition("(")[0].strip()
    try:
        return parse_domain(name)
    except AddressError:
        return ""


def _word(value: str) -> str:
    return value.partition("(")[0].partition(" ")[0].strip().lower()
