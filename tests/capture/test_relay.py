"""What a worker relays between the calls of a bridge, to the packet, on real sockets."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import CapacityError, MachineError, UsageError
from callreel.calls.media import Stream
from callreel.calls.model import PauseBehavior, Track
from callreel.capture import (
    anchor as anchor_module,
    latch as latch_module,
    recordings as recordings_module,
)
from callreel.capture.anchor import Anchor, Instant
from callreel.capture.crowd import DEPTH, Crowd
from callreel.capture.inlet import sort_of, sorts_of
from callreel.capture.outgoing import Outgoing
from callreel.capture.protocol import WorkerEventKind
from callreel.capture.relay import AT_A_TIME
from callreel.capture.sockets import buffer_bytes
from callreel.capture.sweep import Sweeper
from callreel.journal.format import Block, Kind
from callreel.journal.reader import read_journal
from callreel.journal.writer import JournalWriter
from callreel.render.survey import survey
from callreel.testing.packets import NumberedSource, event_names, journal_events
from tests.capture.house import (
    BOTH,
    CALL,
    ONE,
    OTHER,
    PCMU,
    TWO,
    Bench,
    Party,
    free_ports,
)

THIRD = "e" * 32
HEARD = 1001
SENDER_REPORT = b"\x80\xc8\0\6" + bytes(24)
STUN = b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)


@pytest.fixture(autouse=True, params=[True, False], ids=["as-a-crowd", "one-by-one"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is as usual is passed on at once, and else looked at: all must hold for both ways."""
    if not request.param:
        monkeypatch.setattr(Crowd, "_fitting", lambda *_: None)


class Bridge(Bench):
    """A bench with a caller and a callee, bridged."""

    def __init__(self, root: Path, ports: tuple[int, int], host: str = "127.0.0.1") -> None:
        super().__init__(root, ports, host)
        self.caller = Party(ssrc=0xA)
        self.callee = Party(ssrc=0xB)
        self.caller_port = self.recorder.open(CALL, [self.caller.stream()])[0]
        self.callee_port = self.recorder.open(OTHER, [self.callee.stream()])[0]
        self.recorder.bridge(CALL, OTHER)

    def close(self) -> None:
        super().close()
        self.caller.close()
        self.callee.close()

    def from_caller(self, count: int = 1, **keys: Any) -> list[int]:
        return self.caller.send(self.caller_port, count, **keys)

    def from_callee(self, count: int = 1, **keys: Any) -> list[int]:
        return self.callee.send(self.callee_port, count, **keys)


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    made = Bridge(tmp_path / "journals", free_ports(40))
    yield made
    made.close()


def test_both_directions_from_the_first_packet(bridge: Bridge) -> None:
    # The callee speaks first: the caller is reached where it was signalled.
    first = bridge.from_callee(3)
    bridge.relay()
    assert bridge.caller.heard() == first
    second = bridge.from_caller(3)
    bridge.relay()
    assert bridge.callee.heard() == second
    assert bridge.recorder.state(0).relayed == 6
    assert bridge.recorder.next_due_ns() is None


def test_packets_pass_through_as_they_are(bridge: Bridge) -> None:
    packets = [
        bytes((0x80 | csrcs, 0x80 * (number % 2) | payload_type))
        + bytes((number, 1, 2, 3, 4, 5, 6, 7, 8, 9))
        + bytes((number,)) * size
        for number, (csrcs, payload_type, size) in enumerate(
            [(0, 0, 160), (0, 101, 4), (0, 13, 1), (1, 9, 320), (0, 0, 0), (0, 0, 1900)] * 20
        )
    ]
    for packet in packets:
        bridge.caller.send_bytes(packet, bridge.caller_port)
    bridge.relay()
    assert bridge.callee.received() == packets
    for packet in packets:
        bridge.caller.send_bytes(packet, bridge.caller_port)
        bridge.relay()
    assert bridge.callee.received() == packets


def test_a_burst_of_one_length(bridge: Bridge) -> None:
    for size in (160, 20, 160):
        sent = bridge.from_caller(3 * AT_A_TIME, payload_bytes=size)
        bridge.relay()
        assert bridge.callee.heard() == sent


def test_the_peer_is_reached_where_it_speaks_from(bridge: Bridge) -> None:
    with Party(ssrc=0xC) as elsewhere:
        elsewhere.send(bridge.caller_port)
        bridge.relay()
        assert bridge.callee.heard() == [0]
        sent = bridge.from_callee(3)
        bridge.relay()
        assert elsewhere.heard() == sent
        assert bridge.caller.heard() == []
        # It is held: whoever else is at that address is a stranger.
        bridge.from_caller(3)
        bridge.relay()
        assert bridge.callee.heard() == []
        assert bridge.from_callee() is not None
        bridge.relay()
        assert len(elsewhere.heard()) == 1
        (told,) = [
            event
            for event in bridge.told(WorkerEventKind.LATCHED)
            if event.call_id == CALL and event.data["port"] == elsewhere.port
        ]
        assert told.data["ssrc"] == 0xC


def test_new_signalling_lets_another_port_speak(bridge: Bridge) -> None:
    bridge.from_caller()
    bridge.relay()
    assert len(bridge.callee.heard()) == 1
    with Party(ssrc=0xC) as moved:
        bridge.recorder.update(CALL, [moved.stream()])
        sent = bridge.from_callee(2)
        bridge.relay()
        assert moved.heard() == sent
        sent = moved.send(bridge.caller_port, 2)
        bridge.from_caller(2)
        bridge.relay()
        assert bridge.callee.heard() == sent


def test_a_hold_keeps_the_learnt_address(bridge: Bridge) -> None:
    with Party(ssrc=0xC) as elsewhere:
        elsewhere.send(bridge.caller_port)
        bridge.relay()
        stream = bridge.caller.stream()
        bridge.recorder.update(CALL, [replace(stream, sending=False)])
        sent = bridge.from_callee(2)
        bridge.relay()
        assert elsewhere.heard() == sent


def test_after_a_silence_another_port_may_speak(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latch_module, "SILENCE_NS", 0)
    bridge.from_caller()
    bridge.relay()
    with Party(ssrc=0xC) as elsewhere:
        sent = elsewhere.send(bridge.caller_port, 2)
        bridge.relay()
        assert bridge.callee.heard() == [0, *sent]
        sent = bridge.from_callee()
        bridge.relay()
        assert elsewhere.heard() == sent


def test_a_source_is_held_for_as_long_as_it_speaks(bridge: Bridge) -> None:
    latch = bridge.recorder._calls[CALL].streams[0].rtp.latch
    for count in (1, 1, 3):
        latch.heard_ns = 0
        before_ns = time.monotonic_ns()
        bridge.from_caller(count)
        bridge.relay()
        assert latch.heard_ns >= before_ns - 1_000_000


def test_the_clock_may_be_set(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge.from_caller()
    bridge.relay()
    anchor = bridge.recorder._anchor
    set_back = anchor.offset_ns - 3600 * 10**9
    monkeypatch.setattr(anchor_module, "_measure", lambda: set_back)
    bridge.recorder._checked_ns = 0
    said = bridge.from_caller(2)
    bridge.relay()
    assert anchor.offset_ns == set_back
    with Party(ssrc=0xC) as elsewhere:
        elsewhere.send(bridge.caller_port, 2)
        said += bridge.from_caller(2)
        bridge.relay()
    assert bridge.callee.heard() == [0, *said]
    latch = bridge.recorder._calls[CALL].streams[0].rtp.latch
    assert abs(latch.heard_ns - time.monotonic_ns()) < 10**9


def test_strangers_are_not_relayed(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    with NumberedSource("127.0.0.2") as stranger:
        stranger.send(bridge.caller_port, 5, to="127.0.0.1")
        stranger.send(bridge.caller_port + 1, 5, to="127.0.0.1")
        sent = bridge.from_caller(2)
        stranger.send(bridge.caller_port, 5, to="127.0.0.1")
        bridge.relay()
    bridge.recorder.stop(ONE)
    assert bridge.callee.heard() == sent
    assert bridge.callee.received(rtcp=True) == []
    assert bridge.kept() == sent


def test_neither_rtp_nor_rtcp_is_sent_on_or_latched(bridge: Bridge) -> None:
    garbage = [STUN, b"", b"\x80", b"\x80\0" + bytes(9), b"\x16\xfe\xff" + bytes(20), b"\xff" * 3]
    with Party() as elsewhere:
        for data in garbage:
            elsewhere.send_bytes(data, bridge.caller_port)
            elsewhere.send_bytes(data, bridge.caller_port + 1, rtcp=True)
        bridge.relay()
        sent = bridge.from_caller(2)
        bridge.relay()
        for data in (*garbage, *garbage):
            bridge.caller.send_bytes(data, bridge.caller_port)
        bridge.caller.send_bytes(STUN, bridge.caller_port)
        bridge.relay()
        bridge.caller.send_bytes(STUN, bridge.caller_port)
        bridge.relay()
        sent += bridge.from_caller(2)
        bridge.relay()
        assert bridge.callee.heard() == sent
        assert bridge.callee.received(rtcp=True) == []
        assert bridge.recorder.state(0).strange == 2 * len(garbage) + 2


def test_garbage_among_packets_of_one_length(bridge: Bridge) -> None:
    bridge.from_caller()
    bridge.relay()
    bridge.callee.heard()
    sent = []
    for _ in range(3):
        sent += bridge.from_caller()
        bridge.caller.send_bytes(STUN.ljust(172), bridge.caller_port)
        bridge.caller.send_bytes(SENDER_REPORT.ljust(172, b"\0"), bridge.caller_port)
    bridge.relay()
    assert bridge.callee.heard() == sent
    assert len(bridge.callee.received(rtcp=True)) == 3
    assert bridge.recorder.state(0).strange == 3


@pytest.mark.parametrize("caller_mux", [False, True])
@pytest.mark.parametrize("callee_mux", [False, True])
def test_rtcp_goes_to_where_the_other_side_wants_it(
    bridge: Bridge, caller_mux: bool, callee_mux: bool
) -> None:
    bridge.recorder.update(CALL, [replace(bridge.caller.stream(), rtcp_mux=caller_mux)])
    bridge.recorder.update(OTHER, [replace(bridge.callee.stream(), rtcp_mux=callee_mux)])
    sides = [
        (bridge.caller, bridge.caller_port, caller_mux),
        (bridge.callee, bridge.callee_port, callee_mux),
    ]
    for (one, port, mux), (two, _, other_mux) in (sides, sides[::-1]):
        for _ in range(2):
            one.send_bytes(SENDER_REPORT, port if mux else port + 1, rtcp=not mux)
            sent = one.send(port)
            bridge.relay()
            got, got_rtcp = two.received(), two.received(rtcp=True)
            if other_mux:
                assert SENDER_REPORT in got
                got.remove(SENDER_REPORT)
            else:
                assert got_rtcp == [SENDER_REPORT]
            assert [int.from_bytes(data[2:4], "big") for data in got] == sent


def test_rtp_on_the_rtcp_port_goes_nowhere(bridge: Bridge) -> None:
    bridge.caller.send_bytes(SENDER_REPORT, bridge.caller_port + 1, rtcp=True)
    bridge.caller.send_bytes(b"\x80\0" + bytes(170), bridge.caller_port + 1, rtcp=True)
    bridge.relay()
    assert bridge.callee.received() == []
    assert bridge.callee.received(rtcp=True) == [SENDER_REPORT]


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8))
def test_many_are_sorted_as_one_is(datagrams: list[bytes]) -> None:
    heads = np.zeros((len(datagrams), 2), np.uint8)
    for row, data in zip(heads, datagrams, strict=True):
        row[: len(data[:2])] = list(data[:2])
    lengths = np.array([len(data) for data in datagrams], np.uint16)
    assert sorts_of(heads, lengths).tolist() == [
        sort_of(int(first), int(second), int(length))
        for (first, second), length in zip(heads, lengths, strict=True)
    ]


def test_payload_types_by_rfc_5761() -> None:
    sorts = {second: sort_of(0x80, second, 20) for second in range(256)}
    assert [second for second, sort in sorts.items() if sort == 2] == list(range(192, 224))
    assert sort_of(0x80, 200, 3) == sort_of(0x80, 0, 11) == sort_of(0x40, 0, 20) == 0


def test_whoever_is_on_hold_is_sent_no_rtp(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    bridge.recorder.start(TWO, OTHER, BOTH)
    before = bridge.from_callee(2)
    bridge.relay()
    on_hold = replace(bridge.caller.stream(), receiving=False)
    bridge.recorder.update(CALL, [on_hold])
    during = bridge.from_callee(2)
    bridge.callee.send_bytes(SENDER_REPORT, bridge.callee_port + 1, rtcp=True)
    music = bridge.from_caller(2)
    bridge.relay()
    assert bridge.caller.heard() == before
    assert bridge.caller.received(rtcp=True) == [SENDER_REPORT]
    assert bridge.callee.heard() == music
    bridge.recorder.update(CALL, [bridge.caller.stream()])
    after = bridge.from_callee(2)
    bridge.relay()
    assert bridge.caller.heard() == after
    bridge.recorder.stop(ONE)
    bridge.recorder.stop(TWO)
    assert bridge.kept(ONE, HEARD) == before + after
    assert bridge.kept(TWO, 0) == before + during + after
    sending = [
        event["sending"]
        for event in journal_events(bridge.root, ONE)
        if event["event"] == "stream" and event["number"] == HEARD
    ]
    assert sending == [False, True]


def test_each_recording_keeps_what_its_party_says_and_hears(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    bridge.recorder.start(TWO, OTHER, BOTH)
    says = bridge.from_caller(5)
    hears = bridge.from_callee(7)
    bridge.relay()
    bridge.sweep()
    for _ in range(3):
        says += bridge.from_caller()
        hears += bridge.from_callee()
        bridge.relay()
    assert bridge.recorder.stop(ONE).packets == 18
    assert bridge.recorder.stop(TWO).packets == 18
    assert bridge.callee.heard() == says
    assert bridge.caller.heard() == hears
    assert bridge.kept(ONE, 0) == bridge.kept(TWO, HEARD) == says
    assert bridge.kept(ONE, HEARD) == bridge.kept(TWO, 0) == hears
    found = survey(bridge.root, ONE, BOTH).streams
    assert {number: (one.track, one.participant) for number, one in found.items()} == {
        0: (Track.INBOUND, bridge.caller.name),
        HEARD: (Track.OUTBOUND, bridge.callee.name),
    }
    assert [source["port"] for source in found[HEARD].sources] == [bridge.callee.port]


@pytest.mark.parametrize(("track", "numbers"), [(Track.INBOUND, {0}), (Track.OUTBOUND, {HEARD})])
def test_one_track_alone(bridge: Bridge, track: Track, numbers: set[int]) -> None:
    bridge.recorder.start(ONE, CALL, [track])
    bridge.from_caller(3)
    bridge.from_callee(3)
    bridge.relay()
    assert bridge.recorder.stop(ONE).packets == 3
    assert {number for number in (0, HEARD) if bridge.kept(ONE, number)} == numbers


def test_rtcp_is_kept_on_both_sides(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    bridge.caller.send_bytes(SENDER_REPORT, bridge.caller_port + 1, rtcp=True)
    bridge.callee.send_bytes(SENDER_REPORT, bridge.callee_port + 1, rtcp=True)
    bridge.relay()
    bridge.recorder.stop(ONE)
    kept = [
        part.stream
        for _, part in read_journal(bridge.root, ONE)
        if isinstance(part, Block) and part.kind is Kind.RTCP
    ]
    assert sorted(kept) == [0, HEARD]


def test_relaying_goes_on_while_nothing_is_kept(bridge: Bridge) -> None:
    said: list[int] = []
    heard: list[int] = []

    def talk() -> tuple[list[int], list[int]]:
        now = bridge.from_caller(4), bridge.from_callee(4)
        bridge.relay()
        said.extend(now[0])
        heard.extend(now[1])
        return now

    talk()
    bridge.recorder.start(ONE, CALL, BOTH)
    kept = talk()
    bridge.recorder.pause(ONE, PauseBehavior.SILENCE)
    talk()
    bridge.sweep()
    bridge.recorder.resume(ONE)
    more = talk()
    bridge.recorder.stop(ONE)
    talk()
    assert bridge.callee.heard() == said
    assert bridge.caller.heard() == heard
    assert bridge.kept(ONE, 0) == kept[0] + more[0]
    assert bridge.kept(ONE, HEARD) == kept[1] + more[1]
    assert event_names(bridge.root, ONE) == ["segment", "pause", "resume", "end"]
    latches = [e for e in journal_events(bridge.root, ONE) if e["event"] == "latch"]
    # At the start, and again when it is resumed.
    assert [(e["stream"], e["port"]) for e in latches] == 2 * [
        (0, bridge.caller.port),
        (HEARD, bridge.callee.port),
    ]


class BusyAnchor(Anchor):
    """Has both parties speak right before and right after each instant that is taken."""

    bridge: Bridge

    def now(self) -> Instant:
        self.bridge.from_caller(2)
        self.bridge.from_callee(2)
        instant = super().now()
        self.bridge.from_caller(2)
        self.bridge.from_callee(2)
        return instant


@pytest.mark.parametrize("at_once", [False, True])
def test_the_instants_cut_to_the_packet(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    anchor = BusyAnchor()
    anchor.bridge = bridge
    bridge.recorder._intake.anchor = anchor

    def turn() -> None:
        if at_once:
            bridge.relay()
        # Even if the sweep comes before the relay has looked again.
        bridge.sweep()
        bridge.relay()

    if not at_once:
        # A disk that takes no time: nothing is relayed while it is waited for.
        monkeypatch.setattr(bridge.recorder._disk, "run", lambda work: work())
    started = bridge.recorder.start(ONE, CALL, BOTH)
    turn()
    paused = bridge.recorder.pause(ONE, PauseBehavior.SKIP)
    turn()
    resumed = bridge.recorder.resume(ONE)
    turn()
    stopped = bridge.recorder.stop(ONE)
    bridge.relay()
    spans = [(started.mono_ns, paused.mono_ns), (resumed.mono_ns, _end_of(bridge))]
    for number, (source, port) in {
        0: (bridge.caller, bridge.callee),
        HEARD: (bridge.callee, bridge.caller),
    }.items():
        assert port.heard() == list(range(source.next))
        kept = _arrivals(bridge, number)
        for start, end in spans:
            inside = [n for n, at in kept if start < at <= end]
            assert inside == list(range(inside[0], inside[-1] + 1))
            # What the anchor sent before an instant and what it sent after it fall apart.
            assert inside[0] % 4 == 2
            assert inside[-1] % 4 == 1
        assert all(any(start < at <= end for start, end in spans) for _, at in kept)
    assert stopped.packets == len(_arrivals(bridge, 0)) + len(_arrivals(bridge, HEARD))


def _arrivals(bridge: Bridge, number: int) -> list[tuple[int, int]]:
    arrivals = [
        arrival
        for _, part in read_journal(bridge.root, ONE)
        if isinstance(part, Block) and part.kind is Kind.RTP and part.stream == number
        for arrival in part.packets().arrival_ns.tolist()
    ]
    return list(zip(bridge.kept(ONE, number), arrivals, strict=True))


def _end_of(bridge: Bridge) -> int:
    (end,) = [
        part.mono_ns
        for _, part in read_journal(bridge.root, ONE)
        if isinstance(part, Block) and part.kind is Kind.EVENT and part.json()["event"] == "end"
    ]
    return end


def test_a_transfer_while_a_recording_runs(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    said = bridge.from_caller(3)
    heard = bridge.from_callee(3)
    bridge.relay()
    with Party(ssrc=0xC) as third:
        third_port = bridge.recorder.open(THIRD, [third.stream()])[0]
        bridge.recorder.bridge(CALL, THIRD)
        bridge.from_callee(3)
        new = third.send(third_port, 4)
        more = bridge.from_caller(3)
        bridge.relay()
        assert bridge.caller.heard() == heard + new
        assert bridge.callee.heard() == said
        assert third.heard() == more
        states = {call.call_id: call.bridged for call in bridge.recorder.state(0).calls}
        assert states == {CALL: THIRD, THIRD: CALL, OTHER: ""}
        bridge.recorder.close(OTHER)
        bridge.recorder.stop(ONE)
    assert bridge.kept(ONE, 0) == said + more
    assert bridge.kept(ONE, HEARD) == heard
    assert bridge.kept(ONE, HEARD + 2) == new
    changes = [
        (event["number"], event["track"], event["participant"], event.get("closed", False))
        for event in journal_events(bridge.root, ONE)
        if event["event"] == "stream"
    ]
    assert changes == [
        (HEARD, "outbound", bridge.callee.name, True),
        (HEARD + 2, "outbound", "sip:c@example.org", False),
    ]


def test_a_transfer_does_not_wait_for_the_disk(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = JournalWriter.append
    said: list[int] = []

    def slow(writer: JournalWriter, blocks: list[bytes]) -> None:
        said.extend(bridge.from_caller())
        append(writer, blocks)

    bridge.recorder.start(ONE, OTHER, BOTH)
    with Party(ssrc=0xC) as third:
        bridge.recorder.open(THIRD, [third.stream()])
        monkeypatch.setattr(JournalWriter, "append", slow)
        bridge.recorder.bridge(THIRD, CALL)
        monkeypatch.undo()
        bridge.relay()
        assert said
        assert third.heard() == said


def test_no_room_to_watch_more_sockets(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """An epoll that has watched all that it may."""

        def __init__(self, real: select.epoll, room: int) -> None:
            self.real = real
            self.room = room

        def register(self, fd: int, events: int) -> None:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= 1
            self.real.register(fd, events)

        def unregister(self, fd: int) -> None:
            self.real.unregister(fd)

    relay = bridge.recorder._relay
    bridge.recorder.unbridge(CALL)
    for room in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(relay, "_epoll", Full(relay._epoll, room))
            with pytest.raises(CapacityError):
                bridge.recorder.bridge(CALL, OTHER)
        assert {call.bridged for call in bridge.recorder.state(0).calls} == {""}
    bridge.recorder.bridge(CALL, OTHER)
    said = bridge.from_caller(2)
    bridge.relay()
    assert bridge.callee.heard() == said


def test_bridged_in_mid_recording(tmp_path: Path) -> None:
    bench = Bench(tmp_path, free_ports(8))
    with Party(ssrc=1) as caller, Party(ssrc=2) as callee:
        port = bench.recorder.open(CALL, [caller.stream()])[0]
        bench.recorder.start(ONE, CALL, BOTH)
        said = caller.send(port, 3)
        other_port = bench.recorder.open(OTHER, [callee.stream()])[0]
        callee.send(other_port, 3)
        bench.recorder.bridge(CALL, OTHER)
        later = caller.send(port, 3)
        heard = callee.send(other_port, 3)
        bench.relay()
        # What was said before there was anybody to hear it is kept, and not sent late.
        assert callee.heard() == later
        bench.recorder.unbridge(CALL)
        alone = caller.send(port, 3)
        callee.send(other_port, 3)
        bench.relay()
        bench.sweep()
        bench.recorder.stop(ONE)
        assert callee.heard() == []
        assert bench.kept(ONE, 0) == said + later + alone
        assert bench.kept(ONE, HEARD) == heard == caller.heard()
    bench.close()


def test_bridging_can_be_told_again(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    for _ in range(2):
        bridge.recorder.bridge(CALL, OTHER)
        bridge.recorder.bridge(OTHER, CALL)
    bridge.recorder.unbridge(OTHER)
    bridge.recorder.unbridge(OTHER)
    bridge.recorder.unbridge(CALL)
    bridge.recorder.unbridge(THIRD)
    bridge.recorder.stop(ONE)
    assert event_names(bridge.root, ONE) == ["segment", "stream", "end"]
    with pytest.raises(UsageError):
        bridge.recorder.bridge(CALL, CALL)
    for one, two in ((CALL, THIRD), (THIRD, CALL)):
        with pytest.raises(MachineError):
            bridge.recorder.bridge(one, two)
    with pytest.raises(UsageError):
        bridge.recorder.update(CALL, [bridge.caller.stream(HEARD)])


def test_a_call_that_ends_leaves_the_other_one_alone(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    heard = bridge.from_callee(2)
    bridge.relay()
    bridge.recorder.close(OTHER)
    said = bridge.from_caller(2)
    bridge.relay()
    bridge.recorder.stop(ONE)
    assert bridge.kept(ONE, 0) == said
    assert bridge.kept(ONE, HEARD) == heard
    assert bridge.recorder.is_relaying is False


def test_bridged_before_the_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, free_ports(8))
    nobody = Stream(0, Track.INBOUND, "0.0.0.0", 0, (PCMU,))
    with Party(ssrc=1) as caller, Party(ssrc=2) as callee:
        port = bench.recorder.open(CALL, [caller.stream()])[0]
        other_port = bench.recorder.open(OTHER, [nobody])[0]
        bench.recorder.bridge(CALL, OTHER)
        bench.recorder.start(ONE, CALL, BOTH)
        unheard = caller.send(port, 2)
        callee.send(other_port, 2)
        bench.relay()
        bench.recorder.update(OTHER, [callee.stream()])
        heard = callee.send(other_port, 2)
        said = caller.send(port, 2)
        bench.relay()
        bench.recorder.stop(ONE)
        assert callee.heard() == said
        assert caller.heard() == heard
        assert bench.kept(ONE, 0) == unheard + said
        assert bench.kept(ONE, HEARD) == heard
    bench.close()


def test_streams_that_come_and_go(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    with Party(ssrc=0xC) as second, Party(ssrc=0xD) as across:
        ports = bridge.recorder.update(CALL, [bridge.caller.stream(), second.stream(1)])
        second.send(ports[1], 1)
        bridge.relay()
        other_ports = bridge.recorder.update(OTHER, [bridge.callee.stream(), across.stream(1)])
        sent = across.send(other_ports[1], 2)
        bridge.relay()
        assert second.heard() == sent
        bridge.recorder.update(OTHER, [bridge.callee.stream()])
        second.send(ports[1], 1)
        said = bridge.from_caller(2)
        bridge.relay()
        assert across.heard() == []
        assert bridge.callee.heard() == said
        assert bridge.recorder.stop(ONE).packets == 6
    assert bridge.kept(ONE, HEARD + 2) == sent


def test_a_flood_holds_up_nobody(tmp_path: Path) -> None:
    bench = Bridge(tmp_path, free_ports(40))
    with Party(ssrc=3) as quiet, Party(ssrc=4) as listener:
        port = bench.recorder.open(THIRD, [quiet.stream()])[0]
        bench.recorder.open("f" * 32, [listener.stream()])
        bench.recorder.bridge(THIRD, "f" * 32)
        bench.recorder.start(ONE, THIRD, BOTH)
        bench.from_caller()
        bench.relay()
        bench.callee.heard()
        flood = 6 * AT_A_TIME
        bench.from_caller(flood)
        said = quiet.send(port, 2)
        # One turn: a share of the flood, and all of the others.
        bench.recorder.relay()
        share = len(bench.callee.heard())
        assert AT_A_TIME <= share <= AT_A_TIME + DEPTH
        assert listener.heard() == said
        # The sweep's turn comes before the flood is over.
        bench.sweep()
        assert bench.kept(ONE) == said
        bench.relay()
        assert len(bench.callee.heard()) == flood - share
    bench.close()


def test_a_send_that_fails_ends_nothing(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    # Broadcasting is not allowed to a socket that has not asked for it.
    refusing = replace(bridge.callee.stream(), remote_host="127.255.255.255")
    bridge.recorder.update(OTHER, [refusing])
    said = []
    for count in (1, 20, 1):
        said += bridge.from_caller(count)
        bridge.relay()
    said += bridge.from_caller(1, payload_bytes=3) + bridge.from_caller(2)
    bridge.relay()
    assert bridge.recorder.state(0).unsent == 25
    bridge.recorder.update(OTHER, [bridge.callee.stream()])
    more = bridge.from_caller(2)
    bridge.relay()
    assert bridge.callee.heard() == more
    bridge.recorder.stop(ONE)
    assert bridge.kept() == said + more
    assert bridge.recorder.state(0).relayed == 2


def test_what_the_kernel_drops_is_owned_up_to(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    bridge.recorder.start(TWO, OTHER, BOTH)
    sent = bridge.from_caller(3000)
    bridge.relay()
    sent += bridge.from_caller(10)
    bridge.relay()
    bridge.recorder.stop(ONE)
    bridge.recorder.stop(TWO)
    kept = bridge.kept(ONE, 0)
    assert kept == bridge.kept(TWO, HEARD)
    for recording_id, number in ((ONE, 0), (TWO, HEARD)):
        lost = sum(
            int(str(event["kernel"]))
            for event in journal_events(bridge.root, recording_id)
            if event["event"] == "drops" and event["stream"] == number
        )
        assert lost == len(sent) - len(kept) > 0


def test_a_refusal_is_no_overflow_however_full_the_queue_was(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    tap = bridge.recorder._calls[CALL].streams[0].rtp
    bridge.from_caller()
    bridge.relay()
    # A datagram of 1,012 bytes costs the kernel 2,304.
    bridge.from_caller(buffer_bytes(tap.sock) // 2304 - 5, payload_bytes=1000)
    bridge.relay()
    bridge.from_caller()
    bridge.relay()
    with NumberedSource("127.0.0.2") as stranger:
        stranger.send(bridge.caller_port, 5, to="127.0.0.1")
    bridge.from_caller()
    bridge.relay()
    bridge.recorder.stop(ONE)
    (drops,) = [e for e in journal_events(bridge.root, ONE) if e["event"] == "drops"]
    assert (drops["kernel"], drops["foreign"]) == (0, 5)


def test_one_that_is_refused_holds_up_none_behind_it() -> None:
    sweeper = Sweeper(socket.AF_INET)
    out = Outgoing(sweeper)
    sent: list[int] = []
    size = out._headers.itemsize
    refusals = {3: [errno.EPERM], 4: [errno.ECONNREFUSED], 8: [errno.ENOBUFS]}

    def kernel(fd: int, address: int, count: int, flags: int) -> int:
        first = (address - out._address) // size
        if refusals.get(first):
            ctypes.set_errno(refusals[first].pop())
            return -1
        upto = next((at for at in range(first, first + count) if refusals.get(at)), first + count)
        sent.extend(range(first, upto))
        return upto - first

    out._sendmmsg = kernel  # type: ignore[assignment]
    out.send(1, bytes(16), 10, 20)
    # Not 3, which the kernel did not want; 4 at the second try; from 8 on there was no room.
    assert sent == [0, 1, 2, 4, 5, 6, 7]
    assert (out.sent, out.unsent) == (7, 3)
    refusals = {at: [errno.EPERM] * 2 for at in range(20)}
    out.send(1, bytes(16), 20, 20)
    assert (out.sent, out.unsent) == (7, 23)


def test_a_party_that_is_silent_is_told(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings_module, "NO_MEDIA_NS", 0)
    bridge.recorder.start(ONE, CALL, BOTH)
    bridge.from_caller()
    bridge.relay()
    bridge.sweep(3)
    bridge.recorder.stop(ONE)
    assert [event.data for event in bridge.told(WorkerEventKind.NO_MEDIA)] == [{"stream": HEARD}]


def test_a_call_never_waits_for_the_disk(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    append = JournalWriter.append
    passed: list[int] = []

    def slow(writer: JournalWriter, blocks: list[bytes]) -> None:
        # A disk that does not finish before a packet has gone from one party to the other.
        bridge.callee.sock.settimeout(5)
        (number,) = bridge.from_caller()
        assert int.from_bytes(bridge.callee.sock.recv(4096)[2:4], "big") == number
        passed.append(number)
        append(writer, blocks)

    monkeypatch.setattr(JournalWriter, "append", slow)
    bridge.recorder.start(ONE, CALL, BOTH)
    bridge.from_callee(3)
    bridge.relay()
    bridge.sweep()
    bridge.recorder.pause(ONE, PauseBehavior.SKIP)
    stopped = bridge.recorder.stop(ONE)
    # The header, the sweep, the pause, the end: what was said while the disk was busy is kept like
    # all else, up to the pause.
    assert len(passed) == 4
    assert bridge.kept() == passed[:2]
    assert stopped.packets == 2 + 3
    assert len([name for name in journal_events(bridge.root, ONE) if name["event"] == "latch"]) == 2


def test_a_successor_goes_on_relaying(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    bridge.recorder.start(TWO, OTHER, [Track.OUTBOUND])
    with Party(ssrc=0xC) as elsewhere:
        said = elsewhere.send(bridge.caller_port, 3)
        heard = bridge.from_callee(3)
        bridge.relay()
        bridge.sweep()
        said += elsewhere.send(bridge.caller_port, 3)
        heard += bridge.from_callee(3)
        bridge.restart()
        said += elsewhere.send(bridge.caller_port, 3)
        bridge.from_caller(2)
        bridge.relay()
        heard += bridge.from_callee(3)
        bridge.relay()
        assert bridge.callee.heard() == said
        # To where it spoke from, not to where it was signalled.
        assert elsewhere.heard() == heard
        bridge.recorder.bridge(CALL, OTHER)
        bridge.recorder.stop(ONE)
        bridge.recorder.stop(TWO)
    assert bridge.kept(ONE, 0) == bridge.kept(TWO, HEARD) == said
    assert bridge.kept(ONE, HEARD) == heard
    headers = [
        [one["number"] for one in event["streams"]]  # type: ignore[attr-defined]
        for event in journal_events(bridge.root, ONE)
        if event["event"] == "segment"
    ]
    assert headers == [[0, HEARD], [0, HEARD]]
    # A third party gets a number that neither worker has used.
    with Party(ssrc=0xD) as third:
        bridge.recorder.open(THIRD, [third.stream()])
        bridge.recorder.start("3" * 32, CALL, BOTH)
        bridge.recorder.bridge(CALL, THIRD)
        bridge.recorder.stop("3" * 32)
    numbers = [e["number"] for e in journal_events(bridge.root, "3" * 32) if e["event"] == "stream"]
    assert numbers == [HEARD, HEARD + 2]


def test_half_a_bridge_is_none(bridge: Bridge) -> None:
    before = bridge.keep.held[OTHER]
    bridge.recorder.unbridge(CALL)
    bridge.keep.held[OTHER] = before
    bridge.recorder.start(ONE, OTHER, BOTH)
    bridge.keep.held[OTHER] = (before[0], bridge.keep.held[OTHER][1])
    bridge.restart()
    bridge.from_caller(2)
    bridge.relay()
    assert bridge.callee.heard() == []
    assert {call.bridged for call in bridge.recorder.state(0).calls} == {""}
    bridge.recorder.bridge(CALL, OTHER)
    said = bridge.from_caller(2)
    bridge.relay()
    assert bridge.callee.heard() == said


def test_a_worker_that_shuts_down_has_relayed_what_had_come(bridge: Bridge) -> None:
    bridge.recorder.start(ONE, CALL, BOTH)
    said = bridge.from_caller(3)
    bridge.recorder.shut_down()
    assert bridge.callee.heard() == said
    assert bridge.kept() == said


def test_between_ipv4_and_ipv6(tmp_path: Path) -> None:
    try:
        bench = Bench(tmp_path, free_ports(8, "::"), "::")
        callee = Party("::1", ssrc=2)
    except (AssertionError, OSError):
        pytest.skip("no IPv6 here")
    with callee, Party(ssrc=1) as caller:
        port = bench.recorder.open(CALL, [caller.stream()])[0]
        other_port = bench.recorder.open(OTHER, [callee.stream()])[0]
        bench.recorder.bridge(CALL, OTHER)
        for _ in range(2):
            heard = callee.send(other_port, 2)
            bench.relay()
            assert caller.heard() == heard
            said = caller.send(port, 2)
            bench.relay()
            assert callee.heard() == said
    bench.close()


def test_sockets_are_given_back(bridge: Bridge) -> None:
    before = len(bridge.recorder._opener._ports)
    bridge.recorder.close(CALL)
    bridge.recorder.close(OTHER)
    assert len(bridge.recorder._opener._ports) == before + 2
    assert bridge.recorder.is_relaying is False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for key in list(bridge.keep.held):
            bridge.keep.release(key)
        probe.bind(("127.0.0.1", bridge.caller_port))
