"""Two phones that call each other on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from callreel.base.errors import MachineError, PeerError
from callreel.phone.call import CallFailed, CallState, Ending, EventKind, PhoneCall
from callreel.phone.softphone import Phone
from callreel.wire.sip.flow import Transport
from tests.phone.phones import Phones, seconds, spans, talk


async def both(
    caller: Phone, callee: Phone, transport: Transport = Transport.UDP
) -> tuple[PhoneCall, PhoneCall]:
    """A call that was answered at once, as each side sees it."""
    dialling = asyncio.create_task(caller.call(callee.uri(transport)))
    theirs = await callee.next_call()
    callee.ring(theirs)
    callee.answer(theirs)
    return await dialling, theirs


async def test_each_hears_the_other(phones: Phones, tmp_path: Path) -> None:
    a = await phones.make(talk("tone:440", tmp_path / "a.wav"))
    b = await phones.make(talk("tone:880", tmp_path / "b.wav", ("PCMA",)), takes_calls=True)
    ours, theirs = await both(a, b)
    assert [event.kind for event in ours.events] == ["dialling", "ringing", "answered"]
    await asyncio.sleep(1.2)
    await a.hang_up(ours)
    await asyncio.wait_for(theirs.ended.wait(), 2)
    for name, own, other in (("a", 440, 880), ("b", 880, 440)):
        ((start, end),) = spans(tmp_path / f"{name}.wav", other)
        assert start < 0.08
        assert end > 1.1
        assert spans(tmp_path / f"{name}.wav", own) == []
        assert abs(seconds(tmp_path / f"{name}.wav") - 1.2) < 0.15
    for phone, call, by in ((a, ours, Ending.US), (b, theirs, Ending.PEER)):
        summary = phone.summary(call)
        assert summary.in_order
        assert summary.ended_by == by
        assert (summary.codec, summary.status) == ("PCMA", 200)
        assert abs(summary.seconds - 1.2) < 0.2
        media = summary.media
        assert media is not None
        assert 55 <= media.packets_sent <= 65
        assert 55 <= media.packets_received <= 65
        assert (media.lost, media.duplicated, media.strange) == (0, 0, 0)
        assert media.jitter_ms < 20
        assert media.peer_lost == 0
        assert media.round_trip_ms is not None
        assert media.round_trip_ms < 100
        assert media.delay_ms is not None
        assert 0 <= media.delay_ms < 50


async def test_over_tcp(phones: Phones, tmp_path: Path) -> None:
    a = await phones.make(talk("tone:440", tmp_path / "a.wav"))
    b = await phones.make(talk("tone:880"), takes_calls=True)
    ours, theirs = await both(a, b, Transport.TCP)
    await asyncio.sleep(0.3)
    await b.hang_up(theirs)
    await asyncio.wait_for(ours.ended.wait(), 2)
    assert spans(tmp_path / "a.wav", 880)
    assert a.summary(ours).in_order


async def test_the_callee_hangs_up(phones: Phones) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True)
    ours, theirs = await both(a, b)
    await b.hang_up(theirs)
    await asyncio.wait_for(ours.ended.wait(), 2)
    assert (ours.ended_by, theirs.ended_by) == (Ending.PEER, Ending.US)
    assert a.summary(ours).in_order
    assert a.live_calls == b.live_calls == 0


@pytest.mark.parametrize(("status", "phrase"), [(486, "Busy Here"), (603, "Decline")])
async def test_refused(phones: Phones, status: int, phrase: str) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True)
    dialling = asyncio.create_task(a.call(b.uri()))
    theirs = await b.next_call()
    b.refuse(theirs, status)
    with pytest.raises(CallFailed, match=phrase) as caught:
        await dialling
    call = caught.value.call
    assert (call.status, call.reason, call.ended_by) == (status, phrase, Ending.PEER)
    assert not a.summary(call).in_order
    assert (theirs.status, theirs.state) == (status, CallState.ENDED)
    assert a.summary(call).lines() == [f"not answered: {status} {phrase} (after 0.0 s)"]


async def test_a_phone_that_takes_no_calls(phones: Phones) -> None:
    a, b = await phones.make(), await phones.make()
    with pytest.raises(CallFailed) as caught:
        await a.call(b.uri())
    assert caught.value.status == 480


async def test_a_phone_with_enough_calls_is_busy(phones: Phones) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True, max_calls=1)
    await both(a, b)
    with pytest.raises(CallFailed) as caught:
        await a.call(b.uri())
    assert caught.value.status == 486


async def test_no_codec_in_common(phones: Phones) -> None:
    a = await phones.make(talk(codecs=("PCMU",)))
    b = await phones.make(talk(codecs=("PCMA",)), takes_calls=True)
    dialling = asyncio.create_task(a.call(b.uri()))
    theirs = await b.next_call()
    with pytest.raises(PeerError, match="codec"):
        b.answer(theirs)
    with pytest.raises(CallFailed) as caught:
        await dialling
    assert caught.value.status == theirs.status == 488


async def test_not_answered_in_time(phones: Phones) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True)
    dialling = asyncio.create_task(a.call(b.uri(), ring_timeout_s=0.3))
    theirs = await b.next_call()
    b.ring(theirs)
    with pytest.raises(CallFailed, match="not answered within"):
        await dialling
    await asyncio.wait_for(theirs.ended.wait(), 2)
    assert (theirs.status, theirs.ended_by) == (487, Ending.PEER)
    with pytest.raises(PeerError):
        b.answer(theirs)


async def test_cancelled_while_it_rings(phones: Phones) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True)
    dialling = asyncio.create_task(a.call(b.uri()))
    theirs = await b.next_call()
    b.ring(theirs)
    await asyncio.sleep(0.1)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    await asyncio.wait_for(theirs.ended.wait(), 2)
    assert theirs.status == 487
    assert a.live_calls == b.live_calls == 0


async def test_nobody_there(phones: Phones) -> None:
    a, gone = await phones.make(), await phones.make()
    await gone.close()
    with pytest.raises(CallFailed) as caught:
        await a.call(gone.uri(Transport.TCP))
    assert caught.value.status == 503
    assert caught.value.call.ended_by is Ending.ERROR


async def test_redirected(phones: Phones) -> None:
    a = await phones.make()
    b, c = await phones.make(takes_calls=True), await phones.make(takes_calls=True)

    async def send_on() -> None:
        while True:
            b.redirect(await b.next_call(), c.uri())

    sending_on = asyncio.create_task(send_on())
    with pytest.raises(CallFailed) as caught:
        await a.call(b.uri())
    assert caught.value.status == 302
    following = asyncio.create_task(a.call(b.uri(), follow=True))
    theirs = await c.next_call()
    c.answer(theirs)
    call = await following
    assert [event.text for event in call.events if event.kind is EventKind.REDIRECTED] == [c.uri()]
    await a.hang_up(call)
    sending_on.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending_on


async def test_a_redirection_in_circles_ends(phones: Phones) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True)

    async def send_back() -> None:
        while True:
            b.redirect(await b.next_call(), b.uri())

    sending_back = asyncio.create_task(send_back())
    with pytest.raises(CallFailed) as caught:
        await a.call(b.uri(), follow=True)
    assert caught.value.status == 302
    kinds = [event.kind for event in caught.value.call.events]
    assert kinds.count(EventKind.REDIRECTED) == 2
    sending_back.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending_back


@pytest.mark.parametrize("holder", ["caller", "callee"])
async def test_hold_and_back(phones: Phones, tmp_path: Path, holder: str) -> None:
    a = await phones.make(talk("tone:440", tmp_path / "a.wav"))
    b = await phones.make(talk("tone:880", tmp_path / "b.wav"), takes_calls=True)
    ours, theirs = await both(a, b)
    phone, call, other = (a, ours, theirs) if holder == "caller" else (b, theirs, ours)
    await asyncio.sleep(0.3)
    await phone.hold(call)
    assert call.is_holding
    assert other.is_held
    await asyncio.sleep(0.3)
    await phone.resume(call)
    await asyncio.sleep(0.3)
    await phone.hang_up(call)
    await asyncio.wait_for(other.ended.wait(), 2)
    assert [event.kind for event in other.events][-3:] == ["held", "unheld", "ended"]
    assert [event.kind for event in call.events][-3:] == ["holding", "resumed", "ended"]
    for name, hz in (("a", 880), ("b", 440)):
        (first, second) = spans(tmp_path / f"{name}.wav", hz)
        assert abs(second[0] - first[1] - 0.3) < 0.1
    for summary in (a.summary(ours), b.summary(theirs)):
        assert summary.media is not None
        assert summary.media.lost == 0


async def test_digits_are_heard(phones: Phones) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True)
    ours, theirs = await both(a, b)
    a.send_digits(ours, "12#")
    await theirs.wait_for(EventKind.DIGIT, 3)
    b.send_digits(theirs, "A0")
    await ours.wait_for(EventKind.DIGIT, 2)
    assert (theirs.digits, ours.digits) == ("12#", "A0")
    await a.hang_up(ours)
    summary = b.summary(theirs)
    assert summary.media is not None
    assert summary.media.lost == 0
    assert "digits heard: 12#" in summary.lines()


async def test_early_media(phones: Phones, tmp_path: Path) -> None:
    a = await phones.make(talk("tone:440", tmp_path / "a.wav", early_media=True))
    b = await phones.make(talk("tone:880"), takes_calls=True)
    dialling = asyncio.create_task(a.call(b.uri()))
    theirs = await b.next_call()
    b.ring(theirs, early=True)
    await asyncio.sleep(0.4)
    b.answer(theirs)
    ours = await dialling
    assert [event.kind for event in ours.events][1:] == ["progress", "answered"]
    await asyncio.sleep(0.3)
    await a.hang_up(ours)
    ((start, end),) = spans(tmp_path / "a.wav", 880)
    assert start < 0.1
    assert end > 0.6
    assert a.summary(ours).seconds < 0.45


async def test_without_early_media_the_recording_begins_with_the_answer(
    phones: Phones, tmp_path: Path
) -> None:
    a = await phones.make(talk("tone:440", tmp_path / "a.wav"))
    b = await phones.make(talk("tone:880"), takes_calls=True)
    dialling = asyncio.create_task(a.call(b.uri()))
    theirs = await b.next_call()
    b.ring(theirs, early=True)
    await asyncio.sleep(0.4)
    b.answer(theirs)
    ours = await dialling
    await asyncio.sleep(0.3)
    await a.hang_up(ours)
    assert seconds(tmp_path / "a.wav") < 0.45
    summary = a.summary(ours)
    assert summary.media is not None
    assert summary.media.lost == 0


async def test_several_calls_at_once(phones: Phones, tmp_path: Path) -> None:
    a = await phones.make()
    b = await phones.make(takes_calls=True)
    tones = (500, 700, 900, 1100)

    async def take() -> None:
        for number in range(len(tones)):
            b.answer(await b.next_call(), talk("silence", tmp_path / f"{number}.wav"))

    taking = asyncio.create_task(take())
    calls = [await a.call(b.uri(), talk(f"tone:{hz}")) for hz in tones]
    await taking
    await asyncio.sleep(0.5)
    assert a.live_calls == b.live_calls == 4
    await a.close()
    for number, hz in enumerate(tones):
        assert spans(tmp_path / f"{number}.wav", hz)
    assert all(call.ended_by is Ending.US for call in calls)


async def test_a_recording_that_cannot_be_written_stops_the_call(
    phones: Phones, tmp_path: Path
) -> None:
    a, b = await phones.make(), await phones.make(takes_calls=True)
    nowhere = talk(record=tmp_path / "nowhere" / "a.wav")
    with pytest.raises(MachineError, match="cannot write"):
        await a.call(b.uri(), nowhere)
    dialling = asyncio.create_task(a.call(b.uri()))
    theirs = await b.next_call()
    with pytest.raises(MachineError, match="cannot write"):
        b.answer(theirs, nowhere)
    with pytest.raises(CallFailed) as caught:
        await dialling
    assert caught.value.status == 500
