"""The demo's third scene: a program calls a phone, records its answer, and connects it."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import httpx

from callreel.demo.hearing import LIKE_A_VOICE, DemoFailed, Say
from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import Answer, Webhook, WebhookReceiver
from callreel.demo.voices import find_voice, read_channels
from callreel.phone.call import Talk
from callreel.phone.softphone import Phone
from callreel.phone.sources import read_audio
from callreel.phone.voices import SPEECH, voice_of
from callreel.server.system import RandomIds, SystemClock

GREETING = "Hello. This is callreel. Please say what you think of it."
MESSAGE_S = 4
TALK_S = 6.0
FROM_S = 2.0
"""Where in what the two say the conversation begins."""
_FINISHED_S = 20.0


class Program:
    """What the program answers when callreel asks it what to do."""

    def __init__(self, second: str) -> None:
        self._second = second
        self._receiver: WebhookReceiver | None = None
        self.speaks = shutil.which("espeak-ng") is not None
        """Whether the greeting is spoken; else a file is played."""

    def receiver(self) -> WebhookReceiver:
        """Where it is asked, not started yet."""
        self._receiver = WebhookReceiver(on_webhook=self._take)
        return self._receiver

    def _take(self, hook: Webhook) -> None:
        assert self._receiver is not None
        base = f"http://127.0.0.1:{self._receiver.port}"
        body, kind = b"", "text/xml"
        if "/greet" in hook.url:
            said = (
                f'<Say language="en-GB">{GREETING}</Say>'
                if self.speaks
                else f"<Play>{base}/speech</Play>"
            )
            record = f'<Record maxLength="{MESSAGE_S}" action={quoteattr(base + "/connect")}/>'
            body = f"<Response>{said}{record}</Response>".encode()
        elif "/connect" in hook.url:
            body = (
                '<Response><Dial record="record-from-answer-dual">'
                f"<Sip>{self._second}</Sip></Dial></Response>"
            ).encode()
        elif "/speech" in hook.url:
            body, kind = (SPEECH / "callee.flac").read_bytes(), "audio/flac"
        self._receiver.answers.append(Answer(200, (("Content-Type", kind),), body))


async def play(server: OwnServer, client: Any, output: Path, say: Say) -> bytes:
    """Call, greet, record, connect; the recording of the two. Raises :class:`DemoFailed`."""
    first, second = await _phone("caller"), await _phone("callee")
    program = Program(second.uri())
    try:
        async with program.receiver() as receiver:
            made = await asyncio.to_thread(
                client.calls.create,
                to=first.uri(),
                from_="+15550100",
                url=f"http://127.0.0.1:{receiver.port}/greet",
                status_callback=receiver.url,
                status_callback_event=["initiated", "ringing", "answered", "completed"],
            )
            say(f"a program creates a call by the twilio SDK: {made.sid}, {made.status}")
            ours = await asyncio.wait_for(first.next_call(), 10)
            first.ring(ours)
            first.answer(ours)
            how = "spoken by espeak-ng" if program.speaks else "a file that is played"
            say(f"the phone answers, and hears a greeting, {how}, and a beep")
            theirs = await asyncio.wait_for(second.next_call(), 40)
            say("what it said after the beep is recorded; the document now dials a second phone")
            second.ring(theirs)
            second.answer(theirs)
            await asyncio.sleep(TALK_S)
            await second.hang_up(theirs)
            await asyncio.wait_for(ours.ended.wait(), 10)
            told = await _told(receiver)
        say(f"the status callbacks told: {', '.join(told)}")
    finally:
        await first.close()
        await second.close()
    message, talk = await asyncio.to_thread(_finished, client, made.sid)
    wav = await _fetch(server, message)
    path = output / "message.wav"
    await asyncio.to_thread(path.write_bytes, wav)
    _check_message(path, say, message)
    wav = await _fetch(server, talk)
    say(f"recording {talk.sid}, source {talk.source}: {len(wav):,} bytes")
    return wav


def _check_message(path: Path, say: Say, message: Any) -> None:
    channels, _ = read_channels(path)
    likeness = find_voice(channels[0], read_audio(SPEECH / "caller.flac")).likeness
    if len(channels) != 1 or likeness < LIKE_A_VOICE:
        raise DemoFailed(f"the message is {likeness:.2f} like the voice of who left it")
    say(
        f"recording {message.sid}, source {message.source}: {message.duration} s, "
        f"{likeness:.0%} like the voice of who left it"
    )


async def _told(receiver: WebhookReceiver) -> list[str]:
    """What was told of the call, in order."""
    try:
        await receiver.wait_for("completed", timeout_s=10)
    except TimeoutError:
        raise DemoFailed("the program was not told that the call is completed") from None
    return [
        hook.fields["CallStatus"] for hook in receiver.received if "CallbackSource" in hook.fields
    ]


def _finished(client: Any, call_sid: str) -> tuple[Any, Any]:
    """The message and the conversation, once both can be fetched."""
    for _ in range(round(_FINISHED_S * 10)):
        found = {one.source: one for one in client.recordings.list(call_sid=call_sid)}
        if len(found) == 2 and all(one.status == "completed" for one in found.values()):
            return found["RecordVerb"], found["DialVerb"]
        time.sleep(0.1)
    raise DemoFailed(f"the recordings of {call_sid} were not completed in {_FINISHED_S:.0f} s")


async def _fetch(server: OwnServer, recording: Any) -> bytes:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(
            server.http_url + recording.uri.replace(".json", ".wav"),
            auth=(server.account_sid, server.auth_token),
        )
    if answer.status_code != 200:
        raise DemoFailed(f"fetching the file gave {answer.status_code}")
    return answer.content


async def _phone(voice: str) -> Phone:
    phone = Phone(
        Talk(voice_of(voice, from_s=FROM_S)),
        clock=SystemClock(),
        ids=RandomIds(),
        user=voice,
        takes_calls=True,
    )
    await phone.start()
    return phone
