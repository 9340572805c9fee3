"""The load of the benches: what its stamps say is what was sent."""

from __future__ import annotations

import socket
import time

import pytest
from bench.rtp_load import LoadProcess

from callreel.wire.rtp import RtpPacket


def test_every_packet_is_stamped_and_arrives() -> None:
    load = LoadProcess(3)
    receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in load.streams]
    try:
        for stream, receiver in zip(load.streams, receivers, strict=True):
            receiver.bind(("127.0.0.1", 0))
            receiver.setblocking(False)
            stream.remote = receiver.getsockname()
        begun_ns = time.time_ns()
        load.start(time.monotonic() + 0.05)
        time.sleep(0.5)
        sent = load.finish()
        ended_ns = time.time_ns()
        frames = sent.before_ns.shape[1]
        assert sent.before_ns.shape == sent.after_ns.shape == (3, frames)
        assert 15 <= frames <= 30
        assert (sent.before_ns <= sent.after_ns).all()
        assert not sent.refused.any()
        for number, (stream, receiver) in enumerate(zip(load.streams, receivers, strict=True)):
            arrived = [receiver.recvfrom(2048) for _ in range(frames)]
            packets = [RtpPacket.parse(data) for data, _ in arrived]
            assert {port for _, (_, port) in arrived} == {stream.port}
            first = packets[0]
            assert [packet.sequence for packet in packets] == [
                (first.sequence + step) & 0xFFFF for step in range(frames)
            ]
            assert {len(packet.payload) for packet in packets} == {160}
            assert sent.between(number, begun_ns, ended_ns) == (frames, frames)
            middle = int(sent.before_ns[number][frames // 2])
            assert sent.between(number, begun_ns, middle - 1) == (frames // 2, frames // 2)
    finally:
        load.kill()
        for receiver in receivers:
            receiver.close()


def test_streams_that_hear_tell_what_came_back() -> None:
    load = LoadProcess(2, hears=True)
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    relay = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in load.streams]
    try:
        for stream, sock in zip(load.streams, relay, strict=True):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
            stream.remote = sock.getsockname()
        load.start(time.monotonic() + 0.05)
        packets = [relay[0].recv(2048) for _ in range(5)]
        for packet in (
            packets[2],
            packets[0],
            packets[0],
            packets[0][:8],
            b"noise of 12.",
            packets[4],
        ):
            relay[1].sendto(packet, ("127.0.0.1", load.streams[1].port))
        stranger.sendto(packets[3], ("127.0.0.1", load.streams[1].port))
        sent = load.finish()
    finally:
        load.kill()
        for sock in (stranger, *relay):
            sock.close()
    nothing, heard = sent.heard
    assert len(nothing.frame) == 0
    assert heard.stream.tolist() == [0, 0, 0, -1, 0]
    assert heard.frame.tolist() == [2, 0, 0, -1, 4]
    delay_ns = heard.arrived_ns[-1] - sent.before_ns[0, 4]
    assert 0 < delay_ns < 1_000_000_000


def test_a_stream_can_begin_later() -> None:
    load = LoadProcess(2)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        load.streams[0].remote = receiver.getsockname()
        load.start(time.monotonic())
        for _ in range(5):
            receiver.recv(2048)
        begun_ns = time.time_ns()
        load.streams[1].remote = receiver.getsockname()
        load.begin(1)
        ports = {receiver.recvfrom(2048)[1][1] for _ in range(12)}
        sent = load.finish()
    finally:
        load.kill()
        receiver.close()
    assert ports == {stream.port for stream in load.streams}
    assert (sent.before_ns[0] > 0).all()
    assert (sent.after_ns[0] >= sent.before_ns[0]).all()
    later = sent.before_ns[1] > 0
    assert not later[:4].any()
    assert later[-1]
    assert (sent.before_ns[1][later] >= begun_ns).all()
    assert (sent.after_ns[1][later] >= sent.before_ns[1][later]).all()


def test_a_stream_plays_its_own_tone_and_no_more_than_it_is_to() -> None:
    load = LoadProcess(2, tones_hz=[300, 330], frames=5)
    receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in load.streams]
    try:
        for stream, receiver in zip(load.streams, receivers, strict=True):
            receiver.bind(("127.0.0.1", 0))
            receiver.setblocking(False)
            stream.remote = receiver.getsockname()
        load.start(time.monotonic())
        time.sleep(0.4)
        sent = load.finish()
        assert [int((row > 0).sum()) for row in sent.before_ns] == [5, 5]
        payloads = []
        for receiver in receivers:
            packets = [RtpPacket.parse(receiver.recvfrom(2048)[0]) for _ in range(5)]
            payloads.append(b"".join(packet.payload for packet in packets))
            with pytest.raises(BlockingIOError):
                receiver.recvfrom(2048)
        assert payloads[0] != payloads[1]
    finally:
        load.kill()
        for receiver in receivers:
            receiver.close()
