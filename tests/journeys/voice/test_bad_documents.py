"""Documents and programs that are not as they should be: each call ends as the vendors end it, what
was recorded is kept, and the call's story says why.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from twilio.twiml.voice_response import VoiceResponse

from callreel.phone.call import CallFailed, PhoneCall
from tests.journeys.voice.hearing import tone_wav
from tests.journeys.voice.program import Fields
from tests.journeys.voice.studio import Studio, over, tones

BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]>
<Response><Say>&lol2;</Say></Response>"""


def story(studio: Studio, sid: str) -> list[dict[str, object]]:
    """What ``callreel calls show`` says of a call."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "callreel", "calls", "show", sid, "--json"),
            *("--data", str(studio.server.data)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found: list[dict[str, object]] = json.loads(ran.stdout)["story"]
    return found


async def errors_of(studio: Studio, sid: str) -> str:
    lines = await asyncio.to_thread(story, studio, sid)
    return "\n".join(str(line["text"]) for line in lines if line["kind"] == "error")


async def recorded_until(studio: Studio, page: object) -> tuple[str, PhoneCall]:
    """The SID of a created call that is recorded, and goes on with the page after a second."""
    program = studio.program
    desk = await studio.phone("desk", 440)
    program.pages["/bad"] = page  # type: ignore[assignment]
    made = await studio.create(
        desk.uri(),
        Twiml=f"<Response><Pause length='1'/><Redirect>{program.url('/bad')}</Redirect></Response>",
        Record="true",
        Trim="do-not-trim",
    )
    call = await asyncio.wait_for(desk.next_call(), 10)
    desk.answer(call)
    return made["sid"], call


@pytest.mark.parametrize(
    ("page", "status", "says"),
    [
        ("<Response><Redirect/></Response>", 200, "no end"),
        (b"<Response>" + b" " * 10_000_000 + b"</Response>", 200, "larger than"),
        ("Not Found, says the proxy", 200, "XML"),
        (BOMB, 200, "entit"),
        ("<Response><Dance/></Response>", 200, "Dance"),
        ("<Response/>", 404, "404"),
        ("<Response/>", 500, "500"),
    ],
    ids=["loops", "10-mb", "not-xml", "entities", "unknown-verb", "404", "500"],
)
async def test_a_bad_document_ends_the_call_and_keeps_what_was_recorded(
    studio: Studio, page: str | bytes, status: int, says: str
) -> None:
    studio.program.statuses["/bad"] = status
    sid, call = await recorded_until(studio, page)
    await over(call)
    await studio.until(sid, "completed")
    (recording,) = await studio.recordings(sid)
    assert recording["status"] == "completed"
    ((start, end),) = tones(await studio.audio(recording["sid"]), 1, 440)
    assert end - start > 0.7
    assert says in await errors_of(studio, sid)


async def test_the_fallback_is_asked_once_and_told_why(studio: Studio) -> None:
    program = studio.program
    program.pages["/fallback"] = "<Response><Reject reason='busy'/></Response>"
    number = studio.number("no document at all")
    caller = await studio.phone("caller")
    with pytest.raises(CallFailed) as failure:
        await studio.dial(caller, number)
    assert failure.value.status == 486
    (told,) = program.wait("/fallback")
    assert told["ErrorCode"] == "12100"
    assert "/dialled" in told["ErrorUrl"]


@pytest.fixture
def deaf() -> Iterator[str]:
    """The URL of somebody who takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


async def test_a_program_that_never_answers_and_one_that_is_slow(studio: Studio, deaf: str) -> None:
    """The party hears silence, and no longer than the time-outs, which the URL may shorten."""
    desk = await studio.phone("desk")
    made = await studio.create(desk.uri(), Url=f"{deaf}#rt=300&tt=300")
    call = await asyncio.wait_for(desk.next_call(), 10)
    desk.answer(call)
    await over(call)
    await studio.until(made["sid"], "completed")
    assert await errors_of(studio, made["sid"])

    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(_: Fields) -> str:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return "<Response><Play digits='5'/></Response>"

    studio.program.pages["/slow"] = slowly
    made = await studio.create(desk.uri(), Url=studio.program.url("/slow"))
    call = await asyncio.wait_for(desk.next_call(), 10)
    desk.answer(call)
    await studio.until(made["sid"], "in-progress")
    await asyncio.to_thread(studio.program.wait, "/slow")
    await asyncio.sleep(0.5)
    assert not call.ended.is_set(), "the party is kept"
    release.set()
    await over(call)
    assert call.digits == "5"


async def test_an_address_that_is_never_called(studio: Studio) -> None:
    desk = await studio.phone("desk")
    for url in ("http://169.254.169.254/latest/meta-data", "http://[fe80::1]/voice"):
        made = await studio.create(desk.uri(), Url=url)
        call = await asyncio.wait_for(desk.next_call(), 10)
        desk.answer(call)
        await over(call)
        await studio.until(made["sid"], "completed")
        assert await errors_of(studio, made["sid"])


async def test_dialling_oneself(studio: Studio) -> None:
    """A document that dials the number it answers: refused, not a tower of calls."""
    program = studio.program

    def again(fields: Fields) -> VoiceResponse:
        response = VoiceResponse()
        dial = response.dial(action=program.url("/oneself/after"), timeout=5)
        dial.sip(studio.uri(fields["To"]))
        return response

    program.pages["/oneself/after"] = "<Response><Hangup/></Response>"
    number = studio.number(again)
    caller = await studio.phone("caller")
    call = await studio.dial(caller, number)
    await over(call)
    (after,) = program.wait("/oneself/after")
    assert after["DialCallStatus"] == "failed"
    page = await studio.get("/Calls.json", To=number)
    assert len(page["calls"]) == 1, "it has come in once"


async def test_digits_during_a_recording(studio: Studio) -> None:
    """Only the keys that finish it do; the others are nothing."""
    program = studio.program
    program.pages["/keys/after"] = "<Response><Hangup/></Response>"
    response = VoiceResponse()
    response.record(
        finish_on_key="*", play_beep=False, max_length=20, action=program.url("/keys/after")
    )
    number = studio.number(str(response))
    caller = await studio.phone("caller", 440)
    call = await studio.dial(caller, number)
    await asyncio.sleep(0.4)
    caller.send_digits(call, "123")
    await asyncio.sleep(0.9)
    assert not program.all("/keys/after")
    caller.send_digits(call, "*")
    await over(call)
    (after,) = program.wait("/keys/after")
    assert after["Digits"] == "*"
    (recording,) = await studio.recordings(after["CallSid"])
    assert int(recording["duration"]) >= 1


def _slowly(_: Fields) -> str:
    time.sleep(2)
    return "<Response/>"


_VERBS = {
    "Say": "<Say loop='0'>Hello to you</Say>",
    "Play": "<Play loop='0'>{tone}</Play>",
    "Pause": "<Pause length='60'/>",
    "Gather": "<Gather timeout='60' action='{after}'/>",
    "Record": "<Record playBeep='false' action='{after}'/>",
    "Dial": "<Dial timeout='30' action='{after}'><Sip>{rings}</Sip></Dial>",
    "Recording": "<Start><Recording/></Start><Pause length='60'/>",
    "Redirect": "<Redirect>{slow}</Redirect>",
}


@pytest.mark.parametrize("verb", _VERBS)
async def test_hanging_up_in_each_verb(studio: Studio, verb: str) -> None:
    """The call is over, nothing is left behind, and what was recorded is kept."""
    program = studio.program
    program.pages["/hung-up/tone.wav"] = tone_wav(1300, seconds=1.0)
    program.pages["/hung-up/slow"] = _slowly
    rings = await studio.phone("rings")
    document = _VERBS[verb].format(
        tone=program.url("/hung-up/tone.wav"),
        after=program.url("/hung-up/after"),
        rings=rings.uri(),
        slow=program.url("/hung-up/slow"),
    )
    caller = await studio.phone("caller", 440)
    made = await studio.create(
        caller.uri(), Twiml=f"<Response>{document}</Response>", Record="true", Trim="do-not-trim"
    )
    call = await asyncio.wait_for(caller.next_call(), 10)
    caller.answer(call)
    if verb == "Dial":
        theirs = await asyncio.wait_for(rings.next_call(), 10)
        rings.ring(theirs)
    await asyncio.sleep(0.8)
    await caller.hang_up(call)
    await studio.until(made["sid"], "completed")
    if verb == "Dial":
        await over(theirs)
        assert theirs.status == 487
        (told,) = await asyncio.to_thread(program.wait, "/hung-up/after")
        assert told["DialCallStatus"] == "canceled"
    if verb == "Record":
        (told,) = await asyncio.to_thread(program.wait, "/hung-up/after")
        assert told["Digits"] == "hangup"
    recordings = await studio.recordings(made["sid"])
    assert len(recordings) == (2 if verb in ("Record", "Recording") else 1)
    for recording in recordings:
        assert recording["status"] == "completed"
        ((start, end),) = tones(await studio.audio(recording["sid"]), 1, 440)
        assert end - start > 0.3
