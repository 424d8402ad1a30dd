from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.address import Address, Mailbox
from sinks.smtp.content import Bulk, Content, ContentError, RenderContext, Tracking, compile_content
from tests.smtp_wire.verifiers import unstuffed

MESSAGE_ID = "0f2b8a52-5c1e-5d2f-8a0b-6a1f3b1c9d11"
CONTEXT = RenderContext(
    message_id=MESSAGE_ID,
    from_=Mailbox("Brand News", Address("news", "brand.test")),
    to=Mailbox("Ann", Address("ann", "example.test")),
    date=datetime(2026, 11, 22, 2, 5, 25, tzinfo=UTC),
    tracking=Tracking(lambda n: f"https://t.brand.test/c/TOKEN/{n}?a=1&b=2", "https://t.brand.test/o/TOKEN"),
    unsubscribe_url="https://t.brand.test/u/TOKEN",
)
BULK = Bulk("news.brand.test", "spring:default:marketing:mailriver")
HTML = """<html><body><p>Hi {{ name }}, see <a href="https://shop.test/?a=1&amp;b=2">the shop</a>
and <a href='https://blog.test/'>the blog</a>, or again <a href="https://shop.test/?a=1&amp;b=2">the shop</a>.</p>
<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p></body></html>
"""
ANY = st.text(st.one_of(st.sampled_from("<>&\"'{}%=_-.\r\n \té漢\0\x1b\x85"), st.characters()), max_size=60)
NAME = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)


def message(
    content: Content, variables: dict[str, object] | None = None, context: RenderContext = CONTEXT
) -> EmailMessage:
    headers, body = content.render(variables or {}, context)
    read = message_from_bytes(headers + b"\r\n" + unstuffed(body.wire), policy=policy.default)
    assert isinstance(read, EmailMessage)
    assert not read.defects
    assert all(not part.defects for part in read.walk())
    return read


def part(read: EmailMessage, subtype: str) -> str:
    body = read.get_body((subtype,))
    assert body is not None
    text = body.get_content()
    assert isinstance(text, str)
    return text.replace("\r\n", "\n")


def test_a_campaign_mail_as_bytes() -> None:
    content = compile_content(
        "Hello {{ name }}", "<p>Hi {{ name }} <a href='https://x.test/'>x</a></p>\n", None, bulk=BULK
    )
    headers, body = content.render({"name": "Zoë"}, CONTEXT)
    boundary = "=_8ba94626a556be564471fe7c"  # of the content, so the same in every run
    assert headers.decode() == (
        "From: Brand News <news@brand.test>\r\n"
        "To: Ann <ann@example.test>\r\n"
        "Subject: =?utf-8?q?Hello_Zo=C3=AB?=\r\n"
        "Date: Sun, 22 Nov 2026 02:05:25 +0000\r\n"
        f"Message-ID: <{MESSAGE_ID}@brand.test>\r\n"
        f"X-Mailriver-ID: {MESSAGE_ID}\r\n"
        "List-Unsubscribe: <https://t.brand.test/u/TOKEN>\r\n"
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        "List-ID: <news.brand.test>\r\n"
        "Feedback-ID: spring:default:marketing:mailriver\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/alternative;\r\n"
        f' boundary="{boundary}"\r\n'
    )
    assert unstuffed(body.wire).decode() == (
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        "Hi=20=\r\nZo=C3=AB=\r\n x (https://x.test/)\r\n\r\n"
        f"--{boundary}\r\n"
        "Content-Type: text/html; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        "<p>Hi=20=\r\nZo=C3=AB=\r\n <a href=3D'=\r\n"
        "https://t.brand.test/c/TOKEN/0?a=3D1&amp;b=3D2=\r\n"
        "'>x</a></p>\r\n"
        '<img src=3D"https://t.brand.test/o/TOKEN" width=3D"1" height=3D"1" alt=3D""=\r\n'
        ' style=3D"display:block">=\r\n'
        "\r\n"
        f"--{boundary}--\r\n"
    )


def test_the_standard_library_reads_what_was_meant() -> None:
    content = compile_content("Hello {{ name }}", HTML, "Hi {{ name }}!\n", bulk=BULK)
    read = message(content, {"name": "Ann & <Co>"})
    assert read["Subject"] == "Hello Ann & <Co>"
    assert read["Date"].datetime == CONTEXT.date
    assert part(read, "plain") == "Hi Ann & <Co>!\n"
    html = part(read, "html")
    assert "Hi Ann &amp; &lt;Co&gt;, see" in html
    assert 'href="https://t.brand.test/u/TOKEN"' in html


def test_links_are_numbered_once_and_the_pixel_stands_at_the_end() -> None:
    content = compile_content("s", HTML, None)
    assert content.links == ("https://shop.test/?a=1&b=2", "https://blog.test/")
    html = part(message(content), "html")
    assert html.count('href="https://t.brand.test/c/TOKEN/0?a=1&amp;b=2"') == 2
    assert html.count("href='https://t.brand.test/c/TOKEN/1?a=1&amp;b=2'") == 1
    assert '<img src="https://t.brand.test/o/TOKEN"' in html.partition("</body>")[0].splitlines()[-1]


def test_a_message_without_tracking_has_the_links_as_they_were() -> None:
    html = part(message(compile_content("s", HTML, None), context=CONTEXT._replace(tracking=None)), "html")
    assert html == HTML.replace("{{ name }}", "").replace("{{ unsubscribe_url }}", CONTEXT.unsubscribe_url)


def test_content_with_nothing_to_track() -> None:
    content = compile_content("s", HTML, None, track_clicks=False, track_opens=False)
    assert content.links == ()
    assert "t.brand.test/c/" not in (html := part(message(content), "html"))
    assert "<img" not in html


def test_final_text_is_not_a_template() -> None:
    content = compile_content("{{ 7 }}", "<p>{{ 7 }} <a href='https://x.test/'>x</a>", "{% if %}", templated=False)
    read = message(content)
    assert read["Subject"] == "{{ 7 }}"
    assert part(read, "plain") == "{% if %}"
    assert part(read, "html").startswith("<p>{{ 7 }} <a href='https://t.brand.test/c/TOKEN/0?a=1&amp;b=2'>x</a>")


def test_a_text_mail_has_one_part() -> None:
    read = message(compile_content("s", None, "Hello\n.\nFrom me\n"))
    assert read.get_content_type() == "text/plain"
    assert part(read, "plain") == "Hello\n.\nFrom me\n"


def test_a_body_without_variables_is_written_once() -> None:
    content = compile_content("Hello {{ name }}", None, "The same for all\n")
    first, second = (content.render({"name": name}, CONTEXT) for name in ("Ann", "Bob"))
    assert first.headers != second.headers
    assert first.body is second.body


@pytest.mark.parametrize("text", ["漢字" * 200, "x" * 5000, "é " * 3000, "plain\n" * 300, "-- \n--=_x--\n", "a\0b"])
def test_a_variable_of_any_kind_arrives(text: str) -> None:
    content = compile_content("s", "<p>{{ v }}</p>", "before {{ v }} after\n")
    read = message(content, {"v": text})
    assert part(read, "plain") == f"before {text} after\n"
    assert part(read, "html").startswith(f"<p>{text}</p>")


@settings(max_examples=150, deadline=None)
@given(value=ANY, static=st.sampled_from(["plain", "é", "漢字漢字", *("é" + "x" * n for n in range(60, 80))]))
def test_no_variable_changes_the_form_of_a_message(value: str, static: str) -> None:
    content = compile_content("s", f"<p>{static} {{{{ v }}}}</p>", f"{static} {{{{ v }}}} end\n")
    read = message(content, {"v": value})
    assert [p.get_content_type() for p in read.iter_parts()] == ["text/plain", "text/html"]
    expected = value.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    assert part(read, "plain") == f"{static} {expected} end\n"
    assert "<script" not in part(read, "html").lower()
    for piece in read.iter_parts():
        if piece["Content-Transfer-Encoding"] != "7bit":
            assert max(map(len, str(piece.get_payload()).split("\r\n"))) <= 76


@settings(max_examples=100, deadline=None)
@given(subject=ANY, name=ANY)
def test_a_hostile_subject_or_name_adds_no_field(subject: str, name: str) -> None:
    content = compile_content("{{ s }}", None, "x\n")
    context = CONTEXT._replace(to=Mailbox(name, Address("ann", "example.test")))
    try:
        read = message(content, {"s": subject}, context)
    except ContentError:
        return
    assert read.keys() == [
        *("From", "To", "Subject", "Date", "Message-ID", "X-Mailriver-ID"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    ]


@given(NAME)
def test_an_honest_subject_and_name_are_never_refused(name: str) -> None:
    content = compile_content("Hello {{ s }}", None, "x\n")
    content.render({"s": name}, CONTEXT._replace(to=Mailbox(name, Address("ann", "example.test"))))


@pytest.mark.parametrize("end", ["\r\nBcc: x@y.test", "\nx", "\0"])
def test_a_line_end_in_a_subject_fails_that_message(end: str) -> None:
    content = compile_content("Hello {{ s }}", None, "x\n")
    with pytest.raises(ContentError) as caught:
        content.render({"s": end}, CONTEXT)
    assert caught.value.part == "Subject"


def test_the_last_look_stops_what_every_writer_let_through() -> None:
    # Each token is short enough to be written; the line of it is not.
    with pytest.raises(ContentError, match="998"):
        compile_content("s", None, "x").render({}, CONTEXT._replace(message_id="x" * 980))


class TestBulk:
    def test_bulk_without_a_way_out_is_refused(self) -> None:
        content = compile_content("s", None, "x", bulk=BULK)
        with pytest.raises(ContentError, match="unsubscribe"):
            content.render({}, CONTEXT._replace(unsubscribe_url=""))

    @pytest.mark.parametrize("url", ["https://x.test/>, <mailto:a@b.test", "https://x.test/ä", "https://x.test/a b"])
    def test_an_unsubscribe_url_is_one_uri(self, url: str) -> None:
        with pytest.raises(ContentError):
            compile_content("s", None, "x", bulk=BULK).render({}, CONTEXT._replace(unsubscribe_url=url))

    def test_a_transactional_mail_has_no_list_fields(self) -> None:
        assert not [name for name in message(compile_content("s", None, "x")) if name.startswith("List")]


class TestExtraFields:
    def test_what_a_sender_may_set_is_written(self) -> None:
        context = CONTEXT._replace(headers=[("X-Order", "42 ü"), ("In-Reply-To", "<1@x.test>")])
        read = message(compile_content("s", None, "x"), context=context)
        assert (read["X-Order"], read["In-Reply-To"]) == ("42 ü", "<1@x.test>")

    @pytest.mark.parametrize(
        "name",
        [
            "Bcc",
            "From",
            "Return-Path",
            "DKIM-Signature",
            "Received",
            "X-Mailriver-ID",
            "X Y",
            "X-A:",
            "",
            "X-Ä",
            "Reply-To",
        ],
    )
    def test_other_fields_are_refused(self, name: str) -> None:
        with pytest.raises(ContentError):
            compile_content("s", None, "x").render({}, CONTEXT._replace(headers=[(name, "v")]))


class TestTemplates:
    @pytest.mark.parametrize(
        ("subject", "html", "text", "part", "line"),
        [
            ("{{ a", None, "x", "subject", 1),
            ("s", "<p>\n{% if a %}\n", None, "html", 0),
            ("s", None, "a\nb\n{% nothing %}", "text", 3),
            ("s", None, "{{ a | nothing }}", "text", 1),
            ("s", None, "x\n{% if never %}{% assign b = a | nothing %}{% endif %}", "text", 2),
            ("s", None, "{% include 'x' %}", "text", 1),
            ("s", None, "{% render '/etc/passwd' %}", "text", 1),
            ("s", "{% tracked_link 0 %}<a href='https://x.test'>", None, "html", 1),
            ("s", None, "{% if a %}" * 60 + "{% endif %}" * 60, "text", 1),
            ("s", None, "x" * 600_000, "text", 0),
            ("s", None, None, "content", 0),
        ],
    )
    def test_what_cannot_be_compiled_says_where(
        self, subject: str, html: str | None, text: str | None, part: str, line: int
    ) -> None:
        with pytest.raises(ContentError) as caught:
            compile_content(subject, html, text)
        assert (caught.value.part, caught.value.line) == (part, line)

    @pytest.mark.parametrize(
        "bomb",
        [
            "{% for i in (1..999999999) %}x{% endfor %}",
            "{% for i in (1..5000) %}x{% endfor %}" * 3,
            "{% for i in (1..500) %}{% for j in (1..500) %}x{% endfor %}{% endfor %}",
            "{% tablerow i in (1..999999999) %}x{% endtablerow %}",
            "{{ (1..999999999) | join: ',' }}",
            "{{ (1..999999999) | reverse | size }}",
            "{% assign a = 'aaaaaa' %}{% for i in (1..40) %}{% assign a = a | append: a %}{% endfor %}{{ a }}",
            "{% assign a = 'aaaaaa' %}{% for i in (1..40) %}{% assign a = a | replace: 'a', a %}{% endfor %}{{ a }}",
            "{% assign a = 'a,a,a,a' %}{% for i in (1..40) %}{% assign a = a | split: ',' | join: a %}{% endfor %}",
            "{% assign n = 99 %}{% for i in (1..60) %}{% assign n = n | times: n %}{% endfor %}{{ n }}",
            "{{ 5 | round: 999999999 }}",
            "{{ 'now' | date: '%999999999d' }}",
            "{% assign a = 'aaaaaa' %}{% for i in (1..99) %}{% capture a %}{{a}}{{a}}{% endcapture %}{% endfor %}",
            "{% for i in (1..9000) %}{{ big }}{% endfor %}",
        ],
    )
    def test_a_bomb_goes_off_in_its_own_message(self, bomb: str) -> None:
        content = compile_content("s", None, bomb)
        with pytest.raises(ContentError):
            content.render({"big": "x" * 1000}, CONTEXT)

    @pytest.mark.parametrize(
        ("bomb", "limit"),
        [
            ("{% for i in (1..5000) %}x{% endfor %}" * 3, "too many loop iterations"),
            ("{% for i in (1..2) %}" * 19 + "{% endfor %}" * 19, "maximum context depth"),
            ("{% if a %}" * 21 + "{% endif %}" * 21, "block nesting limit"),
            ("{{ (1..10001) | join: ',' }}", "a list is too long"),
            (
                "{% assign a = 'aaaaaa' %}{% for i in (1..19) %}{% assign a = a | append: a %}{% endfor %}",
                "a value grows",
            ),
            ("{{ 'now' | date: '%999999999d' }}", "a value grows"),
            ("{% assign n = 99 %}{% for i in (1..9) %}{% assign n = n | times: n %}{% endfor %}", "a number grows"),
            ("{% capture a %}{% for i in (1..2000) %}{{ big }}{% endfor %}{% endcapture %}", "local namespace limit"),
            ("{% capture a %}{% for i in (1..9000) %}{{ big }}{% endfor %}{% endcapture %}", "output stream limit"),
            ("{% for i in (1..2000) %}{{ big }}{% endfor %}" * 2, "output stream limit"),
            ("{{ big }}" * 3000, "too much output"),
            ("x" * (512 * 1024 + 1), "more than 524288 characters"),
        ],
    )
    def test_every_limit_is_the_one_that_holds(self, bomb: str, limit: str) -> None:
        with pytest.raises(ContentError, match=limit):
            compile_content("s", None, bomb).render({"big": "x" * 1000}, CONTEXT)

    def test_an_error_quotes_no_variable(self) -> None:
        content = compile_content("s", None, "{{ v | plus: 1 | date: v }}{{ v | divided_by: 0 }}")
        with pytest.raises(ContentError) as caught:
            content.render({"v": "zoe@example.test"}, CONTEXT)
        assert "zoe" not in str(caught.value)

    def test_variables_cannot_reach_the_tracking(self) -> None:
        text = "{{ tracking }}{{ [' tracking'].click }}{{ [' tracking'] }}x\n"
        assert "TOKEN" not in part(message(compile_content("s", None, text)), "plain")

    def test_an_assignment_hides_a_variable(self) -> None:
        text = "{{ a }}{% assign a = 'mine' %}{{ a }}\n"
        assert part(message(compile_content("s", None, text), {"a": "theirs"}), "plain") == "theirsmine\n"

    @pytest.mark.parametrize(("value", "shown"), [(7, "7"), (True, "true"), (None, ""), ([1, "b"], "1b"), (1.5, "1.5")])
    def test_variables_of_other_types(self, value: object, shown: str) -> None:
        assert part(message(compile_content("s", None, "{{ a }}\n"), {"a": value}), "plain") == f"{shown}\n"

    def test_a_missing_variable_is_empty(self) -> None:
        assert part(message(compile_content("s", None, "Hi {{ nobody.name }}!\n")), "plain") == "Hi !\n"
