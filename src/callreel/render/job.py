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
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from callreel.audio.level import rms_of
from callreel.audio.mixing import mix
from callreel.base.errors import MachineError
from callreel.calls.model import PauseBehavior, RecordingTrack, Track, Trim
from callreel.journal.durable import sync_folder
from callreel.journal.keys import JournalSeal
from callreel.render.axis import Axis
from callreel.render.decryption import OpenKey, no_keys
from callreel.render.report import Rendering, build
from callreel.render.survey import JournalSurvey, samples_of, survey
from callreel.render.timeline import Placer
from callreel.render.trimming import Trimmer
from callreel.render.voice import Voice
from callreel.render.walk import Packets, Step, Walk
from callreel.render.wav import MAX_RIFF_BYTES, WavWriter

TOO_SHORT = 16101
"""Nothing was received, or it is too short to keep (contract §7)."""
SILENT = 16102
"""Nothing was left after trimming (contract §7)."""

KEPT = "kept"
"""A file of this name in a journal's folder keeps it when its recording is finished."""
HOLD_S = 60
"""So long after its arrival time a packet still finds its place."""
_CHUNK_S = 60
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
    made = Rendering(rate_hz=found.rate_hz, channels=channels)
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
        _keep(journal, found.is_kept)
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
        rate_hz = made.rate_hz
        start = self._spans[0].start
        made.lead_samples = -start
        self._at = start
        self._written = 0
        self._hold = HOLD_S * rate_hz
        self._tracks: dict[Track, list[Voice]] = {track: [] for track in spec.track.tracks}
        for number, stream in found.streams.items():
            voice = Voice(start, rate_hz=rate_hz, sampled_at_hz=stream.rates_hz)
            made.placers[number] = Placer(stream.lines)
            made.voices[number] = voice
            self._tracks[stream.track].append(voice)
        self._wav = WavWriter(
            file, rate_hz=rate_hz, channels=made.channels, limit_bytes=spec.riff_limit_bytes
        )
        self._trimmer = (
            Trimmer(rate_hz=rate_hz, channels=made.channels, silence_dbfs=spec.silence_dbfs)
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
                self._flush(self._samples(min(arrivals)) - self._hold)
            for packets in thing.packets:
                self._draw(packets)
            self._flush(self._samples(thing.now_ns) - self._hold)
        latest = max((voice.end for voice in self._made.voices.values()), default=0)
        end = self._spans[-1].end
        self._flush(max(end, min(latest, end + self._made.rate_hz // 2)))
        self._finish()

    def _samples(self, ns: int) -> int:
        return samples_of(ns, self._made.rate_hz)

    def _draw(self, packets: Packets) -> None:
        def quiet(stretch: int, index: NDArray[np.int64], part: slice) -> NDArray[np.bool_]:
            decoded = packets.decode(stretch, index)
            sizes = packets.batch.ticks[index] * decoded.factor
            ends = np.cumsum(sizes)
            starts, sizes = (ends - sizes)[part], sizes[part]
            squares = np.square(decoded.samples[starts[0] : ends[part][-1]], dtype=np.float32)
            power = np.add.reduceat(squares, starts - starts[0])
            return power < self._quiet_rms**2 * sizes

        voice = self._made.voices[packets.stream]
        for placed in self._made.placers[packets.stream].place(packets.batch, quiet):
            decoded = packets.decode(placed.stretch, placed.index)
            voice.draw(placed, packets.batch.ticks[placed.index], decoded)

    def _flush(self, until: int) -> None:
        made = self._made
        while self._at < until:
            end = min(until, self._at + _CHUNK_S * made.rate_hz)
            kept = self._axis.kept(self._at, end)
            for span, after in pairwise(self._spans):
                # A pause is no gap.
                if span.behavior is PauseBehavior.SILENCE:
                    for voice in made.voices.values():
                        voice.cover.mark(max(span.end, self._at), min(after.start, end))
            frames = self._frames(end)
            for voice in made.voices.values():
                voice.cover.take(end, kept, self._written)
            for part in kept:
                self._write(frames[part])
                self._written += part.stop - part.start
            self._at = end

    def _frames(self, end: int) -> NDArray[np.int16]:
        """The next piece of the axis as the file holds it; int16[n, channels]."""
        silence = np.zeros(end - self._at, np.int16)
        taken = {track: [voice.take(end) for voice in of] for track, of in self._tracks.items()}
        if self._made.channels == 1:
            # Added up once, so that two who are loud at once are held within 16 bits only once.
            every = [one for of in taken.values() for one in of]
            return mix(*(every or [silence]))[:, None]
        columns = [mix(*(of or [silence])) for of in taken.values()]
        return np.stack(columns, axis=1)

    def _write(self, frames: NDArray[np.int16], *, last: bool = False) -> None:
        if self._trimmer is not None:
            frames = self._trimmer.push(frames, last=last)
        self._wav.write(frames)

    def _finish(self) -> None:
        made, wav = self._made, self._wav
        for voice in made.voices.values():
            voice.cover.finish(self._written)
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


def _keep(journal: Path, kept: bool) -> None:
    """Have the journal kept when the recording is finished, or not."""
    marker = journal / KEPT
    if kept and journal.is_dir():
        marker.touch()
        sync_folder(journal)
    else:
        marker.unlink(missing_ok=True)


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
