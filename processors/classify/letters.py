"""Mail to a return path that is no standard report: bounces in plain words, automatic answers, people's letters.

Decides by the sender's name, fields and words. A bounce in plain words counts only when it comes from a mail system by
its own account *and* quotes a reply code: words alone suppress nobody. RFC 3834 says how automatic answers are marked;
many are known only by their subject.
"""

from __future__ import annotations

import re
from typing import Final

from processors.classify.dsn import REPLY, STATUS
from processors.classify.findings import Failure, ReplyKind
from processors.classify.mime import Mail
from schemas.address import Address, AddressError, parse

_MAX_NOTICE: Final = 8 * 1024  # characters that are searched for codes
_MAX_DIAGNOSTIC: Final = 400
_MOST_ADDRESSES: Final = 20

_SYSTEM: Final = re.compile(r"\b(mailer-?daemon|postmaster|mail delivery (sub)?system|double-bounce|mdaemon)\b", re.I)
_BOUNCE_SUBJECT: Final = re.compile(
    r"undeliver|delivery (status|report|failure|has failed|failed|unsuccessful)|returned mail|failure notice"
    r"|mail (delivery )?(failed|failure)|message not delivered|non remis|non recapitabile|unzustellbar|no entregado",
    re.I,
)
# Where the notice ends and our own mail begins: prices in it are no reply codes.
_COPY: Final = re.compile(
    r"^(--- ?(below this line|the (body|header)|original message)|-{2,} ?(this is a copy|original message|forwarded)"
    r"|return-path: |received: (from|by) |>?\s*from: )",
    re.I | re.M,
)
_DELAY: Final = re.compile(
    r"still (being )?(try|trying|tried|queued|attempt)|will (be retried|keep trying|continue|try again|retry)|delay"
    r"|not (yet )?been delivered|warning: could not send|do not need to resend",
    re.I,
)
_GIVEN_UP: Final = re.compile(r"giv(en|ing) up|gave up|permanent|expired|too long|could not be delivered|final", re.I)
_CODE_CONTEXT: Final = re.compile(r"(^|said:?|responded:?|error:?|response:?|code:?|reason:?|[\"'(<>:])\s{0,3}$", re.I)
_ADDRESS: Final = re.compile(r"(?<![\w.+@-])[\w.+=-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")

_AUTO_FIELDS: Final = (
    "x-autoreply", "x-auto-reply", "x-autorespond", "x-autoresponder", "x-autoreply-from", "x-vacation",
    "x-mail-autoreply", "x-auto-response-suppress",
)  # fmt: skip
_AUTO_PRECEDENCE: Final = frozenset({"auto_reply", "auto-reply", "bulk", "junk", "list"})
_AUTO_SUBJECT: Final = re.compile(
    r"^\W*(out of (the )?office|auto(matic|mated|-)?\s?-?(reply|response|antwort)|automatische antwort|vacation"
    r"|on leave|abwesen|absence|r[ée]ponse automatique|respuesta autom|risposta automatica|fuori ufficio|afwezig"
    r"|fr[åa]nvarande|ausente|away from)",
    re.I,
)
_CHALLENGE_FIELDS: Final = ("x-boxtrapper", "x-tmda-fingerprint", "x-spamarrest-challenge", "x-challenge")
_CHALLENGE_SUBJECT: Final = re.compile(
    r"verify#|(requires?|needs?) (verification|confirmation)|verification required|confirm (that )?(your|you sent)"
    r"|please confirm (your|delivery)|sender (verification|confirmation)|challenge[- ]response|spam ?arrest",
    re.I,
)
_REPLY_SUBJECT: Final = re.compile(r"^\s*(re|aw|antw|sv|vs|r[ée]p?|rif|odp)\s?(\[\d+\])?:", re.I)


def looks_like_bounce(mail: Mail, mail_from: str) -> bool:
    """Whether a mail system sent it, by its own account."""
    if _SYSTEM.search(mail.headers.text("from")):
        return True
    return not mail_from and _BOUNCE_SUBJECT.search(mail.headers.text("subject")) is not None


def read_notice(mail: Mail) -> Failure | None:
    """The failure that a bounce in plain words tells of. None when it quotes no code, or tells of a delay."""
    part = mail.first("text/plain")
    if part is None:
        return None
    notice = part.text()[:_MAX_NOTICE]
    if copy := _COPY.search(notice):
        notice = notice[: copy.start()]
    code, enhanced, at = _quoted(notice)
    if not code and not enhanced:
        return None
    transient = code < 500 if code else enhanced.startswith("4")
    words = f"{mail.headers.text('subject')}\n{notice}"
    if transient and (_DELAY.search(words) or not _GIVEN_UP.search(words)):
        return None
    # The reply goes on over the next lines, until an empty one.
    text = " ".join(notice[at : at + _MAX_DIAGNOSTIC].split("\n\n", 1)[0].split())
    return Failure(_addresses(notice), code, enhanced, text)


def _quoted(notice: str) -> tuple[int, str, int]:
    """The first reply code, with its enhanced code, and where it stands; else the first enhanced code alone."""
    for found in REPLY.finditer(notice):
        before = notice[max(0, notice.rfind("\n", 0, found.start()) + 1, found.start() - 40) : found.start()]
        if found[2] or _CODE_CONTEXT.search(before):  # "about 550 people" is no code
            return int(found[1]), found[2] or "", found.start()
    for status in STATUS.finditer(notice):
        if status[1] != "2":
            return 0, status[0], status.start()
    return 0, "", 0


def _addresses(notice: str) -> tuple[Address, ...]:
    found: dict[Address, None] = {}
    for number, match in enumerate(_ADDRESS.finditer(notice)):
        if number == _MOST_ADDRESSES:
            break
        try:
            found[parse(match[0])] = None
        except AddressError:
            continue
    return tuple(found)


def reply_kind(mail: Mail, mail_from: str) -> ReplyKind:
    """Who answers: a machine, a machine that wants an answer, or a person."""
    headers = mail.headers
    subject = headers.text("subject")
    answers_ours = _REPLY_SUBJECT.match(subject) is not None  # then the words that follow are our own
    if any(map(headers.get, _CHALLENGE_FIELDS)) or (not answers_ours and _CHALLENGE_SUBJECT.search(subject)):
        return "challenge"
    # RFC 3834 section 5: any value but "no" marks a mail that no person sent.
    submitted = headers.get("auto-submitted").partition(";")[0].partition("(")[0].strip().lower()
    if (
        submitted not in ("", "no")
        or any(map(headers.get, _AUTO_FIELDS))
        or headers.get("precedence").strip().lower() in _AUTO_PRECEDENCE
        or mail.report == "disposition-notification"  # RFC 8098
        or _AUTO_SUBJECT.search(subject)
    ):
        return "auto_reply"
    answers = answers_ours or headers.get("in-reply-to") or headers.get("references")
    return "human" if mail_from and answers and not _SYSTEM.search(headers.text("from")) else "undetermined"
