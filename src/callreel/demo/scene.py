"""The demo's story, in three scenes.

A call that somebody else carries reaches the recorder, a program records a part of it, and hears
it. Then a phone calls another through callreel, and the whole call is recorded. Last, a program
calls a phone itself: a document greets it, records what it says, and connects it to another.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from pathlib import Path
from typing import Any

import httpx

from callreel.base.errors import UsageError
from callreel.demo import bridged, created
from callreel.demo.hearing import DemoFailed, Say, check_and_draw
from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.voices import NAMES, voice_of
from callreel.server.system import RandomIds, SystemClock

CALLER = Party("sip:+15550100@pbx.example.com", "Caller")
CALLEE = Party("sip:+15550199@pbx.example.com", "Callee")
TALK_BEFORE_S = 3.0
RECORD_S = 14.0


async def play(output: Path, say: Say) -> Path:
    """Run every step; returns the recording's path. Raises ``CallreelError`` at the first that
    fails."""
    twilio = _twilio()
    path = output / "conversation.wav"
    with tempfile.TemporaryDirectory(prefix="callreel-demo-") as folder:
        callee = await bridged.answering_phone()
        config = await asyncio.to_thread(bridged.write_route, Path(folder), callee)
        # A SID of Twilio's form, since the twilio SDK is what drives the API.
        server = OwnServer(
            Path(folder),
            "AC" + secrets.token_hex(16),
            secrets.token_urlsafe(24),
            options=("--config", str(config)),
        )
        try:
            await asyncio.to_thread(server.start)
            say(f"server up: API {server.http_url}, SIP {server.sip_uri}")
            say("")
            say("  Scene 1: a session border controller's call, recorded in mid-call")
            say("")
            async with WebhookReceiver() as receiver:
                wav = await _record_a_call(server, receiver, twilio, say)
            await asyncio.to_thread(_leave, path, wav)
            check_and_draw(path, RECORD_S, say)
            say("  Scene 2: a phone calls another through callreel")
            say("")
            client = _client(twilio, server)
            wav = await bridged.play(server, client, callee, say)
            await asyncio.to_thread(_leave, output / "bridged.wav", wav)
            check_and_draw(output / "bridged.wav", bridged.TALK_S, say)
            say("  Scene 3: a program calls a phone, and a document says what happens")
            say("")
            wav = await created.play(server, client, output, say)
            await asyncio.to_thread(_leave, output / "created.wav", wav)
            check_and_draw(output / "created.wav", created.TALK_S, say)
        finally:
            await callee.close()
            await asyncio.to_thread(server.stop)
    return path


def _leave(path: Path, wav: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav)


async def _record_a_call(
    server: OwnServer, receiver: WebhookReceiver, twilio: Any, say: Say
) -> bytes:
    client = _client(twilio, server)
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    try:
        voices = [voice_of(name) for name in NAMES]
        call = await phone.call(server.sip_uri, voices, caller=CALLER, callee=CALLEE)
        say("a call between two voices is under way; its SBC sends us a copy by SIPREC")
        await asyncio.sleep(TALK_BEFORE_S)
        found = await asyncio.to_thread(client.calls.list, status="in-progress")
        if len(found) != 1:
            raise DemoFailed(f"the API shows {len(found)} calls in progress, not 1")
        say(f"the API shows it: {found[0].sid}, from {found[0]._from} to {found[0].to}")
        recording = await asyncio.to_thread(
            client.calls(found[0].sid).recordings.create,
            recording_channels="dual",
            recording_status_callback=receiver.url,
            recording_status_callback_event=["in-progress", "completed"],
        )
        say(f"recording {recording.sid} started in mid-call by the twilio SDK, dual channel")
        for second in range(round(RECORD_S)):
            say(f"\rrecording … {second + 1} s")
            await asyncio.sleep(1.0)
        stopped = await asyncio.to_thread(
            client.calls(found[0].sid).recordings("Twilio.CURRENT").update, status="stopped"
        )
        if stopped.status not in ("stopped", "processing"):
            raise DemoFailed(f"after the stop the status is {stopped.status}")
        say("stopped; the call goes on, unrecorded")
        fields = await _callback(server, receiver, twilio, recording.sid, say)
        await phone.hang_up(call)
    finally:
        await phone.close()
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(
            fields["RecordingUrl"], auth=(server.account_sid, server.auth_token)
        )
    if answer.status_code != 200:
        raise DemoFailed(f"fetching the file gave {answer.status_code}")
    say(f"fetched {len(answer.content):,} bytes from the callback's RecordingUrl")
    return answer.content


async def _callback(
    server: OwnServer, receiver: WebhookReceiver, twilio: Any, sid: str, say: Say
) -> dict[str, str]:
    """Wait for the ``completed`` webhook and check its signature with the vendor's validator."""
    validator = twilio.request_validator.RequestValidator(server.auth_token)
    for event in ("in-progress", "completed"):
        try:
            hook = await receiver.wait_for(event, timeout_s=20)
        except TimeoutError:
            raise DemoFailed(f"no {event} webhook came in 20 s") from None
        signature = hook.header("x-twilio-signature") or ""
        if not validator.validate(hook.url, dict(hook.fields), signature):
            raise DemoFailed(f"the {event} webhook's signature is not valid")
    if hook.fields["RecordingSid"] != sid:
        raise DemoFailed("the webhook is about another recording")
    say(
        f"webhooks came, signatures valid by twilio's own validator: completed, "
        f"{hook.fields['RecordingDuration']} s"
    )
    return dict(hook.fields)


def _client(twilio: Any, server: OwnServer) -> Any:
    client = twilio.rest.Client(server.account_sid, server.auth_token)
    client.api.base_url = server.http_url
    return client


def _twilio() -> Any:
    try:
        import twilio.request_validator
        import twilio.rest
    except ImportError:
        raise UsageError(
            "the demo drives the API with the twilio SDK; install it: pip install 'callreel[demo]'"
        ) from None
    return twilio
