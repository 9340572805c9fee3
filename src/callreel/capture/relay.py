"""The relay: what comes to a bridged call's sockets goes out of the other call's, at once.

One ``recvmmsg`` into the sweeper's slots, one ``sendmmsg`` out of the same slots. Sequence numbers,
timestamps, SSRCs and payload types stay as they are: what the parties agreed upon passes through,
telephone events and comfort noise with it. What is to be kept as well is put aside here, in memory,
until the next sweep collects it; nothing in this module knows of journals, and none of it waits.

Each turn sees to all sockets that something came to: where those are many, all at once
(:mod:`~callreel.capture.crowd`). And so that they are, turns keep a distance of ``DISTANCE_NS``:
to wake up for a single packet costs as much as to pass it on. A packet of a quiet moment is passed
on without waiting.

SRTP that both legs have the keys of passes as it is too. Where they do not share keys it is undone
and done again, packet by packet (:meth:`Relay._cross`); what does not authenticate is not sent on.
What is put aside is in any case what was received.

A call that ends here is read in the same way, and nothing of it is sent on: its inlets have an ear.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from callreel.base.errors import CapacityError
from callreel.capture.anchor import Anchor
from callreel.capture.crowd import DEPTH, SOCKETS, Crowd
from callreel.capture.hearing import Ear
from callreel.capture.inlet import RTCP, RTP, Inlet, sort_of, sorts_of
from callreel.capture.outgoing import Outgoing
from callreel.capture.protection import Crossing, crosses
from callreel.capture.streams import LiveStream
from callreel.capture.sweep import STAMP_ONLY, Batch, Sweeper
from callreel.capture.tap import MAX_BATCHES, Tap
from callreel.capture.volley import Packed
from callreel.wire.srtp import Refusal

AT_A_TIME = 32
"""Datagrams taken from one socket before the next one's turn comes: a flood holds nobody up."""
SOCKETS_AT_A_TIME = SOCKETS
"""Sockets seen to before commands and the sweep are looked at again. The kernel puts one that is
still ready behind the others."""
DISTANCE_NS = 2_000_000
"""From one turn to the next, at least."""


class Relay:
    """The sockets of all bridged and attended calls of a worker.

    ``fileno`` is readable, level-triggered, while there is something to relay; ``turn`` then does a
    bounded part of it.
    """

    def __init__(self, sweeper: Sweeper, anchor: Anchor) -> None:
        self._sweeper = sweeper
        self._anchor = anchor
        self._out = Outgoing(sweeper)
        self._crowd = Crowd(sweeper.family, hear=self._hear)
        self._turned_ns = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, Inlet] = {}
        self.latched: list[LiveStream] = []
        """Streams whose source was latched, of which nobody was told as yet."""
        self.strange = 0
        """Datagrams from a latched source that were neither RTP nor RTCP, ever."""
        self.unauthentic = 0
        """SRTP from a latched source that was not made with the key or was replayed, ever."""
        self.moved: set[LiveStream] = set()
        """Streams whose sending got somewhere that a successor must know, not told as yet."""
        self.pressed: set[LiveStream] = set()
        """Streams whose ear has heard keys, of which nobody was told as yet."""

    def fileno(self) -> int:
        """To wait on."""
        return self._epoll.fileno()

    @property
    def is_busy(self) -> bool:
        """Whether anything is relayed or heard at all."""
        return bool(self._by_fd)

    @property
    def sent(self) -> int:
        """Packets sent on, ever."""
        return self._out.sent + self._crowd.sent

    @property
    def unsent(self) -> int:
        """Packets that the kernel would not send, ever."""
        return self._out.unsent + self._crowd.unsent

    def add(self, *lives: LiveStream) -> None:
        """Watch the sockets of some streams: all or none. Each is to be routed before the next
        turn. Raises ``CapacityError``."""
        added: list[int] = []
        try:
            for live in lives:
                for tap in (live.rtp, live.rtcp):
                    self._epoll.register(tap.fd, select.EPOLLIN)
                    self._by_fd[tap.fd] = Inlet(live, tap)
                    added.append(tap.fd)
        except OSError as error:
            for fd in added:
                self._epoll.unregister(fd)
                del self._by_fd[fd]
            raise CapacityError(
                f"cannot relay one more call: {error.strerror}",
                hint="raise fs.epoll.max_user_watches",
            ) from error

    def remove(self, live: LiveStream) -> None:
        """Relay or hear it no more. What was put aside must have been taken."""
        for tap in (live.rtp, live.rtcp):
            del self._by_fd[tap.fd]
            self._epoll.unregister(tap.fd)

    def route(self, live: LiveStream) -> None:
        """Find out anew where what comes to a stream goes: either side was signalled anew."""
        across = live.across
        if across is None:
            self._route_here(live)
            return
        # A peer that wants no media still gets RTCP (RFC 3264 §5.1).
        rtp_to = across.rtp if across.stream.receiving else None
        rtcp_to = across.rtp if across.stream.rtcp_mux else across.rtcp
        inlet = self._by_fd[live.rtp.fd]
        inlet.rtp_to, inlet.rtcp_to = rtp_to, rtcp_to
        self._by_fd[live.rtcp.fd].rtcp_to = rtcp_to
        crossing = None
        if crosses(live.stream, across.stream):
            crossing = Crossing(live.protection.receivers, across.protection.sender)
        inlet.crossing = self._by_fd[live.rtcp.fd].crossing = crossing

    def _route_here(self, live: LiveStream) -> None:
        """What comes to it is heard by its attendant, if there is one, and goes nowhere."""
        inlet = self._by_fd[live.rtp.fd]
        inlet.ear = None if live.attendant is None else live.attendant.ear
        secure = live.stream.srtp is not None
        inlet.opening = Crossing(live.protection.receivers, None) if secure else None

    def turn(self) -> None:
        """Relay some of what has come."""
        early_ns = self._turned_ns + DISTANCE_NS - time.monotonic_ns()
        if early_ns > 0:
            time.sleep(early_ns / 1e9)
        ready = self._epoll.poll(0, SOCKETS_AT_A_TIME)
        now_ns = time.monotonic_ns()
        self._turned_ns = 0 if len(ready) == SOCKETS_AT_A_TIME else now_ns
        usual = not self._anchor.is_suspect(now_ns)
        alike: list[Inlet] = []
        for fd, _ in ready:
            inlet = self._by_fd[fd]
            if usual and inlet.crossing is None:
                alike.append(inlet)
            else:
                self._read(inlet)
        if alike:
            self._pass_many(alike)

    def _pass_many(self, inlets: Sequence[Inlet]) -> None:
        """Relay what came to many sockets, whose packets pass as they are."""
        crowd = self._crowd
        for lane, n in crowd.pass_on(inlets, self._anchor.offset_ns):
            crowd.hand_over(lane, n, self._sweeper)
            self._pass(inlets[lane], n, DEPTH, time.monotonic_ns())
            if n == DEPTH:
                self._read(inlets[lane])

    def drain(self, tap: Tap) -> None:
        """Relay all that has come to one socket."""
        inlet = self._by_fd[tap.fd]
        for _ in range(MAX_BATCHES):
            if self._read(inlet) < AT_A_TIME:
                break

    def take(self, tap: Tap) -> tuple[Packed, NDArray[np.bool_] | None] | None:
        """See :meth:`Inlet.take`."""
        return self._by_fd[tap.fd].take()

    def _read(self, inlet: Inlet) -> int:
        """Relay what one ``recvmmsg`` brings; how many datagrams that was."""
        n = self._sweeper.receive(inlet.tap.fd, AT_A_TIME)
        if n:
            self._pass(inlet, n, AT_A_TIME, time.monotonic_ns())
        else:
            self._end_drain(inlet)
        return n

    def _pass(self, inlet: Inlet, n: int, limit: int, now_ns: int) -> None:
        """Relay ``n`` datagrams just received, ``limit`` being all that there could be."""
        sweeper, tap = self._sweeper, inlet.tap
        shape = sweeper.uniform(n)
        if shape is None or not tap.is_latched(n, sweeper) or self._anchor.is_suspect(now_ns):
            self._pass_mixed(inlet, n, now_ns)
            self._count_drops(inlet, n, -1, limit)
        else:
            if inlet.crossing is None:
                stamp_ns = self._pass_alike(inlet, n, shape)
            else:
                stamp_ns = self._cross_alike(inlet, n, shape)
            tap.latch.heard_ns = max(tap.latch.heard_ns, stamp_ns - self._anchor.offset_ns)
            if n == limit or inlet.datagrams or shape[1] != STAMP_ONLY or not tap.drops.is_quiet:
                self._count_drops(inlet, n, shape[0], limit)
        if n < limit:
            tap.drained_ns = now_ns

    def _pass_alike(self, inlet: Inlet, n: int, shape: tuple[int, int]) -> int:
        """Pass on ``n`` datagrams of one length from the latched source; the last one's stamp."""
        sweeper = self._sweeper
        length = shape[0]
        if n == 1:
            sort = sort_of(sweeper.octets[0], sweeper.octets[1], length)
        else:
            sorts = sorts_of(sweeper.heads(n), np.full(n, length, np.uint16))
            sort = int(sorts[0])
            if (sorts != sort).any():
                self.strange += int((sorts == 0).sum())
                batch = sweeper.take_uniform(n, shape)
                relayed = self._send_sorted(inlet, sorts, batch.lengths)
                self._put_aside(inlet, batch, relayed)
                return int(batch.stamps_ns[-1])
        to = inlet.rtp_to if sort == RTP else inlet.rtcp_to if sort == RTCP else None
        sent = to is not None and to.to is not None
        if to is not None and to.to is not None:
            self._out.send(to.fd, to.to, n, length)
        elif sort == 0:
            self.strange += n
        if n > 1:
            batch = sweeper.take_uniform(n, shape)
            self._put_aside(inlet, batch, np.full(n, sent))
            return int(batch.stamps_ns[-1])
        stamp_ns = sweeper.stamp_ns()
        if inlet.ear is not None and inlet.ear.wants(sweeper.octets[:length]):
            self._hear(inlet, inlet.ear, bytes(sweeper.octets[:length]), stamp_ns)
        if inlet.live.keepers:
            inlet.lengths.append(length)
            inlet.stamps_ns.append(stamp_ns)
            inlet.pieces.append(sweeper.octets[:length])
            inlet.relayed.append(sent)
        return stamp_ns

    def _hear(self, inlet: Inlet, ear: Ear, packet: bytes, stamp_ns: int) -> None:
        """Let the ear have a packet that it wants."""
        if inlet.opening is not None:
            opened = inlet.opening.rtp(packet)
            if not isinstance(opened, bytes):
                self.unauthentic += 1
                return
            packet = opened
        ear.hear(packet, stamp_ns - self._anchor.offset_ns)
        if ear.keys:
            self.pressed.add(inlet.live)

    def _hear_all(self, inlet: Inlet, ear: Ear, batch: Batch) -> None:
        """Let the ear have what it wants of many packets."""
        at = 0
        for length, stamp_ns in zip(batch.lengths.tolist(), batch.stamps_ns.tolist(), strict=True):
            packet = batch.data[at : at + length]
            at += length
            if ear.wants(packet):
                self._hear(inlet, ear, packet, stamp_ns)

    def _cross_alike(self, inlet: Inlet, n: int, shape: tuple[int, int]) -> int:
        """The same where they are to be undone or done again on the way."""
        sweeper, length = self._sweeper, shape[0]
        if n > 1:
            lengths = np.full(n, length, np.uint16)
            sorts = sorts_of(sweeper.heads(n), lengths)
            self.strange += int((sorts == 0).sum())
            batch = sweeper.take_uniform(n, shape)
            relayed = self._send_sorted(inlet, *self._cross(inlet, sorts, lengths))
            self._put_aside(inlet, batch, relayed)
            return int(batch.stamps_ns[-1])
        # One at a time is how they mostly come: without numpy this costs a third.
        data = bytes(sweeper.octets[:length])
        sort = sort_of(data[0], data[1], length) if length > 1 else 0
        to = inlet.rtp_to if sort == RTP else inlet.rtcp_to
        sent = False
        if sort == 0:
            self.strange += 1
        elif to is not None and to.to is not None:
            packet = self._crossed(inlet, sort, data)
            if packet is not None:
                sweeper.octets[: len(packet)] = packet
                self._out.send(to.fd, to.to, 1, len(packet))
                sent = True
        stamp_ns = sweeper.stamp_ns()
        if inlet.live.keepers:
            inlet.lengths.append(length)
            inlet.stamps_ns.append(stamp_ns)
            inlet.pieces.append(data)
            inlet.relayed.append(sent)
        return stamp_ns

    def _crossed(self, inlet: Inlet, sort: int, data: bytes) -> bytes | None:
        """One packet as it goes on; None, and counted, if it does not."""
        crossing = inlet.crossing
        assert crossing is not None
        packet = crossing.rtp(data) if sort == RTP else crossing.rtcp(data)
        if isinstance(packet, bytes):
            if crossing.sender is not None and crossing.sender.moved:
                assert inlet.live.across is not None
                self.moved.add(inlet.live.across)
            return packet
        if isinstance(packet, Refusal):
            self.unauthentic += 1
        else:
            self._out.unsent += 1
        return None

    def _pass_mixed(self, inlet: Inlet, n: int, now_ns: int) -> None:
        """Pass on what of ``n`` datagrams may be taken."""
        sweeper, tap = self._sweeper, inlet.tap
        sorts = sorts_of(sweeper.heads(n), sweeper.lengths(n))
        may_latch = sorts == RTP if tap is inlet.live.rtp else sorts == RTCP
        if inlet.live.stream.rtcp_mux:
            may_latch = sorts > 0
        mixed = tap.admit(n, sweeper, self._anchor, now_ns, media=may_latch)
        if mixed.latched is not None and tap is inlet.live.rtp:
            inlet.live.ssrc = mixed.latched.ssrc
            self.latched.append(inlet.live)
        self.strange += int((mixed.taken & (sorts == 0)).sum())
        wanted = np.where(mixed.taken, sorts, 0)
        # Crossing puts other bytes in their place.
        batch = sweeper.take(mixed.taken, mixed.lengths, mixed.stamps_ns)
        if inlet.crossing is not None:
            relayed = self._send_sorted(inlet, *self._cross(inlet, wanted, mixed.lengths))
        else:
            relayed = self._send_sorted(inlet, wanted, mixed.lengths)
        self._put_aside(inlet, batch, relayed[mixed.taken])

    def _cross(
        self, inlet: Inlet, sorts: NDArray[np.uint8], lengths: NDArray[np.uint16]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """Make what was received fit for the other leg, in its slots; the sorts of what there is
        to send on, and the lengths."""
        sweeper = self._sweeper
        sorts, lengths = sorts.copy(), lengths.copy()
        for at in np.flatnonzero(sorts).tolist():
            packet = self._crossed(inlet, sorts[at], sweeper.packet(at, int(lengths[at])))
            if packet is None:
                sorts[at] = 0
            else:
                sweeper.put(at, packet)
                lengths[at] = len(packet)
        return sorts, lengths

    def _send_sorted(
        self, inlet: Inlet, sorts: NDArray[np.uint8], lengths: NDArray[np.uint16]
    ) -> NDArray[np.bool_]:
        """Send RTP and RTCP each on its way; which were sent."""
        relayed = np.zeros(len(sorts), np.bool_)
        for sort, to in ((RTP, inlet.rtp_to), (RTCP, inlet.rtcp_to)):
            if to is None or to.to is None:
                continue
            chosen = np.flatnonzero(sorts == sort)
            if len(chosen):
                self._out.send_chosen(to.fd, to.to, chosen, lengths)
                relayed[chosen] = True
        return relayed

    def _put_aside(self, inlet: Inlet, batch: Batch, relayed: NDArray[np.bool_]) -> None:
        """Have packets heard, and keep them for the next sweep, if anybody wants them."""
        if inlet.ear is not None:
            self._hear_all(inlet, inlet.ear, batch)
        if not inlet.live.keepers or not len(batch):
            return
        inlet.lengths.frombytes(batch.lengths.tobytes())
        inlet.stamps_ns.frombytes(batch.stamps_ns.tobytes())
        inlet.pieces.append(batch.data)
        inlet.relayed += relayed.tobytes()

    def _count_drops(self, inlet: Inlet, n: int, length: int, limit: int) -> None:
        """Add to the drain that is going on; it ends with a read that found fewer than it might."""
        sweeper = self._sweeper
        first, inlet.last_drops = sweeper.drop_counts(n)
        if not inlet.datagrams:
            inlet.first_drops = first
        inlet.datagrams += n
        inlet.length_bytes += n * length if length >= 0 else int(sweeper.lengths(n).sum())
        if n < limit:
            self._end_drain(inlet)

    def _end_drain(self, inlet: Inlet) -> None:
        if inlet.datagrams:
            inlet.tap.drops.drained(
                inlet.first_drops,
                inlet.last_drops,
                datagrams=inlet.datagrams,
                length_bytes=inlet.length_bytes,
            )
            inlet.datagrams = inlet.length_bytes = 0
