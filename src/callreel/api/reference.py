"""``/docs``: the operations as a page for people; no scripts, nothing from another host."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from callreel.api.codes import ADVICE, Code, http_status
from callreel.api.openapi import DESCRIPTION
from callreel.api.operations import OPERATIONS, TAGS, Operation
from callreel.api.parameters import Parameter

router = APIRouter(include_in_schema=False)

_STYLE = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;overflow-wrap:break-word}
code,pre{font-size:.875em}code{overflow-wrap:anywhere}
pre{overflow-x:auto;padding:.75rem;border:1px solid #8886;border-radius:.4rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{text-align:left;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8886;vertical-align:top}
h2{margin-top:3rem}h3{margin:2.5rem 0 .5rem}nav ul{columns:18rem;padding-left:1.2rem}
.quiet{opacity:.75}a{color:inherit}
@media(max-width:40rem){thead{position:absolute;clip-path:inset(50%)}
tr{display:block;padding:.5rem 0;border-bottom:1px solid #8886}
td{display:block;border:0;padding:.1rem 0}}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The page. It holds nobody's data, so it needs no credentials."""
    return HTMLResponse(page(request.app.state.public_url), headers=_HEADERS)


@lru_cache(maxsize=4)
def page(public_url: str) -> str:
    """The page; ``public_url`` is the base of the commands on it."""
    groups = {tag: [one for one in OPERATIONS if one.tag == tag] for tag in TAGS}
    contents = "".join(
        f"<li><a href='#{escape(one.name)}'>{escape(one.summary)}</a>"
        for operations in groups.values()
        for one in operations
    )
    body = "".join(
        f"<section><h2>{escape(tag)}</h2><p>{_rich(TAGS[tag])}"
        + "".join(_operation(one, public_url) for one in operations)
        + "</section>"
        for tag, operations in groups.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>callreel: the API</title>"
        f"<style>{_STYLE}</style><main><h1>The API</h1>{_paragraphs(DESCRIPTION)}"
        "<p>For programs: <a href='openapi.json'>openapi.json</a>. "
        "<a href='#errors'>Error codes</a> are at the end."
        f"<nav aria-label=Operations><ul>{contents}</ul></nav>{body}{_errors()}</main></html>"
    )


def _operation(one: Operation, public_url: str) -> str:
    answers = _table(
        ("Status", "Answer"),
        [
            [f"<code>{int(answer.status)}</code>", _rich(_answer_text(answer.content, answer.text))]
            for answer in one.answers
        ],
    )
    refused = ""
    if one.refused:
        codes = ", ".join(f"<a href='#e{code.value}'>{code.value}</a>" for code in one.refused)
        refused = f"<p>Refused (400 or 422, by dialect) with {codes}."
    return (
        f"<article><h3 id='{escape(one.name)}'>{escape(one.summary)}</h3>"
        f"<p><code><b>{escape(one.method)}</b> {escape(one.path)}</code>"
        f"{_paragraphs(one.text)}"
        f"{_parameters('Path', one.in_path)}{_parameters('Query', one.query)}"
        f"{_parameters('Headers', one.headers)}{_parameters('Body', one.body)}"
        f"{answers}{refused}"
        f"<pre><code>{escape(curl(one, public_url))}</code></pre></article>"
    )


def _answer_text(content: Sequence[tuple[str, object]], text: str) -> str:
    types = ", ".join(f"`{name}`" for name, _ in content)
    return f"{text} {types}" if types else text


def _parameters(place: str, parameters: Iterable[Parameter]) -> str:
    rows = [
        [
            f"<code>{escape(one.name)}</code>" + (" <b>required</b>" if one.required else ""),
            _rich(one.values),
            _rich(one.text)
            + (f" Default: <code>{escape(one.default)}</code>." if one.default else "")
            + (
                f" Refused with <a href='#e{one.refused.value}'>{one.refused.value}</a>."
                if one.refused is not None
                else ""
            ),
        ]
        for one in parameters
    ]
    return _table((place, "Values", "Meaning"), rows)


def _errors() -> str:
    rows = [
        [
            f"<a id='e{code.value}' href='errors/{code.value}'>{code.value}</a>",
            _status(code),
            escape(ADVICE[code]),
        ]
        for code in sorted(Code)
    ]
    return (
        "<section><h2 id=errors>Error codes</h2><p>Every error has the keys <code>code</code>, "
        "<code>message</code>, <code>more_info</code> and <code>status</code>."
        + _table(("Code", "Status", "What to do"), rows)
        + "</section>"
    )


def _status(code: Code) -> str:
    statuses = dict.fromkeys(http_status(code, refused=refused) for refused in (400, 422))
    return " or ".join(str(status) for status in statuses)


def curl(one: Operation, public_url: str) -> str:
    """A command that does it, with the examples of its parameters; ``$SID:$TOKEN`` signs in."""
    path = one.path
    for parameter in one.in_path:
        shown = "$SID" if parameter.name == "AccountSid" else quote(parameter.example or "")
        path = path.replace("{" + parameter.name + "}", shown)
    query = urlencode(
        [(field.name, field.example) for field in one.query if field.example and _shown(field)]
    )
    words = ["curl"]
    if one.method == "HEAD":
        words.append("--head")
    elif one.method != "GET" and not (one.method == "POST" and one.body):
        words.append(f"--request {one.method}")
    if one.guarded:
        words.append('--user "$SID:$TOKEN"')
    words += [
        f"--data-urlencode {shlex.quote(f'{field.name}={field.example}')}"
        for field in one.body
        if field.example
    ]
    if any(media_type.startswith("audio/") for a in one.answers for media_type, _ in a.content):
        words += ["--remote-name"] if one.method == "GET" else []
    url = public_url + path + ("?" + query if query else "")
    words.append(f'"{url}"')
    return " \\\n  ".join((words[0], *words[1:]))


def _shown(field: Parameter) -> bool:
    """Whether a filter is part of the command: one is enough to see how it is done."""
    return field.name in ("PageSize", "DateCreated>", "StartTime>")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th scope=col>{escape(one)}" for one in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<div class=wide><table><thead><tr>{head}<tbody>{lines}</table></div>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_rich(one)}" for one in text.strip().split("\n\n"))


def _rich(text: str) -> str:
    """Escaped text; ``backquotes`` become code, ``**stars**`` bold."""
    escaped = escape(text)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", escaped)
