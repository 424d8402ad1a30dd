"""Signatures of operators' controls: whoever can write to Kafka could otherwise stop, or throw away, all mail.

Every field that decides anything is signed, with a key of the installation. The form is spelled out field by field, so
that a field added later does not spoil the signatures that older programs check. What a signature cannot tell is that
a control is old: readers compare `occurred_at` with the newest of the same control.
"""

from __future__ import annotations

import orjson

from schemas.state import ControlSet
from schemas.tokens import Keyring

_PURPOSE = b"control 1"


def signed(event: ControlSet, keyring: Keyring) -> ControlSet:
    return event.model_copy(update={"signature": keyring.sign(_PURPOSE, _canonical(event))})


def is_genuine(event: ControlSet, keyring: Keyring) -> bool:
    try:
        return keyring.verify(_PURPOSE, _canonical(event), event.signature)
    except TypeError:
        return False  # arguments that we do not write: numbers beyond 64 bits, a hundred levels


def _canonical(event: ControlSet) -> bytes:
    fields = [
        event.event_id, event.tenant, event.control_id, event.action, event.selector, event.reason, event.by,
        event.occurred_at.timestamp(), event.until.timestamp() if event.until is not None else None, event.arguments,
    ]  # fmt: skip
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
