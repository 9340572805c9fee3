"""What control process and worker say to each other, there and back."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import CallreelError, CapacityError, MachineError, PeerError, UsageError
from callreel.calls.media import CaptureState, CaptureStopped, Codec, Stream
from callreel.calls.model import PauseBehavior, Track
from callreel.calls.voice import (
    DigitHeard,
    Digits,
    FellSilent,
    Played,
    Prompt,
    Silence,
    Tone,
)
from callreel.capture.protocol import (
    MAX_FRAME_BYTES,
    CallPorts,
    FrameReader,
    Op,
    Request,
    WorkerEvent,
    WorkerEventKind,
    WorkerState,
    encode_frame,
    error_from_json,
    error_to_json,
    event_from_json,
    event_to_json,
    media_heard,
    ports_from_json,
    ports_to_json,
    request_from_json,
    request_to_json,
    state_from_json,
    state_to_json,
    stopped_from_json,
    stopped_to_json,
)
from callreel.capture.settings import WorkerSettings, settings_from_argument, slice_ports

ID = "0123456789abcdef" * 2
STREAM = Stream(
    3,
    Track.OUTBOUND,
    "2001:db8::1",
    4002,
    (Codec(0, "PCMU", 8000), Codec(101, "TELEPHONE-EVENT", 8000, 1, "0-16")),
    label="two",
    participant="sip:bob@example.org",
    sending=False,
    receiving=False,
    rtcp_mux=True,
)
TEXT = st.text('aZ0 /.\0"é\u2028\U0001f600', max_size=5)
"""Enough to go wrong with: all of Unicode takes seconds to list, where nothing is cached yet."""
SOUNDS = (
    Prompt(Path("/prompts/a b.s16")),
    Silence(0),
    Tone(1000, 250),
    Digits("0123456789*#ABCDw"),
)
REQUESTS = [
    Request(Op.OPEN, call_id=ID, streams=(STREAM,)),
    Request(Op.UPDATE, call_id=ID),
    Request(Op.CLOSE, call_id=ID),
    Request(Op.BRIDGE, call_id=ID, other_call_id="b" * 32),
    Request(Op.UNBRIDGE, call_id=ID),
    Request(Op.ATTEND, call_id=ID),
    Request(Op.PLAY, call_id=ID, play_id="p-1", token="t-1", sounds=SOUNDS),
    Request(Op.STOP_PLAYING, call_id=ID),
    Request(Op.LISTEN, call_id=ID, silence_ms=5000),
    Request(Op.LISTEN, call_id=ID),
    Request(Op.START, call_id=ID, recording_id=ID, tracks=(Track.INBOUND, Track.OUTBOUND)),
    Request(Op.PAUSE, recording_id=ID, behavior=PauseBehavior.SKIP),
    Request(Op.RESUME, recording_id=ID),
    Request(Op.STOP, recording_id=ID),
    Request(Op.LIST),
    Request(Op.PING),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_requests(request_: Request) -> None:
    assert request_from_json(json.loads(json.dumps(request_to_json(request_)))) == request_


def test_answers_and_events() -> None:
    stopped = CaptureStopped(datetime(2026, 2, 3, 4, 5, 6, 789012, UTC), 1 << 40)
    assert stopped_from_json(stopped_to_json(stopped)) == stopped
    assert ports_from_json(ports_to_json({0: 10000, 7: 10002})) == {0: 10000, 7: 10002}
    state = WorkerState(
        3,
        77,
        (CallPorts(ID, {0: 10000}, "b" * 32, True, "p-1"), CallPorts("b" * 32, {}, ID)),
        (CaptureState("a" * 32, ID, paused=True),),
        relayed=5,
        unsent=6,
        strange=7,
        played=8,
    )
    assert state_from_json(json.loads(json.dumps(state_to_json(state)))) == state
    event = WorkerEvent(WorkerEventKind.NO_MEDIA, ID, "a" * 32, {"stream": 1}, worker=2)
    assert event_from_json(json.loads(json.dumps(event_to_json(event))), worker=2) == event


@pytest.mark.parametrize(
    "sound",
    [
        [],
        ["prompt"],
        ["prompt", "relative"],
        ["prompt", "/" + "x" * 5000],
        ["prompt", "/nul\0"],
        ["prompt", "/half\ud800"],
        ["silence", -1],
        ["silence", 1.5],
        ["silence", 10**12],
        ["tone", 0, 20],
        ["tone", 4000, 20],
        ["tone", 440, 10**9],
        ["digits", "12E"],
        ["digits", "1" * 1000],
        ["digits", 1],
        ["noise", 1],
        "silence",
    ],
)
def test_what_cannot_be_played(sound: object) -> None:
    with pytest.raises(PeerError, match="sounds"):
        request_from_json(
            {"op": "play", "call_id": ID, "play_id": "p", "token": "t", "sounds": [sound]}
        )
    with pytest.raises(PeerError, match="sounds"):
        request_from_json({"op": "play", "call_id": ID, "play_id": "p", "token": "t"})


def test_what_a_worker_heard() -> None:
    told: dict[WorkerEventKind, dict[str, Any]] = {
        WorkerEventKind.PLAYED: {"play_id": "p"},
        WorkerEventKind.DIGIT: {"key": "#"},
        WorkerEventKind.FELL_SILENT: {"spoke": True},
        WorkerEventKind.NO_MEDIA: {"stream": 0},
    }
    assert [media_heard(WorkerEvent(kind, ID, data=data)) for kind, data in told.items()] == [
        Played(ID, "p"),
        DigitHeard(ID, "#"),
        FellSilent(ID, spoke=True),
        None,
    ]


@pytest.mark.parametrize("kind", [CapacityError, UsageError, MachineError])
def test_errors(kind: type[CallreelError]) -> None:
    error = error_from_json(error_to_json(kind("why")))
    assert type(error) is kind
    assert str(error) == "why"


@given(st.data())
def test_no_request_however_damaged_is_more_than_an_error(data: st.DataObject) -> None:
    value: Any = request_to_json(data.draw(st.sampled_from(REQUESTS)))
    junk: st.SearchStrategy[Any] = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        TEXT,
        st.sampled_from([[], [[{}]], {"x": None}, 1.5, 10**30]),
    )
    place = value
    while isinstance(place, dict | list) and place and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(junk)
            break
        place = place[key]
    with contextlib.suppress(PeerError):
        assert request_from_json(value).op in Op


@given(st.lists(st.dictionaries(TEXT, st.integers()), max_size=5), st.data())
def test_frames_cut_anywhere(values: list[dict[str, int]], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(value) for value in values)
    reader = FrameReader()
    read: list[dict[str, Any]] = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        read += reader.feed(stream[at : at + step])
        at += step
    assert read == values


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\0\0\0\1x",
        b"\0\0\0\2[]",
        b"\0\0\0\0",
        b"\0\0\0\2\xff\xff",
    ],
)
def test_what_is_no_frame(data: bytes) -> None:
    with pytest.raises(PeerError):
        list(FrameReader().feed(data))


def test_a_frame_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(UsageError):
        encode_frame({"": "x" * MAX_FRAME_BYTES})


def test_settings_there_and_back() -> None:
    settings = WorkerSettings("::1", 10000, 10999, Path("/x"), sweep_ms=200, index=1, workers=4)
    assert settings_from_argument(settings.to_argv()[-1]) == settings


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(0, 70))
def test_slices_share_all_pairs(low: int, high: int, workers: int) -> None:
    pairs = {port for port in range(low, high) if port % 2 == 0}
    if not 1 <= workers <= len(pairs):
        with pytest.raises(UsageError):
            slice_ports(low, high, workers)
        return
    slices = slice_ports(low, high, workers)
    assert len(slices) == workers
    shares = [{port for port in range(first, last) if port % 2 == 0} for first, last in slices]
    assert set().union(*shares) == pairs
    assert sum(map(len, shares)) == len(pairs)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
