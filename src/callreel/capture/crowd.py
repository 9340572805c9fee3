"""Relaying what came to many sockets at once: nearly always a packet each, with nothing odd.

The sockets are read one after the other into lanes of one sweeper. What is RTP, whole, from the
latched source, with nothing dropped before it, is sent on from here. Anything else is left to be
looked at on its own.

For a packet or two, of twenty sockets or so, plain Python is faster than numpy, and a socket's own
``sendto`` than one by way of ``ctypes``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from callreel.capture.hearing import Ear
from callreel.capture.inlet import RTP, Inlet, sort_of
from callreel.capture.lanes import Lanes
from callreel.capture.outgoing import Sender
from callreel.capture.sweep import (
    CONTROL_BYTES,
    HEADER_BYTES,
    STAMP_AND_DROPS,
    STAMP_ONLY,
    STRIDE_BYTES,
    WHOLE_CONTROL,
    WHOLE_HEADER,
    Sweeper,
)

SOCKETS = 64
"""At once."""
DEPTH = 4
"""Datagrams of one of them: more than one is a burst already."""


class Crowd:
    """Lanes for the sockets of one family. ``hear`` is given what an ear wants, with its stamp,
    wall time."""

    def __init__(self, family: int, *, hear: Callable[[Inlet, Ear, bytes, int], None]) -> None:
        self._lanes = Lanes(family, SOCKETS, DEPTH)
        self._out = Sender()
        self._hear = hear

    @property
    def sent(self) -> int:
        """Packets sent on, ever."""
        return self._out.sent

    @property
    def unsent(self) -> int:
        """Packets that the kernel would not send, ever."""
        return self._out.unsent

    def pass_on(self, inlets: Sequence[Inlet], offset_ns: int) -> list[tuple[int, int]]:
        """Relay what came to at most ``SOCKETS``, whose packets pass as they are; ``offset_ns``
        is wall time less arrival time. The lanes that are left, and how much is in each."""
        counts = self._lanes.receive([inlet.tap.fd for inlet in inlets])
        now_ns = time.monotonic_ns()
        left: list[tuple[int, int]] = []
        for lane, inlet in enumerate(inlets):
            n = counts[lane]
            if not n:
                continue
            tap = inlet.tap
            packets = self._fitting(inlet, lane * DEPTH, n) if n < DEPTH else None
            if packets is None:
                left.append((lane, n))
                continue
            to = inlet.rtp_to
            address = None if to is None else to.address
            for packet, stamp_ns in packets:
                if to is not None and address is not None:
                    self._out.send(to.sock, address, packet)
                if inlet.ear is not None and inlet.ear.wants(packet):
                    self._hear(inlet, inlet.ear, bytes(packet), stamp_ns)
                if inlet.live.keepers:
                    inlet.lengths.append(len(packet))
                    inlet.stamps_ns.append(stamp_ns)
                    inlet.pieces.append(packet)
                    inlet.relayed.append(address is not None)
            tap.drained_ns = now_ns
            heard_ns = stamp_ns - offset_ns
            if heard_ns > tap.latch.heard_ns:
                tap.latch.heard_ns = heard_ns
        return left

    def _fitting(self, inlet: Inlet, first: int, n: int) -> list[tuple[bytearray, int]] | None:
        """The packets in ``n`` slots from ``first`` on, each with its stamp, wall time; None if
        one of them is anything but usual."""
        sweeper, tap = self._lanes.sweeper, inlet.tap
        source, dropped = tap.latch.source, tap.drops.total
        if source is None or inlet.datagrams or tap.drops.near_full:
            return None
        octets, name_bytes = sweeper.octets, sweeper.name_bytes
        packets: list[tuple[bytearray, int]] = []
        for slot in range(first, first + n):
            controllen, flags, length = WHOLE_HEADER.unpack_from(
                sweeper.headers, slot * HEADER_BYTES
            )
            seconds, nanoseconds, drops = WHOLE_CONTROL.unpack_from(
                sweeper.controls, slot * CONTROL_BYTES
            )
            if controllen == STAMP_ONLY:
                drops = 0
            elif controllen != STAMP_AND_DROPS:
                return None
            at = slot * STRIDE_BYTES
            if (
                flags
                or drops != dropped
                or not sweeper.names.startswith(source, slot * name_bytes)
                or sort_of(octets[at], octets[at + 1], length) != RTP
            ):
                return None
            packets.append((octets[at : at + length], seconds * 1_000_000_000 + nanoseconds))
        return packets

    def hand_over(self, lane: int, n: int, sweeper: Sweeper) -> None:
        """What is in a lane is in ``sweeper`` then, as if received by it."""
        sweeper.take_from(self._lanes.sweeper, lane * DEPTH, n)
