"""The pure part of playing: ticks, packets, clips. Time is moved by hand."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from callreel.audio import g711
from callreel.audio.encoding import FRAME_SAMPLES, encoding_for
from callreel.base.errors import MachineError, UsageError
from callreel.calls.media import Codec
from callreel.calls.voice import Digits, Prompt, Silence, Sound, Tone
from callreel.capture import prompts as prompts_module
from callreel.capture.pace import BURST, FRAME_NS, Pace
from callreel.capture.player import NEVER, Audio, Clip, Format, Key, Player, Quiet, format_for
from callreel.capture.prompts import Prompts
from callreel.testing.ears import dominant_hz
from callreel.wire.rtp import RtpPacket
from callreel.wire.telephone_event import EventPayload

PCMU = Codec(0, "PCMU", 8000)
PCMA = Codec(8, "PCMA", 8000)
EVENTS = Codec(101, "TELEPHONE-EVENT", 8000)
WIDE_EVENTS = Codec(102, "TELEPHONE-EVENT", 48000)


def form(*codecs: Codec) -> Format:
    found = format_for(codecs)
    assert found is not None
    return found


def player(*codecs: Codec, sequence: int = 0xFFFE, timestamp: int = 0xFFFFFFF0) -> Player:
    return Player(form(*(codecs or (PCMU, EVENTS))), ssrc=7, sequence=sequence, timestamp=timestamp)


def packets(one: Player, ticks: range) -> list[RtpPacket]:
    return [RtpPacket.parse(one.packet(tick)) for tick in ticks]


def audio(*frames: int) -> Audio:
    """Frames of one byte each."""
    return Audio(b"".join(bytes([frame]) * FRAME_SAMPLES for frame in frames), len(frames))


# Ticks


lateness = st.lists(
    st.one_of(st.integers(0, 3 * FRAME_NS), st.integers(0, 3_000_000_000), st.just(90_000_000_000)),
    max_size=40,
)


@settings(deadline=None)
@given(st.integers(0, 10**15), lateness)
def test_whatever_the_lateness_no_tick_is_skipped(start_ns: int, waits_ns: list[int]) -> None:
    pace, one = Pace(start_ns), player(sequence=0, timestamp=0)
    now_ns, ticks, heard = start_ns, [], []
    for wait_ns in [*waits_ns, *[0] * 50]:
        # Woken up late by so much, after the instant that was asked for.
        now_ns = max(now_ns, pace.deadline_ns) + wait_ns
        burst = 0
        while pace.is_due(now_ns):
            ticks.append(pace.tick)
            heard.append(RtpPacket.parse(one.packet(pace.tick)))
            pace.done(now_ns)
            burst += 1
        assert burst <= BURST
        assert pace.deadline_ns > now_ns
    assert ticks == list(range(start_ns // FRAME_NS + 1, ticks[-1] + 1))
    for before, after in pairwise(heard):
        assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 160
        assert (after.sequence - before.sequence) & 0xFFFF == 1


@settings(deadline=None)
@given(st.integers(0, 10**15), st.integers(0, 4_000_000_000))
def test_what_is_late_is_made_up_ten_times_as_fast(start_ns: int, stall_ns: int) -> None:
    pace = Pace(start_ns)
    began_ns = now_ns = start_ns + stall_ns
    while True:
        while pace.is_due(now_ns):
            pace.done(now_ns)
        if pace.tick * FRAME_NS > now_ns:
            break
        assert pace.deadline_ns > now_ns
        now_ns = pace.deadline_ns
    assert now_ns - began_ns <= stall_ns / (BURST - 1) + 2 * FRAME_NS


def test_on_time_there_is_one_at_a_time() -> None:
    pace = Pace(0)
    for tick in range(1, 100):
        assert pace.deadline_ns == tick * FRAME_NS
        assert not pace.is_due(tick * FRAME_NS - 1)
        assert pace.is_due(tick * FRAME_NS)
        pace.done(tick * FRAME_NS)
        assert not pace.is_due(tick * FRAME_NS)


# Packets


def test_the_format_of_a_peer() -> None:
    assert format_for([Codec(18, "G729", 8000), EVENTS]) is None
    assert format_for([]) is None
    assert format_for([Codec(0, "PCMU", 16000), Codec(8, "PCMA", 8000, channels=2)]) is None
    found = form(Codec(18, "G729", 8000), WIDE_EVENTS, Codec(96, "pcma", 8000), PCMU, EVENTS)
    assert (found.encoding.name, found.payload_type, found.event_type) == ("PCMA", 96, 101)
    assert form(PCMU, WIDE_EVENTS).event_type is None


def test_one_after_the_other_and_silence_around() -> None:
    one = player()
    one.play("x", [audio(1, 2), Quiet(1), audio(3)], 12)
    heard = packets(one, range(10, 18))
    quiet = 0xFF
    assert [packet.payload[0] for packet in heard] == [quiet, quiet, 1, 2, quiet, 3, quiet, quiet]
    assert {len(packet.payload) for packet in heard} == {160}
    assert [packet.sequence for packet in heard] == [0xFFFE, 0xFFFF, 0, 1, 2, 3, 4, 5]
    assert [packet.timestamp for packet in heard] == [
        (0xFFFFFFF0 + 160 * tick) & 0xFFFFFFFF for tick in range(10, 18)
    ]
    assert [packet.marker for packet in heard] == [True] + [False] * 7
    assert {(packet.ssrc, packet.payload_type) for packet in heard} == {(7, 0)}
    assert one.ends == 16


def test_cut_off_and_replaced() -> None:
    one = player()
    one.play("x", [audio(1, 2, 3)], 0)
    assert packets(one, range(1))[0].payload[0] == 1
    one.play("y", [audio(9)], 1)
    assert [packet.payload[0] for packet in packets(one, range(1, 3))] == [9, 0xFF]
    one.play("z", [audio(5, 6)], 3)
    assert packets(one, range(3, 4))[0].payload[0] == 5
    one.stop()
    assert (one.play_id, one.ends) == ("", NEVER)
    assert packets(one, range(4, 5))[0].payload[0] == 0xFF


def test_time_goes_on_while_nothing_is_sent() -> None:
    one = player(sequence=5, timestamp=0)
    one.play("x", [audio(1, 2, 3, 4)], 0)
    first, again = packets(one, range(1))[0], packets(one, range(3, 4))[0]
    assert (again.payload[0], again.sequence, again.timestamp) == (4, 6, 3 * 160)
    assert first.marker
    assert again.marker


def test_a_key_is_one_event() -> None:
    one = player(sequence=0, timestamp=0)
    one.play("x", Prompts().clips([Digits("5#")], one.format), 3)
    heard = packets(one, range(2, 3 + 27))
    events = [packet for packet in heard if packet.payload_type == 101]
    first, second = events[:8], events[8:]
    for key, start, event in ((5, 3, first), (11, 16, second)):
        payloads = [EventPayload.parse(packet.payload) for packet in event]
        assert [packet.timestamp for packet in event] == [160 * start] * 8
        assert [packet.marker for packet in event] == [True] + [False] * 7
        assert payloads == [
            EventPayload(key, number >= 5, min(number + 1, 5) * 160) for number in range(8)
        ]
    # Nothing but the events is missing, and audio goes on at its own time.
    assert [packet.sequence for packet in heard] == list(range(len(heard)))
    rest = [(number, packet) for number, packet in enumerate(heard, 2) if packet not in events]
    assert all(packet.timestamp == 160 * tick for tick, packet in rest)
    # From the end of the one to the beginning of the next: 50 ms at the least (Q.24 wants 40).
    assert (second[0].timestamp - first[0].timestamp) / 8 - 100 >= 50


def test_keys_for_a_peer_without_events() -> None:
    in_band, by_event = form(PCMU), form(PCMU, EVENTS)
    clips = Prompts().clips([Digits("1w")], in_band)
    assert [clip.frames for clip in clips] == [5, 8, 25]
    assert isinstance(clips[0], Audio)
    samples = g711.decode_ulaw(np.frombuffer(clips[0].payloads, np.uint8))
    spectrum = np.abs(np.fft.rfft(samples, 8000))
    assert set(spectrum.argsort()[-200:]) >= {697, 1209}
    assert abs(dominant_hz(samples, 8000) - 697) < 5 or abs(dominant_hz(samples, 8000) - 1209) < 5
    keys = "0123456789*#ABCDw"
    lasting = [
        sum(clip.frames for clip in Prompts().clips([Digits(keys)], each))
        for each in (in_band, by_event)
    ]
    assert lasting[0] == lasting[1]


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 40))
def test_converted_in_the_middle(begins: int, when: int) -> None:
    """A new format changes what is said in no other way than how it is written."""
    sounds: list[Sound] = [Tone(440, 60), Digits("1"), Silence(40), Tone(1000, 80)]
    made = Prompts()
    ulaw, alaw = form(PCMU, EVENTS), form(PCMA)
    one, other = player(PCMU, EVENTS), player(PCMA)
    one.play("x", made.clips(sounds, ulaw), begins)
    other.play("x", made.clips(sounds, alaw), begins)
    for tick in range(when):
        one.packet(tick)
        other.packet(tick)
    one.convert(alaw, made.clips(sounds, alaw))
    assert one.ends == other.ends
    assert [packet.payload for packet in packets(one, range(when, 60))] == [
        packet.payload for packet in packets(other, range(when, 60))
    ]


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 50))
def test_a_successor_goes_on_above(sent: int, away: int) -> None:
    one = player(sequence=0xFFF0, timestamp=5)
    one.play("x", [audio(*range(80))], 10)
    before = one.to_json()
    for tick in range(sent):
        one.packet(tick)
    other = Player.from_json(one.format, before, ticks=sent + away)
    other.play("x", [audio(*range(80))], 10)
    expected = RtpPacket.parse(one.packet(sent))
    found = RtpPacket.parse(other.packet(sent + away))
    assert found.sequence == (expected.sequence + away) & 0xFFFF
    assert found.timestamp == (expected.timestamp + 160 * away) & 0xFFFFFFFF
    place = sent + away - 10
    assert found.payload[0] == (place if 0 <= place < 80 else 0xFF)


clips = st.lists(
    st.one_of(
        st.builds(Quiet, st.integers(1, 5)),
        st.builds(Key, st.integers(0, 15)),
        st.lists(st.integers(0, 254), min_size=1, max_size=5).map(lambda some: audio(*some)),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(clips, st.integers(0, 5), st.sets(st.integers(0, 40)))
def test_all_of_it_is_said_in_its_place(played: list[Clip], begins: int, unsent: set[int]) -> None:
    """Whatever is played and whenever nothing may be sent."""
    wanted: dict[int, bytes] = {}
    tick = begins
    for clip in played:
        for frame in range(clip.frames):
            if isinstance(clip, Audio):
                wanted[tick] = clip.payloads[frame * 160 : (frame + 1) * 160]
            elif isinstance(clip, Key):
                pressed = min(frame + 1, 5) * 160
                wanted[tick] = EventPayload(clip.event, frame >= 5, pressed).serialize()
            tick += 1
    one = player(sequence=0, timestamp=0)
    one.play("x", played, begins)
    sequence = 0
    for tick in range(45):
        if tick in unsent:
            continue
        packet = RtpPacket.parse(one.packet(tick))
        assert packet.payload == wanted.get(tick, b"\xff" * 160)
        assert packet.sequence == sequence
        sequence += 1
    assert one.ends == begins + sum(clip.frames for clip in played)


# Prompts


@pytest.mark.parametrize(("codec", "quiet"), [(PCMU, 0xFF), (PCMA, 0xD5)])
def test_a_file_is_encoded_to_the_sample(tmp_path: Path, codec: Codec, quiet: int) -> None:
    samples = np.random.default_rng(3).integers(-32768, 32768, 40007).astype("<i2")
    path = tmp_path / "prompt"
    # An odd last byte is no sample.
    path.write_bytes(samples.tobytes() + b"\x01")
    (clip,) = Prompts().clips([Prompt(path)], form(codec))
    assert isinstance(clip, Audio)
    encoding = encoding_for(codec.name, 8000)
    assert encoding is not None
    assert clip.frames == 251
    wanted = encoding.encode(samples.astype(np.int16))
    assert clip.payloads == wanted.ljust(251 * 160, bytes([quiet]))


def test_prompts_are_remembered_within_bounds(tmp_path: Path) -> None:
    made = Prompts(cached_bytes=1000)
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        path.write_bytes(bytes(2 * 480))
    sounds = [Prompt(path) for path in paths]
    first = made.clips([sounds[0], sounds[0]], form(PCMU))
    assert first[0] is first[1]
    assert made.clips([sounds[0]], form(PCMA))[0] is not first[0]
    # Two of 480 bytes fit; of three, the one that was used least lately goes.
    kept = made.clips([sounds[0]], form(PCMU))[0]
    assert kept is first[0]
    third = made.clips([sounds[2]], form(PCMU))[0]
    assert made.clips([sounds[0]], form(PCMU))[0] is kept
    assert made.clips([sounds[2]], form(PCMU))[0] is third
    assert made.clips([sounds[1]], form(PCMU))[0] is not None
    assert made.clips([sounds[0]], form(PCMU))[0] is not kept
    # One that was written anew is read anew.
    paths[2].write_bytes(b"\x10\x10" * 160)
    assert made.clips([sounds[2]], form(PCMU))[0] != third


def test_files_that_cannot_be_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="cannot read"):
        Prompts().clips([Prompt(tmp_path / "none")], form(PCMU))
    with pytest.raises(MachineError, match="cannot read"):
        Prompts().clips([Prompt(tmp_path)], form(PCMU))
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        if not path.exists():
            os.mkfifo(path)
        with pytest.raises(MachineError, match="not a file"):
            Prompts().clips([Prompt(path)], form(PCMU))
    monkeypatch.setattr(prompts_module, "MAX_PROMPT_SAMPLES", 1000)
    path = tmp_path / "long"
    path.write_bytes(bytes(2002))
    with pytest.raises(UsageError, match="longer"):
        Prompts().clips([Prompt(path)], form(PCMU))


def test_what_lasts_no_time_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    sounds: list[Sound] = [Prompt(tmp_path / "empty"), Silence(0), Tone(440, 0), Digits("")]
    assert Prompts().clips(sounds, form(PCMU)) == []


@pytest.mark.parametrize("ms", [20, 30, 1000, 2500])
def test_a_tone_joins_its_seconds(ms: int) -> None:
    (clip,) = Prompts().clips([Tone(441, ms)], form(PCMU))
    assert isinstance(clip, Audio)
    assert clip.frames == -(-ms // 20)
    samples = g711.decode_ulaw(np.frombuffer(clip.payloads, np.uint8)).astype(np.float64)
    assert len(samples) == clip.frames * 160
    steps = np.abs(np.diff(samples))
    # Nowhere steeper than a sine of that pitch and level is, and of one pitch.
    assert steps.max() < 1.2 * 2 * np.pi * 441 / 8000 * samples.max()
    assert abs(dominant_hz(samples.astype(np.int16), 8000) - 441) < 30
