"""What a text means whoever says it: first what names its cause, at the end what only hints at it. Order counts."""

from __future__ import annotations

from schemas.rules.bounces import BounceClass as C
from schemas.rules.bounces import Disposition as D
from schemas.rules.rule import Rule, rule

_UNKNOWN_USER = "550 5.1.1 <ann@example.test>: Recipient address rejected: User unknown in virtual mailbox table"
_FULL = "552 5.2.2 The email account that you tried to reach is over quota"
_SPAMHAUS = "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using zen.spamhaus.org"
_SPAM = "554 5.7.1 Message rejected as spam by content scanner"
_RATE = "451 4.7.650 The mail server [198.51.100.7] has been temporarily rate limited due to IP reputation."
_GREY = "450 4.2.0 <ann@example.test>: Recipient address rejected: Greylisted, see http://postgrey.test/"
_SIZE = "552 5.3.4 Message size exceeds fixed limit"

TEXT_RULES: tuple[Rule, ...] = (
    # Causes that a text names
    rule(
        "greylisted",
        C.GREYLISTED,
        D.TRANSIENT,
        r"gr[ea]y-?\s?list",
        (_GREY, "451 4.7.1 Greylisting in action, please come back later"),
        (_UNKNOWN_USER, _SPAMHAUS),
        severity=4,
    ),
    rule(
        "too_many_connections",
        C.TOO_MANY_CONNECTIONS,
        D.TRANSIENT,
        r"too many (concurrent |simultaneous )?(smtp )?(connections|sessions)|trop de connexions|connection limit",
        (
            "421 4.7.0 mx.example.test Error: too many connections from 198.51.100.7",
            "421 mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration.",
        ),
        ("452 4.5.3 Too many recipients", _RATE),
    ),
    rule(
        "too_many_recipients",
        C.TOO_MANY_RECIPIENTS,
        D.TRANSIENT,
        r"too many recipients|recipients? limit",
        ("452 4.5.3 Error: too many recipients", "550 5.5.3 Too many recipients in this transaction"),
        ("421 4.7.0 too many connections", _UNKNOWN_USER),
    ),
    rule(
        "blocklisted",
        C.BLOCKLIST_BLOCK,
        D.BLOCK,
        r"spamhaus|barracudacentral|spamcop|sorbs|invaluement|dnsbl|\brbl\b|bl(a|o)ck-?\s?list|blocked using",
        (_SPAMHAUS, "550 5.7.1 198.51.100.7 is listed on our RBL", "554 IP address is black listed"),
        (_SPAM, _UNKNOWN_USER),
    ),
    rule(
        "rate_limited",
        C.RATE_LIMITED,
        D.TRANSIENT,
        r"rate.?limit|throttl|temporarily deferred|too (many|much) (messages|mails?|emails)|sending (rate|too fast)"
        r"|unusual rate|(hourly|daily|message) (limit|quota) exceeded|exceeded .{0,40}per (second|minute|hour|day)"
        r"|server (is )?busy",
        (
            _RATE,
            "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address.",
            "451 4.3.2 Server busy. Please try again later from [198.51.100.7]. (AS780090)",
            "450 4.7.1 You have exceeded the limit of 100 mails per minute",
        ),
        (_FULL, _UNKNOWN_USER, "421 4.3.2 Service shutting down"),
    ),
    rule(
        "mailbox_full",
        C.MAILBOX_FULL,
        D.TRANSIENT,
        r"(mailbox|inbox|account|user|recipient).{0,40}\b(full|over|exceed\w*)\b|over\s?quota|quota exceed",
        (_FULL, "452 4.2.2 Mailbox full", "554 5.2.2 mailbox is full: user has exceeded their storage allocation"),
        (_SIZE, _UNKNOWN_USER, _RATE),
    ),
    rule(
        "message_too_large",
        C.MESSAGE_TOO_LARGE,
        D.PERMANENT,
        r"message (is )?too (large|big|long)|(message|mail) size|exceeds? .{0,30}(size|maximum)|size (limit|exceeds)",
        (_SIZE, "552 5.2.3 Message is too large", "523 5.3.4 the message's size exceeds the maximum"),
        (_FULL, _SPAM),
        severity=5,
    ),
    rule(
        "relaying_denied",
        C.RELAYING_DENIED,
        None,
        r"relay(ing)? (access )?(is )?(denied|prohibited|not (permitted|allowed))|(unable to|not) relay|not a relay",
        ("554 5.7.1 <ann@example.test>: Relay access denied", "550 5.7.1 Unable to relay"),
        (_UNKNOWN_USER, _SPAM),
    ),
    rule(
        "sender_refused",
        C.INVALID_SENDER,
        D.BLOCK,
        r"sender (address )?(is )?(rejected|denied|refused|invalid|unknown)|sender verif|(bad|invalid) sender"
        r"|sender domain (not found|does not|must)",
        ("550 5.1.8 <b@brand.test>: Sender address rejected: Domain not found", "550 sender verify failed"),
        (_UNKNOWN_USER, "550 5.1.2 Domain not found"),
    ),
    rule(
        "authentication",
        C.AUTHENTICATION_FAILED,
        D.BLOCK,
        r"\b(spf|dkim|dmarc)\b|unauthenticated|not authenticated|sender id \(pra\)",
        (
            "550 5.7.1 Email rejected per DMARC policy for brand.test",
            "550 5.7.23 SPF check failed: not authorised",
            "554 5.7.5 no valid DKIM signature",
        ),
        (_UNKNOWN_USER, _SPAM),
    ),
    rule(
        "tls_required",
        C.TLS_FAILURE,
        D.BLOCK,
        r"starttls|tls (is )?(required|encryption)|encryption (is )?required",
        ("530 5.7.0 Must issue a STARTTLS command first", "550 5.7.10 TLS encryption required"),
        (_UNKNOWN_USER,),
    ),
    rule(
        "virus",
        C.CONTENT_REJECTED,
        D.BLOCK,
        r"\bvirus|malware|phish|infected",
        ("554 5.7.1 Message contains a virus: Eicar-Test-Signature", "550 5.7.1 phishing URL found"),
        (_SPAM, _UNKNOWN_USER),
    ),
    rule(
        "attachment",
        C.ATTACHMENT_REJECTED,
        D.BLOCK,
        r"attachment|(file|mime) (type|extension)",
        ("552 5.7.0 This message was blocked because its attachment is a security risk",),
        (_SPAM, _UNKNOWN_USER),
    ),
    rule(
        "reverse_dns",
        C.POLICY_RELATED,
        D.BLOCK,
        r"reverse (dns|hostname|lookup)|\b(ptr|rdns)\b|cannot find your (hostname|reverse)",
        (
            "554 5.7.1 Client host rejected: cannot find your reverse hostname, [198.51.100.7]",
            "554 Bad DNS PTR resource record",
        ),
        (_SPAMHAUS, _UNKNOWN_USER),
    ),
    rule(
        "loop",
        C.ROUTING_ERROR,
        D.PERMANENT,
        r"mail (forwarding )?loop|loops? back|too many hops|hop count",
        ("554 5.4.6 Error: too many hops", "554 5.4.14 Hop count exceeded - possible mail loop"),
        (_UNKNOWN_USER,),
    ),
    rule(
        "inactive_mailbox",
        C.INACTIVE_MAILBOX,
        None,
        r"(account|mailbox|user|recipient|address)\b.{0,50}\b(disabled|inactive|suspended|deactivated|locked|closed"
        r"|no longer (active|in use|available|valid)|not active)",
        (
            "550 5.2.1 The email account that you tried to reach is disabled.",
            "554 5.7.1 This account has been suspended",
            "550 Mailbox no longer in use",
        ),
        (_UNKNOWN_USER, _FULL),
    ),
    rule(
        "no_such_user",
        C.INVALID_RECIPIENT,
        None,
        r"(user|recipient|mailbox|account|address|alias|person)\b.{0,60}\b(unknown|not (found|exist|known|listed|valid)"
        r"|does ?n[o']t (exist|have)|nonexistent|undeliverable)|(unknown|invalid|no such|no|bad) (local |virtual )?"
        r"(user|recipient|mailbox|address|account|person|alias)\b|unrouteable address|not our customer|no mailbox here"
        r"|tried to reach does not exist",
        (
            _UNKNOWN_USER,
            "550 5.1.1 The email account that you tried to reach does not exist.",
            "550 No such user here",
            "554 delivery error: dd This user doesn't have a yahoo.com account",
            "550 unknown user",
            "511 sorry, no mailbox here",
            "450 4.1.1 <ann@example.test>: Recipient address rejected: unverified address: mailbox not found",
        ),
        (_FULL, _SPAM, "550 5.1.2 Domain not found", "550 5.1.8 Sender unknown to us"),
    ),
    rule(
        "no_such_domain",
        C.BAD_DOMAIN,
        None,
        r"(domain|host)( name)? (is )?(not found|does ?n[o']t exist)|(unknown|no such|unrouteable) (domain|host)",
        ("550 5.1.2 Domain not found", "550 unrouteable domain"),
        (_UNKNOWN_USER, _SPAMHAUS),
    ),
    rule(
        "spam",
        C.SPAM_CONTENT,
        D.BLOCK,
        r"\bspam|unsolicited|\bjunk|bulk (e-?)?mail",
        (_SPAM, "550 5.7.1 Our system has detected that this message is likely unsolicited mail."),
        (_UNKNOWN_USER, _FULL),
    ),
    # Hints
    rule(
        "reputation",
        C.REPUTATION_BLOCK,
        D.BLOCK,
        r"reputation|(ip|client|host|server)\b.{0,40}\b(banned|denied|rejected|refused)|tosa@rx\.t-online|\bblocked\b",
        (
            "554 IP=198.51.100.7 - A problem occurred. (Ask your postmaster or tosa@rx.t-online.de.)",
            "554 5.7.1 Poor reputation",
            "550 Client host rejected: Access denied",
        ),
        (_UNKNOWN_USER, _FULL),
    ),
    rule(
        "content",
        C.CONTENT_REJECTED,
        D.BLOCK,
        r"content|prohibited",
        ("554 5.7.1 Message content rejected", "550 5.6.0 This message has prohibited headers"),
        (_UNKNOWN_USER, _FULL),
    ),
    rule(
        "policy",
        C.POLICY_RELATED,
        D.BLOCK,
        r"polic(y|ies)|not allowed|access denied|administrative",
        ("554 5.7.1 [HM08] Message rejected due to local policy.", "550 Administrative prohibition"),
        (_UNKNOWN_USER, _FULL),
    ),
)
