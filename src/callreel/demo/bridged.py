"""The demo's second scene: a phone calls another through callreel, recorded from the answer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx

from callreel.demo.hearing import DemoFailed, Say
from callreel.demo.own_server import OwnServer
from callreel.phone.call import Talk
from callreel.phone.softphone import Phone
from callreel.phone.voices import voice_of
from callreel.server.system import RandomIds, SystemClock
from callreel.wire.sip.flow import Transport

DIALLED = "+15550142"
TALK_S = 8.0
FROM_S = 2.0
"""Where in what the two say the conversation begins."""
RING_S = 1.0
_FINISHED_S = 20.0


async def answering_phone() -> Phone:
    """The phone that is called, on a free port."""
    return await _phone("callee", takes_calls=True)


def write_route(folder: Path, callee: Phone) -> Path:
    """The configuration that sends calls there, and has them recorded."""
    host, port = callee.addresses[Transport.UDP]
    path = folder / "callreel.toml"
    path.write_text(
        f'[[routes]]\nprefix = "+1555"\nto = ["sip:{{number}}@{host}:{port}"]\nrecord = "dual"\n'
    )
    return path


async def play(server: OwnServer, client: Any, callee: Phone, say: Say) -> bytes:
    """Call, talk, hang up; the recording. Raises :class:`DemoFailed`."""
    caller = await _phone("caller")
    try:
        uri = f"sip:{DIALLED}@{server.sip_uri.removeprefix('sip:')}"
        dialling = asyncio.create_task(caller.call(uri))
        theirs = await asyncio.wait_for(callee.next_call(), 10)
        callee.ring(theirs)
        say(f"a phone dials {DIALLED}; the route sends it to another phone, which rings")
        await asyncio.sleep(RING_S)
        callee.answer(theirs)
        ours = await dialling
        say("answered: from now on the call is recorded, as the route says")
        await asyncio.sleep(TALK_S)
        await caller.hang_up(ours)
        await asyncio.wait_for(theirs.ended.wait(), 10)
        for who, phone, call in (("caller", caller, ours), ("callee", callee, theirs)):
            media = phone.summary(call).media
            if media is None or media.lost or not media.packets_received:
                raise DemoFailed(f"the {who} did not hear all that was said")
            say(
                f"the {who} heard {media.packets_received} packets, none lost, "
                f"jitter {media.jitter_ms:.1f} ms"
            )
    finally:
        await caller.close()
    recording = await asyncio.to_thread(_finished, client)
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(
            server.http_url + recording.uri.replace(".json", ".wav"),
            auth=(server.account_sid, server.auth_token),
        )
    if answer.status_code != 200:
        raise DemoFailed(f"fetching the file gave {answer.status_code}")
    say(f"recording {recording.sid}, source {recording.source}: {len(answer.content):,} bytes")
    return answer.content


def _finished(client: Any) -> Any:
    """The recording of the newest call that came in, once it can be fetched."""
    parent = next(one for one in client.calls.list(limit=20) if one.parent_call_sid is None)
    for _ in range(round(_FINISHED_S * 10)):
        for one in client.recordings.list(call_sid=parent.sid):
            if one.status == "completed":
                return one
        time.sleep(0.1)
    raise DemoFailed(f"the recording of {parent.sid} was not completed in {_FINISHED_S:.0f} s")


async def _phone(voice: str, *, takes_calls: bool = False) -> Phone:
    phone = Phone(
        Talk(voice_of(voice, from_s=FROM_S)),
        clock=SystemClock(),
        ids=RandomIds(),
        user=voice,
        takes_calls=takes_calls,
    )
    await phone.start()
    return phone
