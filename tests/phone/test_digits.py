"""Digits as telephone-events, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import UsageError
from callreel.phone.digits import PAUSES, DigitSender, parse_digits
from callreel.wire.telephone_event import EVENTS, DigitReceiver, EventPayload


@pytest.mark.parametrize("text", ["", "x", "1-2", "5" * 201, "1 2"])
def test_what_is_no_digit(text: str) -> None:
    with pytest.raises(UsageError):
        parse_digits(text)


def test_case_tells_pauses_apart_and_nothing_else() -> None:
    assert parse_digits("1aWw*") == "1AWw*"


def test_the_frames_of_one_digit() -> None:
    sender = DigitSender()
    sender.press("5")
    frames = [sender.next_frame() for _ in range(14)]
    assert sender.is_idle
    events = [frame for frame in frames if frame is not None]
    assert frames[8:] == [None] * 6
    assert [one.payload.duration_samples for one in events] == [160, 320, 480, 640, 800] + [800] * 3
    assert [one.payload.ended for one in events] == [False] * 5 + [True] * 3
    assert [one.number for one in events] == list(range(8))
    assert events[0].payload.serialize() == bytes([5, 10, 0, 160])
    assert events[7].payload.serialize() == bytes([5, 0x8A, 3, 32])


def test_a_pause_is_silence_of_that_length() -> None:
    sender = DigitSender()
    sender.press("w")
    count = 0
    while not sender.is_idle:
        assert sender.next_frame() is None
        count += 1
    assert count == PAUSES["w"] == 25


@given(st.text(st.sampled_from(EVENTS + "wW"), min_size=1, max_size=20), st.randoms())
def test_heard_once_whatever_is_lost_or_doubled(digits: str, luck: object) -> None:
    sender, receiver = DigitSender(), DigitReceiver()
    sender.press(digits)
    timestamp = (1 << 32) - 1000
    heard = ""
    while not sender.is_idle:
        frame = sender.next_frame()
        if frame is not None and frame.number % 2 == 0:
            start = (timestamp - frame.number * 160) & 0xFFFFFFFF
            for _ in range(2):
                heard += receiver.receive(frame.payload.serialize(), ssrc=1, timestamp=start) or ""
        timestamp = (timestamp + 160) & 0xFFFFFFFF
    assert heard == "".join(char for char in digits if char in EVENTS)


def test_stragglers_and_what_is_no_digit() -> None:
    receiver = DigitReceiver()
    press = EventPayload(1, False, 160).serialize()
    assert receiver.receive(press, ssrc=1, timestamp=5000) == "1"
    assert receiver.receive(press, ssrc=1, timestamp=3000) is None
    assert receiver.receive(press, ssrc=2, timestamp=3000) == "1"
    # Much older is no straggler: the sender has begun anew.
    assert receiver.receive(press, ssrc=2, timestamp=3000 - 50_000 & 0xFFFFFFFF) == "1"
    assert receiver.receive(press, ssrc=2, timestamp=3000) == "1"
    assert receiver.receive(b"\x01", ssrc=1, timestamp=9000) is None
    flash = EventPayload(16, False, 160).serialize()
    assert receiver.receive(flash, ssrc=1, timestamp=9000) is None
