from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from callreel.base.errors import CapacityError, PeerError
from callreel.signalling.streams import Streams
from callreel.signalling.transport import UdpSocket, plain_host, routed_host
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.framing import BrokenStream

MESSAGE = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 3\r\n\r\nabc"


class Sink:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, Flow]] = []
        self.broken: list[BrokenStream] = []
        self.failed: list[Flow] = []
        self.open_to: set[str] = {"127.0.0.1"}

    def message_received(self, data: bytes, flow: Flow) -> None:
        self.messages.append((data, flow))

    def stream_broken(self, error: BrokenStream, flow: Flow) -> None:
        self.broken.append(error)

    def flow_failed(self, flow: Flow) -> None:
        self.failed.append(flow)

    def may_connect(self, host: str) -> bool:
        return host in self.open_to


async def until(sink: Sink, count: int) -> None:
    async with asyncio.timeout(5):
        while len(sink.messages) < count:
            await asyncio.sleep(0.005)


async def ends(reader: asyncio.StreamReader) -> bytes:
    """What is still read until the connection closes."""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            return await reader.read()
    return b""


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def streams(sink: Sink) -> AsyncIterator[Streams]:
    made = Streams(sink, max_connections=4, idle_seconds=0.3, mute_seconds=0.1)
    yield made
    await made.close()


async def test_udp_is_read_dry(sink: Sink) -> None:
    udp = UdpSocket(sink, "127.0.0.1", 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            for number in range(600):
                peer.sendto(b"%d" % number, udp.local)
            peer.sendto(b"\r\n\r\n", udp.local)
            await until(sink, 600)
            flow = Flow(Transport.UDP, "127.0.0.1", peer.getsockname()[1], udp.local)
            assert sink.messages == [(b"%d" % number, flow) for number in range(600)]
            assert udp.send(b"back", flow.host, flow.port)
            assert peer.recv(100) == b"back"
            assert not udp.send(bytes(70_000), flow.host, flow.port)
    finally:
        udp.close()


async def test_connection_is_opened_once_and_used_both_ways(sink: Sink, streams: Streams) -> None:
    host, port = await streams.listen("127.0.0.1", 0)
    other_sink = Sink()
    other = Streams(other_sink)
    flow = Flow(Transport.TCP, host, port)
    failed: list[int] = []
    for number in range(3):
        other.send(MESSAGE, flow, lambda number=number: failed.append(number))  # type: ignore[misc]
    await until(sink, 3)
    assert len(streams) == len(other) == 1
    assert (await other.open(flow)).flow == flow
    back = sink.messages[0][1]
    streams.send(MESSAGE, back, lambda: failed.append(9))
    await until(other_sink, 1)
    assert other_sink.messages[0][1] == flow
    assert failed == []
    await other.close()


async def test_what_cannot_be_sent_is_told(sink: Sink, streams: Streams) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failed = asyncio.Event()
    flow = Flow(Transport.TCP, "127.0.0.1", port)
    streams.send(MESSAGE, flow, failed.set)
    async with asyncio.timeout(5):
        await failed.wait()
    with pytest.raises(PeerError) as caught:
        await streams.open(flow)
    assert caught.value.status == 503


async def test_ping_and_idle_end(sink: Sink, streams: Streams) -> None:
    host, port = await streams.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"\r\n\r\n" + MESSAGE)
    assert await reader.readexactly(2) == b"\r\n"
    await until(sink, 1)
    assert await ends(reader) == b""
    assert sink.failed == [sink.messages[0][1]]
    writer.close()


async def test_who_says_nothing_is_cut_sooner(sink: Sink) -> None:
    streams = Streams(sink, idle_seconds=60.0, mute_seconds=0.1)
    host, port = await streams.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"OPTIONS sip:a SI")
    assert await ends(reader) == b""
    writer.close()
    await streams.close()


async def test_a_byte_now_and_then_is_nothing_said(sink: Sink) -> None:
    streams = Streams(sink, idle_seconds=60.0, mute_seconds=0.2)
    host, port = await streams.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(host, port)
    ended = asyncio.create_task(ends(reader))
    for _ in range(40):
        if ended.done():
            break
        writer.write(b"O")
        await asyncio.sleep(0.05)
    assert ended.done()
    writer.close()
    await streams.close()


async def test_broken_stream_is_closed(sink: Sink, streams: Streams) -> None:
    host, port = await streams.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(MESSAGE + b"OPTIONS sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n" + MESSAGE)
    assert await ends(reader) == b""
    assert len(sink.messages) == 1
    assert sink.broken[0].head.endswith(b"Content-Length: x\r\n\r\n")
    writer.close()


async def test_too_many_connections(sink: Sink, streams: Streams) -> None:
    host, port = await streams.listen("127.0.0.1", 0)
    held = []
    for _ in range(4):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(MESSAGE)
        held.append(writer)
    await until(sink, 4)
    reader, writer = await asyncio.open_connection(host, port)
    assert await ends(reader) == b""
    assert len(streams) == 4
    with pytest.raises(CapacityError):
        await streams.open(Flow(Transport.TCP, host, port))
    for one in [*held, writer]:
        one.close()


async def test_stranger_is_not_let_in(sink: Sink, streams: Streams) -> None:
    sink.open_to = set()
    host, port = await streams.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(host, port)
    assert await ends(reader) == b""
    assert len(streams) == 0
    writer.close()


async def test_peer_that_does_not_read_is_cut(sink: Sink, streams: Streams) -> None:
    host, port = await streams.listen("127.0.0.1", 0)
    with socket.create_connection((host, port)) as peer:
        peer.sendall(MESSAGE)
        await until(sink, 1)
        failed: list[bool] = []
        for _ in range(400):
            streams.send(bytes(100_000), sink.messages[0][1], lambda: failed.append(True))
            if failed:
                break
            await asyncio.sleep(0)
        assert failed
        assert len(streams) <= 1


def test_addresses() -> None:
    assert plain_host("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_host("2001:DB8:0:0::1") == "2001:db8::1"
    assert plain_host("fe80::1%eth0") == "fe80::1"
    assert plain_host("h.example") == "h.example"
    assert routed_host("127.0.0.1", 5060) == "127.0.0.1"
