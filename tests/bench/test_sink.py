"""The sink of ours: what it answers, whom it puts off, and STARTTLS with a real client."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path

import pytest

from bench.delivery import duration
from bench.internet import Behaviour, internet
from bench.sink import Dialogue, Manners
from tests.waiting import wait_until

_MAIL = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<%b@b.test>\r\nDATA\r\n"


def _codes(answers: bytes) -> list[int]:
    return [int(line[:3]) for line in answers.splitlines() if line[3:4] == b" "]


def test_a_pipelined_mail_is_taken_at_its_end_only() -> None:
    manners = Manners()
    dialogue = Dialogue(manners)
    assert _codes(dialogue.receive(b"EHLO x\r\n")) == [250]
    assert _codes(dialogue.receive(_MAIL % b"ann")) == [250, 250, 354]
    assert dialogue.receive(b"Subject: x\r\n\r\nQUIT\r\n.") == b""
    assert manners.taken == 0
    assert _codes(dialogue.receive(b"\r\nQUIT\r\n")) == [250, 221]
    assert manners.taken == 1
    assert dialogue.over


def test_who_is_put_off_is_put_off_once() -> None:
    manners = Manners(defer=1.0)
    dialogue = Dialogue(manners)
    assert _codes(dialogue.receive(_MAIL % b"ann")) == [250, 450, 554]
    assert _codes(dialogue.receive(_MAIL % b"ann")) == [250, 250, 354]
    assert _codes(dialogue.receive(b"x\r\n.\r\n")) == [250]
    assert manners.taken == 1


def test_the_share_that_is_put_off_is_the_one_that_was_asked_for() -> None:
    manners = Manners(defer=0.05)
    put_off = sum(manners.puts_off(b"RCPT TO:<person%d@d1.s1.test>" % number) for number in range(4_000))
    assert 120 < put_off < 280


def test_nothing_that_came_before_the_handshake_counts() -> None:
    dialogue = Dialogue(Manners(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))
    assert _codes(dialogue.receive(b"STARTTLS\r\nMAIL FROM:<a@a.test>\r\n")) == [220]
    dialogue.encrypted()
    assert _codes(dialogue.receive(b"NOOP\r\nSTARTTLS\r\n")) == [250, 502]


def test_a_client_encrypts_and_sends_and_is_counted(tmp_path: Path) -> None:
    with internet(tmp_path, Behaviour(tls=True, delay=0.001)) as world:
        with smtplib.SMTP("127.0.0.1", world.sink_port, timeout=20) as client:
            client.starttls(context=ssl._create_unverified_context())
            client.sendmail("a@a.test", ["b@b.test"], b"Subject: x\r\n\r\ny\r\n")
            assert isinstance(client.sock, ssl.SSLSocket)
        wait_until(lambda: world.received() == 1)


@pytest.mark.parametrize(("text", "seconds"), [("100ms", 0.1), ("0.2s", 0.2), ("0ms", 0.0)])
def test_a_round_trip_is_written_as_people_do(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["100", "-1s", "11s", "ms", "1h"])
def test_what_is_no_round_trip_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        duration(text)
