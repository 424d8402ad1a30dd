"""The HTML of the simulator's pages. Pure; every value from a message is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from urllib.parse import quote

from pipeline.simulator.reading import Letter
from pipeline.simulator.witness import Entry

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0;color:#1d2530;background:#f4f6f8}
header{background:#14324a;color:#fff;padding:.7rem 1.2rem;display:flex;gap:1.2rem;align-items:center;flex-wrap:wrap}
header a{color:#fff;text-decoration:none;font-weight:600}main{padding:1rem 1.2rem;max-width:78rem;margin:auto}
input,button{font:inherit;padding:.3rem .5rem;border:1px solid #b8c2cc;border-radius:4px}
table{border-collapse:collapse;width:100%;background:#fff}td,th{text-align:left;padding:.4rem .6rem;
border-bottom:1px solid #e3e8ed;vertical-align:top;overflow-wrap:anywhere}th{font-weight:600;color:#4a5866}
iframe{width:100%;height:36rem;border:1px solid #ccd4dc;background:#fff}pre{background:#fff;padding:.8rem;
overflow:auto;border:1px solid #e3e8ed;white-space:pre-wrap;overflow-wrap:anywhere}small{color:#5d6b78}
details{margin:.6rem 0}summary{cursor:pointer;font-weight:600}
"""


def inbox(entries: Iterable[Entry], search: str, older: int | None, total: int) -> str:
    """The list of messages, newest first; `older` continues it."""
    rows = "".join(_row(entry) for entry in entries)
    more = f'<p><a href="/?search={quote(search)}&amp;before={older}">Older messages</a></p>' if older else ""
    empty = "" if rows else "<p>No message matches.</p>" if search else "<p>No message has arrived yet.</p>"
    return _page(
        f"<p><small>{total:,} messages accepted</small></p>"
        "<table><thead><tr><th>To</th><th>Subject</th><th>Provider</th><th>Size</th><th>Time (UTC)</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{empty}{more}",
        search,
    )


def message(entry: Entry, letter: Letter | None) -> str:
    """One message; `letter` None when its body is no longer kept."""
    facts = {
        "From": letter.header("From") if letter else "",
        "To": ", ".join(entry.rcpt_to),
        "Return path": f"<{entry.mail_from}>",
        "Time (UTC)": _time(entry.time),
        "Message-ID": entry.message_id,
        "mailriver id": entry.mailriver_id,
        "Provider": entry.provider,
        "TLS": "yes" if entry.tls else "no",
        "Answered": "yes" if entry.answered else "no: the connection was dropped after the dot",
        "SHA-256": entry.sha256,
    }
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    title = f"<h1>{escape(entry.subject) or 'No subject'}</h1><table>{rows}</table>"
    if letter is None:
        return _page(title + "<p>The body has made room for newer messages.</p>", "")
    # sandbox without any permission: no script, no form, no way to this page; the frame's own policy says it again.
    frame = (
        f'<iframe sandbox title="HTML part" src="/messages/{entry.seq}/html" referrerpolicy="no-referrer"></iframe>'
        if letter.html
        else ""
    )
    headers = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in letter.headers)
    links = "".join(f"<li>{escape(url)}</li>" for url in letter.links)
    return _page(
        f"{title}{frame}"
        f"<details{'' if letter.html else ' open'}><summary>Text</summary><pre>{escape(letter.text)}</pre></details>"
        f"<details><summary>Links</summary><ul>{links}</ul></details>"
        f"<details><summary>Headers</summary><table>{headers}</table></details>"
        f'<p><a href="/api/messages/{entry.seq}/raw">Source</a></p>',
        "",
    )


def _row(entry: Entry) -> str:
    to = escape(", ".join(entry.rcpt_to))
    subject = escape(entry.subject) or "<i>none</i>"
    return (
        f'<tr><td>{to}</td><td><a href="/messages/{entry.seq}">{subject}</a></td><td>{escape(entry.provider)}</td>'
        f"<td>{entry.size:,}</td><td>{_time(entry.time)}</td></tr>"
    )


def _page(body: str, search: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Simulated mailboxes</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/style.css"></head><body>'
        '<header><a href="/">Simulated mailboxes</a><form action="/" method="get">'
        f'<input name="search" aria-label="Search" placeholder="address, subject, id" value="{escape(search)}"> '
        f"<button>Search</button></form></header><main>{body}</main></body></html>"
    )


def style() -> str:
    """The style sheet."""
    return _STYLE


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
