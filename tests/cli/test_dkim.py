"""`mailriver dkim`, against a name server on a loopback socket whose zone is plain data."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dkim_records import Finding, compare, zone_line
from tests.cli.conftest import Cli, Zone


def published(cli: Cli, zone: Zone) -> None:
    zone.update({row["name"]: [row["value"]] for row in cli("dkim", "dns", "--json").json})


def states(cli: Cli) -> list[str]:
    return sorted(row["state"] for row in cli("dkim", "dns", "--json").json)


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (None, Finding.UNKNOWN),
        ([], Finding.MISSING),
        (["v=DKIM1; k=rsa; p=QUJD"], Finding.PUBLISHED),
        (["p=QU JD"], Finding.PUBLISHED),
        (["k=rsa;v=DKIM1;p=QUJD;"], Finding.PUBLISHED),
        (["v=DKIM1; k=rsa; p=QUJE"], Finding.DIFFERS),
        (["v=DKIM1; k=ed25519; p=QUJD"], Finding.DIFFERS),
        (["v=DKIM1; k=rsa; p="], Finding.DIFFERS),
        (["v=DKIM1; k=rsa; t=y; p=QUJD"], Finding.DIFFERS),  # testing: verifiers ignore what fails
        (["v=DKIM1; k=rsa; p=QUJD", "v=DKIM1; k=rsa; p=QUJD"], Finding.SEVERAL),
    ],
)
def test_a_record_is_compared_by_what_it_means(found: list[str] | None, finding: Finding) -> None:
    assert compare("v=DKIM1; k=rsa; p=QUJD", found) is finding


def test_a_long_record_is_split_into_strings_of_255() -> None:
    line = zone_line("s._domainkey.brand.test", "x" * 600)
    assert line == f's._domainkey.brand.test. IN TXT "{"x" * 255}" "{"x" * 255}" "{"x" * 90}"'


def test_generated_keys_are_shown_as_a_zone_file_and_sign_when_dns_shows_them(cli: Cli, zone: Zone) -> None:
    made = cli("dkim", "generate", "brand.test")
    assert made.status == 0
    records = [line for line in made.out.splitlines() if not line.startswith(";")]
    assert len(records) == 2
    assert all("._domainkey.brand.test. IN TXT " in line for line in records)

    early = cli("dkim", "rotate", "brand.test")
    assert early.status == 1
    assert "DNS: missing" in early.out
    assert "nothing changed" in early.err
    assert states(cli) == ["waiting", "waiting"]

    published(cli, zone)
    assert cli("dkim", "rotate", "brand.test").status == 0
    assert states(cli) == ["signing", "signing"]
    assert cli("dkim", "dns", "--check").status == 0


def test_a_rotation_ends_with_the_old_records_still_wanted(cli: Cli, zone: Zone) -> None:
    cli("dkim", "generate", "brand.test", "--activate")
    published(cli, zone)
    cli("dkim", "rotate", "brand.test")
    assert states(cli) == ["signing", "signing", "waiting", "waiting"]
    missing = cli("dkim", "dns", "--check")
    assert missing.status == 1
    assert "2 of 4 records" in missing.err
    published(cli, zone)
    done = cli("dkim", "rotate", "brand.test")
    assert done.status == 0
    assert "leave it until" in done.out
    assert states(cli) == ["retired", "retired", "signing", "signing"]
    assert cli("dkim", "dns", "brand.test", "--check").status == 0


def test_a_server_that_does_not_answer_lets_nothing_sign_but_by_order(cli: Cli, zone: Zone) -> None:
    cli("dkim", "generate", "brand.test", "--algorithm", "ed25519-sha256")
    zone["away"] = []
    assert "DNS: no answer" in cli("dkim", "rotate", "brand.test").out
    assert states(cli) == ["waiting"]
    assert cli("dkim", "rotate", "brand.test", "--activate").status == 0
    assert states(cli) == ["signing"]


def test_a_tenants_keys_are_listed_with_its_name(cli: Cli, zone: Zone) -> None:
    cli("dkim", "generate", "shared.test", "--tenant", "other", "--algorithm", "ed25519-sha256")
    (row,) = cli("dkim", "dns", "--json").json
    assert (row["tenant"], row["domain"], row["state"]) == ("other", "shared.test", "waiting")


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("generate", "elsewhere.test"), "no tenant has elsewhere.test among its sending_domains"),
        (("generate", "../../etc"), "no tenant has ../../etc among"),
        (("generate", "brand.test", "--tenant", "other"), "brand.test is not a sending domain of a tenant other"),
        (("generate", "shared.test", "--tenant", "../x"), "is not a sending domain of a tenant ../x"),
        (("dns",), "there is no key"),
    ],
)
def test_what_is_not_configured_is_refused(cli: Cli, argv: tuple[str, ...], said: str) -> None:
    shown = cli("dkim", *argv)
    assert shown.status in (1, 2)
    assert said in shown.err


def test_keys_that_wait_are_not_made_twice(cli: Cli, zone: Zone) -> None:
    cli("dkim", "generate", "brand.test")
    shown = cli("dkim", "generate", "brand.test")
    assert shown.status == 1
    assert "mailriver dkim rotate brand.test" in shown.err


def test_no_command_shows_any_part_of_a_private_key(cli: Cli, zone: Zone, tmp_path: Path) -> None:
    told = [cli("dkim", "generate", "brand.test")]
    published(cli, zone)
    folder = tmp_path / "data" / "secrets" / "dkim" / "brand.test"
    told += [cli("dkim", "rotate", "brand.test"), cli("dkim", "rotate", "brand.test", "--json")]
    broken = next(folder.glob("r*.pem"))
    lines = [line for path in folder.glob("*.pem*") for line in path.read_text().splitlines()]
    broken.write_text(broken.read_text().replace("MII", "MIJ"))
    told += [cli("dkim", "dns", "--check", "--json")]
    assert told[-1].status == 2
    assert str(broken) in told[-1].err
    secret = [line for line in lines if len(line) > 20 and not line.startswith("-----")]
    assert len(secret) > 40
    for shown in told:
        assert not any(line in shown.out + shown.err for line in secret)
