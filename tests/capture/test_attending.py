"""Calls that end in a worker: what their party hears and is heard to say, on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from callreel.audio import g711
from callreel.base.errors import MachineError
from callreel.calls.media import Codec, Stream
from callreel.calls.voice import Prompt, Silence, Tone
from callreel.capture.protocol import WorkerEventKind
from callreel.wire.rtp import RtpPacket
from callreel.wire.telephone_event import EventPayload
from tests.capture.house import CALL, OTHER, PCMU, Bench, Party, free_ports

EVENTS = Codec(101, "TELEPHONE-EVENT", 8000, fmtp="0-15")
PCMA = Codec(8, "PCMA", 8000)
FRAME = 160


class Reception(Bench):
    """A bench with a party that is attended."""

    def __init__(self, root: Path, ports: tuple[int, int]) -> None:
        super().__init__(root, ports)
        self.party = Party(ssrc=0xA)
        self.port = self.recorder.open(CALL, [self.stream()])[0]

    def stream(self) -> Stream:
        return replace(self.party.stream(), codecs=(PCMU, EVENTS))

    def close(self) -> None:
        super().close()
        self.party.close()

    def heard(self) -> list[RtpPacket]:
        return [RtpPacket.parse(data) for data in self.party.received()]

    def press(self, key: int, timestamp: int, sequence: int, *, ended: bool = False) -> None:
        payload = EventPayload(key, ended, 160).serialize()
        packet = RtpPacket(101, sequence, timestamp, 0xA, payload)
        self.party.send_bytes(packet.serialize(), self.port)


@pytest.fixture
def reception(tmp_path: Path) -> Iterator[Reception]:
    made = Reception(tmp_path / "journals", free_ports(40))
    yield made
    made.close()


def prompt(folder: Path, samples: int, seed: int = 1) -> tuple[Prompt, NDArray[np.int16]]:
    """A file of noise, and what is in it."""
    noise = np.random.default_rng(seed).integers(-20000, 20000, samples).astype("<i2")
    path = folder / f"{seed}.s16"
    path.write_bytes(noise.tobytes())
    return Prompt(path), noise


def assert_gapless(packets: list[RtpPacket]) -> None:
    for before, after in pairwise(packets):
        assert after.sequence == (before.sequence + 1) & 0xFFFF
        assert after.timestamp == (before.timestamp + FRAME) & 0xFFFFFFFF
        assert after.ssrc == before.ssrc


def test_silence_is_sent_from_the_first_tick_on(reception: Reception) -> None:
    reception.recorder.attend(CALL)
    reception.play(0.5)
    packets = reception.heard()
    # So many instants that are a multiple of 20 ms lie in half a second.
    assert len(packets) in (24, 25, 26)
    assert_gapless(packets)
    assert {packet.payload for packet in packets} == {b"\xff" * FRAME}
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)


def test_a_prompt_is_heard_sample_by_sample(reception: Reception, tmp_path: Path) -> None:
    sound, samples = prompt(tmp_path, 3 * FRAME + 7)
    reception.recorder.attend(CALL)
    reception.play(0.1)
    reception.recorder.play(CALL, "one", [sound, Silence(50), Tone(1000, 40)])
    (played,) = reception.play_until(WorkerEventKind.PLAYED)
    assert (played.call_id, played.data) == (CALL, {"play_id": "one"})
    reception.play(0.1)
    packets = reception.heard()
    assert_gapless(packets)
    said = [packet.payload for packet in packets]
    while said[0] == b"\xff" * FRAME:
        del said[0]
    while said[-1] == b"\xff" * FRAME:
        del said[-1]
    assert len(said) == 4 + 3 + 2
    wanted = g711.encode_ulaw(samples).tobytes().ljust(4 * FRAME, b"\xff")
    assert b"".join(said[:4]) == wanted
    assert said[4:7] == [b"\xff" * FRAME] * 3
    tone = g711.decode_ulaw(np.frombuffer(b"".join(said[7:]), np.uint8))
    assert np.abs(np.fft.rfft(tone)).argmax() == 1000 * len(tone) // 8000
    reception.play(0.1)
    assert len(reception.told(WorkerEventKind.PLAYED)) == 1


def test_keys_are_told_once(reception: Reception) -> None:
    reception.press(9, 1000, 0)
    reception.recorder.attend(CALL)
    for sequence, (key, timestamp) in enumerate([(1, 2000), (1, 2000), (1, 4000), (12, 6000)]):
        reception.press(key, timestamp, sequence, ended=sequence % 2 == 1)
    reception.press(1, 4000, 9, ended=True)
    told = reception.play_until(WorkerEventKind.DIGIT, 3)
    reception.play(0.05)
    assert [event.data for event in told] == [{"key": "1"}, {"key": "1"}, {"key": "A"}]
    assert len(reception.told(WorkerEventKind.DIGIT)) == 3
    assert told[0].call_id == CALL


def test_no_codec_that_can_be_played(reception: Reception) -> None:
    stream = replace(reception.stream(), codecs=(Codec(18, "G729", 8000), EVENTS))
    reception.recorder.update(CALL, [stream])
    with pytest.raises(MachineError, match="codec"):
        reception.recorder.attend(CALL)
    with pytest.raises(MachineError, match="not attended"):
        reception.recorder.play(CALL, "one", [])
    with pytest.raises(MachineError):
        reception.recorder.attend(OTHER)
    # Nothing is left of it.
    assert not reception.recorder.is_relaying
