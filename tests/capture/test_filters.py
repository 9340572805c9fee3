"""Filter programs, run by an interpreter of our own on hand-made packets."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from callreel.capture.filters import INSTRUCTION_BYTES, drop_all, only_from


def run(program: bytes, ip: bytes) -> bool:
    """Whether a program lets a packet with this IP header through (BPF(4), the few ops used)."""
    code = [
        struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), INSTRUCTION_BYTES)
    ]
    at = accumulator = 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        offset = k - 0xFFF00000
        match op:
            case 0x30:
                accumulator = ip[offset]
            case 0x20:
                accumulator = int.from_bytes(ip[offset : offset + 4], "big")
            case 0x74:
                accumulator >>= k
            case 0x15:
                at += yes if accumulator == k else no
            case 0x06:
                return bool(k)
            case _:
                raise AssertionError(f"unknown instruction {op:#x}")


def header(source: str) -> bytes:
    packed = ipaddress.ip_address(source).packed
    if len(packed) == 4:
        return b"\x45" + bytes(11) + packed + bytes(4)
    return b"\x60" + bytes(7) + packed + bytes(16)


SOURCES = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:1::1", "1.2.0.192"]


@pytest.mark.parametrize("signalled", SOURCES)
def test_only_the_signalled_address_passes(signalled: str) -> None:
    program = only_from(signalled)
    assert [source for source in SOURCES if run(program, header(source))] == [signalled]


def test_mapped_and_scoped_addresses() -> None:
    assert only_from("::ffff:192.0.2.1") == only_from("192.0.2.1")
    assert only_from("fe80::1%eth0") == only_from("fe80::1")


def test_drop_all() -> None:
    assert not run(drop_all(), header("192.0.2.1"))


@pytest.mark.parametrize("host", ["", "example.org", "1.2.3", "127.0.0.1/8"])
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(ValueError, match="address"):
        only_from(host)
