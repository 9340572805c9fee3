"""The ladder of a disk that fills up, and what is done on its steps."""

from __future__ import annotations

import pytest

from callreel.calls.model import CallStatus, RecordingRequest
from callreel.service.errors import NoRoom
from callreel.service.room import Marks, Room, Step
from tests.service.conftest import House

GB = 1_000_000_000
MARKS = Marks(warning_bytes=10 * GB, reserve_bytes=2 * GB)
PLAIN = RecordingRequest()


def see(room: Room, free_bytes: int) -> Step:
    room.saw("/data", free_bytes, 100 * GB, MARKS)
    return room.step


def test_down_the_ladder_and_up_again_without_fluttering() -> None:
    room = Room()
    assert see(room, 10 * GB) is Step.AMPLE
    assert see(room, 10 * GB - 1) is Step.LOW
    assert see(room, 10 * GB) is Step.LOW
    assert see(room, 11 * GB) is Step.AMPLE
    assert see(room, 2 * GB - 1) is Step.OUT
    assert see(room, 2 * GB) is Step.OUT
    assert see(room, 2 * GB + GB // 4) is Step.LOW
    assert see(room, 0) is Step.OUT
    assert see(room, 50 * GB) is Step.AMPLE


def test_the_marks_are_a_share_of_the_disk_unless_they_are_set() -> None:
    small = Marks.of(10 * GB, warning_mb=None, reserve_mb=None)
    assert small == Marks(GB, 300_000_000)
    large = Marks.of(10_000 * GB, warning_mb=None, reserve_mb=None)
    assert large == Marks(10 * 1024**3, 2 * 1024**3)
    assert Marks.of(10 * GB, warning_mb=5, reserve_mb=0) == Marks(5 * 1024**2, 0)


async def test_no_new_recording_is_begun_and_those_that_run_go_on(house: House) -> None:
    call, other = await house.a_call(), await house.a_call()
    running, _ = await house.recordings.start(house.account, call.id, PLAIN)
    see(house.context.room, GB)
    with pytest.raises(NoRoom, match="free"):
        await house.recordings.start(house.account, other.id, PLAIN)
    assert len(house.media.live) == 1
    # It is there already, so nothing new is begun.
    assert (await house.recordings.start(house.account, call.id, PLAIN)) == (running, False)
    await house.recordings.stop(running)
    assert await house.finishing.drain(5)
    see(house.context.room, 50 * GB)
    again, made = await house.recordings.start(house.account, other.id, PLAIN)
    assert made
    await house.recordings.stop(again)


async def test_what_a_policy_records_begins_when_there_is_room(house: House) -> None:
    call, over = await house.a_call(), await house.a_call()
    see(house.context.room, GB)
    for each in (call, over):
        await house.recordings.begin_with_call(house.account, each.id, PLAIN)
    assert house.media.live == {}
    await house.calls.ended(over.id, CallStatus.COMPLETED, reason="BYE")
    await house.recordings.room_again()  # a false alarm
    assert house.media.live == {}
    see(house.context.room, 50 * GB)
    await house.recordings.room_again()
    assert list(house.media.live.values()) == [call.id]
    await house.recordings.room_again()
    assert len(house.media.live) == 1
    await house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE")
