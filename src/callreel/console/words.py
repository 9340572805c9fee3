"""Numbers and states in words that a person understands; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from callreel.calls.model import Call, Recording, RecordingSource, RecordingStatus, Track

SOURCES = {
    RecordingSource.START_CALL_RECORDING_API: "API or console",
    RecordingSource.OUTBOUND_API: "with an API call",
    RecordingSource.TRUNKING: "peer's or route's policy",
    RecordingSource.DIAL_VERB: "Dial",
    RecordingSource.RECORD_VERB: "Record",
    RecordingSource.START_CALL_RECORDING_DOCUMENT: "document",
}
STATUSES = {
    RecordingStatus.IN_PROGRESS: "recording",
    RecordingStatus.PAUSED: "paused",
    RecordingStatus.STOPPED: "being finished",
    RecordingStatus.COMPLETED: "ready",
    RecordingStatus.ABSENT: "no audio",
}
_ABSENT = {16101: "nothing was received, or too little", 16102: "only silence was received"}


def length(ms: int | None) -> str:
    """``4:07`` or ``1:04:07``; empty for None."""
    if ms is None:
        return ""
    seconds = round(ms / 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def spoken(ms: float) -> str:
    """``480 ms``, ``4.2 s``, ``3 min 20 s``."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms // 60_000:.0f} min {ms % 60_000 / 1000:.0f} s"


def size(count: int | None) -> str:
    """``12.4 MB``; empty for None."""
    if count is None:
        return ""
    if count < 1000:
        return f"{count} bytes"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 gap``, ``2,000 gaps``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def party(uri: str) -> str:
    """Who a number or URI is, shortly: the number, or the user of the URI, else its host.

    >>> party("sip:+15550100@pbx.example.com"), party("tel:+15550100;ext=4"), party("")
    ('+15550100', '+15550100', 'unknown')
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in ("sip", "sips", "tel"):
        return uri or "unknown"
    user, at, host = rest.partition("@")
    found = user if at or scheme == "tel" else host or user
    return unquote(found.partition(";")[0].partition(":")[0]) or uri


@dataclass(frozen=True, slots=True)
class Party:
    """A party of a call, for people."""

    number: str
    """Shortly."""
    name: str
    """Display name, or empty."""
    uri: str
    """As it was signalled."""

    @property
    def label(self) -> str:
        """The name, else the number."""
        return self.name or self.number


@dataclass(frozen=True, slots=True)
class Parties:
    """The two of a call."""

    caller: Party
    """Who called."""
    callee: Party
    """Who was called."""

    @classmethod
    def of(cls, call: Call | None) -> Parties:
        """What is known of them; nothing where the call is not known any more."""
        if call is None:
            nobody = Party("unknown", "", "")
            return cls(nobody, nobody)
        names = {party(one.aor): one.name for one in call.participants if one.name}
        caller, callee = party(call.from_), party(call.to)
        return cls(
            Party(caller, call.caller_name or names.get(caller, ""), call.from_),
            Party(callee, names.get(callee, ""), call.to),
        )

    def named(self, uri: str) -> Party:
        """The party with this URI or number, by the name that is known of it."""
        number = party(uri)
        found = next((one for one in (self.caller, self.callee) if one.number == number), None)
        return Party(number, found.name if found else "", uri)

    def heard_in(self, call: Call | None, track: Track) -> Party:
        """Who is heard in a track: as SIPREC says, else the caller in the first."""
        for one in call.participants if call else ():
            if one.track is track:
                return Party(party(one.aor), one.name, one.aor)
        return self.caller if track is Track.INBOUND else self.callee


def status(recording: Recording) -> str:
    """Where a recording stands."""
    if recording.status is RecordingStatus.ABSENT:
        why = _ABSENT.get(recording.error_code or 0)
        return f"no audio: {why}" if why else "no audio"
    return STATUSES[recording.status]


def verdict(report: Mapping[str, Any]) -> str:
    """An integrity report as a sentence or three."""
    streams: Sequence[Mapping[str, Any]] = report.get("streams", ())
    received = sum(one["packets"]["received"] for one in streams)
    lost = sum(one["packets"]["lost"] for one in streams)
    gaps = report.get("gap_count", 0)
    gap_ms = sum(one["length_ms"] for one in report.get("markers", ()) if one["kind"] == "gap")
    if not received:
        return "No audio reached callreel, so there is nothing to hear."
    said = []
    if not lost and not gaps:
        said.append(f"Everything arrived: {counted(received, 'packet')}, and none was lost.")
    elif lost:
        share = lost / max(1, received + lost)
        said.append(
            f"{counted(lost, 'packet')} of {received + lost:,} ({_percent(share)}) "
            f"{'was' if lost == 1 else 'were'} lost on the way to callreel."
        )
    else:
        said.append(f"None of the {counted(received, 'packet')} that were sent was lost.")
    if gaps:
        where = "in one place" if gaps == 1 else f"in {gaps:,} places"
        said.append(f"{spoken(gap_ms)} of sound is missing {where}.")
    pauses: Sequence[Mapping[str, Any]] = report.get("pauses", ())
    if pauses:
        paused_ms = sum(one["length_ms"] for one in pauses)
        times = "once" if len(pauses) == 1 else f"{len(pauses)} times"
        said.append(f"It was paused {times}, for {spoken(paused_ms)}.")
    others = [one for one in report.get("problems", ()) if not one.endswith("packets were lost.")]
    if others:
        said.append(f"{counted(len(others), 'thing')} more to know, below.")
    return " ".join(said)


def _percent(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else f"{share * 100:.1f} %"
