from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from callreel.audio.codec import Format, Octets, Samples, format_for, opus_ticks

Packets = list[bytes]


def known(name: str, clock_rate_hz: int, channels: int = 1) -> Format:
    found = format_for(name, clock_rate_hz, channels)
    assert found is not None
    return found


def laid_out(packets: Packets) -> tuple[Octets, np.ndarray, np.ndarray]:
    sizes = np.array([len(packet) for packet in packets], np.int64)
    return np.frombuffer(b"".join(packets), np.uint8), np.cumsum(sizes) - sizes, sizes


def heard(format_: Format, *packets: bytes) -> Samples:
    octets, start, sizes = laid_out(list(packets))
    samples = format_.decoder().decode(octets, sizes)
    assert len(samples) == format_.ticks(octets, start, sizes).sum() * format_.samples_a_tick
    return samples


def test_g711_is_a_byte_a_sample() -> None:
    packets = bytes.fromhex("ff"), bytes.fromhex("80d5")
    assert heard(known("PCMU", 8000), *packets)[:2].tolist() == [0, 32124]
    assert heard(known("pcma", 8000), *packets)[2] == 8
    assert known("PCMU", 8000).rate_hz == known("PCMA", 8000).rate_hz == 8000


def test_l16_is_in_network_order() -> None:
    assert known("L16", 16000).rate_hz == 16000
    packets = bytes.fromhex("0001 fffe"), bytes.fromhex("8000")
    assert heard(known("L16", 16000), *packets).tolist() == [1, -2, -32768]


@pytest.mark.parametrize(
    ("channels", "packets", "wanted"),
    [
        (1, ("0001 ff", "0002 ff"), [1, 2]),
        (2, ("0002 0004 0009", "7fff 7fff", "fffd ffff 01"), [3, 32767, -2]),
    ],
)
def test_odd_bytes_of_l16_spoil_no_other_packet_and_two_channels_are_one(
    channels: int, packets: tuple[str, ...], wanted: list[int]
) -> None:
    assert heard(known("L16", 8000, channels), *map(bytes.fromhex, packets)).tolist() == wanted


def test_g722_is_sampled_at_twice_its_clock() -> None:
    g722 = known("G722", 8000)
    assert (g722.clock_rate_hz, g722.rate_hz) == (8000, 16000)
    assert len(heard(g722, bytes(160), bytes(80))) == 480


def test_g729_is_frames_of_10_ms_and_silence_descriptors_are_none() -> None:
    g729 = known("G729", 8000)
    octets, start, sizes = laid_out([bytes(20), bytes(12), bytes(2), bytes(7), b""])
    assert g729.ticks(octets, start, sizes).tolist() == [160, 80, 0, 0, 0]
    assert len(heard(g729, bytes(20), bytes(12), bytes(2), bytes(7))) == 240


def test_gsm_is_frames_of_20_ms() -> None:
    assert len(heard(known("GSM", 8000), bytes(33), bytes(67), bytes(5))) == 3 * 160


@pytest.mark.parametrize(
    ("packet", "ticks"),
    [
        ("00", 480),  # SILK narrowband, 10 ms
        ("18", 2880),  # 60 ms
        ("60", 480),  # hybrid, 10 ms
        ("68", 960),
        ("80", 120),  # CELT, 2.5 ms
        ("f8", 960),
        ("f9", 1920),  # two frames of one size
        ("fa", 1920),  # two of two sizes
        ("fb03", 2880),  # three, as the second byte says
        ("fb86", 5760),
        ("fb07", 0),  # longer than 120 ms: no Opus
        ("1b03", 0),
        ("fb", 0),  # how many is not said
        ("", 0),
    ],
)
def test_how_long_an_opus_packet_lasts_is_in_its_first_bytes(packet: str, ticks: int) -> None:
    octets, start, sizes = laid_out([bytes.fromhex(packet), bytes.fromhex("f8ff")])
    assert opus_ticks(octets, start, sizes).tolist() == [ticks, 960]


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels"),
    [
        ("G723", 8000, 1),
        ("", 8000, 1),
        ("PCMU", 16000, 1),
        ("PCMA", 8000, 2),
        ("L16", 0, 1),
        ("L16", 44100, 3),
        ("OPUS", 8000, 2),
        ("G722", 16000, 1),
    ],
)
def test_what_cannot_be_decoded_has_no_format(name: str, rate_hz: int, channels: int) -> None:
    assert format_for(name, rate_hz, channels) is None


@given(
    st.sampled_from(
        [*((name, 8000) for name in ("PCMU", "L16", "G722", "G729", "GSM")), ("OPUS", 48000)]
    ),
    st.lists(st.binary(max_size=80), min_size=1, max_size=8),
)
def test_garbage_lasts_as_long_as_it_says_and_breaks_nothing(
    codec: tuple[str, int], packets: Packets
) -> None:
    heard(known(*codec), *packets)
