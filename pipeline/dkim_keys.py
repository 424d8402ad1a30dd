"""The DKIM key files of the sending domains, and a key's life: it waits, signs, is retired.

    dkim/DOMAIN/SELECTOR.pem                      signs
    dkim/DOMAIN/SELECTOR.pem.waiting              made; signs when its record is published
    dkim/DOMAIN/SELECTOR.pem.retired-2026-11-22   signed until that day; its record stays for mail that is still out
    dkim/DOMAIN/TENANT/…                          the same for one tenant alone, where several share a domain

The name is the state, so a change is a rename, and whoever reads the folder reads one state or the next. Every file has
mode 0600 from its first byte on. What DNS says of a key is dkim_records.py's, when to ask is the operator's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import chain, count
from pathlib import Path

from sinks.smtp.dkim import Algorithm, Key, create_key_file, load_key

# Mail that is signed waits in our queue for a week at most, and as long in others'. Then no record need stand for it.
AGED_AFTER = timedelta(days=14)

_NAME = re.compile(r"(?P<selector>.+)\.pem(?:\.(?P<state>waiting)|\.retired-(?P<day>\d{4}-\d\d-\d\d))?")
_LETTER = {Algorithm.RSA: "r", Algorithm.ED25519: "e"}


class State(StrEnum):
    SIGNING = "signing"
    WAITING = "waiting"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class KeyFile:
    path: Path
    domain: str
    tenant: str  # empty: of every tenant that sends from the domain
    key: Key
    state: State
    retired_on: date | None = None

    @property
    def record_name(self) -> str:
        return f"{self.key.selector}._domainkey.{self.domain}"

    @property
    def publish_until(self) -> date | None:
        """None: for as long as the key is there."""
        return self.retired_on + AGED_AFTER if self.retired_on else None


class KeysWait(Exception):
    """There are keys that wait already."""


def signing_keys(folder: Path, domain: str, tenant: str = "") -> list[Key]:
    """The keys that sign, by selector; `folder` is that of all secrets. DkimError or OSError names the file."""
    return [load_key(path, path.stem) for path in sorted(_place(folder, domain, tenant).glob("*.pem"))]


def key_files(folder: Path, domain: str, tenant: str = "") -> list[KeyFile]:
    """All keys of a domain, or of one tenant in it. DkimError or OSError names the file."""
    found = []
    for path in sorted(_place(folder, domain, tenant).glob("*.pem*")):
        if match := _NAME.fullmatch(path.name):
            retired = date.fromisoformat(match["day"]) if match["day"] else None
            state = State.RETIRED if retired else State(match["state"] or State.SIGNING)
            found.append(KeyFile(path, domain, tenant, load_key(path, match["selector"]), state, retired))
    return found


def make_first(folder: Path, domain: str) -> None:
    """Keys that sign at once, for a domain that has none."""
    place = _place(folder, domain, "")
    if not any(place.glob("*.pem")):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        for algorithm, letter in _LETTER.items():
            create_key_file(place / f"{letter}1.pem", f"{letter}1", algorithm)


def generate(folder: Path, domain: str, tenant: str, algorithms: Iterable[Algorithm], today: date) -> list[KeyFile]:
    """Make keys that wait. Raises KeysWait where some do: two rotations at once would publish what never signs."""
    if any(file.state is State.WAITING for file in key_files(folder, domain, tenant)):
        raise KeysWait(domain)
    place = _place(folder, domain, tenant)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A name in DNS is one for all tenants of the domain, and is never given twice.
    taken = {path.name.partition(".pem")[0] for path in (folder / "dkim" / domain).rglob("*.pem*")}
    made = []
    for algorithm in algorithms:
        stem = f"{_LETTER[algorithm]}{today:%Y%m%d}"
        selector = next(name for name in chain([stem], (f"{stem}-{n}" for n in count(2))) if name not in taken)
        path = place / f"{selector}.pem.waiting"
        made.append(KeyFile(path, domain, tenant, create_key_file(path, selector, algorithm), State.WAITING))
    return made


def activate(files: Sequence[KeyFile], today: date) -> None:
    """What waits signs; what signed by the same algorithm is retired."""
    waiting = [file for file in files if file.state is State.WAITING]
    for file in waiting:
        file.path.rename(file.path.with_suffix(""))
    # After it: a death in between leaves both signing, never none.
    replaced = {file.key.algorithm for file in waiting}
    for file in files:
        if file.state is State.SIGNING and file.key.algorithm in replaced:
            file.path.rename(file.path.with_name(f"{file.path.name}.retired-{today.isoformat()}"))


def _place(folder: Path, domain: str, tenant: str) -> Path:
    return folder / "dkim" / domain / tenant
