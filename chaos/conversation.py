"""One call after the other: set up, recorded, now and again paused, ended one way or another."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from bench.phones import Phones
from bench.rtp_load import Stream
from numpy.typing import NDArray

from callreel.base.errors import PeerError
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from chaos.house import House
from chaos.receiver import BadReceiver
from chaos.speaker import Speaker, Voice

_SET_UP_S = 20.0
_HANG_UP_S = 40.0
_TALK_S = (2.0, 14.0)
_PAUSED_S = (0.5, 2.0)
_PAUSES = 0.2


@dataclass(slots=True)
class Pause:
    """A stretch that was not to be kept."""

    asked_ns: int
    """When it was asked for."""
    effective_ns: int = 0
    """When that was answered; 0: never."""
    resuming_ns: int = 0
    """When the end of it was asked for; 0: never."""
    resumed_ns: int = 0
    """When that was answered; 0: never."""


@dataclass(slots=True)
class Take:
    """One recording as the program that asked for it knows it."""

    number: int
    """Of the call."""
    bridged: bool
    """Passed on, rather than by SIPREC."""
    voices: tuple[int, int]
    """Who speaks on its tracks."""
    sent_ns: list[NDArray[np.int64]] = field(default_factory=list)
    """What they said when, once it is over."""
    call: str = ""
    """Its CallSid."""
    recording: str = ""
    """Its RecordingSid; empty while the start was not answered."""
    started_ns: int = 0
    """When the start was answered."""
    ending_ns: int = 0
    """When its end was asked for; 0: never."""
    ended_ns: int = 0
    """When that was answered, or the call was found to be over."""
    pauses: list[Pause] = field(default_factory=list)
    """In order."""
    over: bool = False
    """Whether the whole server died under it."""
    dropped: bool = False
    """Whether the server ended it while it should have gone on."""


class Conversations:
    """Keeps so many calls up at a house until told to stop."""

    def __init__(
        self,
        house: House,
        speaker: Speaker,
        phone: RecordingClient,
        callers: Phones,
        callees: Phones,
        streams: list[Stream],
        receiver: BadReceiver,
        random_: random.Random,
    ) -> None:
        """``streams`` are those of the callees, which each call adds one to."""
        self._house = house
        self._speaker = speaker
        self._phone = phone
        self._callers = callers
        self._callees = callees
        self._streams = streams
        self._receiver = receiver
        self._random = random_
        self.takes: list[Take] = []
        """All there were."""
        self.refused = 0
        """Calls that could not be set up while the server was away."""
        self.unanswered: list[str] = []
        """Hang-ups that the server did not answer with 200, although it had not died: why."""
        self._stopping = False
        self._numbers = 0

    def stop(self) -> None:
        """Begin no more calls; those that are up end as they would."""
        self._stopping = True

    async def run(self, calls: int) -> None:
        """Until stopped."""
        await asyncio.gather(*(self._slot() for _ in range(calls)))

    async def _slot(self) -> None:
        while not self._stopping:
            await asyncio.sleep(self._random.uniform(0.0, 0.5))
            number, self._numbers = self._numbers, self._numbers + 1
            voices = (self._speaker.voice(), self._speaker.voice())
            bridged = self._random.random() < 0.4
            self._streams.append(voices[1].stream)
            take = Take(number, bridged, (voices[0].number, voices[1].number))
            try:
                await self._one(take, voices)
            finally:
                for voice in voices:
                    voice.hush()
                take.sent_ns = [voice.sent_ns for voice in voices]
                for voice in voices:
                    self._speaker.retire(voice)

    async def _one(self, take: Take, voices: Sequence[Voice]) -> None:
        epoch = len(self._house.ended_ns)
        try:
            async with asyncio.timeout(_SET_UP_S):
                session = await self._set_up(take, voices)
        except (PeerError, TimeoutError, OSError):
            self.refused += 1
            return
        if session is not None and session.ended.is_set():
            return
        if not await self._start(take, epoch):
            return
        self.takes.append(take)
        await self._talk(take, session, epoch)
        if len(self._house.ended_ns) != epoch:
            take.over = True
            take.ended_ns = self._house.ended_ns[epoch]
            return
        await self._end(take, session)

    async def _set_up(self, take: Take, voices: Sequence[Voice]) -> ClientCall | None:
        uri = self._house.server.sip_uri
        caller = f"sip:{take.number}@caller.example.com"
        if take.bridged:
            at = uri.removeprefix("sip:")
            await self._callers.call(at, take.number, voices[0].stream)
            return None
        return await self._phone.announce(
            uri,
            [voice.stream for voice in voices],
            caller=Party(caller),
            callee=Party(f"sip:{take.number}@callee.example.com"),
        )

    async def _start(self, take: Take, epoch: int) -> bool:
        """Find the call and have it recorded, whatever happens meanwhile but its end."""
        house = self._house
        while len(house.ended_ns) == epoch:
            answer = await house.ask("GET", "/Calls.json?Status=in-progress&PageSize=1000")
            if answer is None:
                return False
            found = [
                one["sid"]
                for one in answer.json()["calls"]
                if one["parent_call_sid"] is None and _number(one["from"]) == take.number
            ]
            if not found:
                return False
            take.call = found[0]
            answer = await house.ask(
                "POST",
                f"/Calls/{take.call}/Recordings.json",
                RecordingChannels="dual",
                RecordingStatusCallback=self._receiver.url,
                RecordingStatusCallbackEvent="in-progress completed absent",
            )
            if answer is not None and answer.status_code in (200, 201):
                take.recording = answer.json()["sid"]
                take.started_ns = time.time_ns()
                return True
            if answer is not None:
                return False
        return False

    async def _talk(self, take: Take, session: ClientCall | None, epoch: int) -> None:
        until = time.monotonic() + self._random.uniform(*_TALK_S)
        pause_at = None
        if self._random.random() < _PAUSES:
            pause_at = time.monotonic() + self._random.uniform(0.5, 2.0)
        while time.monotonic() < until and len(self._house.ended_ns) == epoch:
            if self._is_over(take, session):
                return
            if pause_at is not None and time.monotonic() >= pause_at:
                pause_at = None
                await self._pause(take, epoch)
            await asyncio.sleep(0.05)

    async def _pause(self, take: Take, epoch: int) -> None:
        pause = Pause(time.time_ns())
        take.pauses.append(pause)
        path = f"/Calls/{take.call}/Recordings/{take.recording}.json"
        answer = await self._house.ask("POST", path, Status="paused", PauseBehavior="silence")
        if answer is None or answer.status_code != 200:
            return
        pause.effective_ns = time.time_ns()
        if len(self._house.ended_ns) != epoch:
            return
        await asyncio.sleep(self._random.uniform(*_PAUSED_S))
        pause.resuming_ns = time.time_ns()
        answer = await self._house.ask("POST", path, Status="in-progress")
        if answer is not None and answer.status_code == 200:
            pause.resumed_ns = time.time_ns()

    def _is_over(self, take: Take, session: ClientCall | None) -> bool:
        if session is not None:
            return session.ended.is_set()
        return self._callers.calls[take.number].ended.is_set()

    async def _end(self, take: Take, session: ClientCall | None) -> None:
        if self._is_over(take, session):
            # The server hung up: for a death of its own it must not, unless it died as a whole.
            take.ended_ns = time.time_ns()
            take.over = any(at > take.started_ns for at in self._house.ended_ns)
            take.dropped = not take.over
            return
        how = self._random.random()
        take.ending_ns = time.time_ns()
        if how < 0.25:
            path = f"/Calls/{take.call}/Recordings/{take.recording}.json"
            await self._house.ask("POST", path, Status="stopped")
        elif how < 0.4:
            await self._house.ask("POST", f"/Calls/{take.call}.json", Status="completed")
        take.ended_ns = time.time_ns()
        await self._hang_up(take, session)
        if how >= 0.4:
            take.ended_ns = time.time_ns()

    async def _hang_up(self, take: Take, session: ClientCall | None) -> None:
        if self._is_over(take, session):
            return
        epoch = len(self._house.ended_ns)
        try:
            async with asyncio.timeout(_HANG_UP_S):
                if session is not None:
                    await self._phone.hang_up(session)
                elif take.number % 2:
                    await self._callers.hang_up(self._callers.calls[take.number])
                else:
                    await self._callees.hang_up(self._callees.calls[take.number])
        except (PeerError, TimeoutError, KeyError) as error:
            # After the death of everything there is nobody who knows the call.
            # 481: it had noted the end, and died before it could say so.
            known = getattr(error, "status", None) != 481
            if known and len(self._house.ended_ns) == epoch:
                self.unanswered.append(str(error) or type(error).__name__)


def _number(caller: str) -> int:
    text = caller.removeprefix("sip:").partition("@")[0]
    return int(text) if text.isdecimal() else -1
