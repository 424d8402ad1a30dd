"""What an SMTP reply means: bounce class, disposition and the rule that said so.

Pure, and the same for a reply in a session as for the status in a delivery report. Rules by text come first, in order
(provider_rules.py, text_rules.py); then the enhanced status code decides (RFC 3463, 5248), then the code: peers send
"550 5.7.1" for everything, a 5xx is not always permanent nor a 4xx temporary. Raw text and CLASSIFIER_VERSION are kept
with each fact, so that a better rule set can judge the past again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.rules.bounces import BounceClass, Disposition
from schemas.rules.provider_rules import PROVIDER_RULES
from schemas.rules.text_rules import TEXT_RULES

CLASSIFIER_VERSION: Final = 1  # raise it with every change of a rule
RULES: Final = PROVIDER_RULES + TEXT_RULES
_TEXT_MAX = 1000

_C, _D = BounceClass, Disposition

# RFC 3463 and 5248 by subject and detail; the class digit says permanent or transient where the value does not.
_ENHANCED: Final[dict[str, tuple[BounceClass, Disposition | None]]] = {
    "1.1": (_C.INVALID_RECIPIENT, None),
    "1.2": (_C.BAD_DOMAIN, None),
    "1.3": (_C.INVALID_RECIPIENT, None),
    "1.6": (_C.INVALID_RECIPIENT, None),
    "1.7": (_C.INVALID_SENDER, _D.BLOCK),
    "1.8": (_C.INVALID_SENDER, _D.BLOCK),
    "1.10": (_C.BAD_DOMAIN, None),  # RFC 7505
    "2.1": (_C.INACTIVE_MAILBOX, None),
    "2.2": (_C.MAILBOX_FULL, _D.TRANSIENT),
    "2.3": (_C.MESSAGE_TOO_LARGE, None),
    "3.1": (_C.SYSTEM_ERROR, _D.TRANSIENT),
    "3.2": (_C.SYSTEM_ERROR, _D.TRANSIENT),
    "3.4": (_C.MESSAGE_TOO_LARGE, None),
    "4.1": (_C.NO_ANSWER_FROM_HOST, None),
    "4.2": (_C.BAD_CONNECTION, None),
    "4.3": (_C.DNS_FAILURE, None),
    "4.4": (_C.ROUTING_ERROR, None),
    "4.5": (_C.RATE_LIMITED, _D.TRANSIENT),
    "4.6": (_C.ROUTING_ERROR, None),
    "4.7": (_C.MESSAGE_EXPIRED, None),
    "5.3": (_C.TOO_MANY_RECIPIENTS, _D.TRANSIENT),
    "7.10": (_C.TLS_FAILURE, _D.BLOCK),
    "7.20": (_C.AUTHENTICATION_FAILED, _D.BLOCK),  # RFC 7372, to 7.26
    "7.21": (_C.AUTHENTICATION_FAILED, _D.BLOCK),
    "7.22": (_C.AUTHENTICATION_FAILED, _D.BLOCK),
    "7.23": (_C.AUTHENTICATION_FAILED, _D.BLOCK),
    "7.24": (_C.AUTHENTICATION_FAILED, _D.BLOCK),
    "7.25": (_C.POLICY_RELATED, _D.BLOCK),
    "7.26": (_C.AUTHENTICATION_FAILED, _D.BLOCK),
    "7.27": (_C.INVALID_SENDER, _D.BLOCK),  # RFC 7505
    "7.28": (_C.RATE_LIMITED, _D.TRANSIENT),
}
_SUBJECTS: Final[dict[str, tuple[BounceClass, Disposition | None]]] = {
    "3": (_C.SYSTEM_ERROR, None),
    "4": (_C.ROUTING_ERROR, None),
    "5": (_C.PROTOCOL_ERROR, None),
    "6": (_C.CONTENT_REJECTED, _D.BLOCK),
    "7": (_C.POLICY_RELATED, _D.BLOCK),
}
_CODES: Final[dict[int, tuple[BounceClass, Disposition]]] = {
    421: (_C.SYSTEM_ERROR, _D.TRANSIENT),
    451: (_C.SYSTEM_ERROR, _D.TRANSIENT),
    452: (_C.SYSTEM_ERROR, _D.TRANSIENT),
    454: (_C.TLS_FAILURE, _D.TRANSIENT),
    **dict.fromkeys((500, 501, 502, 503, 504, 555), (_C.PROTOCOL_ERROR, _D.PERMANENT)),
    521: (_C.BAD_DOMAIN, _D.PERMANENT),  # RFC 7504
    530: (_C.POLICY_RELATED, _D.BLOCK),
    551: (_C.INVALID_RECIPIENT, _D.PERMANENT),
    552: (_C.MAILBOX_FULL, _D.TRANSIENT),  # RFC 5321 section 4.2.2: storage, of the mailbox or of the system
    553: (_C.INVALID_RECIPIENT, _D.PERMANENT),
    556: (_C.BAD_DOMAIN, _D.PERMANENT),
}
# Why an attempt ended without a reply (sinks/smtp/outcome.py, Cause), or why a domain has no route.
_CAUSES: Final = {
    "timeout": _C.NO_ANSWER_FROM_HOST,
    "unreachable": _C.NO_ANSWER_FROM_HOST,
    "lost": _C.BAD_CONNECTION,
    "protocol": _C.PROTOCOL_ERROR,
    "unsupported": _C.PROTOCOL_ERROR,
    "tls": _C.TLS_FAILURE,
    "dns": _C.DNS_FAILURE,
    "forbidden": _C.ROUTING_ERROR,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    bounce_class: BounceClass
    disposition: Disposition
    rule: str


def classify(code: int, enhanced: str, text: str, *, stage: str = "", provider: str = "") -> Verdict:
    """Judge a 4xx or 5xx reply. `code` 0 with an enhanced code is the status of a delivery report."""
    severity = str(code)[0] if code else enhanced[:1]
    by_code = Disposition.TRANSIENT if severity == "4" else Disposition.PERMANENT
    lower = text[:_TEXT_MAX].lower()
    for rule in RULES:
        if rule.fits(code, enhanced, lower, stage, provider):
            return Verdict(rule.bounce_class, rule.disposition or by_code, rule.id)
    subject_detail = enhanced.partition(".")[2]
    if known := _ENHANCED.get(subject_detail):
        return Verdict(known[0], known[1] or by_code, f"enhanced.{subject_detail}")
    if known := _SUBJECTS.get(subject := subject_detail.partition(".")[0]):
        return Verdict(known[0], known[1] or by_code, f"enhanced.{subject}")
    if code in _CODES:
        return Verdict(*_CODES[code], f"code.{code}")
    # A bare 550 is the word of a peer that explains nothing: no ground for suppressing anybody.
    unknown = Disposition.TRANSIENT if severity == "4" else Disposition.UNDETERMINED
    return Verdict(BounceClass.UNCLASSIFIED, unknown, "unclassified")


def classify_silence(cause: str) -> Verdict:
    """Judge an attempt that no reply ended, by its cause: always transient, since nobody refused anything."""
    return Verdict(_CAUSES.get(cause, BounceClass.UNCLASSIFIED), Disposition.TRANSIENT, f"cause.{cause}")
