"""What the witness saw, for readers: every message that the simulated internet accepted.

Reads the log and the bodies that `witness_log` writes, from any process and while they grow. Decides nothing but what
makes two entries the same message.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

LOG_NAME = "messages.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted message, one line of the log. `time` is seconds since the epoch."""

    seq: int
    time: float
    provider: str
    domain: str  # of the first recipient
    mail_from: str
    rcpt_to: tuple[str, ...]
    message_id: str  # the Message-ID header
    mailriver_id: str  # the header that the internet file names
    subject: str
    size: int
    sha256: str
    tls: bool
    peer: str
    answered: bool  # False: the connection was dropped after the dot, the message kept
    segment: int
    offset: int

    @property
    def identity(self) -> str:
        """What makes two entries the same message: the sender's id, or else the Message-ID, or else the bytes."""
        return self.mailriver_id or self.message_id or self.sha256


class Witness:
    """The reading side: what was accepted, as tests and the demo compare it with what the sender says."""

    def __init__(self, log: Path) -> None:
        self._path = log
        self._read_to = 0
        self.entries: list[Entry] = []

    def load(self) -> list[Entry]:
        """All entries so far; a second call reads only what is new."""
        if self._path.exists():
            with open(self._path, "rb") as log:
                log.seek(self._read_to)
                for line in log:
                    if not line.endswith(b"\n"):
                        break  # being written
                    self._read_to += len(line)
                    self.entries.append(_entry(line))
        return self.entries

    def by_message_id(self) -> dict[str, list[Entry]]:
        """Entries by identity: the sender's id header where it was set, else the Message-ID."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.identity, []).append(entry)
        return found

    def duplicates(self) -> dict[str, list[Entry]]:
        """Messages that one mailbox received more than once, by identity."""
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            for address in entry.rcpt_to:
                found.setdefault((entry.identity, address.lower()), []).append(entry)
        return {identity: entries for (identity, _), entries in found.items() if len(entries) > 1}

    def raw(self, entry: Entry) -> bytes | None:
        """The message as received, or None when its segment has made room for newer ones."""
        return read_raw(self._path.parent, entry)


def read_raw(folder: Path, entry: Entry) -> bytes | None:
    """The body of an entry from the folder of its log, or None when it is no longer kept."""
    try:
        with open(segment_path(folder, entry.segment), "rb") as segment:
            segment.seek(entry.offset)
            body = segment.read(entry.size)
    except FileNotFoundError:
        return None
    return body if len(body) == entry.size else None


def newest_first(log: Path, *, before: int | None = None, most: int = 100_000) -> Iterator[Entry]:
    """Entries from the end of the log backwards, at most `most`, reading only what is asked for."""
    if not log.exists():
        return
    with open(log, "rb") as file:
        lines: Iterable[bytes] = _lines_backwards(file.fileno(), file.seek(0, os.SEEK_END))
        for n, line in enumerate(lines):
            if n >= most:
                return
            entry = _entry(line)
            if before is None or entry.seq < before:
                yield entry


def as_dict(entry: Entry) -> dict[str, Any]:
    """An entry as JSON-ready data."""
    return {**asdict(entry), "rcpt_to": list(entry.rcpt_to)}


def _lines_backwards(file: int, end: int, block: int = 65_536) -> Iterator[bytes]:
    tail = b""
    while end > 0:
        start = max(0, end - block)
        lines = (os.pread(file, end - start, start) + tail).split(b"\n")
        tail = lines[0]
        end = start
        # What follows the last newline is empty, or a line being written.
        yield from (line for line in reversed(lines[1:]) if line.endswith(b"}"))
    if tail:
        yield tail


def _entry(line: bytes) -> Entry:
    fields = orjson.loads(line)
    fields["rcpt_to"] = tuple(fields["rcpt_to"])
    return Entry(**fields)


def segment_path(folder: Path, number: int) -> Path:
    """The file of bodies with this number."""
    return folder / f"bodies-{number:06}.raw"


def segments(folder: Path) -> Iterator[int]:
    """Numbers of the files of bodies that are there, in no order."""
    for path in folder.glob("bodies-*.raw"):
        yield int(path.stem.removeprefix("bodies-"))
