"""The witness: what is written, what a reader finds, and what a crash or a full disk leaves."""

from __future__ import annotations

import os
import resource
import signal
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.simulator import witness_log
from pipeline.simulator.witness import Entry, Witness, newest_first, read_raw
from pipeline.simulator.witness_log import WitnessLog, decoded, headers


def open_log(folder: Path) -> WitnessLog:
    return WitnessLog(folder, id_header="X-Mailriver-ID", keep_bytes=64 * 1024 * 1024, clock=lambda: 1.5)


def put(log: WitnessLog, body: bytes = b"Subject: x\r\n\r\nbody\r\n", to: str = "ann", answered: bool = True) -> Entry:
    return log.append(
        provider="p",
        mail_from="a@brand.test",
        recipients=((to, "p.test"),),
        body=body,
        tls=True,
        peer="127.0.0.1:1",
        answered=answered,
    )


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    body = b"Message-ID: <1@b.test>\r\nx-mailriver-id: id-1\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nx\r\n"
    written = put(log, body)
    reader = Witness(log.path)
    assert reader.load() == [written]
    assert (written.seq, written.time, written.subject, written.mailriver_id) == (1, 1.5, "Grüße", "id-1")
    assert written.sha256 == sha256(body).hexdigest()
    assert reader.raw(written) == body
    log.close()


def test_a_reader_follows_a_growing_log(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    reader = Witness(log.path)
    assert reader.load() == []
    put(log)
    assert len(reader.load()) == 1
    with open(log.path, "ab") as other:
        other.write(b'{"seq": 2, "half')  # a line that is being written
    assert len(reader.load()) == 1
    log.close()


def test_a_restart_goes_on_and_cuts_off_a_half_written_line(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    first = put(log)
    log.close()
    with open(log.path, "ab") as crashed:
        crashed.write(b'{"seq": 2, "half')
    again = open_log(tmp_path)
    second = put(again, b"Subject: y\r\n\r\nother\r\n")
    reader = Witness(again.path)
    assert reader.load() == [first, second]
    assert second.seq == 2
    assert again.counts["p"] == 2
    assert [reader.raw(entry) for entry in reader.entries] == [
        b"Subject: x\r\n\r\nbody\r\n",
        b"Subject: y\r\n\r\nother\r\n",
    ]
    again.close()


def test_duplicates_are_of_one_message_in_one_mailbox(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    body = b"X-Mailriver-ID: id-%d\r\n\r\n"
    put(log, body % 1, to="ann")
    put(log, body % 1, to="bob")  # the same message for somebody else
    put(log, body % 2, to="ann")
    put(log, body % 3, to="ann", answered=False)
    put(log, body % 3, to="Ann")
    reader = Witness(log.path)
    reader.load()
    assert {name: [e.seq for e in entries] for name, entries in reader.duplicates().items()} == {"id-3": [4, 5]}
    assert sorted(reader.by_message_id()) == ["id-1", "id-2", "id-3"]
    log.close()


def test_bodies_are_bounded_and_the_log_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness_log, "_SEGMENT_BYTES", 1000)
    log = WitnessLog(tmp_path, id_header="X-Mailriver-ID", keep_bytes=3000)
    entries = [put(log, b"%03d" % n + b"x" * 397) for n in range(20)]  # two in a segment
    reader = Witness(log.path)
    assert len(reader.load()) == 20
    kept = [entry.seq for entry in entries if reader.raw(entry) is not None]
    assert kept == [15, 16, 17, 18, 19, 20]
    assert read_raw(tmp_path, entries[-1]) == b"019" + b"x" * 397
    log.close()


def test_newest_first_reads_backwards_over_block_borders(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for n in range(500):
        put(log, b"Subject: " + b"s" * (n % 300) + b"\r\n\r\n")
    assert [entry.seq for entry in newest_first(log.path)] == list(range(500, 0, -1))
    assert [entry.seq for entry in newest_first(log.path, before=3)] == [2, 1]
    assert len(list(newest_first(log.path, most=7))) == 7
    log.close()


def test_a_full_disk_refuses_and_leaves_the_log_whole(tmp_path: Path) -> None:
    # A limit on file size stands for a full disk: the write of the line fails in the middle.
    log = open_log(tmp_path)
    first = put(log)
    size = log.path.stat().st_size
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            put(log, b"")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert os.stat(log.path).st_size == size
    second = put(log)
    assert Witness(log.path).load() == [first, second]
    log.close()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"Subject: a\r\n b\r\nX: y\r\n\r\n", "a b"),
        (b"SUBJECT:a\r\n\r\n", "a"),
        (b"X: y\r\n\r\nSubject: in the body\r\n", ""),
        (b"Subject: no end", "no end"),
        (b"", ""),
        (b"Subject: \xff\r\n\r\n", "\N{REPLACEMENT CHARACTER}"),
        (b"X-Subject: a\r\nSubject: b\r\nSubject: c\r\n\r\n", "b"),
    ],
)
def test_headers_are_found(body: bytes, found: str) -> None:
    assert headers(body, "Subject") == [found]


@pytest.mark.parametrize(
    "value", ["=?nonsense?q?x?=", "=?utf-8?b?!!!?=", "=?utf-8?q?=ED=A0=80?=", "=?unknown-8bit?q?=FF?=", "=?"]
)
def test_a_hostile_subject_is_still_written(tmp_path: Path, value: str) -> None:
    decoded(value).encode("utf-8")
    log = open_log(tmp_path)
    put(log, f"Subject: {value}\r\n\r\n".encode())
    assert len(Witness(log.path).load()) == 1
    log.close()
