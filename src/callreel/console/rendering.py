"""Templates into answers, with the headers that every answer has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

import callreel
from callreel.calls.spelling import Kind
from callreel.console import words

HERE = Path(__file__).parent
STATIC = HERE / "static"
VENDOR = ("htmx.js", "wavesurfer.js", "regions.js", "timeline.js")


class Pages:
    """The console's templates. Every value is escaped unless a template says that it is ours."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        files = [path for path in STATIC.rglob("*") if path.is_file()]
        stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files)))
        self._templates.globals.update(
            version=callreel.__version__,
            stamp=stamp.hexdigest()[:12],
            vendor={name for name in VENDOR if (STATIC / "vendor" / name).is_file()},
            words=words,
            kinds=Kind,
            now=now,
        )
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # compiled now, not when somebody waits

    def text(self, template: str, context: Mapping[str, object]) -> str:
        """A template filled in."""
        return self._templates.get_template(template).render(**context)

    def answer(
        self, template: str, *, nonce: str, status: int = 200, **context: object
    ) -> Response:
        """A template as an answer."""
        text = self.text(template, {"nonce": nonce, **context})
        return self.dressed(HTMLResponse(text, status), nonce)

    def dressed(self, answer: Response, nonce: str) -> Response:
        """An answer with the headers that all have: nothing from other hosts, nothing inline.

        What a script of ours styles by itself (the waveform's shadow tree) names the nonce.
        """
        answer.headers["Content-Security-Policy"] = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                f"style-src 'self' 'nonce-{nonce}'",
                "img-src 'self'",
                "media-src 'self'",
                "connect-src 'self'",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )
        answer.headers.setdefault("Cache-Control", "no-store")
        answer.headers["Referrer-Policy"] = "same-origin"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["X-Frame-Options"] = "DENY"
        return answer
