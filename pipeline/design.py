"""Make the HTML of a campaign from its design: MJML to HTML, style sheets into `style` attributes. Once, when it is
published; no worker compiles a design.

    python -m pipeline.design < JSON of {source, mjml, inline_css} > JSON of {html} or {part, line, reason}

In a process of its own, with limits on time and memory: the compilers are native code, and a few thousand nested
elements end the process that calls them. They load nothing: no includes, no style sheets from elsewhere.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from sinks.smtp.templates import SOURCE_MAX, ContentError

_TIME_S: Final = 20.0
_CPU_S: Final = 5
_MEMORY: Final = 1024 * 1024 * 1024
_CODE: Final = Path(__file__).resolve().parents[1]


def html_of(source: str, *, mjml: bool, inline_css: bool) -> str:
    """The HTML of a source in HTML or MJML, with its Liquid as it was. Raises ContentError with part, line, reason."""
    part = "mjml" if mjml else "html"
    if len(source) > SOURCE_MAX:
        raise ContentError(part, 0, f"more than {SOURCE_MAX} characters")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.design"], input=json.dumps([source, mjml, inline_css]).encode(),
            capture_output=True, cwd=_CODE, timeout=_TIME_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ContentError(part, 0, "takes too long to compile") from None
    if done.returncode != 0:
        raise ContentError(part, 0, "cannot be compiled: nested too deep, or too large")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "reason" in answer:
        raise ContentError(part, answer["line"], answer["reason"])
    return str(answer["html"])


def compiled(source: str, mjml: bool, inline_css: bool) -> str:
    """The same, in this process. ContentError for MJML that is none."""
    from css_inline import CSSInliner
    from mjml import mjml2html

    from pipeline.liquid_mask import masked

    mask = masked(source)
    html = mask.source
    if mjml:
        try:
            html = mjml2html(html)
        except ValueError as error:
            raise ContentError("mjml", _line(mask.source, str(error)), _reason(str(error))) from None
    if inline_css:
        html = CSSInliner(load_remote_stylesheets=False, keep_at_rules=True).inline(html)
    return mask.restored(html)


def _line(source: str, said: str) -> int:
    # "… at position 16:26": bytes from the beginning. Liquid that is masked keeps no line end, so count in the mask.
    found = re.search(r"position (\d+):", said)
    return source.encode()[: int(found[1])].count(b"\n") + 1 if found else 0


def _reason(said: str) -> str:
    return re.sub(r" in root template| at position \d+:\d+", "", said)[:200]


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    if sys.platform != "darwin":  # where the address space is not what is used
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    source, mjml, inline_css = json.load(sys.stdin)
    try:
        answer: dict[str, Any] = {"html": compiled(source, mjml, inline_css)}
    except ContentError as error:
        answer = {"line": error.line, "reason": error.reason}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
