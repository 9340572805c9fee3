"""What whoever looks on is told of streams that are being recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from callreel.audio.g711 import encode_ulaw
from callreel.calls.media import Codec
from callreel.calls.model import Track
from callreel.capture.protocol import seen_from_json, seen_to_json
from callreel.capture.sweep import Batch
from callreel.capture.watch import FLOOR_DBFS, STALE_NS, Watch
from callreel.testing.packets import NumberedSource
from callreel.wire.rtp import Packetizer
from tests.capture.house import BOTH, CALL, ONE, Bench, free_ports, stream

PCMU = (Codec(0, "PCMU", 8000),)


def batch(numbers: list[int], amplitude: int = 16384) -> Batch:
    """Packets of a square wave; its RMS is its amplitude."""
    wave = np.where(np.arange(160) % 2, amplitude, -amplitude).astype(np.int16)
    packets = []
    for number in numbers:
        packetizer = Packetizer(ssrc=1, payload_type=0, sequence=number % 65536, timestamp=0)
        packets.append(packetizer.packet(encode_ulaw(wave).tobytes(), ticks=160))
    lengths = np.array([len(one) for one in packets], np.uint16)
    return Batch(lengths, np.zeros(len(packets), np.int64), b"".join(packets))


def test_level_is_that_of_what_came_since_the_last_look() -> None:
    watch = Watch(0)
    watch.note([batch([1, 2])])
    level, codec = watch.look(1, PCMU, encrypted=False)
    assert codec == "PCMU"
    assert level == pytest.approx(-6.0, abs=0.2)
    watch.note([batch([3], amplitude=0)])
    quiet, _ = watch.look(2, PCMU, encrypted=False)
    assert quiet is not None
    assert quiet <= -70


def test_two_who_look_at_once_see_the_same_and_nothing_once_it_is_old() -> None:
    watch = Watch(0)
    watch.note([batch([1])])
    first = watch.look(1, PCMU, encrypted=False)
    assert watch.look(2, PCMU, encrypted=False) == first
    assert watch.look(2 + STALE_NS, PCMU, encrypted=False) == (None, "")


def test_loss_is_counted_across_looks_and_the_wrap() -> None:
    watch = Watch(0)
    watch.note([batch([65533, 65535])])  # 65534 is missing
    watch.look(1, PCMU, encrypted=False)
    watch.note([batch([65537, 65538])])  # 0 is missing
    watch.look(2, PCMU, encrypted=False)
    assert (watch.packets, watch.lost) == (4, 2)


def test_a_stream_that_begins_anew_has_lost_nothing() -> None:
    watch = Watch(0)
    watch.note([batch([10, 11])])
    watch.look(1, PCMU, encrypted=False)
    watch.note([batch([40000, 40001])])
    watch.look(2, PCMU, encrypted=False)
    assert watch.lost == 0


def test_of_srtp_there_is_loss_but_no_level() -> None:
    watch = Watch(0)
    watch.note([batch([1, 3])])
    assert watch.look(1, PCMU, encrypted=True)[0] is None
    assert watch.lost == 1


def test_a_recorder_tells_of_what_it_keeps_and_of_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "journals", free_ports(20))
    try:
        ports = bench.recorder.open(CALL, [stream(0), stream(1, Track.OUTBOUND)])
        assert [one.kept for one in bench.recorder.observe(CALL)] == [False, False]
        bench.recorder.start(ONE, CALL, BOTH)
        bench.recorder.observe(CALL)  # somebody begins to look
        with NumberedSource() as source:
            source.send(ports[0], 5)
            bench.sweep()
        seen = bench.recorder.observe(CALL)
        assert [one.packets for one in seen] == [5, 0]
        assert seen[0].level_dbfs is not None
        assert seen[0].level_dbfs >= FLOOR_DBFS
        assert (seen[0].codec, seen[0].track, seen[0].kept) == ("PCMU", Track.INBOUND, True)
        assert seen_from_json(seen_to_json(seen)) == tuple(seen)
    finally:
        bench.close()


def test_what_is_watched_is_still_kept_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "journals", free_ports(20))
    try:
        port = bench.recorder.open(CALL, [stream()])[0]
        bench.recorder.start(ONE, CALL, BOTH)
        bench.recorder.observe(CALL)
        with NumberedSource() as source:
            wanted = source.send(port, 20)
            bench.sweep()
            bench.recorder.observe(CALL)
            wanted += source.send(port, 20)
            bench.recorder.stop(ONE)
        assert bench.kept() == wanted
    finally:
        bench.close()
