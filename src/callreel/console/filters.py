"""What a list of recordings is narrowed by, from the words of its form; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlencode

from callreel.base.ids import parse_id
from callreel.calls.model import CallDirection, RecordingSource, RecordingStatus
from callreel.console.forms import Form
from callreel.console.zones import Zone
from callreel.store.pages import Position
from callreel.store.recordings import RecordingFilter

STATUSES = {
    "live": ("in progress", (RecordingStatus.IN_PROGRESS, RecordingStatus.PAUSED)),
    "finishing": ("being finished", (RecordingStatus.STOPPED,)),
    "ready": ("ready", (RecordingStatus.COMPLETED,)),
    "absent": ("no audio", (RecordingStatus.ABSENT,)),
}
DIRECTIONS = {
    "inbound": ("inbound", CallDirection.INBOUND),
    "outbound": ("outbound, by the API", CallDirection.OUTBOUND_API),
    "leg": ("outbound leg of a call", CallDirection.OUTBOUND_DIAL),
}
SOURCES = {
    "api": ("API or console", RecordingSource.START_CALL_RECORDING_API),
    "call": ("with an API call", RecordingSource.OUTBOUND_API),
    "policy": ("peer's or route's policy", RecordingSource.TRUNKING),
    "dial": ("document: Dial", RecordingSource.DIAL_VERB),
    "record": ("document: Record", RecordingSource.RECORD_VERB),
    "document": ("document: Start", RecordingSource.START_CALL_RECORDING_DOCUMENT),
}
GAPS = {"yes": ("with gaps", True), "no": ("without gaps", False)}
_LONGEST_TEXT = 100
_LONGEST_S = 10_000_000
_FIELDS = ("q", "from", "to", "status", "direction", "source", "gaps", "min", "max")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A form as it was understood."""

    values: dict[str, str]
    """By field: what made sense of it, as it was typed."""
    filter: RecordingFilter
    """What it means."""
    recording_id: str | None
    """The one recording that was named by its SID."""
    position: Position | None
    """The page."""

    @property
    def is_narrowed(self) -> bool:
        """Whether anything was asked for."""
        return any(self.values.values())

    def link(self, position: Position | None = None) -> str:
        """The query of this list, from a position on."""
        fields = [(name, value) for name, value in self.values.items() if value]
        if position is not None:
            fields.append(("page", written(position)))
        return urlencode(fields)


def read(form: Form, zone: Zone) -> Chosen:
    """What makes no sense is as if it had not been said."""
    values = {name: form.get(name)[:_LONGEST_TEXT] for name in _FIELDS}
    for name, known in (
        ("status", STATUSES),
        ("direction", DIRECTIONS),
        ("source", SOURCES),
        ("gaps", GAPS),
    ):
        if values[name] not in known:
            values[name] = ""
    first, last = _day(values["from"]), _day(values["to"])
    shortest, longest = _seconds(values["min"]), _seconds(values["max"])
    values["from"], values["to"] = _iso(first), _iso(last)
    values["min"] = "" if shortest is None else f"{shortest:g}"
    values["max"] = "" if longest is None else f"{longest:g}"
    named = parse_id(values["q"])
    return Chosen(
        values,
        RecordingFilter(
            call_id=named,
            created_from=None if first is None else zone.start_of(first),
            created_before=None if last is None else zone.start_of(last + timedelta(days=1)),
            statuses=STATUSES[values["status"]][1] if values["status"] else (),
            direction=DIRECTIONS[values["direction"]][1] if values["direction"] else None,
            source=SOURCES[values["source"]][1] if values["source"] else None,
            has_gaps=GAPS[values["gaps"]][1] if values["gaps"] else None,
            shortest_ms=None if shortest is None else round(shortest * 1000),
            longest_ms=None if longest is None else round(longest * 1000),
            party="" if named else values["q"],
        ),
        named,
        position_of(form.get("page")),
    )


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 1970 <= found.year < 9999 else None


def _iso(day: date | None) -> str:
    return "" if day is None else day.isoformat()


def _seconds(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found <= _LONGEST_S else None


def written(position: Position) -> str:
    """A position as links have it."""
    direction = "b" if position.backward else "f"
    return f"{direction}-{position.created_at.timestamp():.6f}-{position.id}"


def position_of(text: str) -> Position | None:
    """The position that a link names, or None where that makes no sense."""
    direction, _, rest = text.partition("-")
    stamp, _, id_ = rest.partition("-")
    try:
        at = datetime.fromtimestamp(float(stamp), Zone.named("UTC").tz)
    except (ValueError, OverflowError, OSError):
        return None
    known = parse_id(id_)
    if known is None or direction not in ("f", "b"):
        return None
    return Position(at, known, backward=direction == "b")
