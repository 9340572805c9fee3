"""Calls that end in a worker: what their party hears and is heard to say, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from callreel.audio import g711
from callreel.audio.tone import tone
from callreel.base.errors import CapacityError, MachineError
from callreel.calls.media import Codec, Srtp, Stream
from callreel.calls.model import PauseBehavior, Track
from callreel.calls.voice import Digits, Prompt, Silence, Tone
from callreel.capture import players as players_module
from callreel.capture.outgoing import Sender
from callreel.capture.protocol import WorkerEventKind
from callreel.journal.format import Block, Kind
from callreel.journal.keys import JournalSeal
from callreel.journal.reader import read_journal
from callreel.journal.writer import JournalWriter
from callreel.render.job import RenderSpec, render_recording
from callreel.testing.ears import read_wav, tone_spans
from callreel.testing.packets import journal_events
from callreel.wire.rtp import RtpPacket
from callreel.wire.sdes import Key, Suite
from callreel.wire.srtp import Protector, Unprotector
from callreel.wire.telephone_event import DigitReceiver, EventPayload
from tests.capture.house import BOTH, CALL, ONE, OTHER, PCMU, TWO, Bench, Party, free_ports

THIRD = "e" * 32
HEARD = 1001
SEAL = JournalSeal.of(b"a server's key")
QUIET = b"\xff" * 160
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


def loud(packets: list[RtpPacket]) -> list[RtpPacket]:
    """Those that something is played in."""
    return [packet for packet in packets if packet.payload != QUIET]


def kept_packets(root: Path, recording_id: str) -> dict[int, list[bytes]]:
    """The RTP of a journal, by stream."""
    found: dict[int, list[bytes]] = {}
    for _, part in read_journal(root, recording_id):
        if isinstance(part, Block) and part.kind is Kind.RTP:
            slab, at = part.packets(), 0
            for length in slab.lengths.tolist():
                found.setdefault(part.stream, []).append(bytes(slab.data[at : at + length]))
                at += length
    return found


def assert_gapless(packets: list[RtpPacket]) -> None:
    for before, after in pairwise(packets):
        assert after.sequence == (before.sequence + 1) & 0xFFFF
        assert after.timestamp == (before.timestamp + FRAME) & 0xFFFFFFFF
        assert after.ssrc == before.ssrc


def test_silence_is_sent_after_a_moment(reception: Reception) -> None:
    reception.recorder.attend(CALL)
    reception.play(0.5)
    packets = reception.heard()
    # So many instants that are a multiple of 20 ms lie in half a second. The first three are held
    # back: who is bridged at once hears the other party alone.
    assert len(packets) in (21, 22, 23)
    assert_gapless(packets)
    assert {packet.payload for packet in packets} == {b"\xff" * FRAME}
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)


def test_a_prompt_is_heard_sample_by_sample(reception: Reception, tmp_path: Path) -> None:
    sound, samples = prompt(tmp_path, 3 * FRAME + 7)
    reception.recorder.attend(CALL)
    reception.play(0.1)
    reception.recorder.play(CALL, "one", [sound, Silence(50), Tone(1000, 40)], token="one")
    (played,) = reception.play_until(WorkerEventKind.PLAYED)
    assert (played.call_id, played.data) == (CALL, {"play_id": "one", "token": "one"})
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


def test_what_is_new_cuts_off_what_was_before(reception: Reception, tmp_path: Path) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    long, _ = prompt(tmp_path, 80_000)
    recorder.play(CALL, "one", [long], token="one")
    reception.play(0.1)
    assert loud(reception.heard())
    short, samples = prompt(tmp_path, 2 * FRAME, seed=2)
    recorder.play(CALL, "two", [short], token="two")
    reception.play_until(WorkerEventKind.PLAYED)
    packets = reception.heard()
    assert (
        b"".join(p.payload for p in packets if p.payload != QUIET)
        == g711.encode_ulaw(samples.astype(np.int16)).tobytes()
    )
    recorder.play(CALL, "three", [long], token="three")
    reception.play(0.1)
    recorder.stop_playing(CALL)
    reception.heard()
    reception.play(0.1)
    assert not loud(reception.heard())
    recorder.play(CALL, "four", [], token="four")
    reception.play_until(WorkerEventKind.PLAYED, 2)
    assert [event.data["play_id"] for event in reception.told(WorkerEventKind.PLAYED)] == [
        "two",
        "four",
    ]


def test_asked_twice_it_is_played_once(reception: Reception) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.attend(CALL)
    recorder.play(CALL, "one", [Tone(440, 200)], token="one")
    reception.play(0.1)
    recorder.play(CALL, "one", [Tone(440, 200)], token="one")
    reception.play_until(WorkerEventKind.PLAYED)
    reception.play(0.1)
    assert len(loud(reception.heard())) == 10
    # It was not heard of, or the question would not come again.
    recorder.play(CALL, "one", [Tone(440, 200)], token="one")
    assert [e.data["play_id"] for e in reception.told(WorkerEventKind.PLAYED)] == ["one", "one"]
    reception.play(0.1)
    assert not loud(reception.heard())


def test_what_cannot_be_played_changes_nothing(reception: Reception, tmp_path: Path) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.play(CALL, "one", [Tone(440, 200)], token="one")
    with pytest.raises(MachineError, match="cannot read"):
        recorder.play(CALL, "two", [Prompt(tmp_path / "none")], token="two")
    noise = np.random.default_rng(1).bytes(40_000).hex()
    many = [Prompt(tmp_path / noise[at : at + 200]) for at in range(0, len(noise), 200)]
    with pytest.raises(CapacityError):
        recorder.play(CALL, "three", many, token="three")
    (played,) = reception.play_until(WorkerEventKind.PLAYED)
    assert played.data == {"play_id": "one", "token": "one"}


def test_keys_are_pressed(reception: Reception) -> None:
    reception.recorder.attend(CALL)
    reception.recorder.play(CALL, "one", [Digits("17")], token="one")
    reception.play_until(WorkerEventKind.PLAYED)
    events = [packet for packet in reception.heard() if packet.payload_type == 101]
    assert len(events) == 16
    receiver = DigitReceiver()
    keys = [receiver.receive(e.payload, ssrc=e.ssrc, timestamp=e.timestamp) for e in events]
    assert [key for key in keys if key] == ["1", "7"]


# Listening


def test_it_is_told_once_that_a_party_falls_silent(reception: Reception) -> None:
    reception.recorder.attend(CALL)
    reception.recorder.listen(CALL, 200)
    noise = bytes(range(160))
    for sequence in range(3):
        reception.party.send_bytes(
            RtpPacket(0, sequence, 160 * sequence, 0xA, noise).serialize(), reception.port
        )
    (told,) = reception.play_until(WorkerEventKind.FELL_SILENT)
    assert (told.call_id, told.data) == (CALL, {"spoke": True})
    reception.play(0.4)
    assert len(reception.told(WorkerEventKind.FELL_SILENT)) == 1
    reception.recorder.listen(CALL, 100)
    told = reception.play_until(WorkerEventKind.FELL_SILENT, 2)[1]
    assert told.data == {"spoke": False}
    reception.recorder.listen(CALL, 100)
    reception.recorder.listen(CALL, None)
    reception.play(0.3)
    assert len(reception.told(WorkerEventKind.FELL_SILENT)) == 2


def test_who_spoke_while_we_were_away_was_not_silent(reception: Reception) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.listen(CALL, 500)
    reception.play(0.05)
    until_ns = time.monotonic_ns() + 700_000_000
    sequence = 0
    while time.monotonic_ns() < until_ns:
        packet = RtpPacket(0, sequence & 0xFFFF, 160 * sequence, 0xA, bytes(range(160)))
        reception.party.send_bytes(packet.serialize(), reception.port)
        sequence += 1
        time.sleep(0.01)
    # The clock comes first: what was said waits in the socket.
    for _ in range(2):
        recorder.play_on()
        assert not reception.told(WorkerEventKind.FELL_SILENT)
    (told,) = reception.play_until(WorkerEventKind.FELL_SILENT)
    assert told.data == {"spoke": True}


def test_a_peer_that_is_gone_is_told(reception: Reception) -> None:
    recorder = reception.recorder
    recorder._silent_ns = 50_000_000
    recorder.attend(CALL)
    reception.play(0.1)
    recorder.watch(time.monotonic_ns())
    assert [e.call_id for e in reception.told(WorkerEventKind.SILENT)] == [CALL]


# Signalling


def test_where_it_is_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "journals", free_ports(40))
    with Party(ssrc=0xA) as signalled, Party(ssrc=0xB) as elsewhere:
        unknown = replace(signalled.stream(), remote_port=0)
        port = bench.recorder.open(CALL, [unknown])[0]
        bench.recorder.attend(CALL)
        bench.recorder.play(CALL, "one", [Tone(440, 100)], token="one")
        # Nobody hears it, and yet it comes to its end.
        bench.play_until(WorkerEventKind.PLAYED)
        assert bench.recorder.state(0).played == 0
        bench.recorder.update(CALL, [signalled.stream()])
        bench.play(0.1)
        first = [RtpPacket.parse(data) for data in signalled.received()]
        assert first[0].marker
        elsewhere.send(port)
        bench.play(0.1)
        signalled.received()
        bench.play(0.1)
        assert signalled.received() == []
        found = [RtpPacket.parse(data) for data in elsewhere.received()]
        assert_gapless(found)
        assert found[-1].ssrc == first[0].ssrc
        bench.close()


def test_on_hold_nothing_is_sent_and_time_goes_on(reception: Reception) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.play(CALL, "one", [Tone(440, 300)], token="one")
    reception.play(0.1)
    recorder.update(CALL, [replace(reception.stream(), receiving=False)])
    before = reception.heard()
    reception.play(0.1)
    assert reception.heard() == []
    recorder.update(CALL, [reception.stream()])
    reception.play_until(WorkerEventKind.PLAYED)
    after = reception.heard()
    assert_gapless(after)
    assert after[0].marker
    assert after[0].sequence == (before[-1].sequence + 1) & 0xFFFF
    passed = (after[0].timestamp - before[-1].timestamp) & 0xFFFFFFFF
    assert passed % FRAME == 0
    assert passed >= 5 * FRAME
    # What was not sent was said to nobody; the end came when it would have come anyway.
    said = loud(before + after)
    assert (said[-1].timestamp - said[0].timestamp) & 0xFFFFFFFF == 14 * FRAME
    assert len(said) <= 15 - 4


def test_another_codec_in_the_middle(reception: Reception, tmp_path: Path) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    sound, samples = prompt(tmp_path, 40 * FRAME)
    recorder.play(CALL, "one", [sound], token="one")
    reception.play(0.1)
    recorder.update(CALL, [replace(reception.stream(), codecs=(PCMA,))])
    reception.play_until(WorkerEventKind.PLAYED)
    packets = reception.heard()
    assert_gapless(packets)
    said = [p for p in packets if p.payload not in (QUIET, b"\xd5" * FRAME)]
    assert len(said) == 40
    kinds = [packet.payload_type for packet in said]
    changed = kinds.index(8)
    assert kinds == [0] * changed + [8] * (40 - changed)
    assert 0 < changed < 40
    wanted = samples.astype(np.int16)
    assert b"".join(p.payload for p in said) == (
        g711.encode_ulaw(wanted[: changed * FRAME]).tobytes()
        + g711.encode_alaw(wanted[changed * FRAME :]).tobytes()
    )


def test_once_another_codec_is_agreed_the_former_is_not_heard(
    reception: Reception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.start(ONE, CALL, BOTH)
    sound, _ = prompt(tmp_path, 80_000)
    recorder.play(CALL, "one", [sound], token="one")
    reception.play(0.1)
    run = recorder._disk.run

    def slow(work: Callable[[], object]) -> object:
        # Whatever is waited for, something goes out meanwhile.
        reception.play(0.06)
        return run(work)

    monkeypatch.setattr(recorder._disk, "run", slow)
    recorder.update(CALL, [replace(reception.stream(), codecs=(PCMA,))])
    reception.play(0.1)
    recorder.stop(ONE)
    kinds = [packet.payload_type for packet in reception.heard()]
    assert kinds == sorted(kinds)
    assert set(kinds) == {0, 8}
    codecs: list[int] = []
    for _, part in read_journal(reception.root, ONE):
        if isinstance(part, Block) and part.kind is Kind.EVENT:
            value = part.json()
            if value["event"] == "stream" and value["number"] == HEARD:
                codecs = [codec["payload_type"] for codec in value["codecs"]]
        elif isinstance(part, Block) and part.kind is Kind.RTP and part.stream == HEARD and codecs:
            assert part.packets().data[1] & 0x7F in codecs


def test_a_file_that_is_gone_when_the_codec_changes(reception: Reception, tmp_path: Path) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    sound, _ = prompt(tmp_path, 80_000)
    recorder.play(CALL, "one", [sound], token="one")
    sound.path.unlink()
    recorder.update(CALL, [replace(reception.stream(), codecs=(PCMA,))])
    (played,) = reception.play_until(WorkerEventKind.PLAYED)
    assert played.data == {"play_id": "one", "token": "one"}


def test_streams_that_come_and_go(reception: Reception) -> None:
    recorder = reception.recorder
    with Party(ssrc=0xB) as second:
        recorder.update(CALL, [reception.stream(), second.stream(1)])
        recorder.attend(CALL)
        recorder.play(CALL, "one", [Tone(440, 60_000)], token="one")
        reception.play(0.1)
        assert loud(reception.heard())
        assert second.received() == []
        # The first can be played to no more: the other one is.
        unplayable = replace(reception.stream(), codecs=(Codec(18, "G729", 8000),))
        recorder.update(CALL, [unplayable, second.stream(1)])
        reception.heard()
        reception.play(0.1)
        assert reception.heard() == []
        assert loud([RtpPacket.parse(data) for data in second.received()])
        recorder.update(CALL, [unplayable])
        reception.play(0.1)
        assert not recorder.is_relaying
        assert [call.attended for call in recorder.state(0).calls] == [True]
        recorder.update(CALL, [reception.stream()])
        reception.play(0.1)
        assert loud(reception.heard())


# Bridges


def test_let_go_while_it_is_bridged(reception: Reception) -> None:
    recorder = reception.recorder
    with Party(ssrc=0xB) as callee:
        port = recorder.open(OTHER, [callee.stream()])[0]
        recorder.attend(CALL)
        recorder.play(CALL, "one", [Tone(440, 60_000)], token="one")
        recorder.listen(CALL, 300)
        reception.play(0.15)
        before = reception.heard()
        recorder.bridge(CALL, OTHER)
        reception.heard()
        says = callee.send(port, 3)
        hears = reception.party.send(reception.port, 3)
        reception.press(5, 77_000, 3)
        reception.play(0.2)
        # Keys pass, and are not for us; nothing of ours is heard.
        assert callee.heard() == [*hears, 3]
        assert [packet.sequence for packet in reception.heard()] == says
        assert not reception.told(WorkerEventKind.DIGIT)
        with pytest.raises(MachineError, match="not attended"):
            recorder.play(CALL, "two", [], token="two")
        with pytest.raises(MachineError, match="not attended"):
            recorder.listen(CALL, 100)
        assert [(c.attended, c.playing) for c in recorder.state(0).calls] == [
            (True, ""),
            (False, ""),
        ]
        recorder.listen(CALL, None)
        recorder.stop_playing(CALL)
        recorder.unbridge(CALL)
        reception.play(0.1)
        after = reception.heard()
        assert not loud(after)
        assert after[0].marker
        assert after[0].ssrc == before[0].ssrc
        assert after[0].sequence == (before[-1].sequence + 1) & 0xFFFF
        passed = (after[0].timestamp - before[-1].timestamp) & 0xFFFFFFFF
        assert passed % FRAME == 0
        assert passed >= 10 * FRAME
        assert callee.received() == []
        assert not reception.told(WorkerEventKind.PLAYED)
        assert not reception.told(WorkerEventKind.FELL_SILENT)


def test_attended_again_when_the_other_one_is_gone(reception: Reception) -> None:
    recorder = reception.recorder
    with Party(ssrc=0xB) as callee, Party(ssrc=0xC) as third:
        recorder.open(OTHER, [callee.stream()])
        recorder.bridge(CALL, OTHER)
        # Asked for while it is bridged, it comes with its end.
        recorder.attend(CALL)
        reception.play(0.1)
        assert reception.heard() == []
        recorder.close(OTHER)
        reception.play(0.1)
        assert reception.heard()
        recorder.open(THIRD, [third.stream()])
        recorder.open(OTHER, [callee.stream()])
        recorder.attend(THIRD)
        recorder.bridge(CALL, THIRD)
        recorder.bridge(THIRD, OTHER)
        for party in (callee, third):
            party.received()
        reception.heard()
        reception.play(0.1)
        # Who was parted from is attended again, those that are bridged are not.
        assert reception.heard()
        assert callee.received() == third.received() == []


def test_a_call_that_is_closed_is_not_attended(reception: Reception) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.play(CALL, "one", [Tone(440, 60)], token="one")
    recorder.close(CALL)
    reception.heard()
    reception.play(0.1)
    assert reception.heard() == []
    assert not recorder.is_relaying
    assert not reception.told(WorkerEventKind.PLAYED)
    reception.port = recorder.open(CALL, [reception.stream()])[0]
    reception.play(0.1)
    assert reception.heard() == []


# Recordings


def test_both_tracks_are_kept(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = reception.recorder
    # A disk that takes no time: nothing is sent while it is waited for.
    monkeypatch.setattr(recorder._disk, "run", lambda work: work())
    recorder.attend(CALL)
    recorder.play(CALL, "one", [Tone(440, 60_000)], token="one")
    reception.play(0.1)
    reception.party.received()
    sent: dict[str, list[bytes]] = {}
    said: dict[str, list[int]] = {}

    def phase(name: str) -> None:
        said[name] = reception.party.send(reception.port, 3)
        reception.play(0.1)
        reception.sweep()
        sent[name] = reception.party.received()

    phase("before")
    recorder.start(ONE, CALL, BOTH)
    recorder.start(TWO, CALL, [Track.OUTBOUND])
    phase("first")
    recorder.pause(ONE, PauseBehavior.SKIP)
    phase("paused")
    recorder.resume(ONE)
    phase("second")
    stopped = recorder.stop(ONE)
    phase("after")
    recorder.stop(TWO)
    kept = kept_packets(reception.root, ONE)
    assert kept[HEARD] == sent["first"] + sent["second"]
    assert reception.kept(ONE, 0) == said["first"] + said["second"]
    assert stopped.packets == len(kept[HEARD]) + 6
    assert kept_packets(reception.root, TWO) == {
        HEARD: sent["first"] + sent["paused"] + sent["second"] + sent["after"]
    }
    assert all(len(packets) >= 4 for packets in sent.values())
    assert not reception.told(WorkerEventKind.NO_MEDIA)


def test_attended_in_the_middle_of_a_recording(reception: Reception) -> None:
    recorder = reception.recorder
    recorder.start(ONE, CALL, BOTH)
    says = reception.party.send(reception.port, 3)
    recorder.attend(CALL)
    says += reception.party.send(reception.port, 3)
    reception.play(0.1)
    with Party(ssrc=0xB) as callee:
        port = recorder.open(OTHER, [callee.stream()])[0]
        recorder.bridge(CALL, OTHER)
        ours = reception.party.received()
        says += reception.party.send(reception.port, 3)
        hears = callee.send(port, 3)
        reception.relay()
        recorder.unbridge(CALL)
        says += reception.party.send(reception.port, 3)
        reception.play(0.1)
        recorder.stop(ONE)
        after = [data for data in reception.party.received() if data[8:12] != b"\0\0\0\x0b"]
    kept = kept_packets(reception.root, ONE)
    assert reception.kept(ONE, 0) == says
    assert kept[HEARD] == ours
    assert reception.kept(ONE, HEARD + 2) == hears
    assert kept[HEARD + 4] == after[: len(kept[HEARD + 4])]
    # What was sent while the end was being written came too late for it.
    assert len(kept[HEARD + 4]) >= len(after) - 3
    closed = [one["number"] for one in journal_events(reception.root, ONE) if one.get("closed")]
    assert closed == [HEARD, HEARD + 2]


def test_a_call_never_waits_for_the_disk(
    reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = JournalWriter.append

    def slow(writer: JournalWriter, blocks: list[bytes]) -> None:
        # A disk that does not finish before the party has heard three more packets.
        with contextlib.suppress(BlockingIOError):
            while reception.party.sock.recv(4096):
                pass
        reception.party.sock.settimeout(5)
        for _ in range(3):
            reception.party.sock.recv(4096)
        reception.party.sock.setblocking(False)
        waited.append(len(blocks))
        append(writer, blocks)

    waited: list[int] = []
    reception.recorder.attend(CALL)
    monkeypatch.setattr(JournalWriter, "append", slow)
    reception.recorder.start(ONE, CALL, BOTH)
    reception.sweep()
    reception.recorder.stop(ONE)
    assert len(waited) >= 3


def test_ears_find_both_sides_in_their_places(tmp_path: Path) -> None:
    """Attended, bridged, attended again while a recording runs: each side is where it was."""
    bench = Bench(tmp_path / "journals", free_ports(40))
    recorder = bench.recorder
    says, voice, greeting, goodbye = 500, 900, 1400, 2200
    with Party(ssrc=0xA) as caller, Party(ssrc=0xB) as callee:
        ports = [
            recorder.open(CALL, [caller.stream()])[0],
            recorder.open(OTHER, [callee.stream()])[0],
        ]
        recorder.attend(CALL)
        began = time.monotonic()
        frame = 0
        marks: dict[str, float] = {}

        def talk(seconds: float) -> None:
            """Both parties speak, each its tone, a packet every 20 ms."""
            nonlocal frame
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for party, port, hz in ((caller, ports[0], says), (callee, ports[1], voice)):
                    samples = tone(hz, FRAME, start_sample=frame * FRAME)
                    payload = g711.encode_ulaw(samples).tobytes()
                    packet = RtpPacket(0, frame & 0xFFFF, frame * FRAME, party.ssrc, payload)
                    party.send_bytes(packet.serialize(), port)
                frame += 1
                while (early_s := began + frame * 0.02 - time.monotonic()) > 0:
                    bench.step(early_s)
                bench.sweep()

        def mark(name: str) -> None:
            marks[name] = time.monotonic()

        talk(0.2)
        recorder.start(ONE, CALL, BOTH)
        mark("start")
        talk(0.3)
        recorder.play(CALL, "one", [Tone(greeting, 400)], token="one")
        mark("greeting")
        talk(0.8)
        recorder.bridge(CALL, OTHER)
        mark("bridged")
        talk(0.6)
        recorder.unbridge(CALL)
        mark("parted")
        talk(0.3)
        recorder.play(CALL, "two", [Tone(goodbye, 400)], token="two")
        mark("goodbye")
        talk(0.6)
        recorder.stop(ONE)
        bench.close()
    result = render_recording(bench.root / ONE, tmp_path / "out", RenderSpec(ONE, channel_count=2))
    assert result.wav is not None
    rate, samples = read_wav(result.wav)
    own, heard = samples[:, 0], samples[:, 1]
    at = {name: instant - marks["start"] for name, instant in marks.items()}
    (spoken,) = tone_spans(own, rate, says)
    assert spoken[0] < 0.06
    assert spoken[1] > at["goodbye"] + 0.55
    found = {
        "greeting": tone_spans(heard, rate, greeting),
        "bridged": tone_spans(heard, rate, voice),
        "goodbye": tone_spans(heard, rate, goodbye),
    }
    for name, spans in found.items():
        (span,) = spans
        assert abs(span[0] - at[name]) < 0.06, (name, spans, at)
    for name in ("greeting", "goodbye"):
        (span,) = found[name]
        assert abs(span[1] - span[0] - 0.4) < 0.01
    assert abs(found["bridged"][0][1] - at["parted"]) < 0.06
    for hz in (voice, greeting, goodbye):
        assert tone_spans(own, rate, hz) == []
    assert tone_spans(heard, rate, says) == []


# SRTP


def key(number: int) -> Key:
    suite = Suite.AES_CM_128_HMAC_SHA1_80
    return Key(suite, bytes([number]) * suite.key_bytes)


def test_srtp_both_ways_and_no_plaintext_on_the_disk(reception: Reception) -> None:
    recorder = reception.recorder
    srtp = Srtp(key(1), key(2), sealed=SEAL.seal(key(1)), sealed_send=SEAL.seal(key(2)))
    secure = replace(reception.stream(), srtp=srtp)
    recorder.update(CALL, [secure])
    recorder.attend(CALL)
    recorder.start(ONE, CALL, BOTH)
    recorder.play(CALL, "one", [Tone(440, 200)], token="one")
    recorder.listen(CALL, 300)
    theirs, ours = Protector(key(1)), Unprotector(key(2))
    noise = bytes(range(160))
    for packet in (
        RtpPacket(0, 0, 0, 0xA, noise),
        RtpPacket(101, 1, 160, 0xA, EventPayload(3, False, 160).serialize()),
    ):
        protected = theirs.rtp(packet.serialize())
        assert protected is not None
        reception.party.send_bytes(protected, reception.port)
    # What was not made with the key presses nothing.
    reception.press(4, 9000, 2)
    forged = Protector(key(9)).rtp(
        RtpPacket(101, 4, 999, 0xA, EventPayload(5, False, 160).serialize()).serialize()
    )
    assert forged is not None
    reception.party.send_bytes(forged, reception.port)
    reception.play_until(WorkerEventKind.PLAYED)
    (pressed,) = reception.play_until(WorkerEventKind.DIGIT)
    assert pressed.data == {"key": "3"}
    (fell,) = reception.play_until(WorkerEventKind.FELL_SILENT)
    assert fell.data == {"spoke": True}
    recorder.stop(ONE)
    received = reception.party.received()
    clear = [ours.rtp(data) for data in received]
    packets = [RtpPacket.parse(data) for data in clear if isinstance(data, bytes)]
    assert len(packets) == len(received)
    assert_gapless(packets)
    assert len(loud(packets)) == 10
    kept = kept_packets(reception.root, ONE)[HEARD]
    assert kept == received[received.index(kept[0]) :][: len(kept)]
    assert len(kept) >= 12
    (described,) = {
        str(one["srtp"]["sealed"])  # type: ignore[index]
        for one in journal_events(reception.root, ONE)
        if one["event"] == "stream" and one["number"] == HEARD
    }
    assert SEAL.open(described) == key(2)
    written = b"".join(path.read_bytes() for path in reception.root.rglob("*.seg"))
    assert loud(packets)[3].payload not in written
    assert noise not in written
    result = render_recording(
        reception.root / ONE,
        reception.root.parent / "out",
        RenderSpec(ONE, channel_count=2, key_secret=SEAL.secret),
    )
    assert result.wav is not None
    rate, samples = read_wav(result.wav)
    (span,) = tone_spans(samples[:, 1], rate, 440)
    assert abs(span[1] - span[0] - 0.2) < 0.01


# Successors


def test_a_successor_goes_on(reception: Reception, tmp_path: Path) -> None:
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.start(ONE, CALL, BOTH)
    sound, samples = prompt(tmp_path, 60 * FRAME)
    recorder.play(CALL, "one", [sound], token="one")
    recorder.listen(CALL, 60_000)
    reception.press(1, 5000, 0)
    reception.play_until(WorkerEventKind.DIGIT)
    reception.play(0.1)
    reception.sweep()
    before = reception.heard()
    reception.press(1, 5000, 1, ended=True)
    reception.press(2, 7000, 2)
    reception.restart()
    reception.play_until(WorkerEventKind.PLAYED)
    reception.play(0.1)
    after = reception.heard()
    assert after[0].ssrc == before[0].ssrc
    assert_gapless(after)
    # None that was sent is sent again, and what is played is where it would be.
    assert (after[0].sequence - before[-1].sequence) & 0xFFFF < 0x8000
    assert after[0].sequence != before[-1].sequence
    first = loud(before)[0].timestamp
    encoded = g711.encode_ulaw(samples.astype(np.int16)).tobytes()
    for packet in loud(before + after):
        at = (packet.timestamp - first) & 0xFFFFFFFF
        assert packet.payload == encoded[at : at + FRAME]
    assert loud(after)[-1].timestamp == (first + 59 * FRAME) & 0xFFFFFFFF
    assert [e.data["play_id"] for e in reception.told(WorkerEventKind.PLAYED)] == ["one"]
    assert [e.data["key"] for e in reception.told(WorkerEventKind.DIGIT)] == ["1", "2"]
    (call,) = reception.recorder.state(0).calls
    assert (call.attended, call.playing) == (True, "")
    assert call.call_id == CALL
    attendant = reception.recorder._calls[CALL].attendant
    assert attendant is not None
    assert attendant.ear.silence_ms == 60_000
    reception.recorder.stop(ONE)
    kept = kept_packets(reception.root, ONE)[HEARD]
    assert [RtpPacket.parse(data) for data in kept][-1] in after
    assert len(kept) > len(after)


def test_what_ended_while_nobody_was_there_is_told(reception: Reception, tmp_path: Path) -> None:
    reception.recorder.attend(CALL)
    sound, _ = prompt(tmp_path, 5 * FRAME)
    reception.recorder.play(CALL, "one", [sound], token="one")
    sound.path.unlink()
    until_ns = time.monotonic_ns() + 150_000_000
    while time.monotonic_ns() < until_ns:
        time.sleep(0.01)
    reception.restart()
    (played,) = reception.play_until(WorkerEventKind.PLAYED)
    assert played.data == {"play_id": "one", "token": "one"}
    reception.restart()
    reception.play(0.1)
    assert len(reception.told(WorkerEventKind.PLAYED)) == 1


def test_a_successor_of_a_bridge_attends_its_end(reception: Reception) -> None:
    with Party(ssrc=0xB) as callee:
        reception.recorder.open(OTHER, [callee.stream()])
        reception.recorder.attend(CALL)
        reception.recorder.attend(OTHER)
        reception.play(0.1)
        (ssrc,) = {packet.ssrc for packet in reception.heard()}
        callee.received()
        reception.recorder.bridge(CALL, OTHER)
        reception.restart()
        said = callee.send(reception.recorder.state(0).calls[1].ports[0], 2)
        reception.play(0.1)
        assert [packet.sequence for packet in reception.heard()] == said
        reception.recorder.close(OTHER)
        reception.play(0.1)
        assert {packet.ssrc for packet in reception.heard()} == {ssrc}


def test_srtp_of_a_successor_never_repeats_an_index(reception: Reception) -> None:
    srtp = Srtp(key(1), key(2), sealed=SEAL.seal(key(1)), sealed_send=SEAL.seal(key(2)))
    recorder = reception.recorder
    recorder.update(CALL, [replace(reception.stream(), srtp=srtp)])
    recorder.attend(CALL)
    attendant = recorder._calls[CALL].attendant
    assert attendant is not None
    # About to roll over.
    attendant.player.sequence = 0xFFF8
    unprotector = Unprotector(key(2))
    heard: list[bytes] = []
    for _ in range(3):
        reception.play(0.2)
        heard += reception.party.received()
        reception.restart()
    reception.play(0.1)
    heard += reception.party.received()
    clear = [unprotector.rtp(data) for data in heard]
    assert all(isinstance(data, bytes) for data in clear)
    assert reception.recorder.state(0).unsent == 0


# Load


class HandClock:
    """Stands for ``time`` where what is due is found out."""

    def __init__(self) -> None:
        self.now_ns = time.monotonic_ns()

    def monotonic_ns(self) -> int:
        return self.now_ns


def test_what_is_late_is_made_up_for_those_who_missed_it(
    reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = reception.recorder
    clock = HandClock()
    monkeypatch.setattr(players_module, "time", clock)
    with Party(ssrc=0xB) as late:
        recorder.open(OTHER, [late.stream()])
        recorder.attend(CALL)
        held_back_ns = players_module.HOLD_BACK_TICKS * 20_000_000
        clock.now_ns += held_back_ns
        recorder.play_on()
        assert reception.heard() == []
        clock.now_ns += 200_000_000
        recorder.attend(OTHER)
        recorder.play_on()
        assert len(reception.heard()) == 10
        assert late.heard() == []
        clock.now_ns += 20_000_000 + held_back_ns
        recorder.play_on()
        assert len(reception.heard()) == 1 + players_module.HOLD_BACK_TICKS
        assert len(late.heard()) == 1
        # For so long that it is made up bit by bit.
        clock.now_ns += 1_000_000_000
        counts = []
        for _ in range(10):
            recorder.play_on()
            counts.append((len(reception.heard()), len(late.heard())))
            clock.now_ns += 20_000_000
        assert counts == [(10, 10)] * 5 + [(5, 5)] + [(1, 1)] * 4


def test_many_are_played_to_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(players_module, "PACKETS_AT_A_TIME", 3)
    bench = Bench(tmp_path / "journals", free_ports(80))
    parties = [Party(ssrc=number) for number in range(10)]
    sound, samples = prompt(tmp_path, 12 * FRAME)
    encoded = g711.encode_ulaw(samples.astype(np.int16)).tobytes()
    for number, party in enumerate(parties):
        bench.recorder.open(f"{number:032x}", [party.stream()])
        bench.recorder.attend(f"{number:032x}")
        bench.step()
        # Asked in the middle of a tick, nothing of it is left out or said twice.
        bench.recorder.play(f"{number:032x}", "one", [sound], token="one")
        bench.step()
    bench.play_until(WorkerEventKind.PLAYED, 10)
    bench.recorder.close(f"{3:032x}")
    bench.play(0.05)
    for party in parties:
        packets = [RtpPacket.parse(data) for data in party.received()]
        assert_gapless(packets)
        assert b"".join(packet.payload for packet in loud(packets)) == encoded
        party.close()
    bench.close()


def test_what_the_kernel_does_not_take_ends_nothing(
    reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = replace(reception.stream(), remote_host="255.255.255.255")
    reception.recorder.update(CALL, [nobody])
    reception.recorder.attend(CALL)
    reception.recorder.play(CALL, "one", [Tone(440, 100)], token="one")
    reception.play_until(WorkerEventKind.PLAYED)
    state = reception.recorder.state(0)
    assert state.unsent >= 5
    assert state.played == 0


def test_no_codec_that_can_be_played(reception: Reception) -> None:
    stream = replace(reception.stream(), codecs=(Codec(18, "G729", 8000), EVENTS))
    reception.recorder.update(CALL, [stream])
    with pytest.raises(MachineError, match="codec"):
        reception.recorder.attend(CALL)
    with pytest.raises(MachineError, match="not attended"):
        reception.recorder.play(CALL, "one", [], token="one")
    with pytest.raises(MachineError):
        reception.recorder.attend(OTHER)
    # Nothing is left of it.
    assert not reception.recorder.is_relaying


def test_a_refusal_of_something_else_is_not_of_this(reception: Reception) -> None:
    sender = Sender()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        with Party() as gone:
            address = ("127.0.0.1", gone.port)
        sock.connect(address)
        # Each brings a refusal upon the socket, which the next one is told of.
        for _ in range(5):
            sender.send(sock, address, b"x")
    assert (sender.sent, sender.unsent) == (5, 0)


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_over_ipv6(tmp_path: Path, host: str) -> None:
    bench = Bench(tmp_path / "journals", free_ports(40, "::"), "::")
    with Party(host) as party:
        port = bench.recorder.open(CALL, [replace(party.stream(), codecs=(PCMU, EVENTS))])[0]
        bench.recorder.attend(CALL)
        bench.play(0.1)
        assert party.received()
        packet = RtpPacket(101, 0, 1, 0xA, EventPayload(4, False, 160).serialize())
        party.send_bytes(packet.serialize(), port)
        (told,) = bench.play_until(WorkerEventKind.DIGIT)
        assert told.data == {"key": "4"}
        party.received()
        bench.play(0.1)
        assert party.received()
        bench.close()


def test_whoever_looks_on_is_told_how_loud_what_we_play_is(
    reception: Reception, tmp_path: Path
) -> None:
    sound, _ = prompt(tmp_path, 60 * FRAME)
    recorder = reception.recorder
    recorder.attend(CALL)
    recorder.start(ONE, CALL, BOTH)
    party, ours = recorder.observe(CALL)
    assert (party.track, ours.track) == (Track.INBOUND, Track.OUTBOUND)
    recorder.play(CALL, "one", [sound], token="one")
    reception.play(0.5)
    reception.sweep()
    party, ours = recorder.observe(CALL)
    assert party.level_dbfs is None
    assert ours.level_dbfs is not None
    assert ours.level_dbfs > -15
    assert (ours.kept, ours.lost) == (True, 0)
