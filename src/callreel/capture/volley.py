"""Many sockets drained at once: what they brought is looked at in one go, and not one by one.

To sort out what one socket brought costs Python as much for a packet or two as for twenty-five. So
the sockets of many calls are read one after the other into lanes of one sweeper, and those that
brought what nearly all bring nearly always, packets of one length from the latched source, are
recognised, and their bytes taken, by a handful of operations for all of them.
Whatever else came to a socket is left in its lane for :meth:`Tap.drain`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callreel.capture.anchor import Anchor
from callreel.capture.lanes import ALL_ALIKE, CONTROLLEN, LENGTH, Lanes
from callreel.capture.sweep import STAMP_AND_DROPS, STAMP_ONLY, Batch
from callreel.capture.tap import Latched, Tap

LANES = 32
"""Sockets at once: what they bring stays in the processor's second cache."""
DEPTH = 48
"""Datagrams of one socket: what comes in half a second in packets of 20 ms, and as much again."""
_LENGTHS = 3
"""So many lengths of packets are looked for in one volley."""


@dataclass(slots=True)
class Packed:
    """Packets of one socket in order of arrival, as a journal's block holds them. Never changed;
    not frozen, as ``Batch`` is not."""

    count: int
    """How many."""
    payload: bytes
    """Bytes of each, ``<u2[count]``; wall time of arrival of each, ``<i8[count]``; the packets one
    after the other."""

    def unpacked(self) -> Batch:
        """The same to reckon with."""
        n = self.count
        lengths = np.frombuffer(self.payload, np.uint16, n)
        stamps_ns = np.frombuffer(self.payload, np.int64, n, offset=2 * n)
        return Batch(lengths, stamps_ns, self.payload[10 * n :])


@dataclass(slots=True)
class Mingled:
    """What :meth:`Tap.drain` made of a socket's packets."""

    batches: list[Batch]
    """In order of arrival."""
    latched: Latched | None
    """The source, if a new one was latched."""


class Volley:
    """Drains up to ``LANES`` sockets of one family at once."""

    def __init__(self, family: int) -> None:
        self._lanes = Lanes(family, LANES, DEPTH)
        self._usual_length = -1
        self._lengths: dict[int, bytes] = {}

    def drain(self, taps: Sequence[Tap], anchor: Anchor) -> list[Packed | Mingled | None]:
        """What each brought; None for nothing. All of it is told, but of a source that floods."""
        counts = self._lanes.receive([tap.fd for tap in taps])
        now_ns = time.monotonic_ns()
        found: list[Packed | Mingled | None] = [None] * len(taps)
        plain = not anchor.is_suspect(now_ns)
        sources: list[bytes | None] = []
        left: list[int] = []
        usual: list[int] = []
        for lane, tap in enumerate(taps):
            n = counts[lane]
            source = tap.latch.source
            if n == 0:
                tap.drops.fill = 0.0
                tap.drained_ns = now_ns
            elif n < DEPTH and plain and source is not None:
                usual.append(lane)
            else:
                left.append(lane)
            sources.append(source)
        if usual:
            left += self._take(taps, counts, sources, usual, found, anchor.offset_ns, now_ns)
        for lane in left:
            at, sweeper = lane * DEPTH, self._lanes.sweeper
            sweeper.look_at(at, counts[lane])
            batches, latched = taps[lane].drain(
                sweeper, anchor, at=at, depth=DEPTH, taken=counts[lane]
            )
            found[lane] = Mingled(batches, latched)
        return found

    def _take(
        self,
        taps: Sequence[Tap],
        counts: Sequence[int],
        sources: Sequence[bytes | None],
        lanes: list[int],
        found: list[Packed | Mingled | None],
        offset_ns: int,
        now_ns: int,
    ) -> list[int]:
        """Of these lanes take what is as usual; those where it is not."""
        left: list[int] = []
        used = len(taps)
        width = max(counts[lane] for lane in lanes)
        n = np.array(counts)
        there = self._lanes
        last = (there.numbers[:used], np.minimum(n, width) - 1)
        words, usual = there.words[:used, :width], there.usual[:used, :width]
        fitting = there.are_from(sources, width)
        beyond = there.columns[:width] >= n[:, None]
        stamps: NDArray[np.int64] = there.seconds[:used, :width] * 1_000_000_000
        stamps += there.nanoseconds[:used, :width]
        heard = (stamps[last] - offset_ns).tolist()
        stamp_bytes = stamps.tobytes()
        controllens = words[:, 0, CONTROLLEN]
        counted = controllens == STAMP_AND_DROPS
        usual[:, :, CONTROLLEN] = np.where(counted, STAMP_AND_DROPS, STAMP_ONLY)[:, None]
        first_drops = np.where(counted, there.drops[:used, 0], 0).tolist()
        last_drops = np.where(counted, there.drops[last], 0).tolist()
        for _ in range(_LENGTHS):
            length = int(words[lanes[0], 0, LENGTH])
            if length != self._usual_length:
                there.usual[:, :, LENGTH] = self._usual_length = length
            same = (words == usual).view(np.uint64)[:, :, 0] == ALL_ALIKE
            same &= fitting
            same |= beyond
            alike = same.all(axis=1).tolist()
            octets = there.slots[:used, :width, :length].tobytes()
            lengths = self._length_bytes(length)
            others: list[int] = []
            for lane in lanes:
                if not alike[lane]:
                    others.append(lane)
                    continue
                count, tap = counts[lane], taps[lane]
                at, row = lane * width * 8, lane * width * length
                payload = (
                    lengths[: count * 2],
                    stamp_bytes[at : at + count * 8],
                    octets[row : row + count * length],
                )
                found[lane] = Packed(count, b"".join(payload))
                latch, drops = tap.latch, tap.drops
                if heard[lane] > latch.heard_ns:
                    latch.heard_ns = heard[lane]
                if first_drops[lane] == last_drops[lane] == drops.total:
                    drops.drained_quietly(count, count * length)
                else:
                    drops.drained(
                        first_drops[lane],
                        last_drops[lane],
                        datagrams=count,
                        length_bytes=count * length,
                    )
                tap.drained_ns = now_ns
            if others and others[0] == lanes[0]:
                # The very one that the length is of: its packets differ among themselves.
                left.append(others.pop(0))
            lanes = others
            if not lanes:
                break
        return left + lanes

    def _length_bytes(self, length: int) -> bytes:
        """As many times as there can be packets of this length in a lane."""
        known = self._lengths.get(length)
        if known is None:
            known = self._lengths[length] = length.to_bytes(2, "little") * DEPTH
        return known
