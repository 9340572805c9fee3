"""Documents made with the vendors' own builders are read as they are meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twilio.twiml.voice_response import Dial, Gather, Start, VoiceResponse

from callreel.calls.model import (
    CallEvent,
    RecordingChannels,
    RecordingRequest,
    RecordingTrack,
    Trim,
)
from callreel.cxml import verbs
from callreel.cxml.document import read
from tests.cxml.driver import GET, URL


def test_everything_that_twilio_builds() -> None:
    built = VoiceResponse()
    start = Start()
    start.recording(channels="mono", track="inbound", trim="do-not-trim")
    built.append(start)
    built.say("Grüße & <mehr>", voice="alice", language="de-DE", loop=2)
    built.play("https://app.example/a.mp3", loop=0)
    built.play("", digits="wwww3")
    built.pause(length=2)
    gather = Gather(
        input="dtmf",
        action="/keys",
        method="GET",
        timeout=4,
        num_digits=1,
        finish_on_key="",
        action_on_empty_result=True,
    )
    gather.say("Press")
    built.append(gather)
    dial = Dial(
        action="/dialled",
        timeout=9,
        time_limit=50,
        caller_id="+15550001",
        hangup_on_star=True,
        answer_on_bridge=True,
        record="record-from-answer-dual",
        recording_status_callback="/recorded",
        recording_status_callback_event="in-progress completed",
    )
    dial.number(
        "+1 555 0002",
        send_digits="1",
        status_callback="/status",
        status_callback_event="ringing answered",
    )
    dial.sip("sip:a@b.example?x=1", username="u", password="p")
    built.append(dial)
    built.record(
        action="/message",
        max_length=30,
        timeout=3,
        finish_on_key="#",
        play_beep=False,
        trim="do-not-trim",
    )
    built.redirect("/next", method="GET")
    built.reject(reason="busy")
    built.hangup()
    found = read(str(built), URL)
    assert found.warnings == ()
    started, say, play, digits, pause, keys, dialled, message, redirect, reject, hangup = (
        found.verbs
    )
    assert isinstance(started, verbs.StartRecording)
    assert started.request == RecordingRequest(
        RecordingChannels.MONO, RecordingTrack.INBOUND, Trim.DO_NOT_TRIM
    )
    assert say == verbs.Say(say.place, "Grüße & <mehr>", "alice", "de-DE", 2)
    assert play == verbs.Play(play.place, "https://app.example/a.mp3", loop=verbs.FOREVER)
    assert digits == verbs.Play(digits.place, None, "wwww3")
    assert pause == verbs.Pause(pause.place, 2)
    assert isinstance(keys, verbs.Gather)
    assert keys.follow == verbs.Follow("https://app.example/keys", GET)
    assert (keys.num_digits, keys.timeout_s, keys.finish_on_key) == (1, 4, "")
    assert keys.action_on_empty_result
    assert [type(prompt) for prompt in keys.prompts] == [verbs.Say]
    assert isinstance(dialled, verbs.Dial)
    assert (dialled.timeout_s, dialled.time_limit_s, dialled.caller_id) == (9, 50, "+15550001")
    assert dialled.hangup_on_star
    assert dialled.answer_on_bridge
    assert dialled.record is not None
    assert dialled.record.channel_count == 2
    assert dialled.record.callback is not None
    assert dialled.record.callback.url == "https://app.example/recorded"
    number, sip = dialled.targets
    assert isinstance(number, verbs.Number)
    assert (number.number, number.send_digits) == ("+15550002", "1")
    assert number.status_callback is not None
    assert number.status_callback.events == {CallEvent.RINGING, CallEvent.ANSWERED}
    assert sip == verbs.Sip("sip:a@b.example?x=1", "u", "p")
    assert isinstance(message, verbs.Record)
    assert (message.max_length_s, message.timeout_s, message.finish_on_key) == (30, 3, "#")
    assert not message.play_beep
    assert redirect == verbs.Redirect(redirect.place, verbs.Follow("https://app.example/next", GET))
    assert reject == verbs.Reject(reject.place, True)
    assert hangup == verbs.Hangup(hangup.place)


BUILDS: list[Callable[[Any], object]] = [
    lambda response: response.enqueue("a"),
    lambda response: response.queue("a"),
    lambda response: response.leave(),
    lambda response: response.echo(),
    lambda response: response.connect().stream(url="wss://a.example"),
    lambda response: response.dial().conference("a"),
    lambda response: response.dial().client("a"),
    lambda response: response.start().stream(url="wss://a.example"),
    lambda response: response.refer().sip("sip:a@b.example"),
    lambda response: response.pay(),
    lambda response: response.sms("a"),
]


@pytest.mark.parametrize("build", BUILDS)
def test_what_twilio_builds_and_we_do_not_have(build: Callable[[Any], object]) -> None:
    built = VoiceResponse()
    build(built)
    (verb,) = read(str(built), URL).verbs
    assert isinstance(verb, verbs.Unsupported), str(built)
