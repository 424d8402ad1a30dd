"""The form of a rule over SMTP replies, with the replies that it must and must not match.

A rule without examples can be dead for years. Patterns are looked for anywhere in the lower-cased text; plain
alternations only, since texts come from strangers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas.rules.bounces import BounceClass as C
from schemas.rules.bounces import Disposition as D


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply as it is seen on the wire: `550 5.1.1 text`."""

    reply: str
    stage: str = "rcpt"
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """`disposition` None: permanent or transient as the code says. Empty conditions hold for everything."""

    id: str
    bounce_class: C
    disposition: D | None
    text: re.Pattern[str]
    matches: tuple[Sample, ...]
    spares: tuple[Sample, ...]
    codes: tuple[int, ...] = ()
    severity: int = 0  # 4 or 5: only these replies
    stages: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()

    def fits(self, code: int, enhanced: str, text: str, stage: str, provider: str) -> bool:
        return (
            (not self.providers or provider in self.providers)
            and (not self.codes or code in self.codes)
            and (not self.severity or self.severity == (code // 100 or int(enhanced[:1] or 0)))
            and (not self.stages or stage in self.stages)
            and self.text.search(text) is not None
        )


def rule(
    id: str,
    bounce_class: C,
    disposition: D | None,
    text: str,
    matches: tuple[str | Sample, ...],
    spares: tuple[str | Sample, ...],
    *,
    codes: tuple[int, ...] = (),
    severity: int = 0,
    stages: tuple[str, ...] = (),
    providers: tuple[str, ...] = (),
) -> Rule:
    provider = providers[0] if providers else ""

    def samples(group: tuple[str | Sample, ...]) -> tuple[Sample, ...]:
        return tuple(sample if isinstance(sample, Sample) else Sample(sample, provider=provider) for sample in group)

    pattern = re.compile(text)
    return Rule(
        id, bounce_class, disposition, pattern, samples(matches), samples(spares), codes, severity, stages, providers
    )
