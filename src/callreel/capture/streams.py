"""The calls of a worker: their streams, with whom they are bridged or that we attend to them
ourselves, who keeps what of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from callreel.calls.media import Stream
from callreel.calls.model import Track
from callreel.calls.voice import Sound
from callreel.capture.hearing import Ear
from callreel.capture.player import Player
from callreel.capture.protection import Protection
from callreel.capture.protocol import codec_to_json
from callreel.capture.recording import LiveRecording
from callreel.capture.sweep import Batch
from callreel.capture.tap import Tap
from callreel.journal import format as journal

if TYPE_CHECKING:
    from callreel.capture.watch import Watch

FIRST_HEARD = 1001
"""From here on journals number the streams that are sent to a call. Odd ones only: of a stream
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
class Attendant:
    """We ourselves, where a call ends here: what plays to its party and listens to it."""

    player: Player
    """Makes what is sent."""
    ear: Ear
    """Hears what comes."""
    number: int = 0
    """Of what is sent, in journals; one for each time that it is attended."""
    sounds: tuple[Sound, ...] = ()
    """What is being played, as it was asked for."""
    token: str = ""
    """Of what is or was played last."""
    done_id: str = ""
    """Its id, if it is out to its end."""
    joined_tick: int = 0
    """The first tick that it is sent something at."""
    keepers: tuple[Keeping, ...] = ()
    """The recordings that keep what is sent."""
    lengths: list[int] = field(default_factory=list)
    """Sent since the last sweep, and to be kept: bytes of each packet."""
    stamps_ns: list[int] = field(default_factory=list)
    """Wall time of sending of each."""
    pieces: list[bytes] = field(default_factory=list)
    """The packets, as they were sent."""
    watch: Watch | None = None
    """What is noted of it for whoever looks on; None while nobody does."""

    def take(self) -> Batch | None:
        """What is to be kept; None if there is nothing."""
        if not self.lengths:
            return None
        batch = Batch(
            np.array(self.lengths, np.uint16),
            np.array(self.stamps_ns, np.int64),
            b"".join(self.pieces),
        )
        self.lengths.clear()
        self.stamps_ns.clear()
        self.pieces.clear()
        return batch


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
    attendant: Attendant | None = None
    """Who plays to it and hears it while its call is attended; never while there is one across."""
    ssrc: int = 0
    """Of the first packet from the latched source."""
    is_silent: bool = False
    """Whether it was reported that nothing comes from a peer that should send."""
    strangers_told: int = 0
    """How many packets of strangers were reported last."""
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
        """Whether what comes to it is kept, relayed or heard."""
        return bool(self.keepers) or self.is_read_at_once

    @property
    def is_read_at_once(self) -> bool:
        """Whether its sockets are the relay's to read, and not the sweep's."""
        return self.across is not None or self.attendant is not None

    @property
    def is_kept(self) -> bool:
        """Whether the sweep is to collect anything of it."""
        return bool(self.keepers) or (self.attendant is not None and bool(self.attendant.keepers))

    @property
    def strangers(self) -> int:
        """Packets of strangers that were refused on either socket, ever."""
        return self.rtp.lost()[1] + self.rtcp.lost()[1]

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
    """A stream that recordings of a call may keep: its own, one relayed to it, or what we send."""

    number: int
    """In their journals."""
    live: LiveStream
    """The stream; of what we send, the one that it is sent to."""
    track: Track
    """The call's track that it is heard in."""
    sending: bool
    """Whether something is to be expected of it."""
    is_ours: bool = False
    """Whether it is what we send: that comes from no socket."""

    @property
    def description(self) -> dict[str, Any]:
        """As a journal holds it."""
        stream = self.live.stream
        sealed = ""
        if stream.srtp is not None:
            sealed = stream.srtp.sealed_send if self.is_ours else stream.srtp.sealed
        return journal.stream_to_json(
            self.number,
            self.track.value,
            [codec_to_json(codec) for codec in stream.codecs],
            label="" if self.is_ours else stream.label,
            participant="" if self.is_ours else stream.participant,
            sending=self.sending,
            sealed_key=sealed,
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
    is_attended: bool = False
    """Whether it ends here while it is not bridged."""
    attendant: Attendant | None = None
    """Once it was attended; idle while it is bridged."""

    @property
    def attended(self) -> LiveStream | None:
        """The stream that is attended now."""
        for live in self.streams.values():
            if live.attendant is not None:
                return live
        return None

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
            if live.attendant is not None:
                yield self.played_source(live)

    def played_source(self, live: LiveStream) -> Source:
        """What we send to a stream that we attend."""
        attendant = live.attendant
        assert attendant is not None
        return Source(attendant.number, live, Track.OUTBOUND, live.stream.receiving, is_ours=True)

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
        self.heard[number] = self.number_heard()

    def number_heard(self) -> int:
        """A number for what is sent to us from now on."""
        number = self.next_heard
        self.next_heard = self.next_heard + 2 if self.next_heard < LAST_HEARD else FIRST_HEARD
        return number


def keepers_of(live: LiveStream) -> tuple[Keeping, ...]:
    """Who is to keep a stream as things are."""
    number = live.stream.number
    found = [
        Keeping(recording, number, relayed=False)
        for recording in live.call.recordings.values()
        if recording.is_keeping and live.stream.track in recording.tracks
    ]
    if live.across is not None:
        hearer = live.across.call
        found += [
            Keeping(recording, hearer.heard[number], relayed=True)
            for recording in hearer.recordings.values()
            if recording.is_keeping and Track.OUTBOUND in recording.tracks
        ]
    return tuple(found)


def keepers_of_ours(live: LiveStream) -> tuple[Keeping, ...]:
    """Who is to keep what we send to a stream that we attend."""
    attendant = live.attendant
    if attendant is None:
        return ()
    return tuple(
        Keeping(recording, attendant.number, relayed=False)
        for recording in live.call.recordings.values()
        if recording.is_keeping and Track.OUTBOUND in recording.tracks
    )
