"""One media socket: who is listened to on it, what was lost, where its peer is sent to."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callreel.capture.anchor import Anchor
from callreel.capture.drops import DropCounter
from callreel.capture.latch import SILENCE_NS, Latch
from callreel.capture.sockets import (
    Address,
    accept_from,
    address_of,
    buffer_bytes,
    drop_total,
    packed_address,
    queued_bytes,
    refuse_all,
)
from callreel.capture.sweep import BATCH, STAMP_ONLY, Batch, Sweeper

MAX_BATCHES = 64
"""Bound of one drain: a flood on one socket must not starve the others."""
_CLOCK_SLACK_NS = 5_000_000


@dataclass(frozen=True, slots=True)
class Latched:
    """A source was latched."""

    source: bytes
    """Raw ``sockaddr``."""
    ssrc: int
    """Of its first packet."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Datagrams just received, sorted out; their bytes are in the sweeper's slots."""

    taken: NDArray[np.bool_]
    """Which are whole and from the latched source; bool[n]."""
    lengths: NDArray[np.uint16]
    """Bytes of each; uint16[n]."""
    stamps_ns: NDArray[np.int64]
    """Wall time of arrival; int64[n]."""
    latched: Latched | None
    """A source that was latched among them."""


class Tap:
    """One socket of a stream: its filter, its latch, what was lost on it, its peer's address."""

    __slots__ = (
        "_address",
        "_address_of",
        "drained_ns",
        "drops",
        "fd",
        "foreign",
        "host",
        "latch",
        "sock",
        "to",
        "truncated",
    )

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        """Its descriptor, for as long as it is open."""
        self.to: bytes | None = None
        """Where what is relayed to its peer goes, a raw ``sockaddr``: the signalled address until
        the peer has spoken. None while no address is known."""
        self._address_of: bytes | None = None
        self._address: Address | None = None
        self.host: str | None = None
        """Whose packets are queued; None while nothing is."""
        self.latch = Latch()
        """The source that is taken."""
        self.drops = DropCounter(buffer_bytes(sock))
        """What the kernel dropped."""
        self.foreign = 0
        """Datagrams from the signalled address but another source than the latched."""
        self.truncated = 0
        """Datagrams longer than a slot."""
        self.drained_ns = 0
        """When it was last found empty, arrival time."""

    @property
    def address(self) -> Address | None:
        """The same as Python's sockets take it."""
        if self.to is not self._address_of:
            self._address_of = self.to
            self._address = None if self.to is None else address_of(self.to)
        return self._address

    def listen(self, host: str, *, now_mono_ns: int) -> None:
        """Have packets from ``host`` queued from now on."""
        if self.host is None:
            accept_from(self.sock, host)
            self.drops.restart(drop_total(self.sock))
            if now_mono_ns - self.latch.heard_ns >= SILENCE_NS:
                self.latch.forget()
            # Not to have been listened to is no silence of the latched source's own.
            self.latch.heard_ns = now_mono_ns
            self.drained_ns = now_mono_ns
        elif self.host != host:
            accept_from(self.sock, host)
        self._expect(host)

    def take_over(self, host: str, *, now_mono_ns: int) -> None:
        """Go on with a socket that a former worker listened on: what is queued is still wanted.
        ``latch.source`` and the drop counter are as that worker left them."""
        accept_from(self.sock, host)
        self.drops.take_over(self.drops.total, queued_bytes=queued_bytes(self.sock))
        self.latch.heard_ns = now_mono_ns
        self._expect(host)

    def _expect(self, host: str) -> None:
        self.host = host
        self.latch.address = packed_address(self.sock, host)

    def refuse(self) -> None:
        """Have nothing queued from now on."""
        refuse_all(self.sock)
        self.host = None

    def read_drops(self) -> None:
        """Look at the kernel's counter, for what was dropped with nothing queued after it."""
        self.drops.read(drop_total(self.sock))

    def lost(self) -> tuple[int, int, int]:
        """Datagrams lost to overflow, refused as foreign, truncated; ever."""
        return self.drops.overflowed, self.drops.refused + self.foreign, self.truncated

    def drain(
        self, sweeper: Sweeper, anchor: Anchor, *, at: int = 0, depth: int = BATCH, taken: int = -1
    ) -> tuple[list[Batch], Latched | None]:
        """All that is queued and may be taken, and the source if a new one was latched.

        It is received ``depth`` datagrams at a time into the sweeper's slots from ``at`` on; so
        many as ``taken`` says, if it does, are there already, and were looked at.
        """
        batches: list[Batch] = []
        latched: Latched | None = None
        fd = self.fd
        quiet = self.drops.is_quiet
        first = last = -1
        datagrams = length_bytes = 0
        for _ in range(MAX_BATCHES):
            n = taken if taken >= 0 else sweeper.receive(fd, depth, at)
            taken = -1
            if n == 0:
                break
            shape = sweeper.uniform(n)
            now_ns = time.monotonic_ns()
            batch: Batch
            if shape is not None and self.is_latched(n, sweeper):
                batch = sweeper.take_uniform(n, shape)
                if anchor.is_suspect(now_ns):
                    batch = Batch(
                        batch.lengths, self._corrected(batch.stamps_ns, anchor), batch.data
                    )
                heard_ns = int(batch.stamps_ns[-1]) - anchor.offset_ns
                if heard_ns > self.latch.heard_ns:
                    self.latch.heard_ns = heard_ns
                length_bytes += n * shape[0]
            else:
                mixed = self.admit(n, sweeper, anchor, now_ns)
                latched = mixed.latched or latched
                batch = sweeper.take(mixed.taken, mixed.lengths, mixed.stamps_ns)
                length_bytes += int(mixed.lengths.sum(dtype=np.int64))
            if len(batch):
                batches.append(batch)
            datagrams += n
            if quiet and shape is not None and shape[1] == STAMP_ONLY:
                first = last = 0
            else:
                quiet = False
                head, last = sweeper.drop_counts(n)
                first = head if first < 0 else first
            if n < depth:
                self.drained_ns = now_ns
                break
        if quiet and datagrams:
            self.drops.drained_quietly(datagrams, length_bytes)
        elif datagrams:
            self.drops.drained(first, last, datagrams=datagrams, length_bytes=length_bytes)
        else:
            self.drops.fill = 0.0
        return batches, latched

    def admit(
        self,
        n: int,
        sweeper: Sweeper,
        anchor: Anchor,
        now_ns: int,
        *,
        media: NDArray[np.bool_] | None = None,
    ) -> Mixed:
        """Sort out ``n`` datagrams just received, of any kind and source. Given ``media``,
        bool[n], only what it says is media makes a new source be latched."""
        lengths, stamps, truncated = sweeper.mixed(n, now_ns + anchor.offset_ns)
        if anchor.is_suspect(now_ns):
            stamps = self._corrected(stamps, anchor)
        sources = sweeper.sources(n)
        taken, changes = self.latch.admit(sources, stamps - anchor.offset_ns, media)
        latched: Latched | None = None
        if changes:
            at = changes[-1]
            latched = Latched(sources[at].tobytes(), sweeper.ssrc(at))
            self.to = latched.source
        self.foreign += n - int(taken.sum())
        self.truncated += int((taken & truncated).sum())
        taken &= ~truncated
        return Mixed(taken, lengths, stamps, latched)

    def is_latched(self, n: int, sweeper: Sweeper) -> bool:
        """Whether all of ``n`` datagrams just received come from the latched source."""
        source = self.latch.source
        return source is not None and sweeper.is_from(source, n)

    def discard(self, sweeper: Sweeper) -> None:
        """Take out what is queued and forget it."""
        fd = self.fd
        for _ in range(MAX_BATCHES):
            if sweeper.receive(fd) < BATCH:
                break

    def _corrected(self, stamps_ns: NDArray[np.int64], anchor: Anchor) -> NDArray[np.int64]:
        """Stamps as they would be had the clock been right already when they were taken.

        What is drained arrived since the last drain: a stamp that says otherwise is of the clock
        before it was set.
        """
        now_ns = anchor.now().mono_ns
        arrival = stamps_ns - anchor.offset_ns
        early = arrival < self.drained_ns - _CLOCK_SLACK_NS
        wrong = early | (arrival > now_ns + _CLOCK_SLACK_NS)
        return np.where(wrong, stamps_ns + (anchor.offset_ns - anchor.before_ns), stamps_ns)
