"""Draining one socket: stamps, the clock being set, handing over descriptors."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest

from callreel.capture import anchor as anchor_module, handover
from callreel.capture.anchor import Anchor
from callreel.capture.handover import MAX_BLOB_BYTES, Message, Word
from callreel.capture.sockets import RCVBUF_BYTES, buffer_bytes, open_socket
from callreel.capture.sweep import SLOT_BYTES, Sweeper
from callreel.capture.tap import Tap
from callreel.testing.packets import NumberedSource


@pytest.fixture
def tap() -> Iterator[Tap]:
    with open_socket("127.0.0.1", 0) as sock:
        yield Tap(sock)


def port_of(tap: Tap) -> int:
    return int(tap.sock.getsockname()[1])


def test_the_buffer_outlasts_several_sweeps(tap: Tap) -> None:
    # As much as was asked for where the kernel's bound allows it; it reckons twice that.
    assert buffer_bytes(tap.sock) >= min(RCVBUF_BYTES, 212_992)


def test_nothing_is_queued_before_it_is_asked_for(tap: Tap) -> None:
    with NumberedSource() as source:
        source.send(port_of(tap), 5)
        with pytest.raises(BlockingIOError):
            tap.sock.recv(10)


@pytest.mark.parametrize("size", [0, 160, SLOT_BYTES - 12])
def test_data_come_out_as_they_went_in(tap: Tap, size: int) -> None:
    sweeper, anchor = Sweeper(socket.AF_INET), Anchor()
    tap.listen("127.0.0.1", now_mono_ns=anchor.now().mono_ns)
    with NumberedSource() as source:
        for _ in range(3):
            source.send(port_of(tap), 3, payload_bytes=size)
            (batch,), _ = tap.drain(sweeper, anchor)
            assert batch.lengths.tolist() == [12 + size] * 3
            assert len(batch.data) == 3 * (12 + size)
            first = source.next - 3
            head = struct.pack(">BBHII", 0x80, 0, first, first * 160, source.ssrc)
            assert batch.data.startswith(head + b"\xd5" * size)
            assert (np.diff(batch.stamps_ns) >= 0).all()
    assert tap.truncated == tap.foreign == 0


def test_chosen_packets_of_a_batch(tap: Tap) -> None:
    sweeper, anchor = Sweeper(socket.AF_INET), Anchor()
    tap.listen("127.0.0.1", now_mono_ns=anchor.now().mono_ns)
    with NumberedSource() as source:
        for size in (1, 2, 3):
            source.send(port_of(tap), 1, payload_bytes=size)
    (batch,), _ = tap.drain(sweeper, anchor)
    chosen = batch.select(np.array([True, False, True]))
    assert chosen.lengths.tolist() == [13, 15]
    assert chosen.data == batch.data[:13] + batch.data[27:]
    assert chosen.stamps_ns.tolist() == batch.stamps_ns[[0, 2]].tolist()


@pytest.mark.parametrize("step_s", [-3600, 3600])
@pytest.mark.parametrize("sizes", [(160, 160), (160, 20)])
def test_arrival_holds_when_the_clock_is_set(
    tap: Tap, monkeypatch: pytest.MonkeyPatch, step_s: int, sizes: tuple[int, int]
) -> None:
    sweeper, anchor = Sweeper(socket.AF_INET), Anchor()
    before_ns = time.monotonic_ns()
    tap.listen("127.0.0.1", now_mono_ns=before_ns)
    with NumberedSource() as source:
        for size in (*sizes, *sizes):
            source.send(port_of(tap), 1, payload_bytes=size)
        # Stamped by the kernel's clock as it was; then it is set.
        true = anchor.offset_ns
        monkeypatch.setattr(anchor_module, "_measure", lambda: true + step_s * 1_000_000_000)
        assert anchor.check()
        assert not anchor.check()
        arrivals = [
            arrival
            for batch in tap.drain(sweeper, anchor)[0]
            for arrival in (batch.stamps_ns - anchor.offset_ns).tolist()
        ]
    assert len(arrivals) == 4
    assert all(before_ns - 10**6 <= arrival <= time.monotonic_ns() for arrival in arrivals)


def test_a_socket_that_is_no_more_is_an_error(tap: Tap) -> None:
    sweeper = Sweeper(socket.AF_INET)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sweeper.receive(-1)
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="non-socket"):
        sweeper.receive(reader)
    os.close(reader)
    os.close(writer)


def test_descriptors_are_handed_over(tap: Tap) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            handover.receive(ours)
        handover.send(theirs, Message(Word.HOLD, "key", b"a\0b" * 10_000, (tap.sock.fileno(),)))
        handover.send(theirs, Message(Word.RELEASE, "key"))
        held = handover.receive(ours)
        assert held is not None
        assert (held.word, held.key, held.blob) == (Word.HOLD, "key", b"a\0b" * 10_000)
        with socket.socket(fileno=held.fds[0]) as copy:
            assert copy.getsockname() == tap.sock.getsockname()
        assert handover.receive(ours) == Message(Word.RELEASE, "key")
        for garbage in (b"Q", b"Hkey", b"\xff\xff\0", b"H\xff\0"):
            theirs.send(garbage)
            with pytest.raises(ValueError, match=r".+"):
                handover.receive(ours)
        with pytest.raises(ValueError, match="too much"):
            handover.send(theirs, Message(Word.HOLD, "key", bytes(MAX_BLOB_BYTES + 1)))
        theirs.close()
        assert handover.receive(ours) is None
