"""What one receiver of RTP notes of what comes (RFC 3550 §6.4.1, appendix A). Pure.

Times are seconds of arrival; media time is in ticks of the RTP clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from callreel.wire.rtp import RtpPacket

LATE_MS = 60
"""What comes later than this behind the earliest-arrival line would have missed its turn in the
jitter buffer of a phone."""
JUMP_MS = 500
"""Media time that leaps by more, unexplained by sequence numbers and arrival, starts over."""

_MAX_DROPOUT = 3000
_MAX_MISORDER = 100
_WINDOW_BITS = 1024
_MAX_DRIFT = 0.001


@dataclass(frozen=True, slots=True)
class Placed:
    """A packet that came for the first time."""

    stretch: int
    """The run of media time that it belongs to; counts up with each that starts over."""
    media: int
    """Media time, unwrapped; it means something within its stretch only."""


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """What a report block says (RFC 3550 §6.4.1), all but the times of sender reports."""

    ssrc: int
    """The source reported on."""
    fraction_lost: int
    """In 256ths, since the last report."""
    lost: int
    """Since the start; less than zero if duplicates outnumber losses."""
    highest_sequence: int
    """Extended by the wraparounds."""
    jitter: int
    """Interarrival jitter, ticks."""


class Reception:
    """Counts one stream, whatever sources it comes from. ``clock_hz`` is that of its RTP."""

    def __init__(self, clock_hz: int = 8000) -> None:
        self._clock_hz = clock_hz
        self.received = 0
        """Packets, duplicates among them."""
        self.duplicated = 0
        """Of those, how many were there already."""
        self.reordered = 0
        """How many came after a packet sent later."""
        self.late = 0
        """How many came more than :data:`LATE_MS` behind the earliest-arrival line."""
        self.sources = 0
        """How many sources (SSRC) there were, one that comes back counted again."""
        self.ssrc: int | None = None
        """The source that speaks now."""
        self.most_jitter = 0.0
        """The highest that the interarrival jitter was, ticks."""
        self._closed_expected = 0
        self._base = self._highest = 0
        self._window = 0
        self._jitter = 0.0
        self._stretch = 0
        self._media: int | None = None
        self._media_sequence = 0
        self._media_ticks = 0
        self._media_arrival = 0.0
        self._transit: float | None = None
        self._earliest = 0.0
        self._earliest_at = 0.0
        self._reported = (0, 0)

    @property
    def expected(self) -> int:
        """Packets that should have come, by the sequence numbers."""
        running = self._highest - self._base + 1 if self.ssrc is not None else 0
        return self._closed_expected + running

    @property
    def lost(self) -> int:
        """Of those, how many did not."""
        return max(0, self.expected - self.received + self.duplicated)

    @property
    def jitter_ms(self) -> float:
        """Interarrival jitter as it is now (RFC 3550 §6.4.1)."""
        return self._jitter * 1000 / self._clock_hz

    @property
    def most_jitter_ms(self) -> float:
        """The highest that it was."""
        return self.most_jitter * 1000 / self._clock_hz

    def receive(
        self, packet: RtpPacket, *, arrival: float, ticks: int, is_audio: bool = True
    ) -> Placed | None:
        """Count a packet that lasts ``ticks``; None for one that was there already.

        What is no audio (telephone-event: its timestamps stand still) is counted, not timed.
        """
        self.received += 1
        if packet.ssrc != self.ssrc:
            self._begin(packet)
            self.sources += 1
        sequence = self._sequence(packet)
        if sequence is None:
            self.duplicated += 1
            return None
        if not is_audio:
            return Placed(self._stretch, self._media or 0)
        return self._place(packet.timestamp, sequence, arrival, ticks)

    def report(self) -> ReceptionReport | None:
        """A report block of what came since the last one; None while nothing came."""
        if self.ssrc is None:
            return None
        expected, received = self.expected, self.received
        due = expected - self._reported[0]
        missing = due - (received - self._reported[1])
        self._reported = (expected, received)
        return ReceptionReport(
            ssrc=self.ssrc,
            fraction_lost=min(255, (missing << 8) // due) if due > 0 and missing > 0 else 0,
            lost=max(-0x800000, min(expected - received, 0x7FFFFF)),
            highest_sequence=self._highest & 0xFFFFFFFF,
            jitter=int(self._jitter),
        )

    # Within

    def _begin(self, packet: RtpPacket) -> None:
        """Another source, or one that starts over: its numbers say nothing about the last one."""
        self._closed_expected = self.expected
        self.ssrc = packet.ssrc
        self._base = self._highest = 0x10000 + packet.sequence
        self._window = 0
        self._jitter = 0.0
        self._media = None
        self._transit = None
        self._stretch += 1

    def _sequence(self, packet: RtpPacket) -> int | None:
        """The extended sequence number; None for a duplicate."""
        ahead = (packet.sequence - self._highest) & 0xFFFF
        behind = 0x10000 - ahead
        if not ahead:
            sequence = self._highest
        elif ahead < _MAX_DROPOUT:
            self._highest += ahead
            self._window = (self._window << ahead) & ((1 << _WINDOW_BITS) - 1)
            sequence = self._highest
        elif behind <= _MAX_MISORDER:
            sequence = self._highest - behind
        else:
            self._begin(packet)
            sequence = self._highest
        bit = 1 << (self._highest - sequence)
        if self._window & bit:
            return None
        self._window |= bit
        if sequence < self._highest:
            self.reordered += 1
            self._base = min(self._base, sequence)
        return sequence

    def _place(self, timestamp: int, sequence: int, arrival: float, ticks: int) -> Placed:
        if self._media is None:
            media = timestamp
        else:
            leap = (timestamp - self._media) & 0xFFFFFFFF
            media = self._media + (leap - (1 << 32) if leap & 0x80000000 else leap)
            limit = JUMP_MS * self._clock_hz // 1000
            skipped = media - self._media - (sequence - self._media_sequence) * self._media_ticks
            waited = (arrival - self._media_arrival) * self._clock_hz
            if abs(skipped) > limit and abs(media - self._media - waited) > limit:
                self._stretch += 1
                self._transit = None
        transit = arrival - media / self._clock_hz
        if self._transit is None:
            self._earliest = transit
        else:
            change = abs(transit - self._transit) * self._clock_hz
            self._jitter += (change - self._jitter) / 16
            self.most_jitter = max(self.most_jitter, self._jitter)
            # A sender's clock that is slow must not make everything late in the end.
            rise = _MAX_DRIFT * max(0.0, arrival - self._earliest_at)
            self._earliest = min(self._earliest + rise, transit)
        self._earliest_at = arrival
        self._transit = transit
        if transit - self._earliest > LATE_MS / 1000:
            self.late += 1
        if self._media is None or media > self._media or sequence > self._media_sequence:
            self._media, self._media_sequence = media, sequence
            self._media_ticks, self._media_arrival = ticks, arrival
        return Placed(self._stretch, media)
