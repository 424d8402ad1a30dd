"""The mail of a run: one recipient each, 10 KB of HTML, domains by Zipf over 20 sites. All systems get the same.

Site k is asked for in proportion to 1/k; each has ten domains, which share its MX hosts. To mailriver it goes as a
campaign (one design, a name in it for each recipient) or with the whole HTML in every send. `python -m bench.workload
FOLDER` writes it as plain files (mail.eml, recipients.txt), so that another MTA can be put beside ours.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import orjson

from schemas import ids
from schemas.address import canonical, parse
from schemas.state import CampaignSet

SITES = 20
DOMAINS_PER_SITE = 10
SENDING_DOMAIN = "brand.test"
SENDER = f"News <news@{SENDING_DOMAIN}>"
SUBJECT = "Your week in one page"
BODY_BYTES = 10_240
TENANT = "default"

_NAMELESS = "<h1>News</h1>"
_WORDS = (
    "letter", "river", "market", "morning", "paper", "garden", "window", "harbour", "winter", "bread", "station",
    "autumn", "village", "bridge", "quiet", "ticket", "kitchen", "orchard", "silver", "meadow", "lantern", "travel",
    "cinema", "violin", "corner", "summer", "notes", "island",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Send:
    key: bytes
    recipient: str
    value: bytes  # of `send.requested`


class Content(StrEnum):
    """How the mail comes to mailriver. What leaves it is of one size either way."""

    CAMPAIGN = "campaign"  # a newsletter: one design, compiled once, and variables of each recipient
    INLINE = "inline"  # an app that makes its own HTML: another text in every send, parsed each time


@dataclass(frozen=True, slots=True)
class Mailing:
    sends: list[Send]
    campaign: CampaignSet | None = None  # to be known before its sends


def domain(site: int, number: int) -> str:
    return f"d{number}.s{site}.test"


def domains(sites: int = SITES) -> list[str]:
    return [domain(site, number) for site in range(1, sites + 1) for number in range(DOMAINS_PER_SITE)]


def html(size: int = BODY_BYTES) -> str:
    """A page of about `size` bytes in plain ASCII: paragraphs, a table's worth of tags, twelve links."""
    words = random.Random(1)
    parts = ['<html><head><meta charset="utf-8"><title>News</title></head>\n<body>\n<h1>News</h1>\n']
    length, number = len(parts[0]), 0
    while length < size - 200:
        text = " ".join(words.choice(_WORDS) for _ in range(40))
        part = f'<p style="margin:0 0 12px 0;font-family:Georgia,serif">{text}</p>\n'
        if number % 2 == 0 and number < 24:
            part += f'<p><a href="https://www.{SENDING_DOMAIN}/story/{number}">Read more</a></p>\n'
        parts.append(part)
        length += len(part)
        number += 1
    return "".join(parts) + "</body></html>\n"


def recipients(count: int, seed: int = 1, sites: int = SITES) -> Iterator[str]:
    chance = random.Random(seed)
    weights = [1 / site for site in range(1, sites + 1)]
    for number, site in enumerate(chance.choices(range(1, sites + 1), weights, k=count)):
        yield f"person{number}@{domain(site, chance.randrange(DOMAINS_PER_SITE))}"


def mailing(
    content: Content, run: str, addresses: Iterable[str], secret: bytes, body: int = BODY_BYTES, **more: object
) -> Mailing:
    """`secret` is the installation's, of recipient ids: a campaign's keys hold them. `more` goes into every send."""
    match content:
        case Content.CAMPAIGN:
            return Mailing(list(_to_campaign(run, addresses, secret, more)), campaign(run, body))
        case Content.INLINE:
            return Mailing(list(sends(run, addresses, body, **more)))


def campaign(name: str, body: int = BODY_BYTES) -> CampaignSet:
    """The design with a name in it. Without a text part, which so is made from the HTML, once."""
    return CampaignSet.from_cause(
        name,
        occurred_at=datetime.now(UTC),
        tenant=TENANT,
        campaign_id=name,
        name=SUBJECT,
        from_=SENDER,
        subject_template=SUBJECT,
        html=_named("{{ name }}", html(body)),
    )


def sends(run: str, addresses: Iterable[str], body: int = BODY_BYTES, **more: object) -> Iterator[Send]:
    """Records for `mail.sends`, each with its own HTML: the same text but for the recipient's name in it."""
    page = html(body)
    for number, address in enumerate(addresses):
        named = _named(address.partition("@")[0], page)
        content = {"from": SENDER, "subject": SUBJECT, "html": named, "stream": "marketing"}
        value = orjson.dumps({"recipient": address, **content, **more})
        yield Send(f"{run}/{number}".encode(), address, value)


def _to_campaign(name: str, addresses: Iterable[str], secret: bytes, more: dict[str, object]) -> Iterator[Send]:
    for address in addresses:
        key = ids.campaign_key(name, ids.recipient_id(secret, TENANT, canonical(parse(address))))
        variables = {"name": address.partition("@")[0]}
        value = orjson.dumps({"recipient": address, "campaign_id": name, "variables": variables, **more})
        yield Send(key.encode(), address, value)


def _named(name: str, page: str) -> str:
    return page.replace(_NAMELESS, f"<h1>News for {name}</h1>", 1)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Lines end in LF: `smtp-source` and its like add the CR.
    head = f"From: {SENDER}\nSubject: {SUBJECT}\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n"
    (folder / "mail.eml").write_text(head + html())
    (folder / "recipients.txt").write_text("\n".join(recipients(100_000)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
