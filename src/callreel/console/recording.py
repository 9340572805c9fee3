"""One recording: to be heard, checked, downloaded; and what became of its webhooks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from callreel.calls.model import Account, Call, Recording, RecordingStatus, Track
from callreel.calls.spelling import Kind, api_path
from callreel.console.live import DIRECTIONS
from callreel.console.services import ConsoleServices
from callreel.console.visit import Visit
from callreel.console.webhooks import shown
from callreel.console.words import Parties, Party, length, party, verdict
from callreel.service.errors import NotFound
from callreel.service.media import MediaFormat
from callreel.store.deliveries import DeliveryFilter

_DELIVERIES = 20
_MOST_MARKERS = 400


class RecordingPages:
    """The page of one recording, and what it loads."""

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services

    async def show(self, visit: Visit) -> Response:
        """The page."""
        services = self._services
        recording = await self._found(visit)
        call = await self._call(visit.account, recording)
        raw = await services.media.report(recording)
        report: dict[str, Any] | None = None if raw is None else json.loads(raw)
        owed = await services.deliveries.page(
            DeliveryFilter(recording_id=recording.id), size=_DELIVERIES, account=visit.account
        )
        deliveries = [
            shown(one, await services.deliveries.attempts(one), visit) for one in owed.items
        ]
        sid = visit.sid(Kind.RECORDING, recording.id)
        parties = Parties.of(call)
        voices = _voices(recording, call, parties)
        return visit.page(
            "recording.html",
            recording=recording,
            sid=sid,
            call=call,
            call_sid=visit.sid(Kind.CALL, recording.call_id),
            direction=DIRECTIONS[call.direction] if call else "",
            parties=parties,
            participants=[
                (Party(party(one.aor), one.name, one.aor), one.track)
                for one in (call.participants if call else ())
            ],
            playable=recording.status is RecordingStatus.COMPLETED,
            finishing=recording.status is RecordingStatus.STOPPED,
            voices=voices,
            report=report,
            report_text=None
            if report is None
            else json.dumps(report, indent=2, ensure_ascii=False),
            verdict=None if report is None else verdict(report),
            markers=[] if report is None else markers(report, voices),
            deliveries=deliveries,
            formats=[one.value for one in MediaFormat],
            api_url=f"{services.addresses.api_url}{api_path(visit.account)}/Recordings/{sid}",
        )

    async def audio(self, visit: Visit) -> Response:
        """Its audio, as the API gives it."""
        recording = await self._found(visit)
        try:
            format_ = MediaFormat(visit.request.path_params["format"])
        except ValueError:
            raise NotFound("no such format") from None
        saved_as = None
        if "download" in visit.request.query_params:
            saved_as = visit.sid(Kind.RECORDING, recording.id)
        answer = await self._services.audio(visit.request, recording, format_, saved_as=saved_as)
        # Whoever comes to this browser after them must not find it there.
        answer.headers["Cache-Control"] = "no-store"
        return visit.pages.dressed(answer, visit.nonce)

    async def peaks(self, visit: Visit) -> Response:
        """Its waveform."""
        found = await self._services.media.peaks(await self._found(visit))
        if found is None:
            raise NotFound("no waveform")
        return visit.pages.dressed(Response(found, media_type="application/json"), visit.nonce)

    async def report(self, visit: Visit) -> Response:
        """Its integrity report."""
        found = await self._services.media.report(await self._found(visit))
        if found is None:
            raise NotFound("no report")
        return visit.pages.dressed(Response(found, media_type="application/json"), visit.nonce)

    async def _found(self, visit: Visit) -> Recording:
        return await self._services.recordings.get(visit.account, visit.id_of("recording"))

    async def _call(self, account: Account, recording: Recording) -> Call | None:
        try:
            return await self._services.calls.get(account, recording.call_id)
        except NotFound:
            return None  # a call may be deleted while its recordings stay


def _voices(recording: Recording, call: Call | None, parties: Parties) -> list[Party]:
    """Who is heard in each channel."""
    tracks = recording.request.track.tracks
    if recording.request.channel_count == len(tracks):
        return [parties.heard_in(call, track) for track in tracks]
    return [Party("everybody", "", "")]


def _channel(track: str | None, voices: list[Party]) -> int:
    """The channel that a track is heard in; -1 for all."""
    return -1 if track is None or len(voices) == 1 else int(track == Track.OUTBOUND.value)


def markers(report: Mapping[str, Any], voices: list[Party]) -> list[dict[str, Any]]:
    """What happened when, in the file's own time: ``kind``, ``at`` and ``length`` in seconds,
    ``text``; in order."""
    found = []
    names = {"inbound": voices[0].label, "outbound": voices[-1].label}
    for one in report.get("markers", ()):
        who = names.get(one.get("track"), "") if len(voices) > 1 else ""
        of_whom = f", {who}" if who else ""
        match one["kind"]:
            case "pause":
                text = f"paused for {length(one['length_ms'])}"
                if one.get("behavior") == "skip":
                    text += ", left out"
            case "hold":
                text = f"on hold{of_whom}"
            case "dtmf":
                text = f"key pressed{of_whom}"
            case "gap":
                text = f"gap of {one['length_ms']} ms{of_whom}"
            case "codec":
                text = f"codec {one.get('codec', '?')}{of_whom}"
            case _:
                continue
        found.append(
            {
                "kind": one["kind"],
                "at": one["at_ms"] / 1000,
                "length": one.get("length_ms", 0) / 1000 if one.get("behavior") != "skip" else 0,
                "text": text,
                "channel": _channel(one.get("track"), voices),
                "clock": length(one["at_ms"]),
            }
        )
    found.sort(key=lambda one: one["at"])
    return found[:_MOST_MARKERS]
