"""SMTP dialogues as scripts over the pure state machine: what a strict server answers to good and bad clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pipeline.simulator.behaviour import WELCOME, Cut, Then, Verdict
from pipeline.simulator.config import Provider
from pipeline.simulator.dialogue import Dialogue, Signal, Step, Wait
from pipeline.simulator.grammar import render
from pipeline.simulator.post import Received


@dataclass
class Desk:
    """A post that accepts, but for what a test prepares."""

    rcpt: dict[str, Verdict] = field(default_factory=dict)
    kept: list[Received] = field(default_factory=list)
    broken: bool = False
    first: Verdict = WELCOME

    def connect(self) -> Verdict:
        return self.first

    def mail_from(self, sent: int, encrypted: bool) -> Verdict:
        return WELCOME

    def rcpt_to(self, sender: str, localpart: str, domain: str) -> Verdict:
        return self.rcpt.get(localpart, WELCOME)

    def serves(self, domain: str) -> bool:
        return domain == "p.test"

    def keep(self, mail: Received) -> str:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.kept.append(mail)
        return f"queued as {len(self.kept)}"


def provider(**changes: object) -> Provider:
    return Provider.model_validate(
        {"name": "p", "domains": ("p.test",), "hosts": ({"name": "mx.p.test"},), "limits": {"size": 2048}, **changes}
    )


class Talk:
    """A dialogue whose output is collected as text, signals in angle brackets."""

    def __init__(self, desk: Desk | None = None, **changes: object) -> None:
        self.desk = desk or Desk()
        self.dialogue = Dialogue(provider(**changes), "mx.p.test", self.desk)
        self.greeting = self._text(self.dialogue.open())

    @staticmethod
    def _text(steps: Sequence[Step]) -> str:
        out = ""
        for step in steps:
            match step:
                case bytes():
                    out += step.decode()
                case Wait(seconds):
                    out += f"<wait {seconds}>"
                case Signal():
                    out += f"<{step.value}>"
        return out.replace("\r\n", "\n")

    def say(self, data: bytes) -> str:
        return self._text(self.dialogue.receive(data))

    def codes(self, data: bytes) -> list[str]:
        return [line[:3] for line in self.say(data).splitlines()]


OPEN = b"EHLO c.test\r\nMAIL FROM:<s@brand.test>\r\nRCPT TO:<ann@p.test>\r\nDATA\r\n"


def test_a_whole_dialogue() -> None:
    talk = Talk()
    assert talk.greeting == "220 mx.p.test ESMTP\n"
    assert talk.say(b"EHLO c.test\r\n") == (
        "250-mx.p.test\n250-PIPELINING\n250-SIZE 2048\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n"
        "250 STARTTLS\n"
    )
    assert talk.say(b"MAIL FROM:<s@brand.test> SIZE=100\r\nRCPT TO:<Ann@P.TEST>\r\nDATA\r\n") == (
        "250 2.1.0 Sender OK\n250 2.1.5 Recipient OK\n354 End data with <CR><LF>.<CR><LF>\n"
    )
    assert talk.say(b"Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n") == ("250 2.0.0 OK queued as 1\n221 2.0.0 Bye\n<close>")
    assert talk.desk.kept == [
        Received("s@brand.test", (("Ann", "p.test"),), b"Subject: x\r\n\r\n.dot\r\n", False, True)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_the_cut_of_packets_does_not_matter(size: int) -> None:
    talk = Talk()
    data = OPEN + b".\r\n" + OPEN[13:] + b"a\r\n.b\r\n..\r\n.\r\nRSET\r\n"
    said = "".join(talk.say(data[n : n + size]) for n in range(0, len(data), size))
    assert said.count("queued as") == 2
    assert said.endswith("250 2.0.0 OK\n")
    assert [mail.body for mail in talk.desk.kept] == [b"", b"a\r\nb\r\n.\r\n"]


def test_several_recipients_and_the_refused_one_among_them() -> None:
    talk = Talk(Desk(rcpt={"bob": Verdict("550 5.1.1 no", accepted=False)}))
    talk.say(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ann@p.test>\r\nRCPT TO:<bob@p.test>\r\nRCPT TO:<cy@p.test>\r\n")
    talk.say(b"DATA\r\nx\r\n.\r\n")
    assert talk.desk.kept[0].recipients == (("ann", "p.test"), ("cy", "p.test"))
    assert talk.desk.kept[0].mail_from == ""


@pytest.mark.parametrize(
    ("commands", "codes"),
    [
        (b"MAIL FROM:<a@b.test>\r\n", ["503"]),  # before EHLO
        (b"EHLO\r\n", ["501"]),
        (b"EHLO c\r\nRCPT TO:<ann@p.test>\r\n", ["503"]),
        (b"EHLO c\r\nMAIL FROM: <a@b.test>\r\n", ["501"]),  # RFC 5321 section 3.3: no space
        (b"EHLO c\r\nMAIL FROM:a@b.test\r\n", ["501"]),
        (b"EHLO c\r\nMAIL FROM:<a b@b.test>\r\n", ["501"]),
        (b"EHLO c\r\nMAIL FROM:<@relay.test:a@b.test>\r\n", ["501"]),
        (b"EHLO c\r\nMAIL FROM:<" + b"a" * 65 + b"@b.test>\r\n", ["501"]),
        (b'EHLO c\r\nMAIL FROM:<"a b>"@b.test>\r\n', ["250"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test> SIZE=2049\r\n", ["552"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test> RET=HDRS\r\n", ["555"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nMAIL FROM:<a@b.test>\r\n", ["250", "503"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<ann@other.test>\r\n", ["250", "554"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<ann@p.test> NOTIFY=NEVER\r\n", ["250", "555"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<postmaster>\r\n", ["250", "250"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nDATA\r\n", ["250", "554"]),
        ("EHLO c\r\nMAIL FROM:<ä@b.test>\r\n".encode(), ["553"]),
        ("EHLO c\r\nMAIL FROM:<ä@b.test> SMTPUTF8\r\n".encode(), ["250"]),
        (b"EHLO c\r\nMAIL FROM:<\xff@b.test>\r\n", ["500"]),
        (b"EHLO c\r\nMAIL FROM:<a@b.test>\nRCPT TO:<ann@p.test>\r\n", ["500"]),  # a bare LF
        (b"EHLO c\r\nBDAT 5\r\n", ["500"]),
        (b"EHLO c\r\nVRFY ann\r\n", ["252"]),
    ],
)
def test_answers_to_commands(commands: bytes, codes: list[str]) -> None:
    greeting = 7 if commands.startswith(b"EHLO c\r\n") else 0
    assert Talk().codes(commands)[greeting:] == codes


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (b"a\nb\r\n", "550 5.6.0 Bare CR or LF in the message"),
        (b"a\rb\r\n", "550 5.6.0 Bare CR or LF in the message"),
        (b"a\n.\nb\r\n", "550 5.6.0 Bare CR or LF in the message"),
        (b"a" * 999 + b"\r\n", "550 5.6.0 A line of the message is longer than 998 octets"),
        (b"a\xe4\r\n", "554 5.6.3 8-bit data without BODY=8BITMIME"),
        ((b"a" * 98 + b"\r\n") * 30, "552 5.3.4 Message size exceeds fixed limit"),
        (b"a" * 998 + b"\r\n", "250 2.0.0 OK queued as 1"),
        (b".." + b"a" * 997 + b"\r\n", "250 2.0.0 OK queued as 1"),  # 998 without the added dot
    ],
)
def test_answers_to_bodies(body: bytes, reply: str) -> None:
    talk = Talk()
    talk.say(OPEN)
    assert talk.say(body + b".\r\n") == reply + "\n"
    assert len(talk.desk.kept) == reply.startswith("250")


@pytest.mark.parametrize("ending", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r"])
def test_only_crlf_dot_crlf_ends_a_message(ending: bytes) -> None:
    # SMTP smuggling: a second message must not begin here.
    talk = Talk()
    talk.say(OPEN)
    assert talk.say(b"a" + ending + b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<ann@p.test>\r\nDATA\r\nx\r\n") == ""
    assert talk.say(b".\r\n").startswith("550 5.6.0")
    assert talk.desk.kept == []


def test_a_body_that_never_ends_takes_no_memory() -> None:
    talk = Talk()
    talk.say(OPEN)
    for _ in range(100):
        assert talk.say(b"b" * 1000) == ""
    assert len(talk.dialogue._buffer) < 4096
    assert talk.say(b"\r\n.\r\n") == "552 5.3.4 Message size exceeds fixed limit\n"


def test_what_follows_starttls_in_plain_text_is_forgotten() -> None:
    # RFC 3207 section 4.2: else a man in the middle puts his commands into the secured session.
    talk = Talk()
    talk.say(b"EHLO c\r\n")
    assert talk.say(b"STARTTLS\r\nMAIL FROM:<evil@b.test>\r\n") == "220 2.0.0 Ready to start TLS\n<starttls>"
    talk.dialogue.secured()
    assert talk.codes(b"MAIL FROM:<a@b.test>\r\n") == ["503"]  # and EHLO is to be said again
    assert "STARTTLS" not in talk.say(b"EHLO c\r\n")


def test_a_reply_lost_after_the_dot_leaves_the_message_kept() -> None:
    talk = Talk(Desk(rcpt={"ann": Verdict(cut=Cut.AFTER_DOT)}))
    talk.say(OPEN)
    assert talk.say(b"x\r\n.\r\n") == "<drop>"
    assert [mail.answered for mail in talk.desk.kept] == [False]


def test_a_connection_cut_in_the_body_keeps_nothing() -> None:
    talk = Talk(Desk(rcpt={"ann": Verdict(cut=Cut.AT_DATA)}))
    talk.say(OPEN)
    assert talk.say(b"x\r\n") == "<drop>"
    assert talk.desk.kept == []


def test_a_slow_host_keeps_the_message_first_and_answers_in_order() -> None:
    talk = Talk(Desk(rcpt={"ann": Verdict(slow=3.0)}))
    talk.say(OPEN)
    assert talk.say(b"x\r\n.\r\nNOOP\r\n") == "<wait 3.0>250 2.0.0 OK queued as 1\n"
    assert len(talk.desk.kept) == 1
    assert talk.say(b"NOOP\r\n") == ""
    assert talk._text(talk.dialogue.resume()) == "250 2.0.0 OK\n250 2.0.0 OK\n"


def test_a_message_that_cannot_be_written_down_is_not_accepted() -> None:
    talk = Talk(Desk(broken=True))
    talk.say(OPEN)
    assert talk.codes(b"x\r\n.\r\nNOOP\r\n") == ["452", "250"]


def test_an_unwelcome_client_is_turned_away() -> None:
    busy = Verdict("421 4.7.0 too many connections", Then.CLOSE, accepted=False)
    assert Talk(Desk(first=busy)).greeting == "421 4.7.0 too many connections\n<close>"
    assert Talk(Desk(first=Verdict(then=Then.DROP, accepted=False))).greeting == "<drop>"


def test_a_client_with_too_many_mistakes_is_sent_away() -> None:
    assert Talk().codes(b"NONSENSE\r\n" * 30) == ["500"] * 20 + ["421", "<cl"]


def test_an_endless_command_line_is_cut() -> None:
    assert Talk().say(b"N" * 5000) == "500 5.5.6 Line too long\n<close>"


@pytest.mark.parametrize(
    ("enhanced", "wire"),
    [
        (True, b"550-5.1.1 No\r\n550 5.1.1 such user\r\n"),
        (False, b"550-No\r\n550 such user\r\n"),
    ],
)
def test_the_enhanced_status_is_on_every_line_or_nowhere(enhanced: bool, wire: bytes) -> None:
    assert render("550 5.1.1 No\nsuch user", enhanced) == wire
