"""What rspamd says of a mail of ours: SPF, DKIM by both keys, DMARC, and headers as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from pipeline.simulator.names import Zone
from sinks.smtp.content import compile_content
from sinks.smtp.dkim import Key, Signer, hash_body, txt_record
from tests.peers.rspamd import Judge, rspamd
from tests.smtp_wire.signing import dkim_fields
from tests.smtp_wire.test_content import BULK, CONTEXT, HTML
from tests.smtp_wire.verifiers import unstuffed

pytestmark = pytest.mark.stack
IP = "198.18.0.77"
SESSION = {
    "ip": IP,
    "helo": "mta.brand.test",
    "hostname": "mta.brand.test",
    "from_": "b+token@bounces.brand.test",
    "rcpt": "ann@example.test",
}
CONTENT = compile_content("Hello {{ name }}", HTML, "Hi {{ name }}\n", bulk=BULK)


@pytest.fixture(scope="module")
def judge(keys: tuple[Key, ...]) -> Iterator[Judge]:
    zone = Zone()
    zone.add("mta.brand.test", "A", IP)
    for domain in ("brand.test", "bounces.brand.test"):
        zone.add(domain, "MX", "10 mta.brand.test")
    zone.add("bounces.brand.test", "TXT", f"v=spf1 ip4:{IP} -all")
    zone.add("_dmarc.brand.test", "TXT", "v=DMARC1; p=reject")
    for key in keys:
        zone.add(f"{key.selector}._domainkey.brand.test", "TXT", txt_record(key))
    with rspamd(zone) as judge:
        yield judge


def mail(keys: tuple[Key, ...]) -> bytes:
    now = datetime.now(UTC)
    headers, body = CONTENT.render({"name": "Ann"}, CONTEXT._replace(date=now))
    fields = dkim_fields(
        Signer(keys), headers, hash_body(body.canonical), domain="brand.test", now=int(now.timestamp())
    )
    return fields + headers + b"\r\n" + unstuffed(body.wire)


# Inherent in a return path of its own (VERP); and what this text is, whose links are one of them plain.
_OWN = {"FORGED_SENDER", "URI_COUNT_ODD", "R_PARTS_DIFFER"}


def test_our_mail_is_what_it_should_be(judge: Judge, keys: tuple[Key, ...]) -> None:
    symbols = judge.symbols(mail(keys), **SESSION)
    assert set(symbols["R_DKIM_ALLOW"]["options"]) == {"brand.test:s=r1", "brand.test:s=e1"}
    assert symbols.keys() >= {"R_SPF_ALLOW", "DMARC_POLICY_ALLOW", "HAS_LIST_UNSUB"}
    against = {name for name, found in symbols.items() if found["score"] > 0}
    # HFILTER is about the sending host's names, which are the test's.
    assert {name for name in against if not name.startswith("HFILTER_")} <= _OWN


def test_it_tells_what_is_wrong(judge: Judge, keys: tuple[Key, ...]) -> None:
    changed = judge.symbols(mail(keys).replace(b"Subject: Hello Ann", b"Subject: Hello Eve"), **SESSION)
    assert "R_DKIM_ALLOW" not in changed
    assert "R_DKIM_REJECT" in changed
    undated = judge.symbols(mail(keys).replace(b"\r\nDate: ", b"\r\nX-Date: "), **SESSION | {"ip": "198.18.0.78"})
    assert undated.keys() >= {"MISSING_DATE", "R_SPF_FAIL"}
