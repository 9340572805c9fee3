"""One journal into one WAV and its integrity report.

Runs in a process of the pool, in constant memory. The same journal and version give the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from callreel.audio.level import rms_of
from callreel.audio.mixing import saturate
from callreel.base.errors import MachineError
from callreel.calls.model import PauseBehavior, RecordingTrack, Trim
from callreel.journal.durable import sync_folder
from callreel.journal.keys import JournalSeal
from callreel.render.axis import Axis, Canvas, Cover
from callreel.render.decryption import OpenKey, no_keys
from callreel.render.report import Rendering, build
from callreel.render.survey import JournalSurvey, survey
from callreel.render.timeline import Placed, Placer
from callreel.render.trimming import Trimmer
from callreel.render.walk import RATE_HZ, Packets, Step, Walk
from callreel.render.wav import MAX_RIFF_BYTES, WavWriter

TOO_SHORT = 16101
"""Nothing was received, or it is too short to keep (contract §7)."""
SILENT = 16102
"""Nothing was left after trimming (contract §7)."""

HOLD_SAMPLES = 60 * RATE_HZ
"""So long after its arrival time a packet still finds its place."""
_LIMIT_SAMPLES = 720 * RATE_HZ
_CHUNK_SAMPLES = 60 * RATE_HZ
_SHORTEST_GAP_MS = 10
_QUIET_DBFS = -45.0
_HASH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """What to make of a journal."""

    recording_id: str
    """32 hex digits."""
    track: RecordingTrack = RecordingTrack.BOTH
    """Which tracks are wanted."""
    channel_count: int = 1
    """2: the inbound track in the first channel, the outbound in the second. 1: mixed."""
    trim: Trim = Trim.DO_NOT_TRIM
    """Whether silence at the ends is cut off."""
    silence_dbfs: float = -50.0
    """RMS of 20 ms below which it is silent. Quiet speech is near -40, line noise below -60."""
    minimum_ms: int = 0
    """What is shorter than this is absent with 16101."""
    key_secret: bytes | None = field(default=None, repr=False)
    """What opens the keys of SRTP in the journal; None where there are none."""
    riff_limit_bytes: int = MAX_RIFF_BYTES
    """Where the WAV becomes RF64. Lower it only to try that."""


@dataclass(frozen=True, slots=True)
class RenderResult:
    """What became of a journal."""

    wav: Path | None
    """The audio; None when absent."""
    report_path: Path
    """The integrity report."""
    duration_ms: int
    """Length of the audio; 0 when absent."""
    size_bytes: int
    """Of the WAV; 0 when absent."""
    sha256: str | None
    """Of the WAV, lower-case hex; None when absent."""
    channels: int
    """1 or 2."""
    rate_hz: int
    """Sampling rate."""
    absent_code: int | None
    """16101, 16102, or None if there is audio."""
    report: dict[str, Any]
    """The integrity report as it was written."""


def render_recording(journal: Path, destination: Path, spec: RenderSpec) -> RenderResult:
    """Render the journal in folder ``journal`` to ``<destination>.wav`` and ``.json``.

    Both are written under another name, synced and renamed. Raises ``MachineError`` if the journal
    cannot be read or the files cannot be written; damage within the journal is reported instead.
    """
    root = journal.parent
    if journal.name != spec.recording_id:
        raise MachineError("a journal's folder has the name of its recording", path=journal)
    open_key = no_keys if spec.key_secret is None else JournalSeal(spec.key_secret).open
    found = survey(root, spec.recording_id, spec.track.tracks, open_key)
    channels = spec.channel_count if spec.track is RecordingTrack.BOTH else 1
    made = Rendering(rate_hz=RATE_HZ, channels=channels)
    wav, report_path = Path(f"{destination}.wav"), Path(f"{destination}.json")
    part = Path(f"{destination}.wav.part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if found.received == 0:
            made.absent_code = TOO_SHORT
        else:
            with part.open("wb+") as file:
                _Mixdown(root, spec, found, made, file, open_key).run()
                if made.absent_code is None:
                    made.sha256 = _sha256(file)
                    file.flush()
                    os.fsync(file.fileno())
        if made.absent_code is not None:
            part.unlink(missing_ok=True)
            made.frames = made.size_bytes = 0
        report = build(spec.recording_id, spec.track, spec.trim, found, made)
        _write_report(report_path, report)
        if made.absent_code is None:
            part.replace(wav)
        sync_folder(destination.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise MachineError(
            f"cannot write a recording: {error.strerror or error}",
            path=destination,
            hint="make room on the filesystem of rendered files"
            if error.errno == errno.ENOSPC
            else None,
        ) from error
    return RenderResult(
        wav=wav if made.absent_code is None else None,
        report_path=report_path,
        duration_ms=made.ms(made.frames),
        size_bytes=made.size_bytes,
        sha256=made.sha256,
        channels=channels,
        rate_hz=made.rate_hz,
        absent_code=made.absent_code,
        report=report,
    )


class _Mixdown:
    """The second time through a journal: everything in its place, and out into the file."""

    def __init__(
        self,
        root: Path,
        spec: RenderSpec,
        found: JournalSurvey,
        made: Rendering,
        file: BinaryIO,
        open_key: OpenKey,
    ) -> None:
        self._spec = spec
        self._made = made
        self._walk = Walk(root, spec.recording_id, spec.track.tracks, open_key)
        self._spans = found.spans()
        self._axis = Axis(self._spans)
        start = self._spans[0].start
        made.lead_samples = -start
        self._at = start
        self._written = 0
        self._canvases = {track: Canvas(start, limit=_LIMIT_SAMPLES) for track in spec.track.tracks}
        for number, stream in found.streams.items():
            made.placers[number] = Placer(RATE_HZ, stream.lines)
            made.covers[number] = Cover(
                start, limit=_LIMIT_SAMPLES, ignore=_SHORTEST_GAP_MS * RATE_HZ // 1000
            )
        self._wav = WavWriter(
            file, rate_hz=RATE_HZ, channels=made.channels, limit_bytes=spec.riff_limit_bytes
        )
        self._trimmer = (
            Trimmer(rate_hz=RATE_HZ, channels=made.channels, silence_dbfs=spec.silence_dbfs)
            if spec.trim is Trim.TRIM_SILENCE
            else None
        )
        self._quiet_rms = rms_of(_QUIET_DBFS)

    def run(self) -> None:
        """All of it; leaves a complete WAV in the file, or sets the code for none."""
        for thing in self._walk:
            if not isinstance(thing, Step):
                continue
            arrivals = [int(p.batch.arrival_ns.min()) for p in thing.packets if len(p.batch.ticks)]
            if arrivals:
                # Nothing that came before is waited for longer; after a long pause this keeps the
                # window short.
                self._flush(_samples(min(arrivals)) - HOLD_SAMPLES)
            for packets in thing.packets:
                self._draw(packets)
            self._flush(_samples(thing.now_ns) - HOLD_SAMPLES)
        latest = max(canvas.end for canvas in self._canvases.values())
        end = self._spans[-1].end
        self._flush(max(end, min(latest, end + RATE_HZ // 2)))
        self._finish()

    def _draw(self, packets: Packets) -> None:
        def quiet(index: NDArray[np.int64]) -> NDArray[np.bool_]:
            samples = packets.decode(index).astype(np.float32)
            ticks = packets.batch.ticks[index]
            power = np.add.reduceat(np.square(samples), np.cumsum(ticks) - ticks)
            return power < self._quiet_rms**2 * ticks

        placer = self._made.placers[packets.stream]
        for placed in placer.place(packets.batch, quiet):
            self._draw_placed(packets, placed)

    def _draw_placed(self, packets: Packets, placed: Placed) -> None:
        samples = packets.decode(placed.index)
        ticks = packets.batch.ticks[placed.index]
        source = np.cumsum(ticks) - ticks
        start, source, length = (
            placed.position + placed.cut,
            source + placed.cut,
            ticks - placed.cut,
        )
        # Packets that follow each other on the axis as they do in the slab are drawn as one.
        broken = (start[1:] != (start + length)[:-1]) | (source[1:] != (source + length)[:-1])
        first = np.concatenate(([0], np.flatnonzero(broken) + 1))
        last = np.concatenate((first[1:] - 1, [len(ticks) - 1]))
        canvas = self._canvases[packets.track]
        cover = self._made.covers[packets.stream]
        outside = 0
        for at, begin, end in zip(
            start[first].tolist(),
            source[first].tolist(),
            (source[last] + length[last]).tolist(),
            strict=True,
        ):
            outside += canvas.add(at, samples[begin:end])
            cover.mark(at, at + end - begin)
        if outside:
            unplaced = self._made.unplaced_samples
            unplaced[packets.stream] = unplaced.get(packets.stream, 0) + outside

    def _flush(self, until: int) -> None:
        while self._at < until:
            end = min(until, self._at + _CHUNK_SAMPLES)
            kept = self._axis.kept(self._at, end)
            for span, after in zip(self._spans[:-1], self._spans[1:], strict=True):
                # A pause is no gap.
                if span.behavior is PauseBehavior.SILENCE:
                    for cover in self._made.covers.values():
                        cover.mark(max(span.end, self._at), min(after.start, end))
            for cover in self._made.covers.values():
                cover.take(end, kept, self._written)
            sums = np.stack([canvas.take(end) for canvas in self._canvases.values()], axis=1)
            if self._made.channels < sums.shape[1]:
                sums = sums.sum(axis=1, dtype=np.int32, keepdims=True)
            for part in kept:
                self._write(saturate(sums[part]))
                self._written += part.stop - part.start
            self._at = end

    def _write(self, frames: NDArray[np.int16], *, last: bool = False) -> None:
        if self._trimmer is not None:
            frames = self._trimmer.push(frames, last=last)
        self._wav.write(frames)

    def _finish(self) -> None:
        made, wav = self._made, self._wav
        for cover in made.covers.values():
            cover.finish(self._written)
        if self._trimmer is not None:
            self._write(np.zeros((0, made.channels), np.int16), last=True)
            made.trimmed_start = self._trimmer.cut_start
            made.trimmed_end = wav.frames - self._trimmer.sound_end
            wav.cut(self._trimmer.sound_end)
            if wav.frames == 0:
                made.absent_code = SILENT
        if made.absent_code is None and made.ms(wav.frames) < self._spec.minimum_ms:
            made.absent_code = TOO_SHORT
        wav.finish()
        made.frames, made.size_bytes = wav.frames, wav.size_bytes


def _write_report(path: Path, report: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(report, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _sha256(file: BinaryIO) -> str:
    file.flush()
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_HASH_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _samples(ns: int) -> int:
    return ns * RATE_HZ // 1_000_000_000
