from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.wire.rtp import (
    HeaderExtension,
    Packetizer,
    PacketTable,
    RtpPacket,
    gather,
    is_rtcp,
    parse_slab,
)

# Written out by hand from RFC 3550 §5.1 and §5.3.1.
PLAIN = bytes.fromhex("80 00 0001 00000002 00000003") + b"\xff" * 4
FULL = (
    bytes.fromhex("b2 88 fffe fffffffd deadbeef")  # V=2 P X CC=2, M, PT 8
    + bytes.fromhex("00000011 00000022")  # CSRC
    + bytes.fromhex("bede 0001 10aa0000")  # extension of one word
    + b"\xd5\xd5"
    + b"\x00\x00\x03"
)

packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=40),
    marker=st.booleans(),
    csrc=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    extension=st.none()
    | st.builds(
        HeaderExtension,
        profile=st.integers(0, 0xFFFF),
        data=st.binary(max_size=3).map(lambda b: b * 4),
    ),
    padding_bytes=st.integers(0, 255),
).filter(lambda p: not is_rtcp(p.serialize()))


def slab(datagrams: list[bytes]) -> PacketTable:
    return parse_slab(np.array([len(d) for d in datagrams], np.uint16), b"".join(datagrams))


def test_a_plain_packet() -> None:
    packet = RtpPacket.parse(PLAIN)
    assert packet == RtpPacket(payload_type=0, sequence=1, timestamp=2, ssrc=3, payload=b"\xff" * 4)
    assert packet.serialize() == PLAIN


def test_csrc_extension_and_padding() -> None:
    packet = RtpPacket.parse(FULL)
    assert packet.marker
    assert packet.payload_type == 8
    assert (packet.sequence, packet.timestamp, packet.ssrc) == (0xFFFE, 0xFFFFFFFD, 0xDEADBEEF)
    assert packet.csrc == (0x11, 0x22)
    assert packet.extension == HeaderExtension(0xBEDE, bytes.fromhex("10aa0000"))
    assert packet.payload == b"\xd5\xd5"
    assert packet.padding_bytes == 3
    assert packet.serialize() == FULL


@given(packets)
def test_what_is_serialized_is_parsed_again(packet: RtpPacket) -> None:
    assert RtpPacket.parse(packet.serialize()) == packet


@pytest.mark.parametrize("length", range(len(FULL)))
def test_a_packet_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(PeerError):
        RtpPacket.parse(FULL[:length])
    assert slab([FULL[:length]]).ok.tolist() == [False]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" + PLAIN[1:],  # version 0
        b"\x40" + PLAIN[1:],  # version 1, or STUN-like
        b"\x80\xc8" + PLAIN[2:],  # an RTCP sender report
        b"\xa0" + PLAIN[1:-1] + b"\x00",  # padding of no bytes
        b"\xa0" + PLAIN[1:-1] + b"\x05",  # more padding than payload
        b"\xa0" + PLAIN[1:12],  # padding where nothing follows
        b"\x8f" + PLAIN[1:],  # 15 CSRC
        b"\x90" + PLAIN[1:14],  # extension cut off
        b"\x90" + PLAIN[1:12] + b"\xbe\xde\xff\xff",  # extension of 256 KiB
    ],
)
def test_garbage_is_refused_by_both_parsers(data: bytes) -> None:
    with pytest.raises(PeerError):
        RtpPacket.parse(data)
    assert slab([data]).ok.tolist() == [False]
    assert slab([PLAIN, data, PLAIN]).ok.tolist() == [True, False, True]


def test_rtcp_on_the_rtp_port_is_told_apart() -> None:
    sender_report = bytes.fromhex("80c80006") + bytes(24)
    assert is_rtcp(sender_report)
    table = slab([PLAIN, sender_report, FULL])
    assert table.rtcp.tolist() == [False, True, False]
    assert table.ok.tolist() == [True, False, True]


def test_an_empty_slab_and_empty_packets() -> None:
    assert len(slab([]).ok) == 0
    assert slab([b"", b""]).ok.tolist() == [False, False]


def test_lengths_that_do_not_add_up_are_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="add up"):
        parse_slab(np.array([20], np.uint16), b"too short")


@given(st.lists(packets.map(RtpPacket.serialize) | st.binary(max_size=60), max_size=8))
def test_a_slab_says_what_the_packets_say_one_by_one(datagrams: list[bytes]) -> None:
    table = slab(datagrams)
    for row, datagram in enumerate(datagrams):
        try:
            packet = RtpPacket.parse(datagram)
        except PeerError:
            assert not table.ok[row]
            continue
        assert table.ok[row]
        assert table.sequence[row] == packet.sequence
        assert table.timestamp[row] == packet.timestamp
        assert table.ssrc[row] == packet.ssrc
        assert table.payload_type[row] == packet.payload_type
        assert table.marker[row] == packet.marker
        at, count = int(table.payload_start[row]), int(table.payload_bytes[row])
        assert table.octets[at : at + count].tobytes() == packet.payload
    ok = table.ok
    joined = gather(table.octets, table.payload_start[ok], table.payload_bytes[ok])
    wanted = [RtpPacket.parse(d).payload for d, fine in zip(datagrams, ok, strict=True) if fine]
    assert joined.tobytes() == b"".join(wanted)


@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 4))
def test_payloads_of_one_length_are_gathered_too(n: int, size: int, tail: int) -> None:
    datagrams = [bytes(12) + bytes([k] * size) + bytes(tail) for k in range(n)]
    octets = np.frombuffer(b"".join(datagrams), np.uint8)
    start = np.arange(n, dtype=np.int64) * (12 + size + tail) + 12
    got = gather(octets, start, np.full(n, size, np.int64))
    assert got.tobytes() == b"".join(bytes([k] * size) for k in range(n))


def test_a_packetizer_counts_stamps_and_wraps() -> None:
    sender = Packetizer(ssrc=7, payload_type=0, sequence=0xFFFF, timestamp=0xFFFFFFFF - 159)
    first = RtpPacket.parse(sender.packet(b"a" * 160, ticks=160))
    second = RtpPacket.parse(sender.packet(b"b" * 160, ticks=160))
    sender.pass_silence(800)
    third = RtpPacket.parse(sender.packet(b"c" * 160, ticks=160))
    assert [first.sequence, second.sequence, third.sequence] == [0xFFFF, 0, 1]
    assert [first.timestamp, second.timestamp, third.timestamp] == [0xFFFFFFFF - 159, 0, 960]
    assert [first.marker, second.marker, third.marker] == [True, False, True]
    assert second.payload == b"b" * 160
