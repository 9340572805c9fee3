"""A socket whose packets are read at once: what sort they are, where they go, what is put aside.

RTP and RTCP are told apart by RFC 5761 §4: a version of 2, and a second byte of 192 to 223 for
RTCP, which in RTP would be the payload types 64 to 95 with the marker set. So each goes to where
the other side wants it, whether either side multiplexes or not. Anything else (STUN, DTLS, noise)
is not sent on.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callreel.capture.hearing import Ear
from callreel.capture.protection import Crossing
from callreel.capture.streams import LiveStream
from callreel.capture.tap import Tap
from callreel.capture.volley import Packed

_RTP_HEADER_BYTES = 12
_RTCP_HEADER_BYTES = 4
RTP = 1
RTCP = 2
"""Sorts of datagrams; 0 is neither."""


def sort_of(first: int, second: int, length: int) -> int:
    """1 for RTP, 2 for RTCP, 0 for neither, by a datagram's first two bytes and its length."""
    if first >> 6 != 2:
        return 0
    if 192 <= second <= 223:
        return RTCP if length >= _RTCP_HEADER_BYTES else 0
    return RTP if length >= _RTP_HEADER_BYTES else 0


def sorts_of(
    heads: NDArray[np.uint8], lengths: NDArray[np.unsignedinteger[Any]]
) -> NDArray[np.uint8]:
    """:func:`sort_of` of many; uint8[n, 2] and uint16[n] to uint8[n]."""
    second = heads[:, 1]
    rtcp = (second >= 192) & (second <= 223)
    shortest = np.where(rtcp, _RTCP_HEADER_BYTES, _RTP_HEADER_BYTES)
    whole = ((heads[:, 0] >> 6) == 2) & (lengths >= shortest)
    sorts: NDArray[np.uint8] = (np.where(rtcp, RTCP, RTP) * whole).astype(np.uint8)
    return sorts


@dataclass(slots=True, eq=False)
class Inlet:
    """A socket of a bridged or attended call, and where what comes to it goes."""

    live: LiveStream
    """Whose it is."""
    tap: Tap
    """The socket."""
    rtp_to: Tap | None = None
    """The socket that RTP is sent from, to that one's peer; None if it is not sent on."""
    rtcp_to: Tap | None = None
    """The same for RTCP."""
    crossing: Crossing | None = None
    """What is undone and done on the way; None where packets pass as they are."""
    ear: Ear | None = None
    """Who listens to RTP that ends here; then it is not sent on."""
    opening: Crossing | None = None
    """What is undone for the ear; None where packets are in the clear."""
    lengths: array[int] = field(default_factory=lambda: array("H"))
    """Put aside since the last sweep: bytes of each packet."""
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    """Wall time of arrival of each."""
    pieces: list[bytes | bytearray] = field(default_factory=list)
    """Their bytes, one or several packets a piece."""
    relayed: bytearray = field(default_factory=bytearray)
    """1 for each that was sent on."""
    first_drops: int = -1
    """Of the drain that is going on: the kernel's drop count with its first datagram."""
    datagrams: int = 0
    """Taken in it so far."""
    length_bytes: int = 0
    """Their bytes."""
    last_drops: int = 0
    """The count with its last datagram so far."""

    def take(self) -> tuple[Packed, NDArray[np.bool_] | None] | None:
        """What was put aside, and which of it was sent on (None: all); None if there is nothing."""
        if not self.pieces:
            return None
        packed = Packed(
            len(self.lengths),
            b"".join((self.lengths.tobytes(), self.stamps_ns.tobytes(), *self.pieces)),
        )
        relayed = None
        if 0 in self.relayed:
            relayed = np.frombuffer(bytes(self.relayed), np.bool_)
        del self.lengths[:], self.stamps_ns[:]
        self.pieces.clear()
        self.relayed.clear()
        return packed, relayed
