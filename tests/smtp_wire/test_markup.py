from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.smtp import markup


def urls(source: str) -> list[str]:
    return [link.url for link in markup.links(source)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('<a href="https://x.test/a">a</a>', ["https://x.test/a"]),
        ("<A HREF = 'http://x.test/?a=1&amp;b=2'>a</A>", ["http://x.test/?a=1&b=2"]),
        ("<a class=c href=https://x.test/b id=d>", ["https://x.test/b"]),
        (
            '<a title=\'href="https://no.test/"\' data-href="https://no.test" href="https://x.test/">',
            ["https://x.test/"],
        ),
        ('<a title="a > b" href="https://x.test/">', ["https://x.test/"]),
        ('<a href="mailto:a@b.test"><a href="#top"><a href="tel:1"><a href="/rel"><a href>', []),
        ('<a href="{{ url }}"><a href="https://x.test/?u={{ id }}">', []),
        ('{% if a <b %}<a href="https://x.test/">{% endif %}', ["https://x.test/"]),
        ('{% raw %}<a href="https://x.test/">{% endraw %}', []),
        ('{% raw %} %} <a href="https://no.test/">{% endraw %}<a href="https://x.test/">', ["https://x.test/"]),
        ('<!-- <a href="https://no.test/"> --><a href="https://x.test/">', ["https://x.test/"]),
        ('<style>a > b {} <a href="https://no.test/"></style><link href="https://no.test/">', []),
        ('a < b <a href="https://x.test/">', ["https://x.test/"]),
        ('<a title="never closed <a href="https://x.test/">', []),
    ],
)
def test_links_are_the_targets_that_can_be_followed(source: str, found: list[str]) -> None:
    assert urls(source) == found


def test_a_link_says_where_its_target_stands() -> None:
    source = "{{ ü }}<p>\n<a href='https://x.test/?a=1&amp;b'>x"
    (link,) = markup.links(source)
    assert source[link.start : link.end] == "https://x.test/?a=1&amp;b"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>Hello  <b>you</b>,\n there</p><p>Bye</p>", "Hello you, there\n\nBye\n"),
        ("a<br>b<br/>c", "a\nb\nc\n"),
        ("<ul><li>one</li><li>two</li></ul>", "- one\n- two\n"),
        ('See <a href="https://x.test/?a&amp;b">this</a>.', "See this (https://x.test/?a&b).\n"),
        ('<a href="https://x.test">https://x.test</a>', "https://x.test\n"),
        ('<a href="{{ unsubscribe_url }}">Unsubscribe</a>', "Unsubscribe ({{ unsubscribe_url }})\n"),
        ("<p>{% if a < 1 %}x  y{% endif %}</p>", "{% if a < 1 %}x y{% endif %}\n"),
        ("<style>p {}</style><script>x</script><title>t</title>&lt;b&gt; &amp; &eacute;", "<b> & é\n"),
        ("&#123;{ secret }}", "{ { secret }}\n"),
        ("{{ x }}<br>&#xe000;7&#xe000;!", "{{ x }}\n!\n"),
        ("&#123;{{ name }} &amp;{% if a %}", "{ {{ name }} &{% if a %}\n"),
        ('<img src="x" alt="A picture"><!-- no -->', "A picture\n"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a b\n"),
    ],
)
def test_the_text_part_of_html(source: str, text: str) -> None:
    assert markup.text_of(source, templated=True) == text


def test_the_text_of_final_html_keeps_its_braces() -> None:
    assert markup.text_of("<p>{{ x }}</p>", templated=False) == "{{ x }}\n"


@given(st.text(st.sampled_from("<>/a\"'= {}%&;#!-bodyhref\n\ue000"), max_size=200))
def test_any_text_is_read_to_its_end(source: str) -> None:
    markup.text_of(source, templated=True)
    for link in markup.links(source):
        assert 0 <= link.start <= link.end <= len(source)
    assert 0 <= markup.body_end(source) <= len(source)


@pytest.mark.parametrize(
    "piece", ["{{", "<a ", "<a '", "<!--", "{%raw%}", "</body", "&", "<style>", '<a b="', "{% raw "]
)
def test_hostile_repetition_is_linear(piece: str) -> None:
    # Quadratic work on a megabyte would take minutes, and fail by the suite's own patience.
    source = piece * (1_000_000 // len(piece))
    markup.links(source)
    markup.text_of(source, templated=True)
