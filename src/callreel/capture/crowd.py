"""Relaying what came to many sockets at once: nearly always a packet each, with nothing odd.

The sockets are read one after the other into lanes of one sweeper. That each packet is RTP, whole,
from the latched source and that the kernel dropped none before it is seen for all lanes at once;
what is so is sent on from its slot. Anything else is left to be looked at on its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from callreel.capture.hearing import Ear
from callreel.capture.inlet import RTP, Inlet, sorts_of
from callreel.capture.lanes import CONTROLLEN, LENGTH, Lanes
from callreel.capture.outgoing import Salvo
from callreel.capture.sweep import STAMP_AND_DROPS, STAMP_ONLY, STRIDE_BYTES, Sweeper

SOCKETS = 64
"""At once."""
DEPTH = 4
"""Datagrams of one of them: more than one is a burst already."""
_FLAGS = 6
"""Of the eight words of a header."""


class Crowd:
    """Lanes for the sockets of one family. ``hear`` is given what an ear wants, with its stamp,
    wall time."""

    def __init__(self, family: int, *, hear: Callable[[Inlet, Ear, bytes, int], None]) -> None:
        self._lanes = Lanes(family, SOCKETS, DEPTH)
        self._salvo = Salvo(self._lanes)
        self._nobody = bytes(self._lanes.sweeper.name_bytes)
        self._hear = hear

    @property
    def sent(self) -> int:
        """Packets sent on, ever."""
        return self._salvo.sent

    @property
    def unsent(self) -> int:
        """Packets that the kernel would not send, ever."""
        return self._salvo.unsent

    def pass_on(self, inlets: Sequence[Inlet], offset_ns: int) -> list[tuple[int, int]]:
        """Relay what came to at most ``SOCKETS`` that are plain, ``offset_ns`` being wall time
        less arrival time; the lanes that are left, and how many datagrams are in each."""
        lanes, salvo = self._lanes, self._salvo
        counts = lanes.receive([inlet.tap.fd for inlet in inlets])
        now_ns = time.monotonic_ns()
        fit, lengths, stamps_ns, drops = self._look(inlets)
        targets = [inlet.rtp_to for inlet in inlets]
        salvo.aim([(tap and tap.to) or self._nobody for tap in targets], lengths)
        sizes: list[int] = lengths.tolist()
        octets = lanes.sweeper.octets
        left: list[tuple[int, int]] = []
        for lane, inlet in enumerate(inlets):
            tap, n = inlet.tap, counts[lane]
            counter = tap.drops
            if n != 1 or not fit[lane] or drops[lane] != counter.total or counter.near_full:
                if n:
                    left.append((lane, n))
                continue
            to, stamp_ns = targets[lane], stamps_ns[lane]
            sent = to is not None and to.to is not None
            if to is not None and sent:
                salvo.send(lane, to.fd)
            tap.drained_ns = now_ns
            if stamp_ns - offset_ns > tap.latch.heard_ns:
                tap.latch.heard_ns = stamp_ns - offset_ns
            if inlet.ear is None and not inlet.live.keepers:
                continue
            at = lane * DEPTH * STRIDE_BYTES
            packet = octets[at : at + sizes[lane]]
            if inlet.ear is not None and inlet.ear.wants(packet):
                self._hear(inlet, inlet.ear, bytes(packet), stamp_ns)
            if inlet.live.keepers:
                inlet.lengths.append(sizes[lane])
                inlet.stamps_ns.append(stamp_ns)
                inlet.pieces.append(packet)
                inlet.relayed.append(sent)
        return left

    def _look(
        self, inlets: Sequence[Inlet]
    ) -> tuple[list[bool], NDArray[np.uint64], list[int], list[int]]:
        """Of the first datagram of each lane: whether it is RTP, whole and from the latched
        source; its bytes; its stamp, wall time; the kernel's count of drops."""
        lanes, used = self._lanes, len(inlets)
        words = lanes.words[:used, 0]
        lengths, controllens = words[:, LENGTH], words[:, CONTROLLEN]
        counted = controllens == STAMP_AND_DROPS
        fit = counted | (controllens == STAMP_ONLY)
        fit &= words[:, _FLAGS] == 0
        fit &= lanes.are_from([inlet.tap.latch.source for inlet in inlets], 1)[:, 0]
        fit &= sorts_of(lanes.slots[:used, 0, :2], lengths) == RTP
        stamps = lanes.seconds[:used, 0] * 1_000_000_000 + lanes.nanoseconds[:used, 0]
        drops = np.where(counted, lanes.drops[:used, 0], 0)
        return fit.tolist(), lengths, stamps.tolist(), drops.tolist()

    def hand_over(self, lane: int, n: int, sweeper: Sweeper) -> None:
        """What is in a lane is in ``sweeper`` then, as if received by it."""
        sweeper.take_from(self._lanes.sweeper, lane * DEPTH, n)
