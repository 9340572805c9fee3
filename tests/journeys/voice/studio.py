"""A server whose calls a program steers, and phones around it."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from callreel.demo.own_server import OwnServer
from callreel.phone.call import PhoneCall
from callreel.phone.softphone import Phone
from callreel.testing.ears import Samples, read_wav, tone_spans
from tests.journeys.api import Api, Json
from tests.journeys.voice.program import Page, Program
from tests.phone.phones import Phones, Spans, talk

TOKEN = "a-token-of-tests"
TWILIO = "AC" + "c5" * 16
LIVE = ("queued", "ringing", "in-progress")
_numbers = itertools.count(15550200)


@dataclass
class Studio:
    """What a test has at hand."""

    server: OwnServer
    api: Api
    program: Program
    folder: Path
    phones: Phones = field(default_factory=Phones)

    # Numbers and phones

    def number(self, page: Page) -> str:
        """A number of its own, which this document answers."""
        number = f"+{next(_numbers)}"
        self.program.pages[f"/numbers/{number}"] = page
        return number

    def uri(self, number: str) -> str:
        """Of a number here."""
        return f"sip:{number}@{self.server.sip_uri.removeprefix('sip:')}"

    def heard(self, name: str) -> Path:
        """What a phone of this name has heard."""
        return self.folder / f"{name}.wav"

    async def phone(self, name: str, hz: int = 440, **options: object) -> Phone:
        """It speaks a tone, and keeps what it hears."""
        source = f"tone:{hz}" if hz else "silence"
        return await self.phones.make(
            talk(source, self.heard(name)), takes_calls=True, user=name, **options
        )

    async def dial(self, phone: Phone, number: str) -> PhoneCall:
        """Call a number here, until it is answered."""
        return await asyncio.wait_for(phone.call(self.uri(number)), 10)

    def speech(self) -> Samples:
        """What was spoken last: int16[n] at 8 kHz."""
        made = sorted(self.server.data.glob("prompts/*.raw"), key=lambda one: one.stat().st_mtime)
        spoken = [np.fromfile(one, "<i2") for one in made]
        return max(spoken[-2:], key=len)

    async def close(self) -> None:
        await self.phones.close()

    # The API

    async def get(self, path: str, **query: str) -> Json:
        return await asyncio.to_thread(lambda: self.api.get(path, **query))

    async def create(self, to: str, **fields: str) -> Json:
        """A created call."""
        answer = await asyncio.to_thread(
            lambda: self.api.post("/Calls.json", **{"To": to, "From": "+15550100", **fields})
        )
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        assert made["status"] == "queued"
        return made

    async def update(self, sid: str, **fields: str) -> tuple[int, Json]:
        answer = await asyncio.to_thread(lambda: self.api.post(f"/Calls/{sid}.json", **fields))
        return answer.status_code, answer.json()

    async def call_to(self, number: str) -> Json:
        """The one call to a number here."""
        page = await self.get("/Calls.json", To=number)
        (found,) = [one for one in page["calls"] if one["direction"] == "inbound"]
        call: Json = found
        return call

    async def until(self, sid: str, status: str, seconds: float = 15) -> Json:
        """The call once it stands so."""
        deadline = time.monotonic() + seconds
        while True:
            call = await self.get(f"/Calls/{sid}.json")
            if call["status"] == status:
                return call
            late = time.monotonic() > deadline or (
                call["status"] not in LIVE and status not in LIVE
            )
            assert not late, (call, self.server.log[-4000:])
            await asyncio.sleep(0.05)

    async def recordings(self, sid: str) -> list[Json]:
        """A call's recordings, finished, the oldest first."""
        page = await self.get(f"/Calls/{sid}/Recordings.json")
        made = sorted(page["recordings"], key=lambda one: one["start_time"] or "")
        return [await asyncio.to_thread(self.api.finished, one["sid"]) for one in made]

    async def audio(self, sid: str) -> Path:
        """A finished recording's file; its report is clean."""
        report = await asyncio.to_thread(self.api.integrity, sid)
        assert report["clean"], report["problems"]
        return await asyncio.to_thread(self.api.download, sid, self.folder)


def tones(path: Path, channel: int, hz: int) -> Spans:
    """When a tone sounds in a channel (from 1), seconds."""
    rate_hz, samples = read_wav(path)
    return tone_spans(samples[:, channel - 1], rate_hz, hz)


async def over(*calls: PhoneCall) -> None:
    for call in calls:
        await asyncio.wait_for(call.ended.wait(), 15)
