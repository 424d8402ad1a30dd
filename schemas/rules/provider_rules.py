"""What single mailbox providers mean by their texts. Order counts; text_rules.py comes after."""

from __future__ import annotations

from schemas.rules.bounces import BounceClass as C
from schemas.rules.bounces import Disposition as D
from schemas.rules.rule import Rule, rule

_SPAMHAUS = "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using zen.spamhaus.org"
_SPAM = "554 5.7.1 Message rejected as spam by content scanner"
_RATE = "451 4.7.650 The mail server [198.51.100.7] has been temporarily rate limited due to IP reputation."

PROVIDER_RULES: tuple[Rule, ...] = (
    # One provider's own marks
    rule(
        "yahoo.ts",
        C.RATE_LIMITED,
        D.TRANSIENT,
        r"\[tss?0\d\]",
        (
            "421 4.7.0 [TSS04] Messages from 198.51.100.7 temporarily deferred due to user complaints",
            "421 4.7.0 [TS03] All messages from 198.51.100.7 will be permanently deferred",
        ),
        ("554 delivery error: dd This user doesn't have a yahoo.com account", _SPAMHAUS),
        providers=("yahoo",),
    ),
    rule(
        "google.unauthenticated",
        C.AUTHENTICATION_FAILED,
        D.BLOCK,
        r"unauthenticated|authentication results",
        ("550 5.7.26 This mail has been blocked because the sender is unauthenticated.",),
        ("550 5.1.1 The email account that you tried to reach does not exist.", _SPAM),
        providers=("google",),
    ),
    rule(
        "google.reputation",
        C.DOMAIN_BLOCK,
        D.BLOCK,
        r"very low reputation of the sending domain",
        ("550 5.7.1 This message is likely suspicious due to the very low reputation of the sending domain.",),
        ("550 5.7.1 Our system has detected that this message is likely unsolicited mail.",),
        providers=("google",),
    ),
    rule(
        "google.mailbox_rate",
        C.RATE_LIMITED,
        D.TRANSIENT,
        r"receiving mail (at a rate|too quickly)",
        (
            "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents more",
            "450 4.2.1 The user you are trying to contact is receiving mail too quickly.",
        ),
        ("550 5.2.1 The email account that you tried to reach is disabled.",),
        providers=("google",),
    ),
    rule(
        "microsoft.authentication",
        C.AUTHENTICATION_FAILED,
        D.BLOCK,
        r"required authentication level",
        ("550 5.7.515 Access denied, sending domain BRAND.TEST doesn't meet the required authentication level.",),
        ("550 5.7.606 Access denied, banned sending IP [198.51.100.7].",),
        providers=("microsoft", "microsoft365", "microsoft_mx"),
    ),
    rule(
        "microsoft.block",
        C.REPUTATION_BLOCK,
        D.BLOCK,
        r"\(s31[45]0\)|banned sending ip",
        (
            "550 5.7.1 Unfortunately, messages from [198.51.100.7] weren't sent: on our block list (S3140).",
            "550 5.7.606 Access denied, banned sending IP [198.51.100.7].",
        ),
        ("550 5.5.0 Requested action not taken: mailbox unavailable", _RATE),
        providers=("microsoft", "microsoft365", "microsoft_mx"),
    ),
    rule(
        "microsoft.no_recipient",
        C.INVALID_RECIPIENT,
        D.PERMANENT,
        r"recipient address rejected: access denied|recipientnotfound|requested action not taken: mailbox unavailable",
        (
            "550 5.4.1 Recipient address rejected: Access denied. [AM6EUR05FT032]",
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
            "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
        ),
        ("550 5.7.606 Access denied, banned sending IP [198.51.100.7].",),
        severity=5,
        providers=("microsoft", "microsoft365", "microsoft_mx"),
    ),
    rule(
        "apple.rate",
        C.RATE_LIMITED,
        D.TRANSIENT,
        r"\[(bs02|cs01|hcm1)\]",
        (
            "450 4.7.0 [BS02] Message refused. Please try again later.",
            "421 4.7.1 [HCM1] Messages from 198.51.100.7 temporarily deferred",
        ),
        ("554 5.7.1 [HM08] Message rejected due to local policy.",),
        providers=("apple",),
    ),
    rule(
        "comcast.rate",
        C.RATE_LIMITED,
        D.TRANSIENT,
        r"\brl\d{6}\b",
        ("421 4.1.0 198.51.100.7 Throttled - try again later. Please see http://postmaster.comcast.test/ RL000001",),
        ("554 5.7.1 198.51.100.7 blocked. BL000001",),
        providers=("comcast",),
    ),
)
