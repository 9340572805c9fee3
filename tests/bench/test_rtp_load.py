"""The load of the benches: what its stamps say is what was sent."""

from __future__ import annotations

import socket
import time

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
