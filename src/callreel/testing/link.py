"""A simulated network under RTP streams: senders, a link that misbehaves, a journal at its end.

Everything is arrays and repeats exactly: an hour of packets takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callreel.audio.g711 import encode_alaw, encode_ulaw
from callreel.journal.format import (
    Kind,
    event_block,
    json_block,
    packet_block,
    seed_of,
    stream_to_json,
)
from callreel.wire.rtp import Packetizer, gather

NS = 1_000_000_000
RECORDING_ID = "ab" * 16
PCMU = {"payload_type": 0, "name": "PCMU", "clock_rate_hz": 8000, "channels": 1, "fmtp": ""}
PCMA = {"payload_type": 8, "name": "PCMA", "clock_rate_hz": 8000, "channels": 1, "fmtp": ""}
EVENTS = {
    "payload_type": 101,
    "name": "TELEPHONE-EVENT",
    "clock_rate_hz": 8000,
    "channels": 1,
    "fmtp": "0-15",
}


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets on their way, in order of arrival."""

    arrival_ns: NDArray[np.int64]
    """When each is sent, or arrives; int64[n]."""
    lengths: NDArray[np.uint16]
    """Bytes of each; uint16[n]."""
    data: NDArray[np.uint8]
    """One after the other."""

    def __len__(self) -> int:
        return len(self.lengths)

    def pick(self, rows: NDArray[np.int64]) -> Flow:
        """These packets, in this order; a row may be named twice."""
        start = (np.cumsum(self.lengths, dtype=np.int64) - self.lengths)[rows]
        lengths = self.lengths[rows]
        data = gather(self.data, start, lengths.astype(np.int64))
        return Flow(self.arrival_ns[rows], lengths, data)

    def later(self, ns: int) -> Flow:
        """All of them so much later."""
        return replace(self, arrival_ns=self.arrival_ns + ns)

    def between(self, start_ns: int, end_ns: int) -> Flow:
        """What arrives from the one instant up to the other."""
        return self.pick(np.flatnonzero((self.arrival_ns >= start_ns) & (self.arrival_ns < end_ns)))


def join(*flows: Flow) -> Flow:
    """Several flows as they would come in on one socket."""
    whole = Flow(
        np.concatenate([flow.arrival_ns for flow in flows]),
        np.concatenate([flow.lengths for flow in flows]),
        np.concatenate([flow.data for flow in flows]),
    )
    return whole.pick(np.argsort(whole.arrival_ns, kind="stable"))


@dataclass(frozen=True, slots=True)
class Sender:
    """Someone who sends G.711 by a clock of his own."""

    ssrc: int = 0x1234
    """32 bits."""
    payload_type: int = 0
    """0 is PCMU, 8 PCMA."""
    packet_ms: int = 20
    """What a packet lasts."""
    sequence: int = 0
    """Of the first packet."""
    timestamp: int = 0
    """Of the first packet."""
    ppm: float = 0.0
    """How much his clock is fast."""
    clock_hz: int = 8000
    """Of the RTP timestamps."""

    def send(self, samples: NDArray[np.int16], *, start_ns: int = 0) -> Flow:
        """Samples as packets, each sent the moment that its audio begins. Whole packets only."""
        size = 8 * self.packet_ms
        n = len(samples) // size
        codes = (encode_alaw if self.payload_type == 8 else encode_ulaw)(samples[: n * size])
        return self.send_payloads(codes.reshape(n, size), ticks=size, start_ns=start_ns)

    def send_payloads(
        self, payloads: NDArray[np.uint8], *, ticks: int, start_ns: int = 0, marker: bool = True
    ) -> Flow:
        """Payloads uint8[n, size], each lasting so many ticks."""
        n, size = payloads.shape
        index = np.arange(n, dtype=np.int64)
        packets = np.empty((n, 12 + size), np.uint8)
        packets[:, 0] = 0x80
        packets[:, 1] = self.payload_type
        if n and marker:
            packets[0, 1] |= 0x80
        packets[:, 2:4] = _octets((self.sequence + index) & 0xFFFF, ">u2")
        packets[:, 4:8] = _octets((self.timestamp + index * ticks) & 0xFFFFFFFF, ">u4")
        packets[:, 8:12] = _octets(np.full(n, self.ssrc, np.int64), ">u4")
        packets[:, 12:] = payloads
        sent = start_ns + self._real_ns(index * ticks)
        return Flow(sent, np.full(n, 12 + size, np.uint16), packets.reshape(-1))

    def send_frames(
        self, payloads: Sequence[bytes], ticks: Sequence[int] | int, *, start_ns: int = 0
    ) -> Flow:
        """Payloads of any length, each lasting its own ticks, or all the same."""
        each = [ticks] * len(payloads) if isinstance(ticks, int) else list(ticks)
        packetizer = Packetizer(self.ssrc, self.payload_type, self.sequence, self.timestamp)
        packets = [
            packetizer.packet(payload, ticks=lasts)
            for payload, lasts in zip(payloads, each, strict=True)
        ]
        media = np.cumsum([0, *each[:-1]], dtype=np.int64)[: len(packets)]
        return Flow(
            start_ns + self._real_ns(media),
            np.array([len(packet) for packet in packets], np.uint16),
            np.frombuffer(b"".join(packets), np.uint8),
        )

    def _real_ns(self, media: NDArray[np.int64]) -> NDArray[np.int64]:
        """When media time comes, by a clock that is right."""
        return np.rint(media * NS / self.clock_hz / (1 + self.ppm / 1e6)).astype(np.int64)

    def after(self, packets: int, *, ticks: int | None = None) -> Sender:
        """The same sender that many packets later; media time goes on as they do, or so far."""
        media = 8 * self.packet_ms * packets if ticks is None else ticks
        return replace(
            self,
            sequence=(self.sequence + packets) & 0xFFFF,
            timestamp=(self.timestamp + media) & 0xFFFFFFFF,
        )


def _octets(values: NDArray[np.int64], dtype: str) -> NDArray[np.uint8]:
    width = np.dtype(dtype).itemsize
    return values.astype(dtype).view(np.uint8).reshape(-1, width)


@dataclass(frozen=True, slots=True)
class Link:
    """A network: delays, jitters, loses, doubles and overtakes, the same way every time."""

    seed: int = 1
    """What the dice are seeded with."""
    delay_ms: float = 0.0
    """What every packet takes."""
    jitter_ms: float = 0.0
    """What it takes at most beyond that; evenly spread."""
    loss: float = 0.0
    """Share that is lost."""
    duplicate: float = 0.0
    """Share that comes twice."""

    def carry(self, flow: Flow) -> Flow:
        """What comes out at the other end, in order of arrival."""
        dice = np.random.default_rng(self.seed)
        n = len(flow)
        kept = np.flatnonzero(dice.random(n) >= self.loss)
        twice = kept[dice.random(len(kept)) < self.duplicate]
        out = flow.pick(np.concatenate((kept, twice)))
        took_ms = self.delay_ms + dice.random(len(out)) * self.jitter_ms
        out = replace(out, arrival_ns=out.arrival_ns + (took_ms * 1e6).astype(np.int64))
        return out.pick(np.argsort(out.arrival_ns, kind="stable"))


@dataclass(frozen=True, slots=True)
class Said:
    """An event for the journal."""

    at_ns: int
    """Since the recording began."""
    event: str
    """Its name."""
    keys: dict[str, Any]
    """Its own keys."""


def said(at_ns: int, event: str, **keys: Any) -> Said:
    """An event for the journal."""
    return Said(at_ns, event, keys)


@dataclass(frozen=True, slots=True)
class Taped:
    """A stream of the journal and what it carries."""

    number: int
    """Stream number."""
    flow: Flow
    """What arrives; time 0 is when the recording begins."""
    track: str = ""
    """By its number, unless named."""
    codecs: Sequence[dict[str, Any]] = (PCMU, PCMA, EVENTS)
    """As signalled."""
    sealed_key: str = ""
    """Given, the packets are SRTP."""


def journal_blocks(
    streams: Sequence[Taped],
    *,
    length_ns: int,
    events: Sequence[Said] = (),
    recording_id: str = RECORDING_ID,
    start_mono_ns: int = 1_000 * NS,
    start_wall_ns: int = 1_700_000_000 * NS,
    begin_ns: int = 0,
    sweep_ns: int = NS // 2,
    segment: int = 1,
    boot_id: str = "first",
    generation: int = 1,
    paused: str | None = None,
    ended: bool = True,
) -> list[bytes]:
    """The blocks of one segment, as a media worker that sweeps would have written them.

    The segment tells of ``begin_ns`` up to ``length_ns`` after the recording began.
    """
    seed = seed_of(recording_id)
    timed: list[tuple[int, int, bytes]] = []

    def clocks(at_ns: int) -> dict[str, int]:
        return {
            "seed": seed,
            "mono_ns": start_mono_ns + at_ns,
            "wall_ns": start_wall_ns + at_ns,
        }

    header = {
        "recording": recording_id,
        "call": "cd" * 16,
        "segment": segment,
        "generation": generation,
        "boot_id": boot_id,
        "started_mono_ns": start_mono_ns,
        "paused": paused,
        "streams": [
            stream_to_json(
                taped.number,
                taped.track or ("outbound" if taped.number % 2 else "inbound"),
                taped.codecs,
                sealed_key=taped.sealed_key,
            )
            for taped in streams
        ],
    }
    timed.append((begin_ns, -1, json_block(Kind.SEGMENT, header, **clocks(begin_ns))))
    for taped in streams:
        flow = taped.flow.between(begin_ns, length_ns)
        ends = np.cumsum(flow.lengths, dtype=np.int64)
        sweeps = np.arange(begin_ns + sweep_ns, length_ns + sweep_ns, sweep_ns)
        cuts = np.searchsorted(flow.arrival_ns, sweeps).tolist()
        start = 0
        for sweep, cut in zip(sweeps.tolist(), cuts, strict=True):
            if cut > start:
                at = min(sweep, length_ns)
                block = packet_block(
                    Kind.RTP,
                    taped.number,
                    flow.lengths[start:cut],
                    flow.arrival_ns[start:cut] + start_wall_ns,
                    flow.data[(ends[start - 1] if start else 0) : ends[cut - 1]].tobytes(),
                    **clocks(at),
                )
                timed.append((at, taped.number, block))
            start = cut
    for one in events:
        if begin_ns <= one.at_ns < length_ns:
            timed.append(
                (one.at_ns, 1 << 16, event_block(one.event, **clocks(one.at_ns), **one.keys))
            )
    timed.sort(key=lambda entry: entry[:2])
    blocks = [block for _, _, block in timed]
    if ended:
        blocks.append(event_block("end", reason="stopped", **clocks(length_ns)))
    return blocks


def write_journal(root: Path, blocks: Sequence[bytes], *, segment: int = 1) -> Path:
    """Write a segment where the renderer looks for it; returns the journal's folder."""
    folder = root / RECORDING_ID
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{segment:06d}.seg").write_bytes(b"".join(blocks))
    return folder
