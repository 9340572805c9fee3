"""Protecting and unprotecting SRTP and SRTCP packets (RFC 3711, RFC 7714), with libsrtp.

The index of a packet is its sequence number and how often that has rolled over, which is not in the
packet (§3.3.1). Whoever comes late (to a call that was going on, or after a restart) must find it
out: the receiver here tries the next ones until a packet authenticates, and the sender is told.
libsrtp has no way to be told, so that contexts are walked to an index with packets made for it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum

from pylibsrtp import Error, Policy, Session

from callreel.wire.rtp import is_rtcp
from callreel.wire.sdes import Key, Suite

MAX_ROLLOVERS = 512
"""As many are tried: a week of 50 packets a second."""
MAX_SSRCS = 256
"""Sources of one sender. To forget one would be to encrypt twice with the same keystream."""
MAX_PACKET_BYTES = 1356
"""What libsrtp's binding takes, its tag not counted."""
RTCP_RESERVE = 1024
"""So many SRTCP indices are passed over after a restart, at most."""
_STEP = 0x4000
_WINDOW = 1024
"""Packets that may be out of order by so much."""
_MAX_RTCP_INDEX = 1 << 16
_REPLAYED = ("replay check failed (bad index)", "replay check failed (index too old)")
_HEAD = struct.Struct(">BBHII")
_BLANK_RTCP = struct.Struct(">BBHI")
_PROFILES = {
    Suite.AES_CM_128_HMAC_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    Suite.AES_CM_128_HMAC_SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    Suite.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    Suite.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


class Refusal(Enum):
    """Why a packet is not taken."""

    UNAUTHENTIC = "unauthentic"
    """It was not made with the key, or was changed on its way, or is none."""
    REPLAYED = "replayed"
    """It was taken before, or is so old that this cannot be told."""


def index_after(last: int, sequence: int) -> int:
    """The index of a packet, given the greatest so far (RFC 3711 §3.3.1, appendix A)."""
    rollovers, low = last >> 16, last & 0xFFFF
    if low < 0x8000:
        if sequence - low > 0x8000:
            rollovers -= 1
    elif low - 0x8000 > sequence:
        rollovers += 1
    return max(rollovers, 0) << 16 | sequence


def _session(key: Key, kind: int) -> Session:
    policy = Policy(key=key.master, ssrc_type=kind, srtp_profile=_PROFILES[key.suite])
    policy.window_size = _WINDOW
    return Session(policy)


def _receiver(key: Key) -> Session:
    return _session(key, Policy.SSRC_ANY_INBOUND)


def _sender(key: Key) -> Session:
    return _session(key, Policy.SSRC_ANY_OUTBOUND)


def _blank(ssrc: int, index: int) -> bytes:
    return _HEAD.pack(0x80, 0, index & 0xFFFF, 0, ssrc)


@dataclass(slots=True)
class _Source:
    """An SSRC that something authentic has come from."""

    session: Session
    """Its context."""
    index: int
    """The greatest index so far."""


@dataclass(slots=True)
class Unprotector:
    """The receiving end of one key, all its SSRCs. What is forged leaves no trace in it."""

    key: Key
    """What the peer protects with."""
    _sources: dict[int, _Source] = field(default_factory=dict, repr=False)
    _fresh: Session | None = field(default=None, repr=False)
    _failures: int = 0

    def rtp(self, data: bytes) -> bytes | Refusal:
        """The RTP packet in an SRTP packet."""
        stripped = self._without_mki(data)
        if stripped is None or len(stripped) < _HEAD.size + self.key.suite.tag_bytes:
            return Refusal.UNAUTHENTIC
        sequence, ssrc = _HEAD.unpack_from(stripped)[2:5:2]
        source = self._sources.get(ssrc)
        session = source.session if source is not None else self._any()
        try:
            packet = session.unprotect(stripped)
        except Error as error:
            if str(error) in _REPLAYED and source is not None:
                return Refusal.REPLAYED
            found = self._search(stripped, ssrc, sequence, source)
            return Refusal.UNAUTHENTIC if found is None else found
        except ValueError:
            return Refusal.UNAUTHENTIC
        self._failures = 0
        if source is not None:
            source.index = max(source.index, index_after(source.index, sequence))
        elif len(self._sources) < MAX_SSRCS:
            self._sources[ssrc] = _Source(session, sequence)
        return packet

    def rtcp(self, data: bytes) -> bytes | Refusal:
        """The RTCP packet in an SRTCP packet; its index is in it (§3.4)."""
        stripped = self._without_mki(data)
        if stripped is None or len(stripped) < 8:
            return Refusal.UNAUTHENTIC
        try:
            return self._any().unprotect_rtcp(stripped)
        except Error as error:
            return Refusal.REPLAYED if str(error) in _REPLAYED else Refusal.UNAUTHENTIC
        except ValueError:
            return Refusal.UNAUTHENTIC

    def _any(self) -> Session:
        if self._fresh is None:
            self._fresh = _receiver(self.key)
        return self._fresh

    def _without_mki(self, data: bytes) -> bytes | None:
        """A packet as it would be without its MKI, which nothing else covers; None where it has
        another. It stands before the tag, or at the end where the tag is of the cipher (RFC 7714
        §8.3, §9.3)."""
        mki = self.key.mki
        if not mki:
            return data
        end = len(data) - _behind_mki(self.key.suite, is_rtcp(data))
        if end < len(mki) or data[end - len(mki) : end] != mki:
            return None
        return data[: end - len(mki)] + data[end:]

    def _search(
        self, packet: bytes, ssrc: int, sequence: int, source: _Source | None
    ) -> bytes | None:
        """Try the rollovers from the last known on. To do so with each packet that fails would
        give whoever forges some a hold on us: it is done with the first, second, fourth, eighth…
        """
        self._failures += 1
        if self._failures & (self._failures - 1) or len(self._sources) >= MAX_SSRCS:
            return None
        start = 0 if source is None else source.index >> 16
        receiver, sender = _receiver(self.key), _sender(self.key)
        index = sequence & (_STEP - 1)
        for rollovers in range(start + MAX_ROLLOVERS):
            wanted = rollovers << 16 | sequence
            while index < wanted:
                receiver.unprotect(sender.protect(_blank(ssrc, index)))
                index += _STEP
            if source is not None and wanted <= source.index:
                continue
            try:
                found = receiver.unprotect(packet)
            except Error:
                continue
            self._failures = 0
            self._sources[ssrc] = _Source(receiver, wanted)
            return found
        return None


@dataclass(slots=True)
class Protector:
    """The sending end of one key. Sequence numbers are those of the packets it is given.

    ``progress`` and ``rtcp_index`` are those of a former one of the same key: no index must ever be
    used twice.
    """

    key: Key
    """What we protect with."""
    progress: dict[int, int] = field(default_factory=dict)
    """How far each SSRC has got: its greatest index in units of 32768, half a roll-over. A
    successor finds its place by that if it comes before the next half is over."""
    rtcp_index: int = 0
    """No SSRC has used an SRTCP index as great as this (§3.4)."""
    moved: bool = False
    """Whether these have changed: whoever keeps them for a successor is to do so anew."""
    _indices: dict[int, int] = field(default_factory=dict, repr=False)
    _rtcp_indices: dict[int, int] = field(default_factory=dict, repr=False)
    _rtcp_before: int = field(init=False, repr=False)
    _session: Session | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._rtcp_before = self.rtcp_index

    def rtp(self, data: bytes) -> bytes | None:
        """The SRTP packet of an RTP packet; None if it cannot be sent: it was sent before, is far
        too late, or too long."""
        if not _HEAD.size <= len(data) <= MAX_PACKET_BYTES:
            return None
        sequence, ssrc = _HEAD.unpack_from(data)[2:5:2]
        last = self._indices.get(ssrc)
        if last is None:
            if len(self._indices) >= MAX_SSRCS:
                return None
            last = self._begin(ssrc, sequence)
        if last is None:
            return None
        try:
            packet = self._running().protect(data)
        except (Error, ValueError):
            return None
        index = max(last, index_after(last, sequence))
        self._indices[ssrc] = index
        if self.progress.get(ssrc) != index >> 15:
            self.progress[ssrc] = index >> 15
            self.moved = True
        return self._with_mki(packet)

    def rtcp(self, data: bytes) -> bytes | None:
        """The SRTCP packet of an RTCP packet; None if it cannot be sent."""
        if not 8 <= len(data) <= MAX_PACKET_BYTES:
            return None
        ssrc = int.from_bytes(data[4:8], "big")
        try:
            index = self._rtcp_indices.get(ssrc)
            if index is None:
                index = self._begin_rtcp(ssrc)
            packet = self._running().protect_rtcp(data)
        except (Error, ValueError):
            return None
        self._rtcp_indices[ssrc] = index + 1
        if index + 1 >= self.rtcp_index:
            self.rtcp_index = index + 1 + RTCP_RESERVE
            self.moved = True
        return self._with_mki(packet)

    def _running(self) -> Session:
        if self._session is None:
            self._session = _sender(self.key)
        return self._session

    def _begin(self, ssrc: int, sequence: int) -> int | None:
        """Walk a new SSRC to where a former sender of it was; an index before its next. None for a
        packet that the former may have sent."""
        known = self.progress.get(ssrc)
        if known is None:
            return sequence
        ahead = (sequence - (known << 15)) & 0xFFFF
        if ahead > 0x10000 - _WINDOW:
            return None
        wanted = (known << 15) + ahead
        index = sequence & (_STEP - 1)
        last = sequence
        while wanted > 0xFFFF and index < wanted:
            self._running().protect(_blank(ssrc, index))
            last, index = index, index + _STEP
        return last

    def _begin_rtcp(self, ssrc: int) -> int:
        """The same for SRTCP, whose indices count packets. Raises ``ValueError``."""
        if len(self._rtcp_indices) >= MAX_SSRCS or self._rtcp_before > _MAX_RTCP_INDEX:
            raise ValueError("too many")
        used = self._rtcp_before
        blank = _BLANK_RTCP.pack(0x80, 201, 1, ssrc)
        for _ in range(used):
            self._running().protect_rtcp(blank)
        return used

    def _with_mki(self, packet: bytes) -> bytes:
        if not self.key.mki:
            return packet
        end = len(packet) - _behind_mki(self.key.suite, is_rtcp(packet))
        return packet[:end] + self.key.mki + packet[end:]


def _behind_mki(suite: Suite, of_rtcp: bool) -> int:
    """Bytes that follow the MKI in a packet."""
    if suite in (Suite.AEAD_AES_128_GCM, Suite.AEAD_AES_256_GCM):
        return 0
    # SRTCP's tag is never cut short (RFC 4568 §6.2.2).
    return 10 if of_rtcp else suite.tag_bytes
