"""Calls that documents steer: from what a program asks to what is told it, over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from callreel.calls.model import (
    Call,
    CallbackMethod,
    CallCallback,
    CallDirection,
    CallEvent,
    CallStatus,
    Recording,
    RecordingChannels,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
    RecordingTrack,
    Trim,
)
from callreel.calls.steering import CallChange, CallRequest, Instructions
from callreel.calls.story import StoryKind
from callreel.calls.voice import DigitHeard, Digits, NotConnected, Prompt
from callreel.service.calls import NewCall
from callreel.service.errors import Ended, NotCallable, NotSteered
from callreel.service.voice.doors import Door, Doors
from callreel.store import calls as call_rows, deliveries
from callreel.store.calls import CallFilter
from callreel.store.recordings import RecordingFilter
from tests.service.conftest import House, restarted

ANNA, BEN = "sip:anna@192.0.2.1", "sip:ben@192.0.2.2"
EVERYTHING = CallCallback("https://example.com/calls", events=frozenset(CallEvent))
WAIT = "<Response><Pause length='600'/></Response>"


def wanted(document: str = WAIT, **more: object) -> CallRequest:
    request = CallRequest(ANNA, "+15550100", Instructions(document=document))
    return replace(request, **more)  # type: ignore[arg-type]


async def until(house: House, call_id: str, status: CallStatus) -> Call:
    async with asyncio.timeout(5):
        while True:
            call = await house.calls.get(house.account, call_id)
            if call.status is status:
                return call
            await asyncio.sleep(0.001)


async def until_true(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.001)


async def told(house: House, call_id: str) -> list[tuple[str, str]]:
    """Event and CallStatus of each webhook about a call itself, in order."""
    database = house.context.database
    async with database.read() as connection:
        found = await deliveries.of_call(connection, database.seal, call_id)
    mine = [one for one in found if one.recording_id is None]
    assert [one.fields["SequenceNumber"] for one in mine] == [str(n) for n in range(len(mine))]
    return [(one.event, one.fields["CallStatus"]) for one in mine]


async def recordings_of(house: House, call_id: str) -> list[Recording]:
    page = await house.recordings.page(
        house.account, RecordingFilter(call_id), size=50, position=None
    )
    return list(page.items)


async def children_of(house: House, call_id: str) -> list[Call]:
    page = await house.calls.page(
        house.account, CallFilter(parent_call_id=call_id), size=50, position=None
    )
    return list(page.items)


async def test_a_call_that_is_answered_and_hung_up_by_its_document(house: House) -> None:
    house.telephone.ends[ANNA] = None
    document = "<Response><Say>Hello</Say><Hangup/></Response>"
    call = await house.voice.create(house.account, wanted(document, status_callback=EVERYTHING))
    assert call.status is CallStatus.QUEUED
    over = await until(house, call.id, CallStatus.COMPLETED)
    assert over.start_time is not None
    assert over.direction is CallDirection.OUTBOUND_API
    assert house.sounds.played == [(call.id, (Prompt(house.said("Hello")),))]
    found = await told(house, call.id)
    assert found[0] == ("initiated", "initiated")
    assert found[-2:] == [("answered", "in-progress"), ("completed", "completed")]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (CallStatus.BUSY, 486),
        (CallStatus.NO_ANSWER, None),
        (CallStatus.FAILED, 404),
    ],
)
async def test_why_nobody_answered(house: House, status: CallStatus, code: int | None) -> None:
    house.telephone.ends[ANNA] = NotConnected(status, "so it is", sip_code=code)
    call = await house.voice.create(house.account, wanted(status_callback=EVERYTHING))
    over = await until(house, call.id, status)
    assert (over.sip_result_code, over.end_reason) == (code, "so it is")
    assert (await told(house, call.id))[-1] == ("completed", status.value)


async def test_what_cannot_be_called_is_refused_and_leaves_nothing(house: House) -> None:
    with pytest.raises(NotCallable, match="no trunk"):
        await house.voice.create(house.account, wanted(to="nowhere"))
    assert await house.calls.live() == []


async def test_a_call_that_rings_is_taken_back(house: House) -> None:
    call = await house.voice.create(house.account, wanted(status_callback=EVERYTHING))
    await until(house, call.id, CallStatus.RINGING)
    canceled = await house.calls.end(house.account, call.id, cancel=True)
    assert canceled.status is CallStatus.CANCELED
    assert await told(house, call.id) == [
        ("initiated", "initiated"),
        ("ringing", "ringing"),
        ("completed", "canceled"),
    ]
    with pytest.raises(Ended):
        await house.calls.end(house.account, call.id)


async def test_recorded_from_the_answer_on(house: House) -> None:
    house.telephone.ends[ANNA] = None
    request = RecordingRequest(RecordingChannels.DUAL, trim=Trim.TRIM_SILENCE)
    call = await house.voice.create(house.account, wanted(record=request))
    await until_true(lambda: len(house.media.live) == 1)
    (recording,) = await recordings_of(house, call.id)
    assert (recording.source, recording.request) == (RecordingSource.OUTBOUND_API, request)
    await house.calls.end(house.account, call.id)
    (recording,) = await recordings_of(house, call.id)
    assert not recording.is_live


async def test_keys_are_pressed_before_the_document_is_asked_for(house: House) -> None:
    house.telephone.ends[ANNA] = None
    document = "<Response><Say>Hello</Say></Response>"
    call = await house.voice.create(house.account, wanted(document, send_digits="ww12#"))
    await until(house, call.id, CallStatus.COMPLETED)
    assert house.sounds.played[0] == (call.id, (Digits("ww12#"),))


async def offered(house: House, document: str, **more: object) -> str:
    """A call that has come in for a document."""
    door = Door(Instructions(document=document), **more)  # type: ignore[arg-type]
    house.voice.doors = Doors({(house.account.id, "+15550199"): door})
    assert house.voice.takes(house.account.id, "+15550199", exactly=True)
    assert not house.voice.takes(house.account.id, "+15550198")
    new = NewCall(house.account.id, CallDirection.INBOUND, "+15550100", "+15550199")
    call = await house.calls.ringing(new)
    house.voice.offered(call.id, house.account.id, "+15550199")
    return call.id


async def test_a_document_answers_and_records_a_message(house: House) -> None:
    house.documents.pages["https://example.com/after"] = "<Response><Hangup/></Response>"
    call_id = await offered(
        house,
        "<Response><Record action='https://example.com/after' finishOnKey='#'/></Response>",
        callback=EVERYTHING,
    )
    await until_true(lambda: house.sounds.listening == [(call_id, 5000)])
    house.voice.heard(DigitHeard(call_id, "#"))
    await until(house, call_id, CallStatus.COMPLETED)
    (recording,) = await recordings_of(house, call_id)
    assert recording.source is RecordingSource.RECORD_VERB
    assert recording.request == RecordingRequest(
        track=RecordingTrack.INBOUND, trim=Trim.TRIM_SILENCE
    )
    ((url, fields),) = house.documents.asked
    assert url == "https://example.com/after"
    assert fields["RecordingSid"]
    assert fields["Digits"] == "#"
    assert (fields["CallStatus"], fields["Direction"]) == ("in-progress", "inbound")
    assert (await told(house, call_id))[-1] == ("completed", "completed")


async def test_what_was_said_is_kept_when_the_caller_hangs_up(house: House) -> None:
    call_id = await offered(
        house, "<Response><Record action='https://example.com/after'/></Response>"
    )
    await until_true(lambda: house.sounds.listening == [(call_id, 5000)])
    await house.telephone.hangs_up(call_id)
    (recording,) = await recordings_of(house, call_id)
    assert recording.status is not RecordingStatus.IN_PROGRESS
    await until_true(lambda: bool(house.documents.asked))
    assert house.documents.asked[0][1]["Digits"] == "hangup"
    assert house.documents.asked[0][1]["CallStatus"] == "completed"


async def test_two_ring_and_the_first_that_answers_is_connected(house: House) -> None:
    house.telephone.ends[BEN] = None
    house.documents.pages["https://example.com/after"] = WAIT
    call_id = await offered(
        house,
        "<Response><Dial record='record-from-answer-dual' answerOnBridge='true' "
        "action='https://example.com/after'>"
        f"<Sip>{ANNA}</Sip><Sip statusCallback='https://example.com/child' "
        f"statusCallbackEvent='initiated answered completed'>{BEN}</Sip></Dial></Response>",
    )
    await until_true(lambda: any(step[0] == "connect" for step in house.telephone.told))
    by_to = {one.to: one for one in await children_of(house, call_id)}
    anna, ben = by_to[ANNA], by_to[BEN]
    assert ben.direction is CallDirection.OUTBOUND_DIAL
    assert ben.from_ == "+15550100"
    assert (await until(house, anna.id, CallStatus.CANCELED)).start_time is None
    (recording,) = await recordings_of(house, call_id)
    assert recording.source is RecordingSource.DIAL_VERB
    assert recording.request.channel_count == 2
    assert house.telephone.told[-1] == ("connect", call_id, ben.id)
    await house.telephone.hangs_up(ben.id)
    await until_true(lambda: bool(house.documents.asked))
    fields = house.documents.asked[0][1]
    assert fields["DialCallStatus"] == "completed"
    assert fields["DialCallSid"].replace("-", "") == ben.id
    assert fields["RecordingSid"].replace("-", "") == recording.id
    assert [one[0] for one in await told(house, ben.id)] == ["initiated", "answered", "completed"]


async def test_who_hangs_up_takes_the_other_along(house: House) -> None:
    house.telephone.ends[BEN] = None
    call_id = await offered(house, f"<Response><Dial><Sip>{BEN}</Sip></Dial></Response>")
    await until_true(lambda: any(step[0] == "connect" for step in house.telephone.told))
    (ben,) = await children_of(house, call_id)
    await house.telephone.hangs_up(call_id)
    await until(house, ben.id, CallStatus.COMPLETED)


async def test_a_call_is_redirected(house: House) -> None:
    house.telephone.ends[ANNA] = None
    house.documents.pages["https://example.com/new"] = "<Response><Say>New</Say></Response>"
    call = await house.voice.create(house.account, wanted())
    await until(house, call.id, CallStatus.IN_PROGRESS)
    await until_true(lambda: len(house.voice) == 1)
    new = Instructions("https://example.com/new", CallbackMethod.GET)
    await house.voice.change(house.account, call.id, CallChange(instructions=new))
    await until(house, call.id, CallStatus.COMPLETED)
    assert house.sounds.played == [(call.id, (Prompt(house.said("New")),))]
    with pytest.raises(NotSteered, match="completed, not in-progress"):
        await house.voice.change(house.account, call.id, CallChange(instructions=new))
    with pytest.raises(Ended):
        await house.voice.change(house.account, call.id, CallChange(call_seconds=5))


async def test_only_what_is_steered_can_be_redirected(house: House) -> None:
    change = CallChange(instructions=Instructions(document=WAIT))
    recorded_only = await house.a_call()
    with pytest.raises(NotSteered, match="no document"):
        await house.voice.change(house.account, recorded_only.id, change)
    ringing = await house.voice.create(house.account, wanted())
    with pytest.raises(NotSteered, match="not in-progress"):
        await house.voice.change(house.account, ringing.id, change)


async def test_a_party_that_is_redirected_goes_a_way_of_its_own(house: House) -> None:
    house.telephone.ends[BEN] = None
    call_id = await offered(
        house, f"<Response><Dial><Sip>{BEN}</Sip></Dial><Say>Gone</Say></Response>"
    )
    await until_true(lambda: any(step[0] == "connect" for step in house.telephone.told))
    (ben,) = await children_of(house, call_id)
    change = CallChange(instructions=Instructions(document="<Response><Say>You</Say></Response>"))
    await house.voice.change(house.account, ben.id, change)
    await until(house, ben.id, CallStatus.COMPLETED)
    await until(house, call_id, CallStatus.COMPLETED)
    assert ("part", call_id) in house.telephone.told
    assert set(house.sounds.played) == {
        (ben.id, (Prompt(house.said("You")),)),
        (call_id, (Prompt(house.said("Gone")),)),
    }


async def test_the_events_asked_for_stay_when_another_url_is_given(house: House) -> None:
    house.telephone.ends[ANNA] = None
    call = await house.voice.create(house.account, wanted(status_callback=EVERYTHING))
    await until(house, call.id, CallStatus.IN_PROGRESS)
    elsewhere = CallCallback("https://example.com/elsewhere")
    await house.voice.change(house.account, call.id, CallChange(status_callback=elsewhere))
    await house.calls.end(house.account, call.id)
    database = house.context.database
    async with database.read() as connection:
        found = await deliveries.of_call(connection, database.seal, call.id)
    assert (found[-1].event, found[-1].url) == ("completed", elsewhere.url)
    assert found[-1].fields["SequenceNumber"] == str(len(found) - 1)


async def test_a_call_ends_at_its_time_limit(house: House) -> None:
    house.telephone.ends[ANNA] = None
    call = await house.voice.create(house.account, wanted(call_seconds=0))
    over = await until(house, call.id, CallStatus.COMPLETED)
    assert over.start_time is not None
    assert ("hang_up", call.id, "its time limit was reached") in house.telephone.told


async def test_an_error_can_be_found_in_the_calls_story(house: House) -> None:
    call_id = await offered(house, "<Response><Conference>x</Conference></Response>")
    async with asyncio.timeout(5):
        while not any(
            line.kind is StoryKind.ERROR and "Conference" in line.text
            for line in await house.calls.story(house.account, call_id)
        ):
            await asyncio.sleep(0.001)


async def test_a_new_control_process_goes_on_with_a_conversation(house: House) -> None:
    house.telephone.ends[BEN] = None
    call_id = await offered(
        house, f"<Response><Dial><Sip>{BEN}</Sip></Dial><Say>After</Say></Response>"
    )
    await until_true(lambda: any(step[0] == "connect" for step in house.telephone.told))
    (ben,) = await children_of(house, call_id)
    await asyncio.sleep(0.05)  # it is written down
    await house.voice.close(0)
    again = restarted(house)
    again.telephone.up = {call_id, ben.id}
    await again.voice.restore({call_id, ben.id})
    assert len(again.voice) == 1
    await again.telephone.hangs_up(ben.id)
    await until(again, call_id, CallStatus.COMPLETED)
    assert again.sounds.played == [(call_id, (Prompt(house.said("After")),))]
    await again.voice.close(1)


async def test_what_nobody_took_up_is_forgotten(house: House) -> None:
    call_id = await offered(house, "<Response><Say>Hello</Say><Pause length='60'/></Response>")
    await until(house, call_id, CallStatus.IN_PROGRESS)
    await asyncio.sleep(0.05)
    await house.voice.close(0)
    again = restarted(house)
    await again.voice.restore(())
    assert len(again.voice) == 0
    await again.voice.restore({call_id})
    assert len(again.voice) == 0


async def test_a_row_that_was_deleted_ends_nothing_else(house: House) -> None:
    call_id = await offered(house, "<Response><Say>Hello</Say></Response>")
    database = house.context.database
    async with database.begin() as connection:
        await call_rows.remove(connection, call_id)
    await until_true(lambda: len(house.voice) == 0)
