"""The rules by text, with the replies that each must and must not match: a rule without examples can be dead for years.

Order counts: what one provider means by a text, then what names its cause, then what only hints at it. Patterns are
matched anywhere in the lower-cased text; plain alternations only, since texts come from strangers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas.rules.bounces import BounceClass as C
from schemas.rules.bounces import Disposition as D


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply as it is seen on the wire: `550 5.1.1 text`."""

    reply: str
    stage: str = "rcpt"
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """`disposition` None: permanent or transient as the code says. Empty conditions hold for everything."""

    id: str
    bounce_class: C
    disposition: D | None
    text: re.Pattern[str]
    matches: tuple[Sample, ...]
    spares: tuple[Sample, ...]
    codes: tuple[int, ...] = ()
    severity: int = 0  # 4 or 5: only these replies
    stages: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()

    def fits(self, code: int, enhanced: str, text: str, stage: str, provider: str) -> bool:
        return (
            (not self.providers or provider in self.providers)
            and (not self.codes or code in self.codes)
            and (not self.severity or self.severity == (code // 100 or int(enhanced[:1] or 0)))
            and (not self.stages or stage in self.stages)
            and self.text.search(text) is not None
        )


def _rule(
    id: str,
    bounce_class: C,
    disposition: D | None,
    text: str,
    matches: tuple[str | Sample, ...],
    spares: tuple[str | Sample, ...],
    *,
    codes: tuple[int, ...] = (),
    severity: int = 0,
    stages: tuple[str, ...] = (),
    providers: tuple[str, ...] = (),
) -> Rule:
    provider = providers[0] if providers else ""
    samples = tuple(
        tuple(s if isinstance(s, Sample) else Sample(s, provider=provider) for s in group)
        for group in (matches, spares)
    )
    return Rule(id, bounce_class, disposition, re.compile(text), *samples, codes, severity, stages, providers)


_UNKNOWN_USER = "550 5.1.1 <ann@example.test>: Recipient address rejected: User unknown in virtual mailbox table"
_FULL = "552 5.2.2 The email account that you tried to reach is over quota"
_SPAMHAUS = "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using zen.spamhaus.org"
_SPAM = "554 5.7.1 Message rejected as spam by content scanner"
_RATE = "451 4.7.650 The mail server [198.51.100.7] has been temporarily rate limited due to IP reputation."
_GREY = "450 4.2.0 <ann@example.test>: Recipient address rejected: Greylisted, see http://postgrey.test/"
_SIZE = "552 5.3.4 Message size exceeds fixed limit"

RULES: tuple[Rule, ...] = (
    # One provider's own marks
    _rule(
        "yahoo.ts", C.RATE_LIMITED, D.TRANSIENT, r"\[tss?0\d\]",
        ("421 4.7.0 [TSS04] Messages from 198.51.100.7 temporarily deferred due to unexpected volume or user complaints",
         "421 4.7.0 [TS03] All messages from 198.51.100.7 will be permanently deferred"),
        ("554 delivery error: dd This user doesn't have a yahoo.com account", _SPAMHAUS),
        providers=("yahoo",),
    ),
    _rule(
        "google.unauthenticated", C.AUTHENTICATION_FAILED, D.BLOCK, r"unauthenticated|authentication (information|results)",
        ("550 5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to"
         " authenticate with either SPF or DKIM.",),
        ("550 5.1.1 The email account that you tried to reach does not exist.", _SPAM),
        providers=("google",),
    ),
    _rule(
        "google.reputation", C.DOMAIN_BLOCK, D.BLOCK, r"very low reputation of the sending domain",
        ("550 5.7.1 Our system has detected that this message is likely suspicious due to the very low reputation of the"
         " sending domain.",),
        ("550 5.7.1 Our system has detected that this message is likely unsolicited mail.",),
        providers=("google",),
    ),
    _rule(
        "google.mailbox_rate", C.RATE_LIMITED, D.TRANSIENT, r"receiving mail (at a rate|too quickly)",
        ("450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages",
         "450 4.2.1 The user you are trying to contact is receiving mail too quickly."),
        ("550 5.2.1 The email account that you tried to reach is disabled.",),
        providers=("google",),
    ),
    _rule(
        "microsoft.authentication", C.AUTHENTICATION_FAILED, D.BLOCK, r"required authentication level",
        ("550 5.7.515 Access denied, sending domain BRAND.TEST doesn't meet the required authentication level.",),
        ("550 5.7.606 Access denied, banned sending IP [198.51.100.7].",),
        providers=("microsoft", "microsoft365", "microsoft_mx"),
    ),
    _rule(
        "microsoft.block", C.REPUTATION_BLOCK, D.BLOCK, r"\(s31[45]0\)|banned sending ip|weren't sent\. please contact your",
        ("550 5.7.1 Unfortunately, messages from [198.51.100.7] weren't sent. Please contact your Internet service provider"
         " since part of their network is on our block list (S3140).",
         "550 5.7.606 Access denied, banned sending IP [198.51.100.7]."),
        ("550 5.5.0 Requested action not taken: mailbox unavailable", _RATE),
        providers=("microsoft", "microsoft365", "microsoft_mx"),
    ),
    _rule(
        "microsoft.no_recipient", C.INVALID_RECIPIENT, D.PERMANENT,
        r"recipient address rejected: access denied|recipientnotfound|requested action not taken: mailbox unavailable",
        ("550 5.4.1 Recipient address rejected: Access denied. [AM6EUR05FT032]",
         "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
         "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)."),
        ("550 5.7.606 Access denied, banned sending IP [198.51.100.7].",),
        severity=5, providers=("microsoft", "microsoft365", "microsoft_mx"),
    ),
    _rule(
        "apple.rate", C.RATE_LIMITED, D.TRANSIENT, r"\[(bs02|cs01|hcm1)\]",
        ("450 4.7.0 [BS02] Message refused. Please try again later.",
         "421 4.7.1 [HCM1] Messages from 198.51.100.7 temporarily deferred"),
        ("554 5.7.1 [HM08] Message rejected due to local policy.",),
        providers=("apple",),
    ),
    _rule(
        "comcast.rate", C.RATE_LIMITED, D.TRANSIENT, r"\brl\d{6}\b",
        ("421 4.1.0 198.51.100.7 Throttled - try again later. Please see http://postmaster.comcast.test/ RL000001",),
        ("554 5.7.1 198.51.100.7 blocked. BL000001",),
        providers=("comcast",),
    ),
    # Causes that a text names
    _rule(
        "greylisted", C.GREYLISTED, D.TRANSIENT, r"gr[ea]y-?\s?list",
        (_GREY, "451 4.7.1 Greylisting in action, please come back later"), (_UNKNOWN_USER, _SPAMHAUS), severity=4,
    ),
    _rule(
        "too_many_connections", C.TOO_MANY_CONNECTIONS, D.TRANSIENT,
        r"too many (concurrent |simultaneous )?(smtp )?(connections|sessions)|trop de connexions|connection limit",
        ("421 4.7.0 mx.example.test Error: too many connections from 198.51.100.7",
         "421 mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration."),
        ("452 4.5.3 Too many recipients", _RATE),
    ),
    _rule(
        "too_many_recipients", C.TOO_MANY_RECIPIENTS, D.TRANSIENT, r"too many recipients|recipients? limit",
        ("452 4.5.3 Error: too many recipients", "550 5.5.3 Too many recipients in this transaction"),
        ("421 4.7.0 too many connections", _UNKNOWN_USER),
    ),
    _rule(
        "blocklisted", C.BLOCKLIST_BLOCK, D.BLOCK,
        r"spamhaus|barracudacentral|spamcop|sorbs|invaluement|dnsbl|\brbl\b|black-?\s?list|block-?\s?list|blocked using",
        (_SPAMHAUS, "550 5.7.1 198.51.100.7 is listed on our RBL", "554 IP address is black listed"),
        (_SPAM, _UNKNOWN_USER),
    ),
    _rule(
        "rate_limited", C.RATE_LIMITED, D.TRANSIENT,
        r"rate.?limit|throttl|temporarily deferred|too (many|much) (messages|mails?|emails)|sending (rate|too fast)"
        r"|unusual rate|(hourly|daily|message) (limit|quota) (exceeded|reached)|exceeded .{0,40}per (second|minute|hour|day)"
        r"|server (is )?busy",
        (_RATE, "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address.",
         "451 4.3.2 Server busy. Please try again later from [198.51.100.7]. (AS780090)",
         "450 4.7.1 You have exceeded the limit of 100 mails per minute"),
        (_FULL, _UNKNOWN_USER, "421 4.3.2 Service shutting down"),
    ),
    _rule(
        "mailbox_full", C.MAILBOX_FULL, D.TRANSIENT,
        r"(mailbox|inbox|account|user|recipient).{0,40}\b(full|over|exceed\w*)\b|over\s?quota|quota (is )?exceed|out of storage",
        (_FULL, "452 4.2.2 Mailbox full", "554 5.2.2 mailbox is full: user has exceeded their storage allocation"),
        (_SIZE, _UNKNOWN_USER, _RATE),
    ),
    _rule(
        "message_too_large", C.MESSAGE_TOO_LARGE, D.PERMANENT,
        r"message (is )?too (large|big|long)|(message|mail) size|exceeds? .{0,30}(size|maximum)|size (limit|exceeds)",
        (_SIZE, "552 5.2.3 Message is too large", "523 5.3.4 the message's size exceeds the maximum"), (_FULL, _SPAM),
        severity=5,
    ),
    _rule(
        "relaying_denied", C.RELAYING_DENIED, None,
        r"relay(ing)? (access )?(is )?(denied|prohibited|not (permitted|allowed))|(unable to|not) relay|not a relay|we do not relay",
        ("554 5.7.1 <ann@example.test>: Relay access denied", "550 5.7.1 Unable to relay"), (_UNKNOWN_USER, _SPAM),
    ),
    _rule(
        "sender_refused", C.INVALID_SENDER, D.BLOCK,
        r"sender (address )?(is )?(rejected|denied|refused|invalid|unknown|blocked)|sender verif|bad sender|invalid sender"
        r"|sender domain (not found|does not|must)",
        ("550 5.1.8 <b@brand.test>: Sender address rejected: Domain not found", "550 sender verify failed"),
        (_UNKNOWN_USER, "550 5.1.2 Domain not found"),
    ),
    _rule(
        "authentication", C.AUTHENTICATION_FAILED, D.BLOCK,
        r"\b(spf|dkim|dmarc)\b|unauthenticated|not authenticated|sender id \(pra\)",
        ("550 5.7.1 Email rejected per DMARC policy for brand.test", "550 5.7.23 SPF check failed: not authorised",
         "554 5.7.5 no valid DKIM signature"),
        (_UNKNOWN_USER, _SPAM),
    ),
    _rule(
        "tls_required", C.TLS_FAILURE, D.BLOCK, r"starttls|tls (is )?(required|encryption)|encryption (is )?required",
        ("530 5.7.0 Must issue a STARTTLS command first", "550 5.7.10 TLS encryption required"), (_UNKNOWN_USER,),
    ),
    _rule(
        "virus", C.CONTENT_REJECTED, D.BLOCK, r"\bvirus|malware|phish|infected",
        ("554 5.7.1 Message contains a virus: Eicar-Test-Signature", "550 5.7.1 phishing URL found"), (_SPAM, _UNKNOWN_USER),
    ),
    _rule(
        "attachment", C.ATTACHMENT_REJECTED, D.BLOCK, r"attachment|(file|mime) (type|extension)",
        ("552 5.7.0 This message was blocked because its attachment is a security risk",), (_SPAM, _UNKNOWN_USER),
    ),
    _rule(
        "reverse_dns", C.POLICY_RELATED, D.BLOCK,
        r"reverse (dns|hostname|lookup)|\b(ptr|rdns)\b|cannot find your (hostname|reverse)",
        ("554 5.7.1 Client host rejected: cannot find your reverse hostname, [198.51.100.7]",
         "554 Bad DNS PTR resource record"),
        (_SPAMHAUS, _UNKNOWN_USER),
    ),
    _rule(
        "loop", C.ROUTING_ERROR, D.PERMANENT, r"mail (forwarding )?loop|loops? back|too many hops|hop count",
        ("554 5.4.6 Error: too many hops", "554 5.4.14 Hop count exceeded - possible mail loop"), (_UNKNOWN_USER,),
    ),
    _rule(
        "inactive_mailbox", C.INACTIVE_MAILBOX, None,
        r"(account|mailbox|user|recipient|address)\b.{0,50}\b(disabled|inactive|suspended|deactivated|locked|closed|expired"
        r"|no longer (active|in use|available|valid)|not active)",
        ("550 5.2.1 The email account that you tried to reach is disabled.", "554 5.7.1 This account has been suspended",
         "550 Mailbox no longer in use"),
        (_UNKNOWN_USER, _FULL),
    ),
    _rule(
        "no_such_user", C.INVALID_RECIPIENT, None,
        r"(user|recipient|mailbox|account|address|alias|person)\b.{0,60}\b(unknown|not (found|exist|known|listed|valid)"
        r"|does ?n[o']t (exist|have)|nonexistent|undeliverable)|(unknown|invalid|no such|no|bad) (local |virtual )?"
        r"(user|recipient|mailbox|address|account|person|alias)\b|unrouteable address|not our customer|no mailbox here"
        r"|tried to reach does not exist",
        (_UNKNOWN_USER, "550 5.1.1 The email account that you tried to reach does not exist.", "550 No such user here",
         "554 delivery error: dd This user doesn't have a yahoo.com account", "550 unknown user", "511 sorry, no mailbox here",
         "450 4.1.1 <ann@example.test>: Recipient address rejected: unverified address: mailbox not found"),
        (_FULL, _SPAM, "550 5.1.2 Domain not found", "550 5.1.8 Sender unknown to us"),
    ),
    _rule(
        "no_such_domain", C.BAD_DOMAIN, None,
        r"(domain|host)( name)? (is )?(not found|does ?n[o']t exist|unknown|invalid)|(unknown|no such|unrouteable) (domain|host)",
        ("550 5.1.2 Domain not found", "550 unrouteable domain"), (_UNKNOWN_USER, _SPAMHAUS),
    ),
    _rule(
        "spam", C.SPAM_CONTENT, D.BLOCK, r"\bspam|unsolicited|\bjunk|bulk (e-?)?mail",
        (_SPAM, "550 5.7.1 Our system has detected that this message is likely unsolicited mail."), (_UNKNOWN_USER, _FULL),
    ),
    # Hints
    _rule(
        "reputation", C.REPUTATION_BLOCK, D.BLOCK,
        r"reputation|(ip|client|host|server)\b.{0,40}\b(blocked|banned|denied|rejected|refused)|tosa@rx\.t-online|\bblocked\b",
        ("554 IP=198.51.100.7 - A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de.)",
         "554 5.7.1 Poor reputation", "550 Client host rejected: Access denied"),
        (_UNKNOWN_USER, _FULL),
    ),
    _rule(
        "content", C.CONTENT_REJECTED, D.BLOCK, r"content|prohibited",
        ("554 5.7.1 Message content rejected", "550 5.6.0 This message has prohibited headers"), (_UNKNOWN_USER, _FULL),
    ),
    _rule(
        "policy", C.POLICY_RELATED, D.BLOCK, r"polic(y|ies)|not allowed|access denied|administrative",
        ("554 5.7.1 [HM08] Message rejected due to local policy.", "550 Administrative prohibition"), (_UNKNOWN_USER, _FULL),
    ),
)  # fmt: skip
