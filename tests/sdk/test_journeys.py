"""The vendors' own SDKs, unmodified, on real calls: what their users do and what they then see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import Webhook, WebhookReceiver
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sources import RATE_HZ, read_audio
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.live import LiveTone
from tests.sdk.conftest import Leg
from tests.sdk.sdks import Raised

Json = dict[str, Any]
CALLEE = Party("sip:+15550199@pbx.example.com")
SECRETS = (1300, 1700)
FINISHED_S = 20.0


async def ask(leg: Leg, do: str, **arguments: Any) -> Any:
    return await asyncio.to_thread(leg.ask, do, **arguments)


async def refused(leg: Leg, do: str, **arguments: Any) -> tuple[int | None, int | None]:
    """Status and code of the client's own error."""
    with pytest.raises(Raised) as caught:
        await ask(leg, do, **arguments)
    assert caught.value.type == leg.sdk.error, caught.value
    assert caught.value.message
    return caught.value.status, caught.value.code


async def begin(
    leg: Leg, phone: RecordingClient, number: str, tones: Sequence[LiveTone]
) -> tuple[ClientCall, Json]:
    """A call, and what the client's list of calls shows of it."""
    caller = Party(f"sip:{number}@pbx.example.com")
    call = await phone.call(leg.server.sip_uri, tones, caller=caller, callee=CALLEE)
    (shown,) = await ask(leg, "calls", status="in-progress", from_=number, limit=20)
    return call, shown


async def finished(leg: Leg, recording_sid: str) -> Json:
    deadline = time.monotonic() + FINISHED_S
    while (found := await ask(leg, "fetch", recording_sid=recording_sid))["status"] != "completed":
        assert found["status"] != "absent", found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    shown: Json = found
    return shown


def moment(value: Any) -> datetime:
    """A date that the client has made a date of its language."""
    return datetime.fromisoformat(value["date"])


def is_recent(value: Any) -> bool:
    return abs(moment(value) - datetime.now(UTC)) < timedelta(minutes=2)


def unknown(leg: Leg, mark: str) -> str:
    """A SID of nothing, in the account's spelling."""
    made = uuid4()
    return mark + made.hex if leg.sdk.is_twilio else str(made)


async def test_a_recording_from_its_start_to_its_deletion(
    leg: Leg, phone: RecordingClient, receiver: WebhookReceiver, number: str, tmp_path: Path
) -> None:
    legs = [LiveTone(440), LiveTone(880)]

    def say(first_hz: int, second_hz: int) -> None:
        legs[0].hz, legs[1].hz = first_hz, second_hz

    call, shown = await begin(leg, phone, number, legs)
    started = await ask(leg, "start", call_sid=shown["sid"], webhook_url=receiver.url)
    assert started["status"] == "in-progress"
    assert started["call_sid"] == shown["sid"]
    assert started["account_sid"] == leg.sdk.account_sid
    assert started["channels"] == 2
    assert started["source"].lower() == "startcallrecordingapi"
    assert is_recent(started["start_time"])
    again = await ask(leg, "start_with", call_sid=shown["sid"])
    assert again["sid"] == started["sid"], "one recording at a time"

    # A pause that leaves nothing behind, by the alias, then one that leaves silence.
    await asyncio.sleep(0.4)
    paused = await ask(leg, "pause", call_sid=shown["sid"], behavior="skip")
    assert (paused["sid"], paused["status"]) == (started["sid"], "paused")
    say(*SECRETS)
    await asyncio.sleep(0.4)
    say(600, 1000)
    await asyncio.sleep(0.05)
    of_call = {"call_sid": shown["sid"], "recording_sid": started["sid"]}
    resumed = await ask(leg, "resume", **of_call)
    assert resumed["status"] == "in-progress"
    await asyncio.sleep(0.4)
    paused = await ask(leg, "pause", call_sid=shown["sid"], behavior="silence")
    say(*SECRETS)
    begun = time.monotonic()
    await asyncio.sleep(0.4)
    say(760, 1160)
    await asyncio.sleep(0.05)
    await ask(leg, "resume", call_sid=shown["sid"], recording_sid="Twilio.CURRENT")
    silence_s = time.monotonic() - begun
    await asyncio.sleep(0.4)
    stopped = await ask(leg, "stop", call_sid=shown["sid"], recording_sid="Twilio.CURRENT")
    assert stopped["sid"] == started["sid"]
    assert stopped["status"] in ("stopped", "processing", "completed")
    status, code = await refused(leg, "resume", **of_call)
    assert (status, code) == (leg.refusal, 21220)

    hook = await receiver.wait_for("completed")
    assert [one.event for one in receiver.received] == ["in-progress", "completed"]
    for one in receiver.received:
        await assert_signed(leg, one)
    found = await ask(leg, "fetch", recording_sid=started["sid"])
    assert found["status"] == "completed"
    assert int(found["duration"]) == int(hook.fields["RecordingDuration"])
    assert is_recent(found["date_created"])
    assert is_recent(found["date_updated"])
    assert found["error_code"] is None
    under = await ask(leg, "fetch_of_call", **of_call)
    assert (under["sid"], under["status"]) == (started["sid"], "completed")
    if leg.sdk.is_twilio:
        assert under["track"] == "both"

    await assert_media(leg, started["sid"], tmp_path, silence_s)
    await phone.hang_up(call)
    assert await ask(leg, "delete", recording_sid=started["sid"]) is True
    for do, arguments in (
        ("fetch", {"recording_sid": started["sid"]}),
        ("delete", {"recording_sid": started["sid"]}),
        ("fetch_of_call", of_call),
        ("delete_of_call", of_call),
    ):
        assert await refused(leg, do, **arguments) == (404, 20404)
    leg.check_answers()


async def assert_signed(leg: Leg, hook: Webhook) -> None:
    """By the vendor's validator, which refuses the same with anything changed."""
    header = "x-twilio-signature" if leg.sdk.is_twilio else "x-signalwire-signature"
    said = {
        "url": hook.url,
        "fields": {} if hook.method == "GET" else hook.fields,
        "signature": hook.header(header),
    }
    assert await ask(leg, "is_genuine", **said) is True
    changed = {**said, "url": hook.url + ("&" if "?" in hook.url else "?") + "RecordingDuration=9"}
    assert await ask(leg, "is_genuine", **changed) is False
    if hook.method == "POST":
        changed = {**said, "fields": {**hook.fields, "RecordingDuration": "99"}}
        assert await ask(leg, "is_genuine", **changed) is False


async def assert_media(leg: Leg, sid: str, folder: Path, silence_s: float) -> None:
    """As WAV, as MP3 and in part; both parties in their channels, and nothing said in a pause."""
    wav, mp3, part = folder / "a.wav", folder / "a.mp3", folder / "part"
    answer = await ask(leg, "download", recording_sid=sid, suffix=".wav", path=str(wav))
    assert (answer["status"], answer["headers"]["content-type"]) == (200, "audio/x-wav")
    rate_hz, samples = read_wav(wav)
    assert samples.shape[1] == 2
    for channel, (first, second, third) in enumerate(((440, 600, 760), (880, 1000, 1160))):
        heard = samples[:, channel]
        assert tone_spans(heard, rate_hz, SECRETS[channel]) == []
        ((_, first_end),) = tone_spans(heard, rate_hz, first)
        ((second_start, second_end),) = tone_spans(heard, rate_hz, second)
        ((third_start, _),) = tone_spans(heard, rate_hz, third)
        assert abs(second_start - first_end) < 0.05, "left out"
        assert abs((third_start - second_end) - silence_s) < 0.08, "kept as silence"
    answer = await ask(leg, "download", recording_sid=sid, suffix=".mp3", path=str(mp3))
    assert (answer["status"], answer["headers"]["content-type"]) == (200, "audio/mpeg")
    for hz in (440, 880, 600, 1000):
        assert tone_spans(read_audio(mp3), RATE_HZ, hz), hz
    ranged = {"byte_range": "bytes=1000-1999", "path": str(part)}
    answer = await ask(leg, "download_part", recording_sid=sid, **ranged)
    assert answer["status"] == 206
    assert answer["headers"]["content-range"] == f"bytes 1000-1999/{wav.stat().st_size}"
    assert part.read_bytes() == wav.read_bytes()[1000:2000]
    mixed = ".wav?RequestedChannels=1"
    answer = await ask(leg, "download", recording_sid=sid, suffix=mixed, path=str(part))
    assert answer["status"] == 200
    rate_hz, samples = read_wav(part)
    assert samples.shape[1] == 1
    assert tone_spans(samples[:, 0], rate_hz, 440)
    assert tone_spans(samples[:, 0], rate_hz, 880)
    saved = ".mp3?Download=true"
    answer = await ask(leg, "download", recording_sid=sid, suffix=saved, path=str(part))
    assert part.read_bytes() == mp3.read_bytes()
    assert answer["headers"]["content-disposition"] == f'attachment; filename="{sid}.mp3"'
    if leg.sdk.is_twilio:
        answer = await ask(leg, "download_media_url", recording_sid=sid, path=str(part))
        assert answer["status"] == 200
        assert part.read_bytes() == wav.read_bytes()


async def test_lists_filters_and_pages(
    leg: Leg, phone: RecordingClient, receiver: WebhookReceiver, number: str
) -> None:
    _, shown = await begin(leg, phone, number, [LiveTone(440), LiveTone(880)])
    of_call = {"call_sid": shown["sid"]}
    made: list[str] = []
    for number_of in range(3):
        if number_of == 0:
            one = await ask(leg, "start_with", **of_call)
            assert one["channels"] == 1
        else:
            one = await ask(
                leg,
                "start_with",
                **of_call,
                recording_channels="dual",
                recording_track="inbound",
                recording_status_callback=receiver.url,
                recording_status_callback_method="GET",
                recording_status_callback_event=["completed"],
            )
            assert one["channels"] == 1, "a single track is one channel"
        made.insert(0, one["sid"])
        await asyncio.sleep(0.15)
        if number_of < 2:
            await ask(leg, "stop", **of_call, recording_sid=one["sid"])
    assert len(set(made)) == 3

    # The call ended by its API ends the last one too.
    assert (await ask(leg, "call", **of_call))["status"] == "in-progress"
    ended = await ask(leg, "update_call", **of_call, status="completed")
    assert (ended["sid"], ended["status"]) == (shown["sid"], "completed")
    assert is_recent(ended["end_time"])
    for sid in made:
        await finished(leg, sid)
    hook = await receiver.wait_until(
        lambda one: one.event == "completed" and one.fields["RecordingSid"] == made[0]
    )
    assert hook.method == "GET"
    for one in list(receiver.received):
        await assert_signed(leg, one)

    def sids(found: list[Json]) -> list[str]:
        return [one["sid"] for one in found]

    assert sids(await ask(leg, "recordings", limit=1)) == made[:1]
    assert sids(await ask(leg, "recordings", limit=2)) == made[:2]
    assert sids(await ask(leg, "recordings", **of_call)) == made
    assert sids(await ask(leg, "recordings", **of_call, page_size=1)) == made
    assert sids(await ask(leg, "recordings", **of_call, page_size=2, limit=3)) == made
    assert sids(await ask(leg, "each_recording", **of_call, page_size=1)) == made
    walked = await ask(leg, "there_and_back", **of_call, page_size=1)
    assert walked == [*made, made[1], made[0]]
    assert sids(await ask(leg, "recordings_of_call", **of_call)) == made
    whole = sids(await ask(leg, "recordings"))
    assert whole[:3] == made
    assert len(set(whole)) == len(whole)
    assert sids(await ask(leg, "recordings", page_size=1)) == whole
    created = moment((await ask(leg, "fetch", recording_sid=made[2]))["date_created"])
    hour = timedelta(hours=1)
    before, after = (created - hour).isoformat(), (created + hour).isoformat()
    day = created.strftime("%Y-%m-%dT00:00:00+00:00")
    for filters, expected in (
        ({"date_created_after": before, "date_created_before": after}, made),
        ({"date_created_after": after}, []),
        ({"date_created_before": before}, []),
        ({"date_created": day, "page_size": 1}, made),
    ):
        found = await ask(leg, "recordings", **of_call, **filters)
        assert sids(found) == expected, filters
    assert sids(await ask(leg, "recordings_of_call", **of_call, day=day)) == made
    assert await ask(leg, "recordings_of_call", **of_call, day="2020-01-01T00:00:00+00:00") == []
    assert await ask(leg, "recordings", call_sid=unknown(leg, "CA")) == []

    assert await ask(leg, "delete_of_call", **of_call, recording_sid=made[1]) is True
    assert sids(await ask(leg, "recordings", **of_call)) == [made[0], made[2]]
    assert await ask(leg, "delete_call", **of_call) is True
    assert await refused(leg, "call", **of_call) == (404, 20404)
    leg.check_answers()


async def test_refusals(
    leg: Leg,
    phone: RecordingClient,
    number: str,
    key_of: Callable[[OwnServer], dict[str, str]],
) -> None:
    call, shown = await begin(leg, phone, number, [LiveTone(440), LiveTone(880)])
    of_call = {"call_sid": shown["sid"]}
    for parameters, code in (
        ({"recording_channels": "stereo"}, 10000),
        ({"recording_track": "left"}, 10000),
        ({"trim": "a-bit"}, 13699),
        ({"recording_status_callback": "not a URL"}, 21402),
        ({"recording_status_callback_method": "PUT"}, 21209),
        ({"recording_status_callback_event": ["in-progress", "paused"]}, 13621),
    ):
        assert await refused(leg, "start_with", **of_call, **parameters) == (leg.refusal, code)
    assert await ask(leg, "recordings_of_call", **of_call) == [], "nothing was changed"
    current = {**of_call, "recording_sid": "Twilio.CURRENT"}
    assert await refused(leg, "stop", **current) == (404, 20404)
    with pytest.raises(Raised, match="54453"):  # the Python clients tell it in their own way
        await ask(leg, "there_and_back", page_token="PAforged")
    assert await refused(leg, "call_with_token", **of_call, token="another") == (401, 20003)
    if leg.sdk.is_twilio:
        key = await asyncio.to_thread(key_of, leg.server)
        assert (await ask(leg, "call_with_key", **of_call, **key))["sid"] == shown["sid"]
        key = {**key, "key_secret": "another"}
        assert await refused(leg, "call_with_key", **of_call, **key) == (401, 20003)
    nowhere = unknown(leg, "CA")
    assert await refused(leg, "start_with", call_sid=nowhere) == (404, 20404)
    assert await refused(leg, "call", call_sid=nowhere) == (404, 20404)
    assert await refused(leg, "fetch", recording_sid=unknown(leg, "RE")) == (404, 20404)

    started = await ask(leg, "start_with", **of_call)
    assert await refused(leg, "delete", recording_sid=started["sid"]) == (leg.refusal, 20009)
    assert await refused(leg, "delete_call", **of_call) == (leg.refusal, 20009)
    assert await refused(leg, "update_call", **of_call, status="canceled") == (leg.refusal, 10000)
    running = await ask(leg, "fetch", recording_sid=started["sid"])
    assert running["status"] == "in-progress"
    await asyncio.sleep(0.15)
    await phone.hang_up(call)
    await finished(leg, started["sid"])
    assert await refused(leg, "start_with", **of_call) == (leg.refusal, 21220)
    words = await ask(leg, "refused_in_words", **of_call)
    assert words.startswith(f"{leg.refusal} 21220: ")
    late = 21220 if leg.sdk.is_twilio else 10000
    assert await refused(leg, "update_call", **of_call, status="completed") == (leg.refusal, late)
    leg.check_answers()


async def test_conferences_are_not_there_yet(leg: Leg) -> None:
    of_conference = {"conference_sid": unknown(leg, "CF")}
    assert await ask(leg, "conference_recordings", **of_conference) == []
    one = {**of_conference, "recording_sid": unknown(leg, "RE")}
    assert await refused(leg, "conference_recording", **one) == (404, 20404)
    leg.check_answers()


async def test_a_call_that_is_made_and_what_is_refused(leg: Leg) -> None:
    out = {"to": "sip:nobody@127.0.0.1:9", "from_": "+15550100", "url": "http://127.0.0.1:9/laml"}
    more = {"record": True, "recording_channels": "dual", "timeout": 1}
    made = await ask(leg, "create_call", **out, **more)
    assert made["status"] == "queued"
    assert made["direction"] == ("outbound-api" if leg.sdk.is_twilio else "outbound")
    async with asyncio.timeout(20):  # nobody is there
        while (await ask(leg, "call", call_sid=made["sid"]))["status"] != "no-answer":
            await asyncio.sleep(0.1)
    no_trunk = {**out, "to": "+15550198"}
    assert await refused(leg, "create_call", **no_trunk) == (leg.refusal, 21211)
    assert await refused(leg, "create_call", **out, timeout=601) == (leg.refusal, 21208)
    assert await refused(leg, "create_call", **{**out, "url": "here"}) == (leg.refusal, 21205)
    leg.check_answers()
