"""The life of DKIM keys in their folder: made, waiting, signing, retired; and a worker that follows."""

from __future__ import annotations

import os
import stat
from datetime import date
from pathlib import Path

import pytest
import structlog

from pipeline import dkim_keys, wiring
from pipeline.dkim_keys import KeysWait, State, activate, generate, key_files, signing_keys
from pipeline.dkim_watch import KeyWatch
from pipeline.settings import Settings, SettingsError
from schemas.tenant import Tenant
from sinks.smtp.dkim import Algorithm, Signer
from tests.smtp_wire.signing import dkim_fields

DOMAIN = "brand.test"
TODAY = date(2026, 11, 22)
LATER = date(2027, 5, 22)
BOTH = tuple(Algorithm)


def states(folder: Path, tenant: str = "") -> dict[str, State]:
    return {file.key.selector: file.state for file in key_files(folder, DOMAIN, tenant)}


def settings_of(folder: Path) -> Settings:
    tenants = {
        name: Tenant(
            name=name, sending_domains=(DOMAIN,), return_path_domain="b.brand.test", tracking_url="https://t.brand.test"
        )
        for name in ("default", "other")
    }
    return Settings(secrets=folder, tenants=tenants)


def test_new_keys_wait_and_no_other_may_read_them(tmp_path: Path) -> None:
    made = generate(tmp_path, DOMAIN, "", BOTH, TODAY)
    assert [file.key.selector for file in made] == ["r20261122", "e20261122"]
    assert signing_keys(tmp_path, DOMAIN) == []
    assert set(states(tmp_path).values()) == {State.WAITING}
    for file in made:
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(file.path.parent).st_mode) == 0o700


def test_a_second_pair_is_not_made_while_one_waits(tmp_path: Path) -> None:
    generate(tmp_path, DOMAIN, "", [Algorithm.ED25519], TODAY)
    with pytest.raises(KeysWait):
        generate(tmp_path, DOMAIN, "", BOTH, LATER)


def test_a_rotation_has_two_live_selectors_and_then_one_that_is_left_published(tmp_path: Path) -> None:
    dkim_keys.make_first(tmp_path, DOMAIN)
    generate(tmp_path, DOMAIN, "", BOTH, TODAY)
    assert [key.selector for key in signing_keys(tmp_path, DOMAIN)] == ["e1", "r1"]
    activate(key_files(tmp_path, DOMAIN), TODAY)
    assert [key.selector for key in signing_keys(tmp_path, DOMAIN)] == ["e20261122", "r20261122"]
    retired = [file for file in key_files(tmp_path, DOMAIN) if file.state is State.RETIRED]
    assert {(file.key.selector, file.retired_on, file.publish_until) for file in retired} == {
        (selector, TODAY, date(2026, 12, 6)) for selector in ("e1", "r1")
    }


def test_a_new_key_replaces_those_of_its_algorithm_alone(tmp_path: Path) -> None:
    dkim_keys.make_first(tmp_path, DOMAIN)
    generate(tmp_path, DOMAIN, "", [Algorithm.ED25519], TODAY)
    activate(key_files(tmp_path, DOMAIN), TODAY)
    assert [key.selector for key in signing_keys(tmp_path, DOMAIN)] == ["e20261122", "r1"]


def test_an_activation_without_anything_that_waits_changes_nothing(tmp_path: Path) -> None:
    dkim_keys.make_first(tmp_path, DOMAIN)
    before = states(tmp_path)
    activate(key_files(tmp_path, DOMAIN), TODAY)
    assert states(tmp_path) == before


def test_a_selector_is_given_once_whatever_became_of_it_and_whosever_it_is(tmp_path: Path) -> None:
    for _ in range(2):
        generate(tmp_path, DOMAIN, "", [Algorithm.ED25519], TODAY)
        activate(key_files(tmp_path, DOMAIN), TODAY)
    generate(tmp_path, DOMAIN, "other", [Algorithm.ED25519], TODAY)
    assert set(states(tmp_path)) == {"e20261122", "e20261122-2"}
    assert set(states(tmp_path, "other")) == {"e20261122-3"}


def test_a_tenants_own_keys_sign_for_it_alone(tmp_path: Path) -> None:
    dkim_keys.make_first(tmp_path, DOMAIN)
    generate(tmp_path, DOMAIN, "other", [Algorithm.ED25519], TODAY)
    activate(key_files(tmp_path, DOMAIN, "other"), TODAY)
    signers = wiring.signers(settings_of(tmp_path))
    assert set(signers) == {DOMAIN, f"other/{DOMAIN}"}
    own = signers[f"other/{DOMAIN}"]
    assert own is not None
    field = dkim_fields(own, b"From: a@brand.test\r\n", bytes(32), domain=DOMAIN, now=1)
    assert b"s=e20261122;" in field
    assert field.count(b"DKIM-Signature") == 1


class TestWatch:
    def test_an_activated_key_signs_without_a_restart(self, tmp_path: Path) -> None:
        generate(tmp_path, DOMAIN, "", [Algorithm.ED25519], TODAY)
        watch = KeyWatch(tmp_path, lambda: wiring.signers(settings_of(tmp_path)))
        signers = watch.signers
        assert signers == {DOMAIN: None}
        activate(key_files(tmp_path, DOMAIN), TODAY)
        watch.look()
        signer = signers[DOMAIN]
        assert signer is not None
        assert b"s=e20261122;" in dkim_fields(signer, b"From: a@brand.test\r\n", bytes(32), domain=DOMAIN, now=1)

    def test_a_bad_file_leaves_what_signs_and_is_named(self, tmp_path: Path) -> None:
        dkim_keys.make_first(tmp_path, DOMAIN)
        watch = KeyWatch(tmp_path, lambda: wiring.signers(settings_of(tmp_path)))
        before = dict(watch.signers)
        bad = tmp_path / "dkim" / DOMAIN / "r2.pem"
        bad.touch(mode=0o600)
        bad.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        with structlog.testing.capture_logs() as logs:
            watch.look()
        assert watch.signers == before
        assert [entry["event"] for entry in logs] == ["dkim_keys_refused"]
        assert str(bad) in logs[0]["error"]
        assert "c2VjcmV0" not in str(logs)

    def test_nothing_is_read_again_where_nothing_changed(self, tmp_path: Path) -> None:
        dkim_keys.make_first(tmp_path, DOMAIN)
        loads: list[int] = []

        def load() -> dict[str, Signer | None]:
            loads.append(1)
            return {DOMAIN: None}

        watch = KeyWatch(tmp_path, load)
        watch.look()
        assert len(loads) == 1


def test_a_key_that_others_read_stops_the_start_with_its_name(tmp_path: Path) -> None:
    dkim_keys.make_first(tmp_path, DOMAIN)
    path = tmp_path / "dkim" / DOMAIN / "r1.pem"
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=r"r1\.pem: a DKIM key file must be a regular file with mode 0600"):
        wiring.signers(settings_of(tmp_path))
