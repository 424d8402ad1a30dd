"""What a queue owner is given: plain values, where they come from is the pipeline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.tenant import Tenant
from schemas.tokens import Keyring
from sinks.smtp.dialer import TlsMode
from sinks.smtp.dkim import Signer
from sinks.smtp.policy import Limits
from sinks.smtp.reach import Reach
from sinks.smtp.routing import PROVIDERS
from sinks.smtp.session import Timeouts
from topics.kafka import Cluster


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    cluster: Cluster
    tenants: Mapping[str, Tenant]
    keyring: Keyring
    signers: Mapping[str, Signer | None]  # by From domain or tenant/domain; None: unsigned
    reach: Reach
    nameservers: tuple[tuple[str, int], ...]
    ehlo_name: str
    instance: str = "1"
    bind_address: str | None = None
    providers: Mapping[str, Sequence[str]] = field(default_factory=lambda: PROVIDERS)  # what their MX hosts end in
    tls: TlsMode = TlsMode.OPPORTUNISTIC
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    sessions: int = 500
    retry_scale: float = 1.0
    presses: int = 2  # processes that compose and sign
    queue_limit: int = 1_500_000  # messages; beyond it the lanes wait
