"""The control process dies in mid-call: documents go on where they were, recordings too."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.journeys.test_ends import processes
from tests.journeys.voice.studio import Studio, over, tones


async def killed(studio: Studio) -> None:
    """SIGKILL for the control process, and wait until its successor is up."""
    (pid,) = processes(studio.server, "callreel.server ")
    os.kill(pid, signal.SIGKILL)
    state = studio.server.data / "server.json"
    async with asyncio.timeout(30):
        while f'"pid": {pid}' in state.read_text() or not studio.server._healthy():
            await asyncio.sleep(0.1)
    await asyncio.to_thread(studio.server.learn_state)


async def test_a_message_and_a_conversation_survive(studio: Studio) -> None:
    program = studio.program
    program.pages["/survived"] = "<Response><Hangup/></Response>"
    other = await studio.phone("other", 1600)
    talks, records = await studio.phone("talks", 440), await studio.phone("records", 880)
    talking = studio.number(
        f"<Response><Dial record='record-from-answer-dual' action='{program.url('/survived')}'>"
        f"<Sip>{other.uri()}</Sip></Dial></Response>"
    )
    recording = studio.number(
        f"<Response><Start><Recording/></Start><Gather timeout='60' numDigits='1' "
        f"action='{program.url('/survived')}'/></Response>"
    )
    dialling = asyncio.create_task(talks.call(studio.uri(talking)))
    theirs = await asyncio.wait_for(other.next_call(), 10)
    other.answer(theirs)
    ours = await asyncio.wait_for(dialling, 10)
    alone = await studio.dial(records, recording)
    await asyncio.sleep(1.0)
    await killed(studio)
    await asyncio.sleep(0.5)
    assert not ours.ended.is_set()
    assert not theirs.ended.is_set()
    records.send_digits(alone, "5")
    await over(alone)
    await other.hang_up(theirs)
    await over(ours)
    told = await asyncio.to_thread(program.wait, "/survived", count=2)
    assert sorted(one.get("Digits", one.get("DialCallStatus", "")) for one in told) == [
        "5",
        "completed",
    ]
    for number, source, pitches in (
        (talking, "DialVerb", [440, 1600]),
        (recording, "StartCallRecordingTwiML", [880]),
    ):
        shown = await studio.call_to(number)
        await studio.until(shown["sid"], "completed")
        (made,) = await studio.recordings(shown["sid"])
        assert made["source"] == source
        path = await studio.audio(made["sid"])
        for channel, hz in enumerate(pitches, 1):
            spoken = tones(path, channel, hz)
            assert sum(end - start for start, end in spoken) > 1.2
