"""The console's pages as HTML, from values; pure. Every text that came from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from callreel.calls.model import Account, Call, Recording, RecordingStatus
from callreel.calls.spelling import Kind, account_sid, api_path, rfc2822, spell

_STYLE = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{margin:2rem auto;max-width:70rem;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:1rem 0 2rem}
th,td{text-align:left;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8886;vertical-align:top}
code{font-size:.9em}audio{width:18rem;height:2rem}.quiet{opacity:.7}
"""


def overview(account: Account, calls: Sequence[Call], recordings: Sequence[Recording]) -> str:
    """The newest calls and recordings of an account."""
    body = (
        "<h1>callreel</h1>"
        f"<p class=quiet>Account <code>{escape(account_sid(account))}</code>, times in UTC</p>"
        "<h2>Recordings</h2>"
        + _table(
            ("Created", "Recording", "Status", "Length", "Audio"),
            [_recording_row(account, one) for one in recordings],
            "No recording yet. Start one with the API while a call is in progress.",
        )
        + "<h2>Calls</h2>"
        + _table(
            ("Created", "From", "To", "Status", "Call"),
            [_call_row(account, one) for one in calls],
            "No call yet. Point a session border controller here, or run callreel phone siprec.",
        )
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>callreel</title>"
        f"<style>{_STYLE}</style><main>{body}</main></html>"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    if not rows:
        return f"<p class=quiet>{escape(empty)}</p>"
    head = "".join(f"<th scope=col>{escape(one)}" for one in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<table><thead><tr>{head}<tbody>{lines}</table>"


def _recording_row(account: Account, recording: Recording) -> list[str]:
    sid = spell(Kind.RECORDING, recording.id, account.dialect)
    audio = ""
    if recording.status is RecordingStatus.COMPLETED:
        url = f"{api_path(account)}/Recordings/{sid}"
        audio = (
            f"<audio controls preload=none src='{url}.wav'></audio> "
            f"<a href='{url}.wav' download>WAV</a> <a href='{url}.mp3' download>MP3</a>"
        )
    length = "" if recording.duration_ms is None else f"{recording.duration_ms / 1000:.1f} s"
    return [
        escape(rfc2822(recording.created_at)),
        f"<code>{escape(sid)}</code>",
        escape(recording.status.value),
        length,
        audio,
    ]


def _call_row(account: Account, call: Call) -> list[str]:
    return [
        escape(rfc2822(call.created_at)),
        escape(call.from_),
        escape(call.to),
        escape(call.status.value),
        f"<code>{escape(spell(Kind.CALL, call.id, account.dialect))}</code>",
    ]
