"""What a failure means for the record at hand: try again *later*, or *never*. Kafka's own errors are mapped here, once.

Exception
├── Later    nothing is wrong with the record: slow down, keep it, try again
├── Never    this record will fail every time: dead-letter it and go on
└── Broken   this client can never be used again: end the process, the supervisor starts another
"""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException


class Later(Exception):
    """Something that the record needs is away for now. The text is safe to log: no addresses, no secrets."""


class Never(Exception):
    """The record cannot be handled, now or ever; the text says why and is safe to log.

    In a loop it may name the culprit of a batch: `Never(reason, record)`. Without it, the loop hands the records over
    one by one to find out.
    """

    def __init__(self, reason: str, record: object | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.record = record


class Broken(Exception):
    """A fatal error of the Kafka client, such as a lost sequence of an idempotent producer or a fenced instance."""


# Everything else can pass: brokers come back, topics get created, rights get granted. A record that is refused for what
# it *is* comes back with one of these, however often it is sent.
_NEVER = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError._INVALID_ARG,
    }
)


def mapped(error: KafkaError | KafkaException) -> Later | Never | Broken:
    """The exception that stands for a Kafka error. Its text is the code's name: librdkafka's own texts name hosts."""
    cause: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    if cause.fatal():
        return Broken(cause.name())
    return Never(cause.name()) if cause.code() in _NEVER else Later(cause.name())
