"""What a program and a person are told of a call: its webhooks, and its story."""

from __future__ import annotations

import pytest

from callreel.calls.model import (
    Callback,
    CallbackMethod,
    CallCallback,
    CallDirection,
    CallEvent,
    CallStatus,
    DeliveryState,
    RecordingRequest,
    RecordingSource,
)
from callreel.calls.spelling import Kind, spell
from callreel.calls.story import StoryKind, StoryLine
from callreel.service.calls import NewCall
from callreel.service.errors import NotFound
from callreel.store import deliveries
from callreel.store.deliveries import Attempt, OwedDelivery
from tests.service.conftest import House

EVERY = CallCallback("https://u:pw@example.com/cb?t=1", CallbackMethod.GET, frozenset(CallEvent))


async def a_placed_call(house: House, callback: CallCallback | None) -> str:
    new = NewCall(
        house.account.id,
        CallDirection.OUTBOUND_API,
        "+15550100",
        "sip:bob@example.com",
        caller_name="Ann",
        callback=callback,
    )
    return (await house.calls.ringing(new)).id


async def owed(house: House, call_id: str) -> list[OwedDelivery]:
    database = house.context.database
    async with database.read() as connection:
        return list(await deliveries.of_call(connection, database.seal, call_id))


async def test_each_event_is_told_in_order(house: House) -> None:
    call_id = await a_placed_call(house, EVERY)
    await house.calls.progress(call_id, CallEvent.INITIATED)
    await house.calls.progress(call_id, CallEvent.RINGING)
    call = await house.calls.get(house.account, call_id)
    await house.calls.answered(call, "{}")
    record = await house.recordings.start(
        house.account, call_id, RecordingRequest(), source=RecordingSource.OUTBOUND_API
    )
    ended = await house.calls.ended(call_id, CallStatus.COMPLETED, reason="BYE")
    told = await owed(house, call_id)

    assert [one.event for one in told] == ["initiated", "ringing", "answered", "completed"]
    assert [one.after for one in told] == [None, *(one.id for one in told[:-1])]
    assert {(one.url, one.method) for one in told} == {(EVERY.url, EVERY.method)}
    statuses = ["initiated", "ringing", "in-progress", "completed"]
    assert [one.fields["CallStatus"] for one in told] == statuses
    assert [one.fields["SequenceNumber"] for one in told] == ["0", "1", "2", "3"]
    for one in told:
        assert one.fields["CallSid"] == spell(Kind.CALL, call_id, house.account.dialect)
        assert one.fields["Direction"] == "outbound-api"
        assert one.fields["CallbackSource"] == "call-progress-events"
        assert (one.fields["From"], one.fields["To"]) == ("+15550100", "sip:bob@example.com")
        assert one.fields["CallerName"] == "Ann"
        assert one.fields["Timestamp"].endswith(" +0000")
        assert ("CallDuration" in one.fields) == (one is told[-1])
        assert ("RecordingSid" in one.fields) == (one is told[-1])
    assert ended is not None
    last = told[-1].fields
    assert last["CallDuration"] == str(ended.duration_s)
    assert int(last["CallDuration"]) > 0
    assert (last["SipResultCode"], last["SipResponseCode"]) == ("200", "200")
    assert last["RecordingSid"] == spell(Kind.RECORDING, record[0].id, house.account.dialect)
    assert last["RecordingUrl"].endswith(f"/Recordings/{last['RecordingSid']}")
    assert int(last["RecordingDuration"]) > 0
    assert len(house.notified) == 4


async def test_only_what_was_asked_for_is_told(house: House) -> None:
    call_id = await a_placed_call(house, CallCallback("https://example.com/cb"))
    await house.calls.progress(call_id, CallEvent.RINGING)
    await house.calls.ended(call_id, CallStatus.BUSY, reason="486", sip_result_code=486)
    await house.calls.ended(call_id, CallStatus.BUSY, reason="486")
    await house.calls.progress(call_id, CallEvent.COMPLETED)  # too late
    (told,) = await owed(house, call_id)
    assert (told.event, told.after) == ("completed", None)
    fields = told.fields
    assert (fields["CallStatus"], fields["SequenceNumber"]) == ("busy", "0")
    assert (fields["CallDuration"], fields["SipResultCode"]) == ("0", "486")


async def test_a_callback_can_be_changed_and_taken_back(house: House) -> None:
    call_id = await a_placed_call(house, EVERY)
    await house.calls.progress(call_id, CallEvent.RINGING)
    await house.calls.set_callback(call_id, CallCallback("https://other.example/cb"))
    await house.calls.set_callback("0" * 32, EVERY)  # no such call
    await house.calls.ended(call_id, CallStatus.NO_ANSWER, reason="nobody")
    first, second = await owed(house, call_id)
    assert (second.url, second.fields["SequenceNumber"]) == ("https://other.example/cb", "1")
    assert second.after == first.id

    quiet = await a_placed_call(house, EVERY)
    await house.calls.set_callback(quiet, None)
    await house.calls.ended(quiet, CallStatus.NO_ANSWER, reason="nobody")
    assert await owed(house, quiet) == []


async def test_the_story_is_everything_in_the_order_of_time(house: House) -> None:
    call_id = await a_placed_call(house, EVERY)
    await house.calls.note(call_id, StoryKind.SIP, "INVITE to bob", {"method": "INVITE"})
    await house.calls.answered(await house.calls.get(house.account, call_id), "{}")
    request = RecordingRequest(callback=Callback("https://example.com/r?secret=1"))
    recording, _ = await house.recordings.start(house.account, call_id, request)
    await house.calls.note(call_id, StoryKind.VERB, "<Say> hello")
    await house.calls.ended(call_id, CallStatus.COMPLETED, reason="BYE")
    assert await house.finishing.drain(5)
    database = house.context.database
    (of_call, *_) = await owed(house, call_id)
    failed = Attempt(house.context.clock.now(), "timeout", 2000, error="no answer in time")
    async with database.begin() as connection:
        await deliveries.record_attempt(
            connection, of_call.id, failed, state=DeliveryState.PENDING, next_at=failed.at
        )

    story = await house.calls.story(house.account, call_id)
    assert [line.at for line in story] == sorted(line.at for line in story)
    texts = [line.text for line in story]
    sid = spell(Kind.RECORDING, recording.id, house.account.dialect)
    wanted = [
        "was made: +15550100 to sip:bob@example.com",
        "INVITE to bob",
        "answered",
        "answered of the call is owed to https://example.com/cb",
        f"{sid} begun (StartCallRecordingApi, mono, both)",
        "<Say> hello",
        f"{sid} stopped",
    ]
    places = [next(n for n, text in enumerate(texts) if text.startswith(w)) for w in wanted]
    assert places == sorted(places)
    assert story[1] == StoryLine(story[1].at, StoryKind.SIP, "INVITE to bob", {"method": "INVITE"})
    (over,) = (one for one in story if one.kind is StoryKind.CALL and "after" in one.text)
    assert over.text.startswith("completed after ")
    assert over.text.endswith("SIP 200: BYE")
    assert any(text.endswith("try 1: no answer in time after 2000 ms") for text in texts)
    assert not any("secret" in text or "pw@" in text or "?t" in text for text in texts)
    kinds = {line.kind for line in story}
    assert kinds == {
        StoryKind.CALL, StoryKind.SIP, StoryKind.VERB, StoryKind.RECORDING, StoryKind.WEBHOOK
    }  # fmt: skip


async def test_a_story_is_its_own_accounts(house: House) -> None:
    call_id = await a_placed_call(house, None)
    other = await house.accounts.create(name="other")
    with pytest.raises(NotFound):
        await house.calls.story(other, call_id)
    await house.calls.note("0" * 32, StoryKind.VERB, "nobody's")  # changes nothing, raises nothing
