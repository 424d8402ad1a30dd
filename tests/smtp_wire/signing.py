"""Signing one header block, whole: what a composing process does for several at a time."""

from __future__ import annotations

from sinks.smtp.dkim import Signer, signed


def dkim_fields(signer: Signer, headers: bytes, body_hash: bytes, *, domain: str, now: int) -> bytes:
    return b"".join(signed(signer.prepare(headers, body_hash, domain=domain, now=now)))
