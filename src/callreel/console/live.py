"""Calls in progress: seen as they change, and steered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response, StreamingResponse

from callreel.base.errors import CallreelError
from callreel.calls.media import StreamState
from callreel.calls.model import (
    CallDirection,
    PauseBehavior,
    Recording,
    RecordingChannels,
    RecordingRequest,
)
from callreel.calls.spelling import Kind
from callreel.console.services import ConsoleServices
from callreel.console.visit import SESSION_COOKIE, Visit
from callreel.console.words import Parties, Party, length
from callreel.service.live import LiveCall
from callreel.store.recordings import RecordingFilter

PERIOD_S = 1.0
NEWEST = 6
SHOWN = 100
MOST_WATCHERS = 200
FLOOR_DBFS = -60
"""Quieter than this a meter shows nothing."""

_MINUS = "\N{MINUS SIGN}"

DIRECTIONS = {
    CallDirection.INBOUND: "inbound",
    CallDirection.OUTBOUND_API: "outbound",
    CallDirection.OUTBOUND_DIAL: "outbound leg",
}


@dataclass(frozen=True, slots=True)
class Meter:
    """A stream as the page shows it."""

    id: str
    """Of its element."""
    track: str
    """``inbound`` or ``outbound``."""
    party: Party
    """Who is heard in it."""
    stream: StreamState
    """The stream."""

    @property
    def share(self) -> float:
        """Of the meter, per cent."""
        level = self.stream.level_dbfs
        return 0.0 if level is None else max(0.0, 100 * (1 - min(0.0, level) / FLOOR_DBFS))

    @property
    def words(self) -> str:
        """The level for people."""
        stream = self.stream
        if not stream.sending:
            return "on hold"
        if not stream.kept:
            return "not recorded"
        if stream.level_dbfs is None:
            return "encrypted" if stream.secure and stream.packets else "nothing comes"
        return (
            "silent" if stream.level_dbfs <= FLOOR_DBFS else f"{_MINUS}{-stream.level_dbfs:.0f} dB"
        )

    @property
    def loss(self) -> str:
        """The loss for people."""
        stream = self.stream
        if not stream.kept or not stream.packets:
            return ""
        share = stream.lost / (stream.lost + stream.packets)
        return "no loss" if not stream.lost else f"{stream.lost} lost ({share * 100:.1f} %)"


@dataclass(frozen=True, slots=True)
class Card:
    """A call as the page shows it."""

    live: LiveCall
    """The call and its recordings."""
    sid: str
    """Of the call."""
    parties: Parties
    """Who talks."""
    direction: str
    """In words."""
    meters: Sequence[Meter]
    """One a stream."""
    seconds: int
    """Since it was answered, or came in."""


class LivePages:
    """The page, what is pushed to it, and its buttons."""

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services
        self._closing = asyncio.Event()
        self._watchers = 0

    def close(self) -> None:
        """End what is being pushed: the server stops."""
        self._closing.set()

    async def show(self, visit: Visit) -> Response:
        """The page."""
        cards = await self._cards(visit)
        newest = await self._newest(visit)
        return visit.page("live.html", cards=cards, still=False, **newest)

    async def events(self, visit: Visit) -> Response:
        """What changes, as server-sent events (HTML §9.2): ``calls`` and ``newest`` are parts of
        the page, ``meters`` is JSON; ``recordings`` says that their list has changed."""
        if self._watchers >= MOST_WATCHERS:
            return Response("Too many pages are open.", 503, {"Retry-After": "10"})
        answer = StreamingResponse(self._push(visit), media_type="text/event-stream")
        answer.headers["X-Accel-Buffering"] = "no"
        return visit.pages.dressed(answer, visit.nonce)

    async def _push(self, visit: Visit) -> AsyncIterator[str]:
        services = self._services
        secret = visit.request.cookies.get(SESSION_COOKIE, "")
        told: dict[str, str] = {}
        self._watchers += 1
        try:
            yield "retry: 2000\n\n"
            while not self._closing.is_set():
                if await services.sign_in.find(secret, idle=True) is None:
                    yield _event("signed-out", "")
                    return
                for name, data in (await self._changes(visit)).items():
                    if told.get(name) != data:
                        told[name] = data
                        yield _event(name, data)
                try:
                    async with asyncio.timeout(PERIOD_S):
                        await self._closing.wait()
                except TimeoutError:
                    pass
        finally:
            self._watchers -= 1

    async def _changes(self, visit: Visit) -> dict[str, str]:
        try:
            cards = await self._cards(visit)
            newest = await self._newest(visit)
        except CallreelError:
            return {}
        meters = {
            "calls": {card.sid: length(card.seconds * 1000) for card in cards},
            "streams": {
                meter.id: [round(meter.share, 1), meter.words, meter.loss]
                for card in cards
                for meter in card.meters
            },
        }
        shared: dict[str, Any] = {"visit": visit, "zone": visit.zone, "form_token": _token(visit)}
        recordings: Sequence[Recording] = newest["newest"]
        return {
            "calls": visit.pages.text("live_calls.html", {"cards": cards, "still": True, **shared}),
            "newest": visit.pages.text("live_newest.html", {**newest, **shared}),
            "recordings": " ".join(f"{one.id[:8]}:{one.status.value}" for one in recordings),
            "meters": json.dumps(meters),
        }

    async def _cards(self, visit: Visit) -> list[Card]:
        live = (await self._services.live.calls(visit.account))[:SHOWN]
        streams = await self._services.live.streams(live)
        return [self._card(visit, one, found) for one, found in zip(live, streams, strict=True)]

    def _card(self, visit: Visit, live: LiveCall, streams: Sequence[StreamState]) -> Card:
        call = live.call
        parties = Parties.of(call)
        since = call.start_time or call.created_at
        sid = visit.sid(Kind.CALL, call.id)
        return Card(
            live,
            sid,
            parties,
            DIRECTIONS[call.direction],
            [
                Meter(
                    f"m-{call.id[:12]}-{one.number}",
                    one.track.value,
                    parties.named(one.participant)
                    if one.participant
                    else parties.heard_in(call, one.track),
                    one,
                )
                for one in streams
            ],
            max(0, int((self._services.now() - since).total_seconds())),
        )

    async def _newest(self, visit: Visit) -> dict[str, Any]:
        page = await self._services.recordings.page(
            visit.account, RecordingFilter(), size=NEWEST, position=None
        )
        calls = await self._services.calls.some(visit.account, [r.call_id for r in page.items])
        return {
            "newest": page.items,
            "parties": {one.id: Parties.of(calls.get(one.call_id)) for one in page.items},
        }

    # Buttons

    async def record(self, visit: Visit) -> Response:
        """Start a recording."""
        dual = visit.form.get("channels") == "dual"
        asked = RecordingRequest(RecordingChannels.DUAL if dual else RecordingChannels.MONO)
        await self._services.recordings.start(visit.account, visit.id_of("call"), asked)
        return await self._done(visit)

    async def pause(self, visit: Visit) -> Response:
        """Pause the recording. What is not kept becomes silence, so that times stay right."""
        recording = await self._current(visit)
        await self._services.recordings.pause(recording, PauseBehavior.SILENCE)
        return await self._done(visit)

    async def resume(self, visit: Visit) -> Response:
        """Go on recording."""
        await self._services.recordings.resume(await self._current(visit))
        return await self._done(visit)

    async def stop(self, visit: Visit) -> Response:
        """Stop the recording."""
        await self._services.recordings.stop(await self._current(visit))
        return await self._done(visit)

    async def hang_up(self, visit: Visit) -> Response:
        """End the call."""
        await self._services.calls.end(visit.account, visit.id_of("call"))
        return await self._done(visit)

    async def _current(self, visit: Visit) -> Recording:
        return await self._services.recordings.current(visit.account, visit.id_of("call"))

    async def _done(self, visit: Visit) -> Response:
        if not visit.is_partial:
            return visit.go("/live")
        return visit.page("live_calls.html", cards=await self._cards(visit), still=True)


def _token(visit: Visit) -> str:
    return visit.signed_in.session.form_token


def _event(name: str, data: str) -> str:
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"
