"""SRTP of one stream of a journal, back to RTP: what does not authenticate is left out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from callreel.base.errors import MachineError
from callreel.wire.rtp import Octets
from callreel.wire.sdes import Key
from callreel.wire.srtp import Refusal, Unprotector

MAX_KEYS = 8
"""Keys of one stream that are remembered at once."""

OpenKey = Callable[[str], Key]
"""Opens what a journal holds of a key. Raises ``MachineError``."""


def no_keys(sealed: str) -> Key:
    """For journals without SRTP. Raises ``MachineError``."""
    raise MachineError("a journal of SRTP cannot be rendered without the server's key")


@dataclass(frozen=True, slots=True)
class Decrypted:
    """What became of some packets."""

    lengths: NDArray[np.uint16]
    """Bytes of each that is left; uint16[n]."""
    octets: Octets
    """They one after the other."""
    kept: NDArray[np.bool_]
    """Which of those that were given are left; bool[all]."""
    unauthentic: int
    """Packets that were not made with any of the keys."""
    replayed: int
    """Packets that came a second time."""


@dataclass(slots=True)
class Decryption:
    """The keys that a stream has had, the newest first, and how far each got."""

    _receivers: list[Unprotector] = field(default_factory=list)

    def learn(self, key: Key) -> None:
        """The stream has this key from now on; those it had still count for what is late."""
        known = [one for one in self._receivers if one.key == key]
        others = [one for one in self._receivers if one.key != key]
        self._receivers = [*(known or [Unprotector(key)]), *others][:MAX_KEYS]

    def decrypt(self, lengths: NDArray[np.uint16], octets: Octets) -> Decrypted:
        """What is in these packets."""
        data = octets.tobytes()
        packets: list[bytes] = []
        kept = np.zeros(len(lengths), np.bool_)
        unauthentic = replayed = at = 0
        for number, length in enumerate(lengths.tolist()):
            packet = self._one(data[at : at + length])
            at += length
            if packet is Refusal.UNAUTHENTIC:
                unauthentic += 1
            elif packet is Refusal.REPLAYED:
                replayed += 1
            else:
                packets.append(packet)
                kept[number] = True
        return Decrypted(
            np.array([len(packet) for packet in packets], np.uint16),
            np.frombuffer(b"".join(packets), np.uint8),
            kept,
            unauthentic,
            replayed,
        )

    def _one(self, data: bytes) -> bytes | Refusal:
        of_rtcp = len(data) >= 2 and 192 <= data[1] <= 223
        for receiver in self._receivers:
            packet = receiver.rtcp(data) if of_rtcp else receiver.rtp(data)
            if packet is not Refusal.UNAUTHENTIC:
                return packet
        return Refusal.UNAUTHENTIC
