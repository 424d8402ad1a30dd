"""The words for why a message was not taken: class, disposition, and the roll-up for dashboards.

What to do about it (retry, suppress, slow down) is policy, decided elsewhere.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class BounceClass(StrEnum):
    INVALID_RECIPIENT = "InvalidRecipient"
    BAD_DOMAIN = "BadDomain"
    INACTIVE_MAILBOX = "InactiveMailbox"
    MAILBOX_FULL = "MailboxFull"
    RELAYING_DENIED = "RelayingDenied"
    INVALID_SENDER = "InvalidSender"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    SPAM_CONTENT = "SpamContent"
    CONTENT_REJECTED = "ContentRejected"
    ATTACHMENT_REJECTED = "AttachmentRejected"
    MESSAGE_TOO_LARGE = "MessageTooLarge"
    POLICY_RELATED = "PolicyRelated"
    REPUTATION_BLOCK = "ReputationBlock"
    DOMAIN_BLOCK = "DomainBlock"
    BLOCKLIST_BLOCK = "BlocklistBlock"
    RATE_LIMITED = "RateLimited"
    TOO_MANY_CONNECTIONS = "TooManyConnections"
    GREYLISTED = "Greylisted"
    TOO_MANY_RECIPIENTS = "TooManyRecipients"
    PROTOCOL_ERROR = "ProtocolError"
    ROUTING_ERROR = "RoutingError"
    DNS_FAILURE = "DNSFailure"
    TLS_FAILURE = "TLSFailure"
    NO_ANSWER_FROM_HOST = "NoAnswerFromHost"
    BAD_CONNECTION = "BadConnection"
    SYSTEM_ERROR = "SystemError"
    MESSAGE_EXPIRED = "MessageExpired"
    CHALLENGE_RESPONSE = "ChallengeResponse"
    AUTO_REPLY = "AutoReply"
    UNCLASSIFIED = "Unclassified"


class Disposition(StrEnum):
    PERMANENT = "permanent"  # this address will not take this mail
    TRANSIENT = "transient"  # it may later
    BLOCK = "block"  # it is about the sender, his mail or his reputation, not about the address
    UNDETERMINED = "undetermined"


_GROUPS: Final = {
    "Invalid Address": "INVALID_RECIPIENT BAD_DOMAIN",
    "Mailbox Unavailable": "INACTIVE_MAILBOX MAILBOX_FULL",
    "Reputation": "REPUTATION_BLOCK DOMAIN_BLOCK BLOCKLIST_BLOCK AUTHENTICATION_FAILED POLICY_RELATED INVALID_SENDER",
    "Content": "SPAM_CONTENT CONTENT_REJECTED ATTACHMENT_REJECTED MESSAGE_TOO_LARGE",
    "Frequency or Volume": "RATE_LIMITED TOO_MANY_CONNECTIONS GREYLISTED TOO_MANY_RECIPIENTS",
    "Technical": "RELAYING_DENIED PROTOCOL_ERROR ROUTING_ERROR DNS_FAILURE TLS_FAILURE NO_ANSWER_FROM_HOST"
    " BAD_CONNECTION SYSTEM_ERROR MESSAGE_EXPIRED",
    "Unclassified": "CHALLENGE_RESPONSE AUTO_REPLY UNCLASSIFIED",
}
ROLL_UP: Final = {BounceClass[name]: group for group, names in _GROUPS.items() for name in names.split()}
