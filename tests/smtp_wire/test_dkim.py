from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.smtp.dkim import (
    Algorithm,
    DkimError,
    Key,
    Signer,
    create_key_file,
    hash_body,
    load_key,
)
from sinks.smtp.lines import relaxed
from tests.smtp_wire.signing import dkim_fields
from tests.smtp_wire.verifiers import OPENDKIM, dkimpy_verdicts, opendkim_verdicts

DOMAIN = "brand.test"
NOW = 1_795_313_578
HEADERS = (
    b"From: News <news@brand.test>\r\nTo: ann@example.test\r\nSubject: Hello   there\r\n\tfolded \r\n"
    b"Date: Sun, 22 Nov 2026 02:05:25 +0000\r\nMessage-ID: <1@brand.test>\r\n"
    b"List-Unsubscribe: <https://t.brand.test/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
)
BODY = b"Hello  \t world \r\n\r\n.\r\n..x\r\n\r\n \r\n\r\n"


def signed(keys: tuple[Key, ...], headers: bytes = HEADERS, body: bytes = BODY) -> bytes:
    return (
        dkim_fields(Signer(keys), headers, hash_body(relaxed(body)), domain=DOMAIN, now=NOW) + headers + b"\r\n" + body
    )


@pytest.mark.parametrize(
    ("body", "canonical"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b" \t\r\n\r\n", b""),
        (b"a\r\n", b"a\r\n"),
        (b"a \t b \r\n", b"a b\r\n"),
        (b" a\r\n\r\nb\r\n\r\n\r\n", b" a\r\n\r\nb\r\n"),
    ],
)
def test_the_hash_is_that_of_the_relaxed_body_of_rfc_6376(body: bytes, canonical: bytes) -> None:
    assert hash_body(relaxed(body)) == sha256(canonical).digest()


def test_both_signatures_verify_with_dkimpy(keys: tuple[Key, ...]) -> None:
    assert dkimpy_verdicts(signed(keys), keys, DOMAIN) == [True, True]


@pytest.mark.skipif(not OPENDKIM.exists(), reason="Debian's opendkim is not installed")
def test_both_signatures_verify_with_opendkim(keys: tuple[Key, ...], tmp_path: Path) -> None:
    expected = [("pass", "rsa-sha256"), ("pass", "ed25519-sha256")]
    assert opendkim_verdicts(signed(keys), keys, DOMAIN, tmp_path) == expected


@pytest.mark.skipif(not OPENDKIM.exists(), reason="Debian's opendkim is not installed")
def test_opendkim_sees_a_changed_body(keys: tuple[Key, ...], tmp_path: Path) -> None:
    verdicts = opendkim_verdicts(signed(keys).replace(b"world", b"wOrld"), keys, DOMAIN, tmp_path)
    assert [result for result, _ in verdicts] == ["fail", "fail"]


FIELD_TEXT = st.text(st.sampled_from("ab:;=<>@, \t\"'"), max_size=80)
LINES = st.lists(st.text(st.sampled_from("ab. \t="), max_size=60), max_size=12)


@settings(max_examples=60, deadline=None)
@given(subject=FIELD_TEXT, folds=st.lists(FIELD_TEXT, max_size=2), lines=LINES)
def test_every_message_verifies(keys: tuple[Key, ...], subject: str, folds: list[str], lines: list[str]) -> None:
    folded = "\r\n ".join([subject, *(fold + "x" for fold in folds)])
    headers = HEADERS + f"Reply-To:{folded}\r\n".encode()
    body = "".join(f"{line}\r\n" for line in lines).encode()
    assert dkimpy_verdicts(signed(keys, headers, body), keys, DOMAIN) == [True, True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hello  \t world", b"Hello wor ld"),
        (b"Subject: Hello", b"Subject: hello"),
        (b"To: ann@", b"To: bob@"),
        (b"From: News", b"Subject: second\r\nFrom: News"),
        (b"From: News", b"From: other@brand.test\r\nFrom: News"),
        (b"From: News", b"Cc: new@example.test\r\nFrom: News"),
        (b"From: News", b"Reply-To: new@example.test\r\nFrom: News"),
        (b"List-Unsubscribe: <https://t", b"List-Unsubscribe: <https://u"),
        (b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", b""),
        (b"\r\n\r\n \r\n\r\n", b"\r\nappended\r\n"),
    ],
)
def test_what_was_changed_or_added_on_the_way_breaks_both(keys: tuple[Key, ...], old: bytes, new: bytes) -> None:
    message = signed(keys)
    assert old in message
    assert dkimpy_verdicts(message.replace(old, new, 1), keys, DOMAIN) == [False, False]


def test_no_length_tag_and_lines_of_78(keys: tuple[Key, ...]) -> None:
    fields = dkim_fields(Signer(keys), HEADERS, hash_body(relaxed(BODY)), domain=DOMAIN, now=NOW)
    assert b"l=" not in fields.partition(b"bh=")[0]
    assert max(map(len, fields.split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "headers",
    [
        b"To: a@b.test\r\n",
        b"From: a@b.test",
        b"From: a@b.test\r\nFrom: c@b.test\r\n",
        b"From: a@b.test\r\nnonsense\r\n",
    ],
)
def test_a_block_without_one_from_is_not_signed(keys: tuple[Key, ...], headers: bytes) -> None:
    with pytest.raises(DkimError):
        dkim_fields(Signer(keys), headers, bytes(32), domain=DOMAIN, now=NOW)


@pytest.mark.parametrize("domain", ["", "a b", "x;s=1", "ä.test", "a..b", "a.test\r\n"])
def test_a_domain_that_could_write_tags_is_refused(keys: tuple[Key, ...], domain: str) -> None:
    with pytest.raises(DkimError):
        dkim_fields(Signer(keys), HEADERS, hash_body(relaxed(BODY)), domain=domain, now=NOW)


def test_a_signer_needs_a_key() -> None:
    with pytest.raises(DkimError):
        Signer(())


class TestKeyFiles:
    def test_a_created_file_is_private_and_loads_as_the_same_key(self, tmp_path: Path) -> None:
        path = tmp_path / "k.pem"
        made = create_key_file(path, "s1", Algorithm.ED25519)
        assert os.stat(path).st_mode & 0o777 == 0o600
        loaded = load_key(path, "s1")
        sign = [
            dkim_fields(Signer([key]), HEADERS, hash_body(relaxed(BODY)), domain=DOMAIN, now=NOW)
            for key in (made, loaded)
        ]
        assert sign[0] == sign[1]

    def test_an_existing_file_is_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "k.pem"
        path.write_text("precious")
        with pytest.raises(FileExistsError):
            create_key_file(path, "s1", Algorithm.ED25519)
        assert path.read_text() == "precious"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
    def test_a_file_that_others_can_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "k.pem"
        create_key_file(path, "s1", Algorithm.ED25519)
        path.chmod(mode)
        with pytest.raises(DkimError, match="0600"):
            load_key(path, "s1")

    def test_an_error_names_the_file_and_quotes_none_of_it(self, tmp_path: Path) -> None:
        path = tmp_path / "k.pem"
        create_key_file(path, "s1", Algorithm.ED25519)
        secret = path.read_text().splitlines()[1]
        path.write_text(f"-----BEGIN PRIVATE KEY-----\n{secret[:-6]}\n-----END PRIVATE KEY-----\n")
        with pytest.raises(DkimError) as caught:
            load_key(path, "s1")
        assert "k.pem" in str(caught.value)
        assert secret[:12] not in str(caught.value)
        assert caught.value.__suppress_context__

    def test_the_repr_of_a_key_shows_the_selector_alone(self, tmp_path: Path) -> None:
        assert repr(create_key_file(tmp_path / "k.pem", "s1", Algorithm.ED25519)) == "Key(selector='s1')"
