"""docs/simulator.md says what the shipped file and the code say."""

from __future__ import annotations

from pathlib import Path

from pipeline.simulator.config import General, Limits, OddDomain, Odds, People, Provider, Texts, load
from pipeline.simulator.magic import Act

MANUAL = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")


def test_every_domain_provider_and_magic_word_is_in_the_manual() -> None:
    internet = load()
    for provider in internet.provider:
        row = next(line for line in MANUAL.splitlines() if line.startswith(f"| {provider.name} |"))
        for domain in provider.domains:
            assert domain in row
        for host in provider.hosts:
            ending = row.split("|")[4].strip()
            assert host.name.endswith(ending)
        assert row.split("|")[5].strip() == (
            "required" if provider.require_tls else "offered" if provider.starttls else "none"
        )
    for odd in internet.domain:
        assert f"| {odd.name} |" in MANUAL
    for act in Act:
        assert f"`{act.value}" in MANUAL


def test_every_key_of_the_file_is_in_the_manual() -> None:
    for table in (General, Provider, Limits, Odds, Texts, People, OddDomain):
        for key in table.model_fields:
            if key in ("limits", "odds", "texts", "people"):
                assert f"`.{key}`" in MANUAL
            else:
                assert f"`{key}`" in MANUAL, key
