"""What is said of a sending domain, from answers that are plain data; SPF by RFC 7208."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline import dkim_keys
from pipeline.doctor import broker
from pipeline.doctor.checks import Sender, Subject, examine
from pipeline.doctor.findings import Finding, Level, quoted
from pipeline.doctor.spf import Evaluation, Verdict
from sinks.smtp.answers import Addresses, Answer, Failure, MxRecords, Names, NoName, Texts
from sinks.smtp.dkim import Algorithm, txt_record
from sinks.smtp.sources import Source

IP, SIX = "93.184.215.14", "2606:2800:21f:cb07::1"
MADE: dict[str, Any] = {"MX": MxRecords, "A": Addresses, "AAAA": Addresses, "PTR": Names}
Zone = dict[str, Answer]


class Dns:
    """`{"NAME KIND": answer}`; counts what it is asked."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked = 0

    async def __call__(self, name: str, kind: str) -> Answer:
        self.asked += 1
        return self.zone.get(f"{name} {kind}", NoName())


def texts(*values: str) -> Texts:
    return Texts(tuple(value.encode() for value in values))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[dkim_keys.KeyFile, ...]:
    dkim_keys.generate(tmp_path, "brand.test", "", [Algorithm.ED25519], date(2026, 11, 22))
    dkim_keys.activate(dkim_keys.key_files(tmp_path, "brand.test"), date(2026, 11, 22))
    return tuple(dkim_keys.key_files(tmp_path, "brand.test"))


@pytest.fixture
def subject(keys: tuple[dkim_keys.KeyFile, ...]) -> Subject:
    source = Source("mta1.brand.test", "a", ipv4=IP)
    return Subject("brand.test", (Sender("default", "b.brand.test", "https://t.brand.test"),), (source,), keys)


@pytest.fixture
def zone(keys: tuple[dkim_keys.KeyFile, ...]) -> Zone:
    """All is right."""
    return {
        "14.215.184.93.in-addr.arpa PTR": Names(("mta1.brand.test",)),
        "mta1.brand.test A": Addresses((IP,)),
        "b.brand.test TXT": texts("v=spf1 a:mta1.brand.test -all"),
        f"{keys[0].record_name} TXT": texts(txt_record(keys[0].key)),
        "_dmarc.brand.test TXT": texts("v=DMARC1; p=reject; rua=mailto:dmarc@brand.test"),
        "b.brand.test MX": MxRecords(((10, "in.brand.test"),)),
        "brand.test MX": MxRecords(((10, "in.brand.test"),)),
        "in.brand.test A": Addresses((IP,)),
        "_smtp._tls.b.brand.test TXT": texts("v=TLSRPTv1; rua=mailto:tls@brand.test"),
        "t.brand.test A": Addresses((IP,)),
    }


def found(subject: Subject, zone: Zone) -> list[Finding]:
    async def all_() -> list[Finding]:
        return [finding async for finding in examine(subject, Dns(zone))]

    return asyncio.run(all_())


def wrong(subject: Subject, zone: Zone) -> list[tuple[str, str, str]]:
    findings = [each for each in found(subject, zone) if each.level is not Level.OK]
    assert all(each.todo for each in findings)
    return [(each.check, str(each.level), each.said) for each in findings]


def test_where_all_is_right_every_line_says_so(subject: Subject, zone: Zone) -> None:
    findings = found(subject, zone)
    assert {each.level for each in findings} == {Level.OK}
    assert [each.check for each in findings] == [
        "source", "spf", "dkim", "dmarc", "dmarc", "mx", "tls-rpt", "mx", "tracking",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer", "check", "level", "said"),
    [
        ("14.215.184.93.in-addr.arpa PTR", NoName(), "source", "error", "it has no name"),
        ("14.215.184.93.in-addr.arpa PTR", Names(("x.test",)), "source", "error", "does not lead back"),
        ("14.215.184.93.in-addr.arpa PTR", Names(("in.brand.test",)), "source", "warning", "its name is in.brand.test"),
        ("14.215.184.93.in-addr.arpa PTR", Failure("time-out"), "source", "warning", "time-out"),
        ("b.brand.test TXT", NoName(), "spf", "error", "no SPF record"),
        ("b.brand.test TXT", texts("v=spf1 -all"), "spf", "error", "fail"),
        ("b.brand.test TXT", texts("v=spf1 ~all"), "spf", "error", "softfail"),
        ("b.brand.test TXT", texts("v=spf1 +all"), "spf", "warning", "everybody"),
        ("b.brand.test TXT", texts("v=spf1 -all", "v=spf1 +all"), "spf", "error", "2 SPF records"),
        ("b.brand.test TXT", texts("v=spf1 exists:%{i}.x.test -all"), "spf", "warning", "not looked at"),
        ("_dmarc.brand.test TXT", NoName(), "dmarc", "error", "no DMARC record"),
        ("_dmarc.brand.test TXT", texts("v=DMARC1; p=none"), "dmarc", "warning", "nobody is told"),
        ("_dmarc.brand.test TXT", texts("v=DMARC1; rua=x"), "dmarc", "error", "no policy"),
        ("_dmarc.brand.test TXT", texts("v=DMARC1;p=none", "v=DMARC1;p=none"), "dmarc", "error", "2 records"),
        ("_dmarc.brand.test TXT", texts("v=DMARC1;p=none;aspf=s;rua=x"), "dmarc", "warning", "DKIM alone"),
        ("b.brand.test MX", NoName(), "mx", "error", "no MX record"),
        ("brand.test MX", MxRecords(((0, ""),)), "mx", "error", "takes no mail"),
        ("brand.test MX", MxRecords(((5, "gone.test"),)), "mx", "error", "gone.test has no address"),
        ("_smtp._tls.b.brand.test TXT", NoName(), "tls-rpt", "warning", "no TLS-RPT"),
        ("t.brand.test A", NoName(), "tracking", "error", "no address"),
        ("t.brand.test A", Failure("x"), "tracking", "warning", "did not answer"),
    ],
)
def test_one_thing_that_is_wrong_is_one_finding(
    subject: Subject, zone: Zone, name: str, answer: Answer, check: str, level: str, said: str
) -> None:
    zone[name] = answer
    ((was, how, text),) = wrong(subject, zone)
    assert (was, how) == (check, level)
    assert said in text


def test_a_greeting_that_no_one_can_look_up(subject: Subject, zone: Zone) -> None:
    for ehlo in ("localhost", "[192.0.2.1]"):
        bad = Subject(subject.domain, subject.senders, (Source(ehlo, "a", ipv4=IP),), subject.keys)
        ((check, level, _),) = wrong(bad, zone | {"b.brand.test TXT": texts(f"v=spf1 ip4:{IP} -all")})
        assert (check, level) == ("source", "error")


def test_an_address_that_the_system_chooses_and_one_of_the_inside(subject: Subject, zone: Zone) -> None:
    for source in (Source("mta1.brand.test"), Source("mta1.brand.test", "a", ipv4="10.0.0.1")):
        said = wrong(Subject(subject.domain, subject.senders, (source,), subject.keys), zone)
        assert said[0][:2] == ("source", "warning")


def test_a_key_that_signs_and_is_not_published(subject: Subject, zone: Zone) -> None:
    name = f"{subject.keys[0].record_name} TXT"
    for answer in (NoName(), texts("v=DKIM1; k=ed25519; p=AAAA"), texts("p=x", "p=y")):
        assert [(check, level) for check, level, _ in wrong(subject, zone | {name: answer})] == [("dkim", "error")]
    without = Subject(subject.domain, subject.senders, subject.sources, ())
    assert [said for _, _, said in wrong(without, zone)] == ["no key signs: mail goes unsigned"]


def test_dmarc_of_the_organisation_counts_for_what_is_below(subject: Subject, zone: Zone) -> None:
    below = Subject("news.brand.test", subject.senders, subject.sources, subject.keys)
    zone["news.brand.test MX"] = zone["brand.test MX"]
    assert not wrong(below, zone)


def test_links_without_tls(subject: Subject, zone: Zone) -> None:
    sender = Sender("default", "b.brand.test", "http://t.brand.test")
    bad = Subject(subject.domain, (sender,), subject.sources, subject.keys)
    assert [(check, level) for check, level, _ in wrong(bad, zone)] == [("tracking", "error")]


@pytest.mark.parametrize(
    ("record", "ip", "verdict"),
    [
        (f"v=spf1 ip4:{IP} -all", IP, "pass"),
        ("v=spf1 ip4:93.184.0.0/16 -all", IP, "pass"),
        (f"v=spf1 ip6:{SIX} -all", IP, "fail"),
        ("v=spf1 ip6:2606:2800::/32 -all", SIX, "pass"),
        ("v=spf1 a -all", IP, "fail"),
        ("v=spf1 a:host.test -all", IP, "pass"),
        ("v=spf1 a:host.test/24//64 -all", "93.184.215.200", "pass"),
        ("v=spf1 mx:host.test -all", IP, "pass"),
        ("v=spf1 include:friend.test -all", IP, "pass"),
        ("v=spf1 include:foe.test ?all", IP, "neutral"),
        ("v=spf1 include:none.test -all", IP, "permerror"),
        ("v=spf1 redirect=friend.test", IP, "pass"),
        ("v=spf1 redirect=none.test", IP, "permerror"),
        ("v=spf1", IP, "neutral"),
        ("v=spf10 +all", IP, "none"),
        ("v=spf1 ip4:1.2.3.4/99 -all", IP, "permerror"),
        ("v=spf1 a:host.test/99 -all", IP, "permerror"),
        ("v=spf1 bogus -all", IP, "permerror"),
        ("v=spf1 exp=x.test unknown=1 +all", IP, "pass"),
        ("v=spf1 include:own.test -all", IP, "permerror"),
        ("v=spf1 a:away.test -all", IP, "temperror"),
        ("v=spf1 " + "a " * 300, IP, "permerror"),
        ("v=SPF1 PTR IP4:" + IP + " -ALL", IP, "pass"),
        ("v=spf1 \x1b[2J%{ +all", IP, "pass"),
    ],
)
def test_spf(record: str, ip: str, verdict: str) -> None:
    zone: Zone = {
        "own.test TXT": texts("another record", record),
        "host.test A": Addresses((IP,)),
        "host.test MX": MxRecords(((10, "host.test"),)),
        "friend.test TXT": texts(f"v=spf1 ip4:{IP} -all"),
        "foe.test TXT": texts("v=spf1 -all"),
        "away.test A": Failure("time-out"),
    }
    dns = Dns(zone)
    assert asyncio.run(Evaluation(dns, ip).of("own.test"))[0] == Verdict(verdict)
    assert dns.asked <= 12


def test_what_a_stranger_says_is_safe_to_print() -> None:
    assert quoted(b"\x1b[2Jhello\r\n\xff") == "·[2Jhello··\ufffd"
    assert len(quoted("x" * 10_000)) == 161


@pytest.mark.parametrize(
    ("protocol", "settings", "levels"),
    [
        ("consumer", {"min": "3000", "max": "60000", "": "15000"}, ["ok", "ok", "ok"]),
        ("consumer", {"min": "45000", "max": "60000", "": "45000"}, ["error", "ok", "warning"]),
        ("consumer", {"min": "3000", "max": "60000", "": "9000"}, ["ok", "ok", "error"]),
        ("consumer", {}, ["warning", "warning"]),
        ("classic", {"min": "6000", "max": "1800000"}, ["ok", "ok"]),
        ("classic", {"min": "6000", "max": "10000"}, ["ok", "error"]),
        ("classic", {"min": "x", "max": "10000000"}, ["warning", "ok"]),
    ],
)
def test_what_the_broker_says_of_sessions(protocol: str, settings: dict[str, str], levels: list[str]) -> None:
    prefix = "group.consumer." if protocol == "consumer" else "group."
    told = {f"{prefix}{name + '.' if name else ''}session.timeout.ms": value for name, value in settings.items()}
    assert [str(each.level) for each in broker.examine("broker 1", protocol, told)] == levels
