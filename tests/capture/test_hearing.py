"""What an ear makes of packets: keys, silence, and whether anything was said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from callreel.audio.codec import format_for
from callreel.audio.encoding import encoding_for
from callreel.audio.tone import tone
from callreel.calls.media import Codec
from callreel.capture.hearing import SILENCE_DBFS, Ear
from callreel.wire.rtp import HeaderExtension, RtpPacket
from callreel.wire.telephone_event import EVENTS as KEYS, EventPayload

PCMU = Codec(0, "PCMU", 8000)
PCMA = Codec(8, "PCMA", 8000)
CN = Codec(13, "CN", 8000)
G729 = Codec(18, "G729", 8000)
EVENTS = Codec(101, "TELEPHONE-EVENT", 8000)
CODECS = (PCMU, PCMA, CN, G729, EVENTS)
MS = 1_000_000


def said(level_dbfs: float, codec: Codec = PCMU, samples: int = 160) -> bytes:
    encoding = encoding_for(codec.name, 8000)
    assert encoding is not None
    payload = encoding.encode(tone(440, samples, level_dbfs=level_dbfs))
    return RtpPacket(codec.payload_type, 1, 1, 7, payload).serialize()


def hear(ear: Ear, packet: bytes, at_ms: int) -> None:
    if ear.wants(packet):
        ear.hear(packet, at_ms * MS)


def when_silent(ear: Ear, packets: dict[int, bytes], until_ms: int = 5000) -> int | None:
    """Looked at every 20 ms; when it was silent, in ms."""
    for at_ms in range(0, until_ms, 20):
        if at_ms in packets:
            hear(ear, packets[at_ms], at_ms)
        if ear.has_fallen_silent(at_ms * MS):
            return at_ms
    return None


def listening(silence_ms: int = 1000) -> Ear:
    ear = Ear(CODECS)
    ear.listen(silence_ms, 0)
    return ear


@pytest.mark.parametrize("codec", [PCMU, PCMA])
def test_silence_begins_where_speech_ends(codec: Codec) -> None:
    ear = listening()
    packets = {at: said(-20 if at < 2000 else SILENCE_DBFS - 2, codec) for at in range(0, 9000, 20)}
    assert when_silent(ear, packets) == 1980 + 1000
    assert ear.spoke


def test_who_says_nothing_is_silent_from_the_beginning() -> None:
    for packets in ({}, {at: said(SILENCE_DBFS - 1) for at in range(0, 9000, 20)}):
        ear = listening()
        assert when_silent(ear, packets) == 1000
        assert not ear.spoke


def test_whoever_goes_on_is_never_silent() -> None:
    ear = listening()
    assert when_silent(ear, {at: said(SILENCE_DBFS + 1) for at in range(0, 9000, 960)}) is None
    assert ear.spoke


def test_packets_that_are_missing_are_silence() -> None:
    ear = listening()
    assert when_silent(ear, {at: said(-20) for at in range(0, 400, 20)}) == 380 + 1000


@pytest.mark.parametrize("level", [-96.0, -20.0])
def test_the_law_says_what_is_quiet(level: float) -> None:
    """By the wrong table, A-law's silence would be loud."""
    for codec in (PCMU, PCMA):
        ear = listening(100)
        when_silent(ear, {0: b"", 20: said(level, codec)}, 90)
        assert ear.spoke is (level > SILENCE_DBFS)


def test_comfort_noise_is_silence_and_what_we_cannot_decode_is_not() -> None:
    ear = listening()
    noise = RtpPacket(13, 1, 1, 7, b"\x20").serialize()
    assert when_silent(ear, dict.fromkeys(range(0, 5000, 200), noise)) == 1000
    ear = listening()
    speech = RtpPacket(18, 1, 1, 7, bytes(20)).serialize()
    assert when_silent(ear, dict.fromkeys(range(0, 5000, 20), speech)) is None


def test_headers_of_any_length_and_garbage() -> None:
    plain = RtpPacket.parse(said(-20))
    extension = HeaderExtension(0xBEDE, bytes(4))
    extended = RtpPacket(0, 1, 1, 7, plain.payload, csrc=(1, 2), extension=extension)
    ear = listening()
    when_silent(ear, {500: extended.serialize()}, 600)
    assert ear.spoke
    for garbage in (b"", b"\x80", bytes(12), b"\x9f" + bytes(11), b"\xbf" + bytes(30)):
        ear = listening()
        assert when_silent(ear, dict.fromkeys(range(0, 5000, 20), garbage)) == 1000
    report = b"\x80\xc8\0\6" + b"\x80" * 24
    assert not listening().wants(report)


def test_what_was_said_before_does_not_count() -> None:
    ear = Ear(CODECS)
    ear.listen(1000, 2000 * MS)
    hear(ear, said(-20), 1990)
    assert not ear.has_fallen_silent(2990 * MS)
    assert ear.has_fallen_silent(3000 * MS)
    assert not ear.spoke


def test_nothing_is_wanted_unasked() -> None:
    ear = Ear(CODECS)
    assert not ear.wants(said(-20))
    assert not ear.has_fallen_silent(1 << 62)
    ear.listen(10, 0)
    ear.listen(None, 0)
    assert not ear.wants(said(-20))


def test_more_than_waits_at_once() -> None:
    ear = listening(60_000)
    hear(ear, said(-20), 20)
    for _ in range(2000):
        hear(ear, said(-90), 30)
    assert not ear.has_fallen_silent(60_019 * MS)
    assert ear.has_fallen_silent(60_020 * MS)
    assert ear.spoke


@settings(deadline=None)
@given(
    st.text(st.sampled_from(KEYS), min_size=1, max_size=12),
    st.integers(0, 0xFFFFFFFF),
    st.data(),
)
def test_each_key_once_whatever_is_lost_doubled_or_late(
    keys: str, timestamp: int, data: st.DataObject
) -> None:
    packets: list[list[bytes]] = []
    for key in keys:
        event = [
            RtpPacket(101, 0, timestamp, 7, EventPayload(KEYS.index(key), end, 160).serialize())
            for end in (False, False, True, True, True)
        ]
        packets.append([packet.serialize() for packet in event])
        timestamp = (timestamp + 2080) & 0xFFFFFFFF
    sent: list[bytes] = []
    for number, event_packets in enumerate(packets):
        kept = data.draw(st.lists(st.sampled_from(event_packets), min_size=1, max_size=8))
        sent += kept
        if number:
            # A straggler of the one before.
            sent += data.draw(st.lists(st.sampled_from(packets[number - 1]), max_size=2))
    ear = Ear(CODECS)
    for at, packet in enumerate(sent):
        hear(ear, packet, at)
        hear(ear, said(-20), at)
    assert "".join(ear.keys) == keys


def test_events_that_are_no_keys() -> None:
    ear = Ear(CODECS)
    for number, payload in enumerate((b"", b"\1\2\3", bytes([16, 0, 0, 1]), bytes([255] * 4))):
        hear(ear, RtpPacket(101, 0, number, 7, payload).serialize(), 0)
    hear(ear, b"\xbf\x65" + bytes(10), 0)
    assert ear.keys == []
    # A codec's payload type is an event's only where that was agreed.
    other = Ear((PCMU,))
    packet = RtpPacket(101, 0, 9, 7, EventPayload(1, False, 160).serialize()).serialize()
    hear(other, packet, 0)
    assert other.keys == []
    other.learn(CODECS)
    hear(other, packet, 0)
    hear(Ear(CODECS, other.last_digit), packet, 0)
    assert other.keys == ["1"]


def test_a_successor_does_not_tell_a_key_again() -> None:
    packet = RtpPacket(101, 0, 9, 7, EventPayload(1, True, 160).serialize()).serialize()
    ear = Ear(CODECS, (7, 9))
    hear(ear, packet, 0)
    assert ear.keys == []


def test_the_tables_are_those_of_the_decoders() -> None:
    for codec in (PCMU, PCMA):
        found = format_for(codec.name, 8000)
        assert found is not None
        decoder = found.decoder()
        for level in np.arange(-60.0, -10.0, 2.5):
            packet = said(level, codec)
            codes = np.frombuffer(packet[12:], np.uint8)
            samples = decoder.decode(codes, np.array([len(codes)]))
            rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
            ear = listening()
            when_silent(ear, {20: packet}, 40)
            assert ear.spoke is bool(20 * np.log10(max(rms, 1e-9) / 32768) >= SILENCE_DBFS)
