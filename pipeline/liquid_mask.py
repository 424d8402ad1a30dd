"""Take Liquid out of HTML or MJML before a compiler of those reads it, and put it back afterwards.

Such a compiler knows nothing of Liquid: it would escape what stands in `{% if a < b %}`, and move a loop out of the
table whose rows it repeats. So each tag becomes a mark that goes through unchanged: a comment where text stands, for
comments may stand in tables; a word within tags, comments and elements of plain text, where a comment would be none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count

_LIQUID = r"\{%-?\s*raw\s*-?%\}.*?\{%-?\s*endraw\s*-?%\}|\{\{.*?\}\}|\{%.*?%\}"
# What is passed over as a whole; Liquid in it becomes words. A tag may hold ">" in quotes, or in Liquid.
_ENCLOSING = (
    r"<!--.*?-->",
    r"<(?P<plain>style|script|title|textarea|mj-style|mj-title|mj-preview)\b.*?</(?P=plain)\s*>",
    # possessive: Liquid is also what is no quote
    rf"</?[a-zA-Z](?:{_LIQUID}|\"(?:{_LIQUID}|[^\"])*+\"|'(?:{_LIQUID}|[^'])*+'|[^\"'>])*+>",
)
_PLACES = re.compile(rf"(?P<inside>{'|'.join(_ENCLOSING)})|(?P<text>{_LIQUID})", re.DOTALL | re.IGNORECASE)
_TAGS = re.compile(_LIQUID, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Masked:
    source: str
    liquid: tuple[str, ...]
    word: str  # what marks begin with; a number follows, and "c" in a comment or "q"

    def restored(self, compiled: str) -> str:
        """Every mark replaced by what it stood for, however the compiler wrote it."""
        # A comment may have been escaped, where it stood in text after all; a word that was an attribute without a
        # value has been given an empty one.
        comment = rf"(?:<!--|&lt;!--){self.word}(\d+)c(?:-->|--&gt;)"
        word = rf"{self.word}(\d+)q(?:=\"\")?"
        return re.sub(f"{comment}|{word}", lambda found: self.liquid[int(found[1] or found[2])], compiled)


def masked(source: str) -> Masked:
    word = next(word for n in count() if (word := f"liquid{n or ''}x") not in source.lower())
    liquid: list[str] = []

    def mark(tag: str, kind: str) -> str:
        liquid.append(tag)
        return f"{word}{len(liquid) - 1}{kind}"

    def place(found: re.Match[str]) -> str:
        if found["text"] is not None:
            return f"<!--{mark(found['text'], 'c')}-->"
        return _TAGS.sub(lambda tag: mark(tag[0], "q"), found["inside"])

    return Masked(_PLACES.sub(place, source), tuple(liquid), word)
