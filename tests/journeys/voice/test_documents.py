"""Documents made with Twilio's own builder, on real calls: voicemail, a menu, a bridged call."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from callreel.testing.ears import read_wav
from tests.journeys.voice.hearing import places, tone_wav
from tests.journeys.voice.program import Fields
from tests.journeys.voice.studio import Studio, over, tones
from tests.phone.phones import spans


async def test_a_voicemail(studio: Studio) -> None:
    program = studio.program
    greeting = VoiceResponse()
    greeting.pause(length=1)
    greeting.record(
        max_length=20,
        finish_on_key="#",
        action=program.url("/voicemail/thanks"),
        recording_status_callback=program.url("/voicemail/recorded"),
        recording_status_callback_event="in-progress completed",
    )
    thanks = VoiceResponse()
    thanks.hangup()
    program.pages["/voicemail/thanks"] = str(thanks)
    number = studio.number(str(greeting))
    caller = await studio.phone("caller", 440)
    call = await studio.dial(caller, number)
    await asyncio.to_thread(
        program.wait, "/voicemail/recorded", lambda told: told["RecordingStatus"] == "in-progress"
    )
    await asyncio.sleep(1.2)
    caller.send_digits(call, "#")
    await over(call)
    (asked,) = program.wait("/voicemail/thanks")
    assert asked["Digits"] == "#"
    (recorded,) = await asyncio.to_thread(
        program.wait, "/voicemail/recorded", lambda told: told["RecordingStatus"] == "completed"
    )
    assert recorded["RecordingSid"] == asked["RecordingSid"]
    assert recorded["RecordingSource"] == "RecordVerb"
    assert all(one.signed for one in program.asked)
    sid = asked["CallSid"]
    (recording,) = await studio.recordings(sid)
    assert (recording["source"], recording["channels"]) == ("RecordVerb", 1)
    ((start, end),) = tones(await studio.audio(recording["sid"]), 1, 440)
    assert end - start > 1.0
    ((beep, beep_end),) = spans(studio.heard("caller"), 1000)
    assert 0.4 < beep_end - beep < 0.6
    (told,) = await asyncio.to_thread(program.wait, "/inbound", lambda it: it["CallSid"] == sid)
    assert (told["CallStatus"], told["Direction"]) == ("completed", "inbound")


async def test_a_menu(studio: Studio) -> None:
    program = studio.program
    menu = VoiceResponse()
    gather = Gather(num_digits=2, action=program.url("/menu/chosen"), timeout=10)
    gather.pause(length=30)
    menu.append(gather)
    menu.hangup()

    def chosen(fields: Fields) -> VoiceResponse:
        answer = VoiceResponse()
        if fields["Digits"] == "42":
            answer.play(digits="7")
            answer.redirect(program.url("/menu/end"), method="GET")
        return answer

    program.pages["/menu/chosen"] = chosen
    program.pages["/menu/end"] = "<Response><Pause/><Hangup/></Response>"
    caller = await studio.phone("caller", 0)
    call = await studio.dial(caller, studio.number(str(menu)))
    caller.send_digits(call, "42")
    await over(call)
    assert call.digits == "7"
    assert program.wait("/menu/chosen")[0]["Digits"] == "42"
    (redirected,) = program.all("/menu/end")
    assert redirected.method == "GET"
    assert redirected.signed


async def test_a_bridged_call_recorded_on_two_channels(studio: Studio) -> None:
    program = studio.program
    one, two = await studio.phone("one", 880), await studio.phone("two", 1600)
    answer = VoiceResponse()
    dial = Dial(
        answer_on_bridge=True,
        record="record-from-answer-dual",
        action=program.url("/bridged/after"),
        recording_status_callback=program.url("/bridged/recorded"),
        timeout=10,
    )
    for phone in (one, two):
        dial.sip(
            phone.uri(),
            status_callback=program.url("/bridged/child"),
            status_callback_event="initiated ringing answered completed",
        )
    answer.append(dial)
    program.pages["/bridged/after"] = "<Response><Hangup/></Response>"
    number = studio.number(str(answer))
    caller = await studio.phone("caller", 440)
    dialling = asyncio.create_task(caller.call(studio.uri(number)))
    first = await asyncio.wait_for(one.next_call(), 10)
    second = await asyncio.wait_for(two.next_call(), 10)
    one.ring(first)
    two.ring(second)
    await asyncio.sleep(0.3)
    assert not dialling.done(), "the caller is answered once somebody has"
    two.answer(second)
    call = await asyncio.wait_for(dialling, 10)
    await over(first)
    assert first.status == 487
    assert call.is_answered
    await asyncio.sleep(1.2)
    await two.hang_up(second)
    await over(call)
    (after,) = program.wait("/bridged/after")
    assert after["DialCallStatus"] == "completed"
    (recording,) = await studio.recordings(after["CallSid"])
    assert recording["sid"] == after["RecordingSid"]
    assert (recording["source"], recording["channels"]) == ("DialVerb", 2)
    path = await studio.audio(recording["sid"])
    for channel, there, not_there in ((1, 440, 1600), (2, 1600, 440)):
        ((start, end),) = tones(path, channel, there)
        assert start < 0.3
        assert end - start > 0.8
        assert tones(path, channel, not_there) == []
    for name, hz in (("caller", 1600), ("two", 440)):
        ((start, end),) = spans(studio.heard(name), hz)
        assert end - start > 0.8
    (child,) = await asyncio.to_thread(
        program.wait,
        "/bridged/child",
        lambda told: told["CallSid"] == after["DialCallSid"] and told["CallStatus"] == "completed",
    )
    assert child["ParentCallSid"] == after["CallSid"]
    assert child["Direction"] == "outbound-dial"
    shown = await studio.get("/Calls.json", ParentCallSid=after["CallSid"])
    assert sorted(one["status"] for one in shown["calls"]) == ["canceled", "completed"]


async def test_a_recording_started_by_the_document(studio: Studio) -> None:
    document = (
        "<Response><Start><Recording channels='mono' track='inbound' trim='do-not-trim'/></Start>"
        "<Pause length='1'/><Stop><Recording/></Stop><Pause length='1'/></Response>"
    )
    caller = await studio.phone("caller", 440)
    number = studio.number(document)
    call = await studio.dial(caller, number)
    await over(call)
    shown = await studio.call_to(number)
    (recording,) = await studio.recordings(shown["sid"])
    assert recording["source"] == "StartCallRecordingTwiML"
    ((start, end),) = tones(await studio.audio(recording["sid"]), 1, 440)
    assert 0.7 < end - start < 1.3


async def test_a_call_is_refused_before_it_is_answered(studio: Studio) -> None:
    for reason, status, shown_as in (("busy", 486, "busy"), ("rejected", 603, "no-answer")):
        caller = await studio.phone(f"caller-{reason}")
        answer = VoiceResponse()
        answer.reject(reason=reason)
        number = studio.number(str(answer))
        task = asyncio.create_task(caller.call(studio.uri(number)))
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done
        error = task.exception()
        assert getattr(error, "status", None) == status, error
        await studio.until((await studio.call_to(number))["sid"], shown_as)


async def test_what_is_said_and_played_is_in_the_file_at_its_place(studio: Studio) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    answer = VoiceResponse()
    answer.pause(length=1)
    answer.say("Please leave your message after the tone.", language="en-GB")
    answer.play(studio.program.url("/greeting.wav"))
    studio.program.pages["/greeting.wav"] = tone_wav(1300, seconds=1.0)
    answer.say("Please leave your message after the tone.", language="en-GB", loop=2)
    desk = await studio.phone("desk", 440)
    made = await studio.create(
        desk.uri(), Twiml=str(answer), Record="true", RecordingChannels="dual", Trim="do-not-trim"
    )
    call = await asyncio.wait_for(desk.next_call(), 10)
    desk.answer(call)
    await over(call)
    (recording,) = await studio.recordings(made["sid"])
    assert (recording["source"], recording["channels"]) == ("OutboundAPI", 2)
    path = await studio.audio(recording["sid"])
    ((played, played_end),) = tones(path, 2, 1300)
    assert abs(played_end - played - 1.0) < 0.05
    said = studio.speech()
    spoken_s = len(said) / 8000
    rate_hz, samples = read_wav(path)
    first, second, third = places(samples[:, 1], said, rate_hz)
    assert first > 0.9, "after the pause"
    assert first + spoken_s <= played + 0.1
    assert abs(second - played_end) < 1.0
    assert abs(third - second - spoken_s) < 1.0
    assert places(samples[:, 0], said, rate_hz) == [], "nobody but us said it"
    # What was heard at the other end is the same.
    heard_hz, heard = read_wav(studio.heard("desk"))
    assert len(places(heard[:, 0], said, heard_hz)) == 3
