from __future__ import annotations

import numpy as np
import pytest

from callreel.audio.codec import decoder_for


def test_pcmu_and_pcma_are_one_byte_a_sample() -> None:
    payloads = np.array([0xFF, 0x80, 0xD5], np.uint8)
    lengths = np.array([1, 2], np.int64)
    ulaw, alaw = decoder_for("PCMU", 8000), decoder_for("pcma", 8000)
    assert ulaw is not None
    assert alaw is not None
    assert ulaw.decode(payloads, lengths)[:2].tolist() == [0, 32124]
    assert alaw.decode(payloads, lengths)[2] == 8
    assert ulaw.sample_counts(lengths).tolist() == [1, 2]
    assert ulaw.rate_hz == alaw.rate_hz == 8000


def test_l16_is_in_network_order() -> None:
    decoder = decoder_for("L16", 16000)
    assert decoder is not None
    assert decoder.rate_hz == 16000
    payloads = np.frombuffer(bytes.fromhex("0001 fffe 8000"), np.uint8)
    assert decoder.decode(payloads, np.array([4, 2])).tolist() == [1, -2, -32768]


def test_an_odd_byte_of_l16_spoils_no_other_packet() -> None:
    decoder = decoder_for("L16", 8000)
    assert decoder is not None
    payloads = np.frombuffer(bytes.fromhex("0001 ff 0002 ff"), np.uint8)
    lengths = np.array([3, 3], np.int64)
    assert decoder.sample_counts(lengths).tolist() == [1, 1]
    assert decoder.decode(payloads, lengths).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels"),
    [("G729", 8000, 1), ("", 8000, 1), ("PCMU", 16000, 1), ("L16", 0, 1), ("L16", 44100, 2)],
)
def test_what_cannot_be_decoded_has_no_decoder(name: str, rate_hz: int, channels: int) -> None:
    assert decoder_for(name, rate_hz, channels) is None
