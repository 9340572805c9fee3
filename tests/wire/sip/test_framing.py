from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.wire.sip.framing import BrokenStream, Keepalive, StreamFramer


def frame(body: bytes = b"", name: bytes = b"Content-Length") -> bytes:
    return b"OPTIONS sip:a SIP/2.0\r\nX: y\r\n%s: %d\r\n\r\n%s" % (name, len(body), body)


def frames(framer: StreamFramer, data: bytes) -> list[bytes | Keepalive]:
    framer.feed(data)
    found = []
    while (one := framer.next_frame()) is not None:
        found.append(one)
    return found


def test_several_messages_in_one_piece() -> None:
    messages = [frame(b"x" * 3000), frame(), frame(b"v=0", b"l"), frame(b"z", b"CONTENT-LENGTH ")]
    assert frames(StreamFramer(), b"".join(messages)) == messages


def test_byte_by_byte() -> None:
    messages = [frame(b"\r\n\r\nContent-Length: 9\r\n\r\n"), frame(), frame(b"abc")]
    framer = StreamFramer()
    found = []
    for byte in b"".join(messages):
        found += frames(framer, bytes([byte]))
    assert found == messages
    assert framer.buffered_bytes == 0


@given(st.lists(st.binary(max_size=80), max_size=5), st.lists(st.integers(1, 60), max_size=40))
def test_any_split(bodies: list[bytes], cuts: list[int]) -> None:
    messages = [frame(body) for body in bodies]
    data = b"".join(messages)
    framer = StreamFramer()
    found = []
    for cut in cuts:
        found += frames(framer, data[:cut])
        data = data[cut:]
    assert found + frames(framer, data) == messages


def test_ping() -> None:
    framer = StreamFramer()
    assert frames(framer, b"\r\n\r\n") == [Keepalive.PING]
    assert frames(framer, b"\r\n") == []  # a pong, or half a ping
    assert frames(framer, frame()) == [frame()]
    assert frames(framer, b"\r") == []
    assert frames(framer, b"\n\r") == []
    assert frames(framer, b"\n" + frame(b"1")) == [Keepalive.PING, frame(b"1")]
    assert frames(framer, b"\r\n" + frame()) == [frame()]
    assert frames(framer, b"\r\n" + frame()) == [frame()]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"OPTIONS sip:a SIP/2.0\r\nX: y\r\n\r\n", 400),
        (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n", 400),
        (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n", 400),
        (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 300000\r\n\r\n", 513),
        (b"X" * 70_000, 513),
        (b"A: b\r\n" * 20_000 + b"\r\n", 513),
    ],
)
def test_stream_that_cannot_be_followed(head: bytes, status: int) -> None:
    framer = StreamFramer()
    framer.feed(frame(b"good") + head)
    assert framer.next_frame() == frame(b"good")
    with pytest.raises(BrokenStream) as caught:
        framer.next_frame()
    assert caught.value.status == status


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    framer = StreamFramer()
    framer.feed(data)
    try:
        while framer.next_frame() is not None:
            pass
    except BrokenStream:
        pass
