"""`mailriver campaign create`: refused before it is published, published once, fixed from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.state import CampaignSet
from tests.cli.conftest import Cli
from topics import admin
from topics.kafka import Cluster

CONFIGURATION = """
[tenants.default]
sending_domains = ["brand.test"]
return_path_domain = "b.brand.test"
tracking_url = "https://t.brand.test"
"""
CAMPAIGN = 'campaign_id = "spring"\nfrom = "News <news@brand.test>"\nsubject = "Hi"\ntext = "Hi {{ name }}"\n'


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "mailriver.toml").write_text(CONFIGURATION)
    (tmp_path / "c.toml").write_text(CAMPAIGN)


def test_a_campaign_is_checked_without_kafka(cli: Cli) -> None:
    shown = cli("campaign", "create", "c.toml", "--check", "--json")
    assert shown.status == 0
    assert (shown.json["campaign_id"], shown.json["published"]) == ("spring", False)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Hi {{ name }}", "Hi\\n{{ name", "c.toml: text, line 2: "),
        ("news@brand.test", "news@other.test", "other.test is not a sending domain of tenant default"),
        ('"Hi"', '"Hi"\ntenant = "other"', "tenant other is not configured"),
        ('"Hi"', '"Hi"\npool = "other"', "pool other is not configured"),
    ],
)
def test_what_cannot_be_mailed_is_refused(cli: Cli, tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(CAMPAIGN.replace(old, new))
    shown = cli("campaign", "create", "c.toml", "--check")
    assert shown.status == 2
    assert said in shown.err


@pytest.mark.stack
def test_a_published_campaign_is_fixed(
    cli: Cli, kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILRIVER_KAFKA", kafka)
    monkeypatch.setenv("MAILRIVER_KAFKA__PREFIX", topic_prefix)
    admin.apply(Cluster(kafka, topic_prefix), admin.Profile.EMBEDDED)
    draft = CAMPAIGN + 'status = "draft"\n'
    for text, status in ((draft, 0), (CAMPAIGN, 0), (CAMPAIGN, 0), (CAMPAIGN.replace("Hi {{", "Ho {{"), 1)):
        (tmp_path / "c.toml").write_text(text)
        shown = cli("campaign", "create", "c.toml")
        assert shown.status == status, shown.err
    assert "campaign spring is running, and its content fixed" in shown.err
    assert CampaignSet.model_fields["status"].default == "running"
