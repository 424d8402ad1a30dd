"""docs/sending.md: every example is a send that is taken, and every refused extension that it names is one."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path

import pytest

from schemas.attachments import ATTACHED_MAX, ATTACHMENTS_MAX, EXECUTABLE, require_allowed
from schemas.claims import CHECKED_IN_ABOVE
from schemas.codec import decode_send
from schemas.rules.raw_mail import RAW_MAX, read_raw

PAGE = (Path(__file__).parents[2] / "docs/sending.md").read_text()
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_taken(example: str) -> None:
    send = decode_send(example.encode())
    require_allowed(send.attachments, has_html=send.html is not None)
    if send.raw is not None:
        assert str(read_raw(b64decode(send.raw)).from_) == "news@brand.test"


def test_its_figures_are_the_codes() -> None:
    assert len(EXAMPLES) == 4
    assert f"At most {ATTACHMENTS_MAX}, and {ATTACHED_MAX // 2**20} MiB" in PAGE
    assert f"over {RAW_MAX // 2**20} MiB" in PAGE
    assert f"records over {CHECKED_IN_ABOVE // 1024} KiB" in PAGE
    named = re.findall(r"`\.([a-z]+)`", PAGE)
    assert named
    assert set(named) <= EXECUTABLE
