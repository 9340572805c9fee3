"""Classic BPF programs for a media socket: who may be queued at all. Pure.

The kernel runs them before it queues a datagram, so that what they refuse costs no memory and can
never be read, by us or by anybody. Loads relative to the network header (``SKF_NET_OFF``) see the
IP header whatever the socket's family: an IPv4 packet that reaches an IPv6 socket is told by its
version.
"""

from __future__ import annotations

import ipaddress
import struct

_INSTRUCTION = struct.Struct("=HBBI")
_NET_OFF = 0xFFF00000
_LOAD_BYTE = 0x30
_LOAD_WORD = 0x20
_SHIFT_RIGHT = 0x74
_JUMP_EQUAL = 0x15
_RETURN = 0x06
_ALL_BYTES = 0x40000
_IPV4_SOURCE = 12
_IPV6_SOURCE = 8

INSTRUCTION_BYTES = _INSTRUCTION.size


def drop_all() -> bytes:
    """Nothing is queued."""
    return _INSTRUCTION.pack(_RETURN, 0, 0, 0)


def only_from(host: str) -> bytes:
    """Only what comes from this address is queued, from any port.

    ``host`` is a numeric IPv4 or IPv6 address; a zone (``%eth0``) is left out of account. Raises
    ``ValueError`` for anything else.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    offset = _IPV4_SOURCE if address.version == 4 else _IPV6_SOURCE
    words = struct.unpack(f">{len(address.packed) // 4}I", address.packed)
    checks = [(_LOAD_BYTE, _NET_OFF), (_SHIFT_RIGHT, 4), (_JUMP_EQUAL, address.version)]
    for index, word in enumerate(words):
        checks += [(_LOAD_WORD, _NET_OFF + offset + 4 * index), (_JUMP_EQUAL, word)]
    program = b""
    for at, (code, operand) in enumerate(checks):
        # A comparison that fails jumps over all that follows, to the refusal at the very end.
        to_refusal = len(checks) - at if code == _JUMP_EQUAL else 0
        program += _INSTRUCTION.pack(code, 0, to_refusal, operand)
    return program + _INSTRUCTION.pack(_RETURN, 0, 0, _ALL_BYTES) + drop_all()
