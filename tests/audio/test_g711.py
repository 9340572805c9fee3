from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from callreel.audio import g711
from callreel.audio.g711 import Octets, Samples

CODES = np.arange(256, dtype=np.uint8)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


def test_ulaw_outputs_of_the_recommendation() -> None:
    # G.711 table 2a (values there are of 14 bits, here times four).
    wanted = {0xFF: 0, 0xFE: 8, 0xF0: 120, 0xEF: 132, 0x80: 32124, 0x00: -32124, 0x7F: 0}
    for code, sample in wanted.items():
        assert g711.decode_ulaw(CODES[code : code + 1])[0] == sample


def test_alaw_outputs_of_the_recommendation() -> None:
    # G.711 table 1a (values there are of 13 bits, here times eight).
    wanted = {0xD5: 8, 0x55: -8, 0xD4: 24, 0xAA: 32256, 0x2A: -32256, 0x80: 5504}
    for code, sample in wanted.items():
        assert g711.decode_alaw(CODES[code : code + 1])[0] == sample


@pytest.mark.parametrize(
    ("encode", "decode"),
    [(g711.encode_ulaw, g711.decode_ulaw), (g711.encode_alaw, g711.decode_alaw)],
)
def test_every_sample_gets_the_nearest_code(encode: object, decode: object) -> None:
    assert callable(encode)
    assert callable(decode)
    outputs = decode(CODES).astype(np.int64)
    got = decode(encode(EVERY_SAMPLE)).astype(np.int64)
    error = np.abs(got - EVERY_SAMPLE)
    ladder = np.sort(outputs)
    above = np.clip(np.searchsorted(ladder, EVERY_SAMPLE), 1, 255)
    best = np.minimum(
        np.abs(ladder[above] - EVERY_SAMPLE), np.abs(EVERY_SAMPLE - ladder[above - 1])
    )
    assert (error == best).all()


def test_every_code_but_minus_zero_survives_a_round_trip() -> None:
    ulaw = g711.encode_ulaw(g711.decode_ulaw(CODES))
    assert np.flatnonzero(ulaw != CODES).tolist() == [0x7F]
    assert (g711.encode_alaw(g711.decode_alaw(CODES)) == CODES).all()


def test_silence_is_what_the_constants_say() -> None:
    zero = np.zeros(1, np.int16)
    assert g711.encode_ulaw(zero)[0] == g711.ULAW_SILENCE
    assert g711.encode_alaw(zero)[0] == g711.ALAW_SILENCE


def ffmpeg(source: str, wanted: str, data: bytes) -> bytes:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    spec = ["-ar", "8000", "-ac", "1"]
    command = [program, "-v", "error", "-f", source, *spec, "-i", "-", "-f", wanted, *spec, "-"]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.peer
def test_ffmpeg_decodes_to_the_same_samples() -> None:
    for name, decode in (("mulaw", g711.decode_ulaw), ("alaw", g711.decode_alaw)):
        assert ffmpeg(name, "s16le", CODES.tobytes()) == decode(CODES).astype("<i2").tobytes()


@pytest.mark.peer
def test_ffmpeg_encodes_to_the_same_codes_but_where_its_ladder_is_coarser() -> None:
    # ffmpeg drops the lowest two bits (µ-law) or three (A-law) before it chooses, so around the
    # middle between two codes it may take the other one. Anywhere else the codes must be the same.
    def check(name: str, ours: Octets, outputs: Samples, step: int) -> None:
        theirs = np.frombuffer(
            ffmpeg("s16le", name, EVERY_SAMPLE.astype("<i2").tobytes()), np.uint8
        )
        differ = np.flatnonzero(ours != theirs)
        middle = (outputs[ours[differ]].astype(np.int64) + outputs[theirs[differ]]) / 2
        assert len(differ) < 1000
        assert (np.abs(EVERY_SAMPLE[differ] - middle) <= step).all()

    check("mulaw", g711.encode_ulaw(EVERY_SAMPLE), g711.decode_ulaw(CODES), 4)
    check("alaw", g711.encode_alaw(EVERY_SAMPLE), g711.decode_alaw(CODES), 8)
