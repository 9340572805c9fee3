"""What a worker keeps, to the packet, on real sockets. Sweeps are called for by hand."""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from callreel.base.errors import CapacityError, MachineError, UsageError
from callreel.calls.media import CaptureState, NotWritten
from callreel.calls.model import PauseBehavior, Track
from callreel.capture import recordings as recordings_module
from callreel.capture.anchor import Anchor, Instant
from callreel.capture.protocol import WorkerEventKind
from callreel.capture.recorder import Recorder
from callreel.capture.settings import WorkerSettings
from callreel.journal.format import Block, Hole, Kind
from callreel.journal.reader import read_journal
from callreel.testing.packets import NumberedSource, event_names, journal_events
from tests.capture.house import BOTH, CALL, ONE, TWO, Bench, free_ports, stream


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "journals", free_ports(20))
    yield made
    made.close()


@pytest.fixture
def source() -> Iterator[NumberedSource]:
    with NumberedSource() as made:
        yield made


def test_start_in_mid_stream_keeps_nothing_before_and_everything_after(
    bench: Bench, source: NumberedSource
) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    source.send(port, 30)
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 30)
    bench.sweep()
    wanted += source.send(port, 5)
    stopped = bench.recorder.stop(ONE)
    source.send(port, 30)
    bench.sweep()
    assert bench.kept() == wanted
    assert stopped.packets == 35
    assert event_names(bench.root, ONE) == ["segment", "end"]


def test_arrival_is_the_kernels(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    sent: list[tuple[int, int]] = []
    for _ in range(20):
        before = time.monotonic_ns()
        source.send(port)
        sent.append((before, time.monotonic_ns()))
        time.sleep(0.001)
    bench.recorder.stop(ONE)
    arrivals = [
        arrival
        for _, part in read_journal(bench.root, ONE)
        if isinstance(part, Block) and part.kind is Kind.RTP
        for arrival in part.packets().arrival_ns.tolist()
    ]
    slack = 1_000_000
    assert len(arrivals) == 20
    for (before, after), arrival in zip(sent, arrivals, strict=True):
        assert before - slack <= arrival <= after + slack


def test_the_segment_says_what_is_in_it(bench: Bench) -> None:
    bench.recorder.open(CALL, [stream(0), stream(1, Track.OUTBOUND)])
    instant = bench.recorder.start(ONE, CALL, [Track.OUTBOUND])
    bench.recorder.stop(ONE)
    (header, end) = journal_events(bench.root, ONE)
    assert header["recording"] == ONE
    assert header["call"] == CALL
    assert header["segment"] == header["generation"] == 1
    assert header["started_mono_ns"] == instant.mono_ns
    assert header["tracks"] == ["outbound"]
    assert header["paused"] is None
    assert header["streams"] == [
        {
            "number": 1,
            "track": "outbound",
            "label": "1",
            "participant": "",
            "sending": True,
            "codecs": [
                {
                    "payload_type": 0,
                    "name": "PCMU",
                    "clock_rate_hz": 8000,
                    "channels": 1,
                    "fmtp": "",
                }
            ],
        }
    ]
    assert end == {"event": "end", "reason": "stopped", "packets": 0}


def test_two_recordings_of_one_call(bench: Bench, source: NumberedSource) -> None:
    ports = bench.recorder.open(CALL, [stream(0), stream(1, Track.OUTBOUND)])
    with NumberedSource() as other:
        bench.recorder.start(ONE, CALL, BOTH)
        first = source.send(ports[0], 10)
        out = other.send(ports[1], 10)
        bench.recorder.start(TWO, CALL, [Track.INBOUND])
        second = source.send(ports[0], 10)
        out += other.send(ports[1], 10)
        bench.recorder.stop(ONE)
        third = source.send(ports[0], 10)
        other.send(ports[1], 10)
        bench.sweep()
        bench.recorder.stop(TWO)
    assert bench.kept(ONE, 0) == first + second
    assert bench.kept(ONE, 1) == out
    assert bench.kept(TWO, 0) == second + third
    assert bench.kept(TWO, 1) == []


def test_nothing_said_while_paused_is_kept(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 10)
    paused = bench.recorder.pause(ONE, PauseBehavior.SKIP)
    source.send(port, 10)
    bench.sweep(2)
    assert bench.recorder.pause(ONE, PauseBehavior.SILENCE) == paused
    assert bench.recorder.state(0).captures == (CaptureState(ONE, CALL, True),)
    resumed = bench.recorder.resume(ONE)
    assert bench.recorder.resume(ONE) == resumed
    wanted += source.send(port, 10)
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted
    events = journal_events(bench.root, ONE)
    assert {"event": "pause", "behavior": "skip"} in events
    assert event_names(bench.root, ONE) == ["segment", "pause", "resume", "end"]
    stamps = {
        str(part.json()["event"]): part.mono_ns
        for _, part in read_journal(bench.root, ONE)
        if isinstance(part, Block) and part.kind is Kind.EVENT
    }
    assert stamps["pause"] == paused.mono_ns
    assert stamps["resume"] == resumed.mono_ns


def test_one_pauses_while_another_goes_on(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    bench.recorder.start(TWO, CALL, BOTH)
    before = source.send(port, 5)
    bench.recorder.pause(ONE, PauseBehavior.SILENCE)
    during = source.send(port, 5)
    bench.recorder.resume(ONE)
    after = source.send(port, 5)
    bench.recorder.stop(ONE)
    bench.recorder.stop(TWO)
    assert bench.kept(ONE) == before + after
    assert bench.kept(TWO) == before + during + after


def test_stop_while_paused(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    bench.recorder.pause(ONE, PauseBehavior.SILENCE)
    source.send(port, 5)
    assert bench.recorder.stop(ONE).packets == 5
    assert bench.kept() == wanted


class BusyAnchor(Anchor):
    """Has packets arrive right before and right after each instant that is taken."""

    def __init__(self, send: Callable[[], list[int]]) -> None:
        super().__init__()
        self._send = send
        self.before: list[list[int]] = []
        self.after: list[list[int]] = []

    def now(self) -> Instant:
        self.before.append(self._send())
        instant = super().now()
        self.after.append(self._send())
        return instant


def test_the_instants_cut_to_the_packet(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    anchor = BusyAnchor(lambda: source.send(port, 2))
    bench.recorder._intake.anchor = anchor
    started = bench.recorder.start(ONE, CALL, BOTH)
    bench.sweep()
    paused = bench.recorder.pause(ONE, PauseBehavior.SKIP)
    resumed = bench.recorder.resume(ONE)
    stopped = bench.recorder.stop(ONE)
    assert started.mono_ns < paused.mono_ns < resumed.mono_ns
    slabs = [
        part.packets()
        for _, part in read_journal(bench.root, ONE)
        if isinstance(part, Block) and part.kind is Kind.RTP
    ]
    arrivals = [arrival for slab in slabs for arrival in slab.arrival_ns.tolist()]
    kept = bench.kept()
    sent = [
        number
        for pair in zip(anchor.before, anchor.after, strict=True)
        for number in pair[0] + pair[1]
    ]
    # Each instant falls between two packets sent one after the other: what is kept is two runs,
    # and each begins behind and ends before packets that were let through by the filter.
    first = [n for n, at in zip(kept, arrivals, strict=True) if at <= paused.mono_ns]
    second = kept[len(first) :]
    assert first == list(range(first[0], first[-1] + 1))
    assert second == list(range(second[0], second[-1] + 1))
    assert all(started.mono_ns < at <= paused.mono_ns for at in arrivals[: len(first)])
    assert all(at > resumed.mono_ns for at in arrivals[len(first) :])
    assert any(first[0] == after[0] for after in anchor.after)
    assert any(first[-1] == before[-1] for before in anchor.before)
    assert any(second[0] == after[0] for after in anchor.after)
    assert any(second[-1] == before[-1] for before in anchor.before)
    assert stopped.packets == len(kept) < len(sent)


def test_commands_can_be_sent_again(bench: Bench, source: NumberedSource) -> None:
    ports = bench.recorder.open(CALL, [stream()])
    assert bench.recorder.open(CALL, [stream()]) == ports
    started = bench.recorder.start(ONE, CALL, BOTH)
    source.send(ports[0], 3)
    assert bench.recorder.start(ONE, CALL, BOTH) == started
    stopped = bench.recorder.stop(ONE)
    assert bench.recorder.stop(ONE) == stopped
    with pytest.raises(UsageError):
        bench.recorder.start(ONE, CALL, BOTH)
    # Even by a worker that was started since then: the journal tells.
    bench.restart()
    assert bench.recorder.stop(ONE) == stopped
    bench.recorder.close(CALL)
    bench.recorder.close(CALL)


def test_what_is_not_there_is_an_error(bench: Bench) -> None:
    with pytest.raises(MachineError):
        bench.recorder.start(ONE, CALL, BOTH)
    with pytest.raises(MachineError):
        bench.recorder.update(CALL, [])
    for ask in (bench.recorder.stop, bench.recorder.resume):
        with pytest.raises(MachineError):
            ask(ONE)


def test_an_unknown_address_is_refused_and_counted(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    with NumberedSource("127.0.0.2") as stranger:
        stranger.send(port, 50, to="127.0.0.1")
        bench.recorder.start(ONE, CALL, BOTH)
        wanted = []
        for _ in range(5):
            stranger.send(port, 2, to="127.0.0.1")
            wanted += source.send(port, 3)
            bench.sweep()
        stranger.send(port, 4, to="127.0.0.1")
    assert bench.recorder.stop(ONE).packets == 15
    assert bench.kept() == wanted
    assert drops(bench, "foreign") == 14
    assert drops(bench, "kernel") == 0


def drops(bench: Bench, key: str, recording_id: str = ONE) -> int:
    total = 0
    for event in journal_events(bench.root, recording_id):
        value = event.get(key, 0)
        if event["event"] == "drops":
            assert isinstance(value, int)
            total += value
    return total


def test_another_port_at_the_signalled_address(bench: Bench, source: NumberedSource) -> None:
    # Nobody sends from the port that was signalled: the first source is taken, a second is not.
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    with NumberedSource(ssrc=7) as other:
        other.next = 1000
        other.send(port, 5)
        wanted += source.send(port, 5)
        bench.sweep()
        other.send(port, 2)
        bench.recorder.stop(ONE)
    assert bench.kept() == wanted
    assert drops(bench, "foreign") == 7
    latch = {"stream": 0, "host": "127.0.0.1", "port": source.port, "ssrc": source.ssrc}
    assert {"event": "latch", **latch} in journal_events(bench.root, ONE)
    (told,) = bench.told(WorkerEventKind.LATCHED)
    assert told.data == latch


def test_a_new_ssrc_from_the_same_source_is_kept(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    source.ssrc = 99
    wanted += source.send(port, 5)
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted


def test_new_signalling_lets_another_source_in(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    with NumberedSource("127.0.0.3") as other:
        other.next = 100
        other.send(port, 5, to="127.0.0.1")
        moved = stream(host="127.0.0.3")
        assert bench.recorder.update(CALL, [moved]) == {0: port}
        source.send(port, 5)
        wanted += other.send(port, 5, to="127.0.0.1")
        bench.recorder.stop(ONE)
    assert bench.kept() == wanted
    assert event_names(bench.root, ONE) == ["segment", "stream", "drops", "end"]


def test_the_same_signalling_again_changes_nothing(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    bench.sweep()
    bench.recorder.update(CALL, [stream()])
    with NumberedSource() as other:
        other.send(port, 1)
        wanted += source.send(port, 5)
        bench.recorder.stop(ONE)
    assert bench.kept() == wanted


def test_streams_added_held_and_dropped(bench: Bench, source: NumberedSource) -> None:
    ports = dict(bench.recorder.open(CALL, [stream(0)]))
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(ports[0], 5)
    added = stream(2, Track.OUTBOUND)
    ports = dict(bench.recorder.update(CALL, [replace(stream(0), sending=False), added]))
    with NumberedSource() as other:
        out = other.send(ports[2], 5)
        wanted += source.send(ports[0], 5)
        assert bench.recorder.update(CALL, [added]) == {2: ports[2]}
        source.send(ports[0], 5)
        out += other.send(ports[2], 5)
        bench.recorder.stop(ONE)
    assert bench.kept(ONE, 0) == wanted
    assert bench.kept(ONE, 2) == out
    changes = [
        (event["number"], event["sending"], event.get("closed", False))
        for event in journal_events(bench.root, ONE)
        if event["event"] == "stream"
    ]
    assert changes == [(0, False, False), (2, True, False), (0, False, True)]


def test_close_ends_what_is_still_recorded(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    bench.recorder.close(CALL)
    assert bench.kept() == wanted
    assert journal_events(bench.root, ONE)[-1]["reason"] == "call closed"
    assert [event.recording_id for event in bench.told(WorkerEventKind.ENDED)] == [ONE]
    assert bench.recorder.stop(ONE).packets == 5
    assert bench.keep.held == {}
    assert bench.recorder.next_due_ns() is None or bench.recorder.state(0).calls == ()


def test_rtcp_is_kept_apart(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    source.sock.sendto(b"\x80\xc8\0\6" + bytes(24), ("127.0.0.1", port + 1))
    bench.recorder.stop(ONE)
    kinds = [part.kind for _, part in read_journal(bench.root, ONE) if isinstance(part, Block)]
    assert kinds == [Kind.SEGMENT, Kind.RTCP, Kind.EVENT]


def test_packets_of_any_length(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = []
    for size in (160, 0, 4, 1920, 160, 160, 33):
        wanted += source.send(port, 2, payload_bytes=size)
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted
    (slab,) = [
        part.packets()
        for _, part in read_journal(bench.root, ONE)
        if isinstance(part, Block) and part.kind is Kind.RTP
    ]
    assert slab.lengths.tolist() == [
        12 + size for size in (160, 0, 4, 1920, 160, 160, 33) for _ in range(2)
    ]


def test_an_oversize_packet_is_dropped_and_counted(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 3)
    source.send(port, 2, payload_bytes=3000)
    wanted += source.send(port, 3)
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted
    assert drops(bench, "truncated") == 2


def test_an_overflow_is_counted_as_the_kernels(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    sent = source.send(port, 3000)
    bench.sweep()
    sent += source.send(port, 10)
    stopped = bench.recorder.stop(ONE)
    kept = bench.kept()
    assert kept[-10:] == sent[-10:]
    assert stopped.packets == len(kept) < len(sent)
    assert drops(bench, "kernel") == len(sent) - len(kept)
    assert drops(bench, "foreign") == 0


def test_a_flood_of_one_call_is_more_than_one_batch(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 400)
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted


def test_no_media_is_told_once(
    bench: Bench, source: NumberedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings_module, "NO_MEDIA_NS", 0)
    ports = bench.recorder.open(
        CALL, [stream(0), stream(1, Track.OUTBOUND), replace(stream(2), sending=False)]
    )
    bench.recorder.start(ONE, CALL, BOTH)
    source.send(ports[1], 1)
    bench.sweep(3)
    bench.recorder.stop(ONE)
    assert [event.data for event in bench.told(WorkerEventKind.NO_MEDIA)] == [{"stream": 0}]
    assert event_names(bench.root, ONE) == ["segment", "no-media", "end"]


def test_no_media_is_not_told_too_soon(bench: Bench) -> None:
    bench.recorder.open(CALL, [stream()])
    bench.recorder.start(ONE, CALL, BOTH)
    bench.sweep(3)
    assert bench.told(WorkerEventKind.NO_MEDIA) == []


def test_ports_exhausted(bench: Bench) -> None:
    opened = 0
    with pytest.raises(CapacityError):
        for number in range(11):
            bench.recorder.open(f"{number:032x}", [stream()])
            opened += 1
    assert opened == 10
    # One that finds room for a part of its streams only leaves that to others.
    bench.recorder.close(f"{0:032x}")
    with pytest.raises(CapacityError):
        bench.recorder.open(CALL, [stream(0), stream(1)])
    assert len(bench.recorder.open(CALL, [stream(0)])) == 1


def test_an_update_that_finds_no_room_changes_nothing(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    with pytest.raises(CapacityError):
        bench.recorder.update(CALL, [stream(number) for number in range(1, 12)])
    wanted = source.send(port, 5)
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted


def test_ports_of_others_are_passed_over(bench: Bench) -> None:
    *taken, left = range(bench.settings.port_low, bench.settings.port_high, 2)
    with ExitStack() as stack:
        for port in taken:
            other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            other.bind(("127.0.0.1", port + 1))
        assert bench.recorder.open(CALL, [stream()]) == {0: left}


def test_descriptors_exhausted(tmp_path: Path) -> None:
    low, high = free_ports(20)
    settings = WorkerSettings("127.0.0.1", low, high, journal_root=tmp_path)
    recorder = Recorder(settings, on_event=lambda event: None, fd_limit=70, socket_limit=70)
    recorder.open(CALL, [stream(0)])
    with pytest.raises(CapacityError):
        recorder.open("d" * 32, [stream(0), stream(1)])
    recorder.close(CALL)


def bound_port(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return int(sock.getsockname()[1])


def test_an_icmp_refusal_ends_no_sweep(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    # Errors come only to a socket that is connected and sends: have this one do so.
    fd = next(fd for fd in bench.keep.held[CALL][1] if bound_port(fd) == port)
    with socket.socket(fileno=os.dup(fd)) as ours:
        low = bench.settings.port_low
        ours.connect(("127.0.0.1", low if port != low else low + 2))
        ours.send(b"nobody is there")
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        ours.send(b"nobody is there")
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted


@contextmanager
def no_room_for_journals(bench: Bench, room_bytes: int) -> Iterator[None]:
    """Journal files cannot grow by more than this."""
    size = max(path.stat().st_size for path in bench.root.rglob("*.seg"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    bench: Bench, source: NumberedSource
) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 10)
    bench.sweep()
    with no_room_for_journals(bench, 300):
        for _ in range(5):
            wanted += source.send(port, 10)
            bench.sweep()
    wanted += source.send(port, 10)
    bench.sweep()
    assert bench.recorder.stop(ONE).packets == 70
    assert bench.kept() == wanted
    assert not [part for _, part in read_journal(bench.root, ONE) if isinstance(part, Hole)]
    assert len(bench.told(WorkerEventKind.WRITE_FAILED)) == 1
    assert [event.data for event in bench.told(WorkerEventKind.WRITE_RECOVERED)] == [{"packets": 0}]


def test_one_that_is_stopped_while_the_disk_is_full_is_written_later(
    bench: Bench, source: NumberedSource
) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    bench.recorder.start(TWO, CALL, BOTH)
    wanted = source.send(port, 10)
    bench.sweep()
    with no_room_for_journals(bench, 0):
        wanted += source.send(port, 10)
        with pytest.raises(NotWritten, match="cannot write a journal"):
            bench.recorder.stop(ONE)
        # It has stopped all the same.
        later = source.send(port, 5)
        bench.sweep()
        with pytest.raises(NotWritten):
            bench.recorder.stop(ONE)
    assert bench.recorder.stop(ONE).packets == 20
    assert bench.recorder.stop(ONE).packets == 20
    assert bench.kept() == wanted
    assert "end" in event_names(bench.root, ONE)
    assert bench.recorder.stop(TWO).packets == 25
    assert bench.kept(TWO) == wanted + later


def test_an_end_that_cannot_be_noted_is_no_trouble_for_ever(
    bench: Bench, source: NumberedSource
) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 10)
    bench.recorder.pause(ONE, PauseBehavior.SKIP)
    with no_room_for_journals(bench, 0):
        assert bench.recorder.stop(ONE).packets == 10
    told = [event.kind for event in bench.events if "write" in event.kind.value]
    assert told == [WorkerEventKind.WRITE_FAILED, WorkerEventKind.WRITE_RECOVERED]
    assert bench.kept() == wanted


@pytest.mark.parametrize("asked", [True, False], ids=["asked-again", "by-itself"])
def test_a_call_that_is_closed_while_the_disk_is_full_leaves_all_it_held(
    bench: Bench, source: NumberedSource, asked: bool
) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 10)
    bench.sweep()
    with no_room_for_journals(bench, 0):
        wanted += source.send(port, 10)
        with pytest.raises(NotWritten):
            bench.recorder.stop(ONE)
        bench.recorder.close(CALL)
        assert bench.recorder.next_due_ns() is not None
        bench.sweep()
        assert [one.recording_id for one in bench.recorder.state(0).captures] == [ONE]
        with pytest.raises(NotWritten):
            bench.recorder.stop(ONE)
        assert bench.told(WorkerEventKind.ENDED) == []
    if not asked:
        bench.sweep()
        (ended,) = bench.told(WorkerEventKind.ENDED)
        assert (ended.call_id, ended.recording_id) == (CALL, ONE)
    assert bench.recorder.stop(ONE).packets == 20
    bench.sweep()
    assert bench.recorder.state(0).captures == ()
    assert bench.recorder.next_due_ns() is None
    assert bench.kept() == wanted
    assert "end" in event_names(bench.root, ONE)


def test_a_disk_that_stays_full_is_owned_up_to(
    bench: Bench, source: NumberedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings_module, "MAX_HELD_BYTES", 6_000)
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    sent = source.send(port, 10)
    bench.sweep()
    with no_room_for_journals(bench, 0):
        for _ in range(10):
            sent += source.send(port, 10)
            bench.sweep()
    sent += source.send(port, 10)
    stopped = bench.recorder.stop(ONE)
    kept = bench.kept()
    assert kept[:10] == sent[:10]
    assert kept[10:] == sent[-(len(kept) - 10) :]
    assert stopped.packets == len(kept) < len(sent)
    assert drops(bench, "unwritten") == len(sent) - len(kept)


def test_a_journal_that_cannot_be_made_starts_nothing(bench: Bench, source: NumberedSource) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.root.parent.mkdir(exist_ok=True)
    bench.root.write_text("in the way")
    with pytest.raises(MachineError):
        bench.recorder.start(ONE, CALL, BOTH)
    bench.root.unlink()
    source.send(port, 5)
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted


def test_a_successor_goes_on(bench: Bench, source: NumberedSource) -> None:
    ports = bench.recorder.open(CALL, [stream(0), stream(1, Track.OUTBOUND)])
    bench.recorder.start(ONE, CALL, BOTH)
    bench.recorder.start(TWO, CALL, [Track.OUTBOUND])
    bench.recorder.pause(TWO, PauseBehavior.SKIP)
    wanted = source.send(ports[0], 10)
    bench.sweep()
    wanted += source.send(ports[0], 10)
    with NumberedSource() as other:
        out = other.send(ports[1], 3)
        bench.restart()
        assert bench.recorder.open(CALL, [stream(0), stream(1, Track.OUTBOUND)]) == ports
        wanted += source.send(ports[0], 10)
        bench.recorder.resume(TWO)
        later = other.send(ports[1], 3)
        with NumberedSource() as stranger:
            stranger.send(ports[0], 3)
        assert bench.recorder.stop(ONE).packets == 36
        assert bench.recorder.stop(TWO).packets == 3
    assert bench.kept(ONE, 0) == wanted
    assert bench.kept(ONE, 1) == out + later
    assert bench.kept(TWO, 1) == later
    segments = [
        (event["segment"], event["generation"], event["paused"])
        for event in journal_events(bench.root, TWO)
        if event["event"] == "segment"
    ]
    assert segments == [(1, 1, None), (2, 2, "skip")]
    assert {event.recording_id for event in bench.told(WorkerEventKind.TAKEN_OVER)} == {ONE, TWO}


def test_a_successor_keeps_nothing_from_before_the_start(
    bench: Bench, source: NumberedSource
) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    source.send(port, 5)
    bench.recorder.pause(ONE, PauseBehavior.SKIP)
    bench.recorder.stop(ONE)
    source.send(port, 5)
    bench.restart()
    source.send(port, 5)
    bench.recorder.start(TWO, CALL, BOTH)
    wanted = source.send(port, 5)
    bench.recorder.stop(TWO)
    assert bench.kept(TWO) == wanted


def test_state_that_makes_no_sense_is_not_taken_over(bench: Bench) -> None:
    bench.recorder.open(CALL, [stream()])
    blob, fds = bench.keep.held[CALL]
    other = bench.new_recorder(2)
    for bad in (b"", b"garbage", blob[:-3]):
        with pytest.raises(ValueError, match="cannot take over"):
            other.take_over(CALL, bad, [os.dup(fd) for fd in fds])
    with pytest.raises(ValueError, match="cannot take over"):
        other.take_over(CALL, blob, [])
    assert other.state(0).calls == ()


def test_a_worker_that_shuts_down_leaves_its_journals_open(
    bench: Bench, source: NumberedSource
) -> None:
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    wanted = source.send(port, 5)
    bench.recorder.shut_down()
    assert bench.kept() == wanted
    assert event_names(bench.root, ONE) == ["segment"]


@pytest.mark.parametrize(
    ("bind", "host"),
    [("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1"), ("::", "::ffff:127.0.0.1")],
)
def test_ipv6(tmp_path: Path, bind: str, host: str) -> None:
    try:
        ports = free_ports(8, bind)
    except AssertionError:
        pytest.skip("no IPv6 here")
    bench = Bench(tmp_path, ports, bind)
    port = bench.recorder.open(CALL, [stream(host=host)])[0]
    sender = host.removeprefix("::ffff:")
    with NumberedSource(sender) as source:
        bench.recorder.start(ONE, CALL, BOTH)
        wanted = source.send(port, 5)
        bench.sweep()
        wanted += source.send(port, 5)
        with NumberedSource("::1" if sender == "127.0.0.1" else "127.0.0.1") as stranger:
            if bind == "::":
                stranger.send(port, 3)
        bench.recorder.stop(ONE)
        assert bench.kept() == wanted
        (told,) = bench.told(WorkerEventKind.LATCHED)
        assert told.data["host"] == sender
    bench.close()


def test_ipv6_media_needs_an_ipv6_socket(bench: Bench) -> None:
    with pytest.raises(UsageError):
        bench.recorder.open(CALL, [stream(host="::1")])


def test_sweeps_are_due_on_their_grid_and_only_while_something_is_kept(bench: Bench) -> None:
    due: Callable[[], int | None] = bench.recorder.next_due_ns
    bench.recorder.open(CALL, [stream()])
    assert due() is None
    bench.recorder.start(ONE, CALL, BOTH)
    first = due()
    assert first is not None
    period_ns = bench.settings.sweep_ms * 1_000_000
    assert first % period_ns == 0
    assert first - time.monotonic_ns() <= period_ns
    bench.recorder.stop(ONE)
    bench.sweep()
    assert due() is None


def test_sockets_that_fill_are_swept_sooner(bench: Bench, source: NumberedSource) -> None:
    bench.settings = replace(bench.settings, sweep_ms=60)
    bench.recorder._players.close()
    bench.recorder = bench.new_recorder(1)
    port = bench.recorder.open(CALL, [stream()])[0]
    bench.recorder.start(ONE, CALL, BOTH)
    period = bench.recorder._period
    sweep_when_due(bench, 2)
    assert period.ns == 60_000_000
    wanted = source.send(port, 300)  # of some 500 that there is room for
    sweep_when_due(bench, 2)
    assert period.ns == 30_000_000
    # Nothing more comes: it goes back, though what was last drained had filled it.
    sweep_when_due(bench, 5)
    assert period.ns == 60_000_000
    bench.recorder.stop(ONE)
    assert bench.kept() == wanted


def sweep_when_due(bench: Bench, times: int) -> None:
    for _ in range(times):
        due_ns = bench.recorder.next_due_ns()
        assert due_ns is not None
        while (now_ns := time.monotonic_ns()) < due_ns:
            time.sleep((due_ns - now_ns) / 1e9)
        bench.recorder.sweep(now_ns, calls=1)
