"""Which source of a stream is taken: the first at the signalled address, until it falls silent.

Senders often use another port than they announce, so the port is learnt. Once learnt it is held:
a second source at the same address is a stranger, until the first has been silent for two seconds
or new signalling has come. Where that names another port the source of before is a stranger for so
long: it is the party that was transferred away, and may share its address with the new one. A new
SSRC from the same source is no new source. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SILENCE_NS = 2_000_000_000
"""How long the latched source must be silent before another one may take its place."""


class Latch:
    """The source that is taken on one socket. A source is a raw ``sockaddr``, in one size."""

    __slots__ = ("_former", "_former_until_ns", "address", "heard_ns", "source")

    def __init__(self) -> None:
        self.source: bytes | None = None
        """The latched source; None before the first datagram."""
        self.address: bytes | None = None
        """The signalled address, packed in the socket's family: only a source there is latched."""
        self.heard_ns = 0
        """When it was last heard, arrival time; no earlier than when listening began."""
        self._former: bytes | None = None
        self._former_until_ns = 0

    def forget(self) -> None:
        """New signalling: the next source at the address is latched, whichever it is."""
        self.source = self._former = None

    def move(self, now_ns: int) -> None:
        """New signalling, of another port: the next source at the address is latched, but not the
        one of before, arrival time ``now_ns``, as long as it may only be trailing off.
        """
        self._former, self._former_until_ns = self.source or self._former, now_ns + SILENCE_NS
        self.source = None

    def admit(
        self,
        sources: NDArray[np.uint8],
        arrival_ns: NDArray[np.int64],
        media: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.bool_], list[int]]:
        """Which datagrams are taken, and the indices at which a new source was latched.

        ``sources`` is uint8[n, size], ``arrival_ns`` int64[n], both in order of arrival; ``media``,
        bool[n], says which may be latched upon: all, if it is not given.
        """
        n = len(sources)
        taken = np.zeros(n, np.bool_)
        latched: list[int] = []
        eligible = self._eligible(sources)
        if media is not None:
            eligible &= media
        if self._former is not None:
            trailing = (sources == np.frombuffer(self._former, np.uint8)).all(axis=1)
            eligible &= ~(trailing & (arrival_ns < self._former_until_ns))
        at = 0
        while at < n:
            if self.source is None:
                if not eligible[at:].any():
                    break
                at += int(eligible[at:].argmax())
                self.source = sources[at].tobytes()
                self.heard_ns = int(arrival_ns[at])
                latched.append(at)
            same = (sources[at:] == np.frombuffer(self.source, np.uint8)).all(axis=1)
            heard = np.maximum.accumulate(
                np.where(same, arrival_ns[at:], self.heard_ns), dtype=np.int64
            )
            heard = np.maximum(heard, self.heard_ns)
            relatch = ~same & eligible[at:] & (arrival_ns[at:] - heard >= SILENCE_NS)
            if not relatch.any():
                taken[at:] = same
                self.heard_ns = int(heard[-1])
                break
            change = int(relatch.argmax())
            taken[at : at + change] = same[:change]
            at += change
            self.source = None
        return taken, latched

    def _eligible(self, sources: NDArray[np.uint8]) -> NDArray[np.bool_]:
        if self.address is None:
            return np.ones(len(sources), np.bool_)
        # sockaddr_in: family, port, address. sockaddr_in6: family, port, flow label, address.
        start = 4 if len(self.address) == 4 else 8
        there = sources[:, start : start + len(self.address)]
        matching: NDArray[np.bool_] = (there == np.frombuffer(self.address, np.uint8)).all(axis=1)
        return matching
