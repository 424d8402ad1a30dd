"""DANE for SMTP (RFC 7672): whether the certificates that a host showed are those its TLSA records name. Pure.

Looking the records up, and that DNSSEC vouches for them, is tls_policies.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from hashlib import sha256, sha512

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from sinks.smtp.answers import Tlsa


class _Usage(IntEnum):
    """RFC 7218 section 2.1."""

    DANE_TA = 2  # some certificate of the chain
    DANE_EE = 3  # the host's own


def _is_authority(policy: Policy, certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("an issuer that may not issue")


# An issuer of one's own need not keep the rules of the public ones (CA/Browser Forum), but these of RFC 5280.
_ISSUER = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
_HOST = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that can be judged by. RFC 7672 section 3.1.3: PKIX-TA and PKIX-EE are not for SMTP."""
    sizes = {1: 32, 2: 64}
    return tuple(
        each
        for each in records
        if each.usage in (_Usage.DANE_TA, _Usage.DANE_EE)
        and each.selector in (0, 1)
        and (each.matching == 0 or len(each.data) == sizes.get(each.matching, -1))
    )


def authenticates(records: Sequence[Tlsa], chain: Sequence[bytes], host: str, now: datetime) -> bool:
    """Whether one of the usable records proves the chain (DER, the host's own first) to be the host's."""
    try:
        shown = [x509.load_der_x509_certificate(each) for each in chain[:10]]
    except ValueError:
        return False
    if not shown:
        return False
    return any(
        # RFC 7672 section 3.1.1: with DANE-EE the binding is the record; names and dates mean nothing.
        _matches(record, shown[0]) if record.usage == _Usage.DANE_EE else _anchored(record, shown, host, now)
        for record in records
    )


def _anchored(record: Tlsa, shown: Sequence[x509.Certificate], host: str, now: datetime) -> bool:
    """Section 3.1.2: the record names an issuer, so names and dates of what it issued count."""
    candidates = list(shown[1:])
    if (record.selector, record.matching) == (0, 0):
        # Section 3.1.2: the whole certificate may be in DNS alone.
        try:
            candidates.append(x509.load_der_x509_certificate(record.data))
        except ValueError:
            return False
    for anchor in candidates:
        if anchor == shown[0] or not _matches(record, anchor):
            continue  # what a host shows of itself is DANE-EE's
        try:
            # Section 3.2.2: the reference identifier is the MX host's name.
            builder = PolicyBuilder().extension_policies(ca_policy=_ISSUER, ee_policy=_HOST)
            builder = builder.store(Store([anchor])).time(now)
            builder.build_server_verifier(x509.DNSName(host)).verify(shown[0], list(shown[1:]))
        except (VerificationError, ValueError):
            continue
        return True
    return False


def _matches(record: Tlsa, certificate: x509.Certificate) -> bool:
    """RFC 6698 section 2.1: selector, then matching type."""
    if record.selector == 0:
        selected = certificate.public_bytes(Encoding.DER)
    else:
        try:
            selected = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except ValueError:
            return False  # a key of a kind that is not known here
    match record.matching:
        case 1:
            selected = sha256(selected).digest()
        case 2:
            selected = sha512(selected).digest()
    return selected == record.data
