"""Who gets the demo's mail: the people of `recipients.csv`, and as many more of the same kind as are asked for."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

FILE = Path(__file__).with_name("recipients.csv")


@dataclass(frozen=True, slots=True)
class Person:
    email: str
    first_name: str
    last_name: str
    city: str


def people(wanted: int) -> list[Person]:
    """`wanted` different people. Past the end of the file they come again with a number in the local part."""
    with FILE.open(newline="", encoding="utf-8") as source:
        listed = [Person(**row) for row in csv.DictReader(source)]
    everyone = (person if turn == 0 else _numbered(person, turn) for turn in count() for person in listed)
    return list(islice(everyone, wanted))


def _numbered(person: Person, turn: int) -> Person:
    local, _, domain = person.email.partition("@")
    return replace(person, email=f"{local}.{turn}@{domain}")
