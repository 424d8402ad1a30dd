"""Campaigns from files: what is published can be mailed, and what cannot is refused with its place."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import campaigns
from pipeline.campaigns import CampaignError
from schemas.codec import decode, encode
from schemas.rules.windows import Window
from schemas.state import CampaignSet
from topics.claims import FolderClaims

NOW = datetime(2026, 11, 22, tzinfo=UTC)
HEAD = 'campaign_id = "spring"\nfrom = "News <news@brand.test>"\nsubject = "Hi {{ name }}"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.html").write_text("<style>p { color: red }</style><p>Hi {{ name }}</p>")
    (tmp_path / "a.mjml").write_text(
        "<mjml><mj-body><mj-section><mj-column><mj-text>Hi {{ name }}</mj-text></mj-column></mj-section>"
        "</mj-body></mjml>"
    )
    (tmp_path / "terms.pdf").write_bytes(b"%PDF")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    (tmp_path / "large.pdf").write_bytes(bytes(300_000))
    return tmp_path


def read(folder: Path, rest: str, claims: FolderClaims | None = None, head: str = HEAD) -> CampaignSet:
    (folder / "c.toml").write_text(head + rest)
    return campaigns.read(folder / "c.toml", claims, NOW)


def test_html_is_taken_as_it_is_unless_it_is_to_be_inlined(folder: Path) -> None:
    assert read(folder, 'html_file = "a.html"').html == (folder / "a.html").read_text()
    inlined = read(folder, 'html_file = "a.html"\ninline_css = true')
    assert '<p style="color: red;">Hi {{ name }}</p>' in str(inlined.html)
    assert decode((record := encode(inlined, source="cli")).value, record.headers) == inlined


def test_mjml_is_compiled_and_kept(folder: Path) -> None:
    campaign = read(folder, 'mjml_file = "a.mjml"')
    assert campaign.mjml == (folder / "a.mjml").read_text()
    assert "Hi {{ name }}" in str(campaign.html)
    assert "<mj-" not in str(campaign.html)


def test_attachments_are_read_from_files(folder: Path) -> None:
    claims = FolderClaims(folder / "claims")
    campaign = read(
        folder,
        """html = "<img src='cid:logo'>"
[[attachments]]
file = "terms.pdf"
filename = "Terms and conditions.pdf"
[[attachments]]
file = "logo.png"
inline = true
content_id = "logo"
[[attachments]]
file = "large.pdf"
""",
        claims,
    )
    assert [(each.filename, each.size, each.inline) for each in campaign.attachments] == [
        ("Terms and conditions.pdf", 4, False), ("logo.png", 4, True), ("large.pdf", 300_000, False),
    ]  # fmt: skip
    assert campaign.attachments[2].claim is not None
    assert claims.get(campaign.attachments[2].claim) == bytes(300_000)


def test_the_same_content_is_the_same_version(folder: Path) -> None:
    first, again, other = (read(folder, f'text = "{text}"') for text in ("Hi", "Hi", "Ho"))
    assert first.event_id == again.event_id != other.event_id


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("text = {", "not TOML"),
        ('txet = "Hi"', "txet is not a field of a campaign"),
        ('event_id = "x"', "event_id is not a field"),
        ("", "content: neither html nor text"),
        ('html = "a\\n{% if"', "html, line 2: "),
        ('text = "{{ a | nothing }}"', "text, line 1: "),
        ('html_file = "nowhere.html"', "nowhere.html: No such file"),
        ('html = "a"\nhtml_file = "a.html"', "html: given twice"),
        ('html = "a"\nmjml_file = "a.mjml"', "html and mjml: one of them"),
        ('mjml = "<mjml>\\n<x"', "mjml"),
        ('text = "Hi"\nstatus = "asleep"', "status: "),
        ('text = "Hi"\nwindow = { zone = "Berlin" }', "window.zone: "),
        ('text = "Hi"\nreply_to = "nobody"', "the domain is missing"),
        ('text = "Hi"\nattachments = ["a"]', "attachments: each needs a file"),
        ('text = "Hi"\n[[attachments]]\nfile = "large.pdf"', "set claims.folder"),
        ('text = "Hi"\n[[attachments]]\nfile = "terms.pdf"\nfilename = "a.exe"', ".exe files are refused"),
        (
            'text = "Hi"\n[[attachments]]\nfile = "terms.pdf"\nfilename = "a/b"',
            "attachment terms.pdf: Value",
        ),
        ('text = "Hi"\n[[attachments]]\nfile = "logo.png"\ninline = true\ncontent_id = "x"', "needs html"),
    ],
)
def test_what_cannot_be_mailed_is_refused_with_its_place(folder: Path, rest: str, said: str) -> None:
    with pytest.raises(CampaignError) as raised:
        read(folder, rest)
    assert said in str(raised.value)
    assert "c.toml" in str(raised.value) or said.startswith("nowhere")


def test_a_from_that_is_no_mailbox_is_refused(folder: Path) -> None:
    with pytest.raises(CampaignError, match=r"c\.toml: "):
        read(folder, 'text = "Hi"', head=HEAD.replace("news@brand.test", "news"))


def test_the_examples_of_the_page_are_taken(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/sending.md").read_text()
    example, window = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (folder / "spring.mjml").write_text((folder / "a.mjml").read_text())
    campaign = read(folder, example, head="")
    assert (campaign.campaign_id, campaign.inline_css, len(campaign.attachments)) == ("spring-2026", True, 1)
    assert read(folder, f'text = "Hi"\n{window}').window == Window(
        days="mon-fri", hours="08:00-20:00", zone="Europe/Berlin"
    )
