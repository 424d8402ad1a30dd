"""The mail of a run: one recipient each, 10 KB of HTML, domains by Zipf over 20 sites. All systems get the same.

Site k (1 to 20) is asked for in proportion to 1/k; each has ten domains, which share its MX hosts. `python -m
bench.workload FOLDER` writes it as plain files (mail.eml, recipients.txt), so that another MTA can be put beside ours.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

SITES = 20
DOMAINS_PER_SITE = 10
SENDING_DOMAIN = "brand.test"
SENDER = f"News <news@{SENDING_DOMAIN}>"
SUBJECT = "Your week in one page"
BODY_BYTES = 10_240

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


def domain(site: int, number: int) -> str:
    return f"d{number}.s{site}.test"


def domains() -> list[str]:
    return [domain(site, number) for site in range(1, SITES + 1) for number in range(DOMAINS_PER_SITE)]


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


def recipients(count: int, seed: int = 1) -> Iterator[str]:
    chance = random.Random(seed)
    sites = range(1, SITES + 1)
    weights = [1 / site for site in sites]
    for number, site in enumerate(chance.choices(sites, weights, k=count)):
        yield f"person{number}@{domain(site, chance.randrange(DOMAINS_PER_SITE))}"


def sends(run: str, addresses: Iterator[str] | list[str], body: int = BODY_BYTES) -> Iterator[Send]:
    """Records for `mail.sends`. The body is the same text but for the recipient's name in it."""
    before, _, after = html(body).partition("<h1>News</h1>")
    for number, address in enumerate(addresses):
        value = orjson.dumps(
            {
                "recipient": address,
                "from": SENDER,
                "subject": SUBJECT,
                "html": f"{before}<h1>News for {address.partition('@')[0]}</h1>{after}",
                "stream": "marketing",
            }
        )
        yield Send(f"{run}/{number}".encode(), address, value)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    head = f"From: {SENDER}\r\nSubject: {SUBJECT}\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"
    (folder / "mail.eml").write_bytes((head + "\r\n" + html().replace("\n", "\r\n")).encode())
    (folder / "recipients.txt").write_text("\n".join(recipients(100_000)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
