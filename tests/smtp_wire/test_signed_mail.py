"""A whole mail of ours, written, signed, dot-stuffed and back: both verifiers accept it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.smtp.content import compile_content
from sinks.smtp.dkim import Key, Signer, hash_body
from tests.smtp_wire.signing import dkim_fields
from tests.smtp_wire.test_content import BULK, CONTEXT, HTML
from tests.smtp_wire.verifiers import OPENDKIM, dkimpy_verdicts, opendkim_verdicts, unstuffed

CONTENT = compile_content("Hallo {{ name }}", HTML, "Hi {{ name }}\n.\n.. dots\n", bulk=BULK)


def arrived(keys: tuple[Key, ...], name: str) -> bytes:
    headers, body = CONTENT.render({"name": name}, CONTEXT._replace(headers=[("X-Order", name)]))
    fields = dkim_fields(Signer(keys), headers, hash_body(body.canonical), domain="brand.test", now=1_795_313_578)
    return unstuffed(fields + headers + b"\r\n" + body.wire)


@settings(max_examples=40, deadline=None)
@given(name=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=80))
def test_every_mail_verifies_with_dkimpy(keys: tuple[Key, ...], name: str) -> None:
    assert dkimpy_verdicts(arrived(keys, name), keys, "brand.test") == [True, True]


@pytest.mark.skipif(not OPENDKIM.exists(), reason="Debian's opendkim is not installed")
@pytest.mark.parametrize("name", ["Ann", "Zoë  Ünal", "漢字" * 30, "a=b=_c . x", ""])
def test_every_mail_verifies_with_opendkim(keys: tuple[Key, ...], name: str, tmp_path: Path) -> None:
    expected = [("pass", "rsa-sha256"), ("pass", "ed25519-sha256")]
    assert opendkim_verdicts(arrived(keys, name), keys, "brand.test", tmp_path) == expected
