"""Designs to HTML: Liquid goes through the compilers as it was, and what they choke on is a sentence."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.design import compiled, html_of
from pipeline.liquid_mask import masked
from sinks.smtp.content import compile_content
from sinks.smtp.templates import ContentError

MJML = """<mjml><mj-head><mj-title>{{ title }}</mj-title>
<mj-style inline="inline">.big { font-size: 40px }</mj-style></mj-head>
<mj-body>{% if a < b %}<mj-section><mj-column>
<mj-text css-class="big">Hi {{ name | append: "<&>" }}</mj-text>
<mj-button href="{{ url }}?a=1&amp;b=2">Go</mj-button>
</mj-column></mj-section>{% endif %}</mj-body></mjml>
"""
HTML = """<html><head><title>{{ title }}</title>
<style>td { color: {{ colour }} } @media print { td { color: red } }</style>
</head><body><p title='{{ name | append: "x" }}'>{% if a < b %}Hi{% endif %}</p>
<table>{% for i in items %}<tr><td>{{ i }}</td></tr>{% endfor %}</table>
<!--[if mso]><b>{{ name }}</b><![endif]--><a {% if a > b %}href="https://x.test/"{% endif %}>x</a>
{% raw %}{{ as it is }}{% endraw %}</body></html>
"""


def liquid(text: str) -> list[str]:
    return re.findall(r"\{\{.*?\}\}|\{%.*?%\}", text)


def test_mjml_becomes_html_that_can_be_mailed() -> None:
    html = html_of(MJML, mjml=True, inline_css=False)
    assert html.startswith("<!doctype html>")
    assert sorted(set(liquid(html))) == sorted(set(liquid(MJML)))
    assert 'href="{{ url }}?a=1&amp;b=2"' in html
    assert html.index("{% if a < b %}") < html.index("Hi {{ name") < html.index("{% endif %}")
    compile_content("s", html, None)


def test_style_sheets_go_into_attributes_and_rules_for_media_stay() -> None:
    html = html_of(HTML, mjml=False, inline_css=True)
    assert '<td style="color: {{ colour }};">{{ i }}</td>' in html
    assert "@media print" in html
    assert "<style>td" not in html
    assert sorted(liquid(html)) == sorted(liquid(HTML))


def test_a_loop_stays_around_its_rows() -> None:
    html = html_of(HTML, mjml=False, inline_css=True)
    table = html[html.index("<table>") : html.index("</table>")]
    assert liquid(table) == ["{% for i in items %}", "{{ colour }}", "{{ i }}", "{% endfor %}"]
    assert '<a {% if a > b %}href="https://x.test/" {% endif %}>x</a>' in html
    assert "<!--[if mso]><b>{{ name }}</b><![endif]-->" in html


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = (
        '<link rel="stylesheet" href="file:///etc/passwd"><style>@import url("http://127.0.0.1:1/x");</style><p>x</p>'
    )
    assert "root:" not in html_of(html, mjml=False, inline_css=True)
    for path in ("/etc/passwd", "https://127.0.0.1:1/x"):
        with pytest.raises(ContentError, match="unable to load included template"):
            html_of(f'<mjml><mj-body><mj-include path="{path}" /></mj-body></mjml>', mjml=True, inline_css=False)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "mjml: "),
        ("<p>Hi</p>", "mjml, line 1: "),
        ("<mjml><mj-body><mj-text></mj-body></mjml>", "mjml: "),
        ("<mjml>\n<mj-body>\n<mj-include path='x'/></mj-body></mjml>", "mjml, line 3: "),
        ("<mjml><mj-body>" + "<mj-section>" * 20_000, "mjml: "),
        ("<mjml><mj-body>" + "<mj-section>" * 20_000 + "</mj-section>" * 20_000 + "</mj-body></mjml>", "mjml: cannot"),
        ("x" * 600_000, "mjml: more than"),
    ],
)
def test_what_is_no_mjml_says_where(source: str, said: str) -> None:
    with pytest.raises(ContentError) as raised:
        html_of(source, mjml=True, inline_css=False)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("source", ["<b>" * 100_000, "{{" * 100_000])
def test_a_bomb_goes_off_in_a_process_of_its_own(source: str) -> None:
    with pytest.raises(ContentError, match="html: cannot be compiled"):
        html_of(source, mjml=False, inline_css=True)


@pytest.mark.parametrize("source", ["<a {{x}}" * 5_000, "<!--{{x}}" * 5_000, "<a '{{x}}" * 5_001])
def test_what_is_never_closed_is_passed_over_in_bounded_time(source: str) -> None:
    assert masked(source).restored(masked(source).source) == source


PIECES = st.sampled_from(
    [
        *("{{ a }}", "{% if a < b %}", "{% endif %}", "{% raw %}", "{% endraw %}", "{{", "}}", "{%", "%}"),
        *("<p>", "</p>", "<table>", "<tr>", "<td>", '<a href="', "'", '"', ">", "<!--", "-->", "<style>", "</style>"),
        *("<title>", "</title>", "x", " ", "&amp;", "&lt;!--", "--&gt;", "liquidx0q", "=", '=""', "<", "\n"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=20).map("".join))
def test_a_mask_takes_all_liquid_out_and_puts_it_back(source: str) -> None:
    mask = masked(source)
    assert all(tag in source for tag in mask.liquid)
    assert not re.search(r"\{\{.*?\}\}|\{%.*?%\}", mask.source, re.DOTALL)
    assume('=""' not in mask.source)  # which only a compiler writes behind a mark
    assert mask.restored(mask.source) == source


def test_compiling_twice_gives_the_same() -> None:
    assert compiled(HTML, False, True) == compiled(HTML, False, True)
