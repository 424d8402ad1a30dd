"""The witness's writing side: an append-only log of what was accepted, and the bodies beside it.

A line is written, with one system call and no buffer of ours, before the 250 is said. So the log outlives any process,
and killing this one loses at most what was not answered. Bodies lie in segment files, up to a limit: the oldest go
first, the log stays whole. `witness` reads both.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from hashlib import sha256
from pathlib import Path

import orjson

from pipeline.simulator.witness import LOG_NAME, Entry, segment_path, segments

_SEGMENT_BYTES = 16 * 1024 * 1024
_LONGEST_HEADER = 1000  # characters of a header that the log keeps
_LARGEST_HEAD = 256 * 1024
_FOLD = re.compile(rb"\r\n(?=[ \t])")


class WitnessLog:
    """The writing side; one process at a time."""

    def __init__(
        self, folder: Path, *, id_header: str, keep_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG_NAME
        self.counts: Counter[str] = Counter()
        self._id_header = id_header
        self._clock = clock
        self._segments = max(1, keep_bytes // _SEGMENT_BYTES)
        self._folder = folder
        self._log = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._next = self._recover()
        numbers = sorted(segments(folder))
        self._segment = numbers[-1] if numbers else 1
        self._body = self._open_segment()
        self._offset = os.fstat(self._body).st_size

    def append(
        self,
        *,
        provider: str,
        mail_from: str,
        recipients: tuple[tuple[str, str], ...],
        body: bytes,
        tls: bool,
        peer: str,
        answered: bool,
    ) -> Entry:
        """Write a message down, body first, so that a line never points at nothing. Raises OSError."""
        message_id, mailriver_id, subject = headers(body, "Message-ID", self._id_header, "Subject")
        if self._offset and self._offset + len(body) > _SEGMENT_BYTES:
            self._next_segment()
        offset = self._offset
        # Counted before it is done: a write that fails halfway leaves a hole, never an overlap.
        self._offset = offset + len(body)
        _write(self._body, body, offset)
        entry = Entry(
            seq=self._next,
            time=round(self._clock(), 6),
            provider=provider,
            domain=recipients[0][1],
            mail_from=mail_from,
            rcpt_to=tuple(f"{localpart}@{domain}" for localpart, domain in recipients),
            message_id=message_id,
            mailriver_id=mailriver_id,
            subject=decoded(subject),
            size=len(body),
            sha256=sha256(body).hexdigest(),
            tls=tls,
            peer=peer,
            answered=answered,
            segment=self._segment,
            offset=offset,
        )
        line = orjson.dumps(entry) + b"\n"
        end = os.fstat(self._log).st_size
        try:
            _write(self._log, line, None)
        except OSError:
            os.ftruncate(self._log, end)  # half a line would spoil the next one
            raise
        self._next += 1
        self.counts[provider] += 1
        return entry

    def close(self) -> None:
        """Close the files. Everything was written already."""
        os.close(self._log)
        os.close(self._body)

    def _recover(self) -> int:
        """Cut off a line that a crash left half written (its message was never answered); the next number."""
        last = 0
        end = 0
        with open(self.path, "rb") as log:
            for line in log:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                entry = orjson.loads(line)
                last = entry["seq"]
                self.counts[entry["provider"]] += 1
        os.ftruncate(self._log, end)
        return last + 1

    def _open_segment(self) -> int:
        path = segment_path(self._folder, self._segment)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _next_segment(self) -> None:
        os.close(self._body)
        self._segment += 1
        self._body = self._open_segment()
        self._offset = 0
        for number in sorted(segments(self._folder))[: -self._segments]:
            segment_path(self._folder, number).unlink(missing_ok=True)


def headers(body: bytes, *names: str) -> list[str]:
    """The first value of each header, unfolded, "" when absent; undecodable octets are replaced."""
    end = body.find(b"\r\n\r\n", 0, _LARGEST_HEAD)
    head = b"\r\n" + (body[:end] if end >= 0 else body[:_LARGEST_HEAD])
    low = head.lower()
    found = []
    for name in names:
        at = low.find(b"\r\n" + name.lower().encode() + b":")
        if at < 0:
            found.append("")
            continue
        start = at + len(name) + 3
        stop = start
        while (stop := head.find(b"\r\n", stop)) >= 0 and head[stop + 2 : stop + 3] in (b" ", b"\t"):
            stop += 2
        value = _FOLD.sub(b"", head[start : stop if stop >= 0 else len(head)])
        found.append(value.decode("utf-8", "replace").strip()[:_LONGEST_HEADER])
    return found


def decoded(value: str) -> str:
    """A header's text with its encoded words (RFC 2047) read; as it stands when they are malformed."""
    if "=?" not in value:
        return value
    try:
        text = str(make_header(decode_header(value)))[:_LONGEST_HEADER]
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return value
    return text.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates: they are not JSON


def _write(file: int, data: bytes, offset: int | None) -> None:
    done = 0
    while done < len(data):
        rest = data[done:] if done else data
        done += os.write(file, rest) if offset is None else os.pwrite(file, rest, offset + done)
