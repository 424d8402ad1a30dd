"""What a queue owner is given: plain values, where they come from is the pipeline's."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.rules.shaping import Shaping
from schemas.tenant import Tenant
from schemas.tokens import Keyring
from sinks.smtp.dkim import Signer
from sinks.smtp.reach import Reach
from sinks.smtp.relays import Relays
from sinks.smtp.session import Timeouts
from sinks.smtp.sources import Pool, Source
from topics.claims import Claims
from topics.kafka import Cluster
from topics.registry import Lanes, lanes


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    cluster: Cluster
    tenants: Mapping[str, Tenant]
    keyring: Keyring
    signers: Mapping[str, Signer | None]  # by From domain or tenant/domain; None: unsigned
    reach: Reach
    nameservers: tuple[tuple[str, int], ...]
    source: Source  # of pools that are not among these
    pools: Mapping[str, Pool] = field(default_factory=dict)
    relays: Relays = field(default_factory=Relays)
    claims: Claims | None = None
    instance: str = "1"
    shaping: Shaping = field(default_factory=Shaping)
    shaping_file: Path | None = None  # what `shaping` was read from; looked at again and again
    dnssec: bool = False  # the name servers validate, and their word is taken: DANE
    authorities: ssl.SSLContext | None = None  # roots for the certificates of MX and policy hosts; None: the system's
    timeouts: Timeouts = field(default_factory=Timeouts)  # where the shaping says nothing
    sessions: int = 500
    large_bytes: int = 256 * 1024 * 1024
    retry_scale: float = 1.0
    presses: int = 2  # processes that compose and sign
    lanes: Lanes = field(default_factory=lanes)
    successor: Lanes | None = None  # a newer generation: everything that waits moves there, and nothing is sent
    queue_limit: int = 1_500_000  # messages; beyond it the lanes wait
