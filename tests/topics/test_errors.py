from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from topics.errors import Broken, Later, Never, mapped

CODES = {name: value for name, value in vars(KafkaError).items() if isinstance(value, int) and name != "NO_ERROR"}
NEVER = {
    "MSG_SIZE_TOO_LARGE",
    "INVALID_MSG_SIZE",
    "RECORD_LIST_TOO_LARGE",
    "INVALID_RECORD",
    "INVALID_TIMESTAMP",
    "POLICY_VIOLATION",
    "_INVALID_ARG",
}


def test_only_what_the_record_is_makes_it_hopeless() -> None:
    assert len(CODES) > 150
    assert {name for name, code in CODES.items() if isinstance(mapped(KafkaError(code)), Never)} == NEVER


def test_no_error_is_unmapped() -> None:
    assert all(isinstance(mapped(KafkaException(KafkaError(code))), Later | Never) for code in CODES.values())


@pytest.mark.parametrize(
    "code", [KafkaError._FATAL, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError.MSG_SIZE_TOO_LARGE]
)
def test_a_fatal_error_ends_the_client_whatever_its_code(code: int) -> None:
    assert isinstance(mapped(KafkaError(code, "lost", True)), Broken)


def test_texts_name_the_code_and_no_host() -> None:
    error = KafkaError(KafkaError._TRANSPORT, "kafka-7.internal:9092: connection refused")
    assert str(mapped(error)) == "_TRANSPORT"
