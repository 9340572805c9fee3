"""The calls of a worker: their streams, with whom they are bridged, who keeps what of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from callreel.calls.media import Stream
from callreel.calls.model import Track
from callreel.capture.protection import Protection
from callreel.capture.protocol import codec_to_json
from callreel.capture.recording import LiveRecording
from callreel.capture.tap import Tap
from callreel.journal import format as journal

if TYPE_CHECKING:
    from callreel.capture.watch import Watch

FIRST_HEARD = 1001
"""From here on journals number the streams that are relayed to a call. Odd ones only: of a stream
whose description is lost, a reader takes odd for outbound."""
LAST_HEARD = 0xFFFF


@dataclass(frozen=True, slots=True)
class Keeping:
    """A recording keeps a stream."""

    recording: LiveRecording
    """Which."""
    number: int
    """The stream's number in its journal."""
    relayed: bool
    """Whether it is of the other call, and keeps only what was relayed to its own."""


@dataclass(slots=True, eq=False)
class LiveStream:
    """A stream of a call and its two sockets."""

    call: LiveCall
    """Whose it is."""
    stream: Stream
    """As signalled last."""
    port: int
    """RTP port."""
    rtp: Tap
    """RTP socket, and RTCP where both share it."""
    rtcp: Tap
    """RTCP socket."""
    keepers: tuple[Keeping, ...] = ()
    """The recordings that keep it now."""
    across: LiveStream | None = None
    """The stream of the other call that it is relayed to, and that is relayed to it."""
    ssrc: int = 0
    """Of the first packet from the latched source."""
    is_silent: bool = False
    """Whether it was reported that nothing comes from a peer that should send."""
    protection: Protection = field(default_factory=Protection)
    """The contexts of its SRTP."""
    watch: Watch | None = None
    """What is noted for whoever looks on; None while nobody does."""

    def __post_init__(self) -> None:
        self.protection.rekey(self.stream.srtp)

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The sockets something may come to."""
        return (self.rtp,) if self.stream.rtcp_mux else (self.rtp, self.rtcp)

    @property
    def is_wanted(self) -> bool:
        """Whether what comes to it is kept or relayed."""
        return bool(self.keepers) or self.across is not None

    @property
    def source(self) -> dict[str, Any]:
        """The latched source, as events tell it."""
        raw = self.rtp.latch.source
        assert raw is not None
        address = ipaddress.ip_address(raw[4:8] if len(raw) == 16 else raw[8:24])
        mapped = getattr(address, "ipv4_mapped", None)
        port = int.from_bytes(raw[2:4], "big")
        return {"host": str(mapped or address), "port": port, "ssrc": self.ssrc}


@dataclass(frozen=True, slots=True)
class Source:
    """A stream that recordings of a call may keep: its own, or one relayed to it."""

    number: int
    """In their journals."""
    live: LiveStream
    """The stream."""
    track: Track
    """The call's track that it is heard in."""
    sending: bool
    """Whether something is to be expected of it."""

    @property
    def description(self) -> dict[str, Any]:
        """As a journal holds it."""
        stream = self.live.stream
        return journal.stream_to_json(
            self.number,
            self.track.value,
            [codec_to_json(codec) for codec in stream.codecs],
            label=stream.label,
            participant=stream.participant,
            sending=self.sending,
            sealed_key="" if stream.srtp is None else stream.srtp.sealed,
        )


@dataclass(slots=True, eq=False)
class LiveCall:
    """An open call."""

    id: str
    """32 hex digits."""
    streams: dict[int, LiveStream] = field(default_factory=dict)
    """By stream number."""
    recordings: dict[str, LiveRecording] = field(default_factory=dict)
    """Live ones."""
    other: LiveCall | None = None
    """The call it is bridged with."""
    heard: dict[int, int] = field(default_factory=dict)
    """Numbers in our journals of the other call's streams that are relayed to us, by their own."""
    next_heard: int = FIRST_HEARD
    """The next such number. Each bridging has numbers of its own: it brings another party."""
    due_ns: int = 0
    """When it is swept next, arrival time; 0 while nothing of it is kept."""
    sweeps: int = 0
    """How often it was swept."""

    def lives(self) -> Iterator[LiveStream]:
        """Its streams and those relayed to it."""
        for live in self.streams.values():
            yield live
            if live.across is not None:
                yield live.across

    def sources(self) -> Iterator[Source]:
        """All that its recordings may keep."""
        for number, live in self.streams.items():
            yield Source(number, live, live.stream.track, live.stream.sending)
            if live.across is not None:
                yield self.heard_source(live.across)

    def heard_source(self, across: LiveStream) -> Source:
        """A stream of the other call, as our recordings know it."""
        ours = across.across
        assert ours is not None
        sending = across.stream.sending and ours.stream.receiving
        return Source(self.heard[across.stream.number], across, Track.OUTBOUND, sending)

    def sources_of(self, recording: LiveRecording) -> list[Source]:
        """What one of its recordings keeps while it is not paused."""
        return [source for source in self.sources() if source.track in recording.tracks]

    def hear(self, number: int) -> None:
        """The other call's stream of this number is relayed to us from now on: number it."""
        self.heard[number] = self.next_heard
        self.next_heard = self.next_heard + 2 if self.next_heard < LAST_HEARD else FIRST_HEARD


def keepers_of(live: LiveStream) -> tuple[Keeping, ...]:
    """Who is to keep a stream as things are."""
    number = live.stream.number
    found = [
        Keeping(recording, number, relayed=False)
        for recording in live.call.recordings.values()
        if recording.paused is None and live.stream.track in recording.tracks
    ]
    if live.across is not None:
        hearer = live.across.call
        found += [
            Keeping(recording, hearer.heard[number], relayed=True)
            for recording in hearer.recordings.values()
            if recording.paused is None and Track.OUTBOUND in recording.tracks
        ]
    return tuple(found)
