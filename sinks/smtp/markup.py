"""Read the HTML of a mail template: where its links are, and what its text part says.

Pure, in one pass and in linear time whatever the input: no parse tree, no entity expansion. Liquid in the source is
masked by one character per character, so every position holds for the source too. What counts as a link to follow is
decided here; its URL at render is the template's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MASK = "\ue000"
_NUMBERED = re.compile(f"{_MASK}([0-9]{{1,6}}){_MASK}")
_OPENING = re.compile(r"(?P<raw>\{%-?\s*+raw\s*+-?%\})|\{\{|\{%")
_ENDRAW = re.compile(r"\{%-?\s*+endraw\s*+-?%\}")
_BODY_END = re.compile("</body", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s/]", re.IGNORECASE)

# All that is no text, as browsers read it; possessive throughout, so that each character is tried once.
_ATTRIBUTES = r"""(?:[^"'>]++|"[^"]*+"|'[^']*+')*+"""
_MARKUP = re.compile(
    "<(?:"
    # what is shown as no text, with its end tag still to come
    rf"(?P<raw>(?i:script|style|title|textarea|template|noscript))(?=[\s/>]){_ATTRIBUTES}>"
    r"(?:[^<]++|<(?!/(?i:(?P=raw))))*+"
    rf"|(?P<name>/?[a-zA-Z][^\s/>]*+)(?P<attributes>{_ATTRIBUTES})>"
    r"|!--(?:[^-]++|-(?!->))*+(?:-->|\Z)"
    r"|[!?][^>]*+(?:>|\Z)"
    # a tag that never closes swallows the rest
    "|/?[a-zA-Z](?s:.*)"
    ")"
)
_GROUPS = 3
_ATTRIBUTE = re.compile(r"([^\s\"'>/=]++)(?:\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++)))?+")

_BLOCKS = (
    "address", "article", "aside", "blockquote", "body", "center", "dd", "div", "dl", "dt", "figure", "footer", "form",
    "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "main", "nav", "ol", "p", "pre", "section", "table", "ul",
)  # fmt: skip
_BREAKS = {"br": "\n", "tr": "\n", "caption": "\n", "li": "\n- ", "td": " ", "th": " "}
_BREAKS |= {slash + name: "\n\n" for name in _BLOCKS for slash in ("", "/")}


@dataclass(frozen=True, slots=True)
class Link:
    """The target of an `<a href>`: source[start:end] is what stands in the attribute, `url` what it means."""

    start: int
    end: int
    url: str


def links(source: str) -> tuple[Link, ...]:
    """Targets that may be followed and counted: whole http and https URLs without Liquid in them.

    A target with a variable in it is left alone: only what is in the campaign's link table is redirected to.
    """
    found: list[Link] = []
    masked = _masked(source)
    for tag in _MARKUP.finditer(masked):
        if tag["name"] in ("a", "A"):
            start, end = _attribute(masked, "href", tag.start("attributes"), tag.end("attributes"))
            if _MASK in (written := masked[start:end]):
                continue
            url = html.unescape(written).strip()
            if _URL.match(url):
                found.append(Link(start, end, url))
    return tuple(found)


def body_end(source: str) -> int:
    """Where the last `</body>` begins, or the end: the place for something that nobody is to see."""
    if (end := source.rfind("</body")) >= 0 and "</BODY" not in source:
        return end
    ends = [match.start() for match in _BODY_END.finditer(source)]
    return ends[-1] if ends else len(source)


def text_of(source: str, *, templated: bool) -> str:
    """The text part of an HTML part: entities and tags go, targets follow their links. Liquid stays in a template."""
    liquid: list[str] = []
    source = source.replace(_MASK, " ")
    if templated:
        parts: list[str] = []
        for piece, is_liquid in _pieces(source):
            if is_liquid:
                parts.append(f"{_MASK}{len(liquid)}{_MASK}")
                liquid.append(piece)
            else:
                parts.append(piece)
        source = "".join(parts)
    first, *rest = _MARKUP.split(_collapsed(source))
    lines = [_read(first)]
    target = ""
    for name, attributes, text in zip(
        rest[1 :: _GROUPS + 1], rest[2 :: _GROUPS + 1], rest[3 :: _GROUPS + 1], strict=True
    ):
        if name is not None:
            name = name.lower()
            if (broken := _BREAKS.get(name)) is not None:
                lines.append(broken)
            elif name == "a":
                target = _value(attributes, "href").strip()
            elif name == "/a" and target:
                if not target.startswith(("#", "mailto:", "javascript:")) and lines[-1].strip() != target:
                    lines.append(f" ({target})")
                target = ""
            elif name == "img":
                lines.append(_value(attributes, "alt"))
        if text:
            lines.append(_read(text))
    text = "\n".join(map(str.strip, "".join(lines).split("\n")))
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    if templated:
        # Text must not become Liquid: "&#123;{" was none in the HTML, and is none here.
        for brace in ("{", "%", _MASK):
            text = text.replace("{" + brace, "{ " + brace)
        liquid.append("")  # for a number that somebody wrote with entities
        text = _NUMBERED.sub(lambda mark: liquid[min(int(mark[1]), len(liquid) - 1)], text)
    return text.strip() + "\n"


def _masked(source: str) -> str:
    """Liquid replaced by as many marks."""
    pieces = _pieces(source.replace(_MASK, " "))
    return "".join(_MASK * len(piece) if is_liquid else piece for piece, is_liquid in pieces)


def _pieces(source: str) -> Iterator[tuple[str, bool]]:
    """The source in pieces, and whether each is Liquid; a `raw` block is one, since nothing can be put into it."""
    at = 0
    while opening := _OPENING.search(source, at):
        start = opening.start()
        if opening["raw"]:
            closing = _ENDRAW.search(source, opening.end())
            end = closing.end() if closing else -1
        else:
            end = source.find("}}" if opening[0] == "{{" else "%}", opening.end()) + 2
        if end < opening.end():
            break  # never closed: the compiler will say so
        yield source[at:start], False
        yield source[start:end], True
        at = end
    yield source[at:], False


def _attribute(markup: str, name: str, start: int, end: int) -> tuple[int, int]:
    """Where the value of the attribute stands; nowhere, as an empty span, when there is none."""
    for match in _ATTRIBUTE.finditer(markup, start, end):
        if match[1].lower() == name:
            group = match.lastindex or 1
            return match.span(group) if group > 1 else (start, start)
    return start, start


def _value(attributes: str, name: str) -> str:
    start, end = _attribute(attributes, name, 0, len(attributes))
    return _read(attributes[start:end])


def _read(text: str) -> str:
    return html.unescape(text) if "&" in text else text


def _collapsed(text: str) -> str:
    """Runs of white space become one space. By find and replace: a pattern stops at every word, 500 us for 10 KB."""
    for other in "\t\r\n\f":
        if other in text:
            text = text.replace(other, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text
