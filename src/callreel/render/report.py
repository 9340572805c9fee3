"""The integrity report: what came, what did not, and what was done about it. Pure.

A JSON object beside every rendered file; ``docs/report.md`` describes its keys for people. Times
in milliseconds count from the beginning of the audio before trimming, unless named ``…_at``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from callreel import __version__
from callreel.audio.codec import COMFORT_NOISE
from callreel.calls.model import RecordingTrack, Trim
from callreel.render.survey import JournalSurvey, StreamSurvey
from callreel.render.timeline import Placer
from callreel.render.voice import Voice

REPORT_VERSION = 1


@dataclass(slots=True)
class Rendering:
    """What became of the samples; filled in while they are written."""

    rate_hz: int
    """Of the file."""
    channels: int
    """Of the file."""
    lead_samples: int = 0
    """By how much the audio begins before the recording: delay of its first packets."""
    frames: int = 0
    """Samples a channel in the file."""
    trimmed_start: int = 0
    """Samples a channel cut off at the start."""
    trimmed_end: int = 0
    """Samples a channel cut off at the end."""
    size_bytes: int = 0
    """Of the file."""
    sha256: str | None = None
    """Of the file, lower-case hex; None without a file."""
    absent_code: int | None = None
    """16101, 16102 or None (contract §7)."""
    placers: dict[int, Placer] = field(default_factory=dict)
    """By stream number."""
    voices: dict[int, Voice] = field(default_factory=dict)
    """By stream number."""

    def ms(self, samples: int) -> int:
        """Milliseconds of so many samples, rounded."""
        return round(samples * 1000 / self.rate_hz)


def build(
    recording_id: str, track: RecordingTrack, trim: Trim, found: JournalSurvey, made: Rendering
) -> dict[str, Any]:
    """The report as a JSON object."""
    streams = [found.streams[number] for number in sorted(found.streams)]
    problems = _problems(track, found, made, streams)
    return {
        "version": REPORT_VERSION,
        "callreel": __version__,
        "recording": recording_id,
        "call": found.call,
        "clean": not problems,
        "problems": problems,
        "started_at": _utc(found.start_wall_ns),
        "ended_at": _utc(found.start_wall_ns + found.end_ns),
        "end_reason": found.end_reason,
        "absent_code": made.absent_code,
        "duration_ms": made.ms(made.frames),
        "rate_hz": made.rate_hz,
        "channels": made.channels,
        "size_bytes": made.size_bytes,
        "sha256": made.sha256,
        "track": track.value,
        "trim": {
            "setting": trim.value,
            "cut_start_ms": made.ms(made.trimmed_start),
            "cut_end_ms": made.ms(made.trimmed_end),
        },
        "lead_ms": made.ms(made.lead_samples),
        "pauses": [
            {
                "start_ms": pause.start_ns // 1_000_000,
                "length_ms": (pause.end_ns - pause.start_ns) // 1_000_000,
                "behavior": pause.behavior.value,
            }
            for pause in found.pauses
        ],
        "journal": {
            "segments": found.segments,
            "kept": found.is_kept,
            "headers_lost": found.headless,
            "worker_generations": found.generations,
            "holes": found.holes,
            "hole_count": found.hole_count,
            "hole_bytes": found.hole_bytes,
            "unreadable_blocks": found.unreadable,
            "packets_outside": found.outside,
        },
        "streams": [_stream(stream, made) for stream in streams],
    }


def _stream(stream: StreamSurvey, made: Rendering) -> dict[str, Any]:
    sequencer = stream.timeline.sequencer
    counts = sequencer.counts
    placer = made.placers.get(stream.number)
    voice = made.voices.get(stream.number)
    cover = voice.cover if voice else None
    drift = stream.timeline.drift_ppm(stream.lines)
    jitter_ms = counts.deviation_ns / counts.deviations / 1e6 if counts.deviations else 0.0
    return {
        "stream": stream.number,
        "track": stream.track.value,
        "label": stream.label,
        "srtp": stream.secure,
        "participant": stream.participant,
        "packets": {
            "expected": sequencer.expected(),
            "received": counts.received + stream.replayed,
            "lost": sequencer.lost(),
            "duplicated": counts.duplicated + stream.replayed,
            "reordered": counts.reordered,
            "late": placer.late if placer else 0,
            "undecodable": sum(stream.unknown.values()),
            "malformed": stream.malformed,
            "rtcp": stream.rtcp,
            "dropped_by_kernel": stream.kernel,
            "foreign": stream.foreign,
            "truncated": stream.truncated,
            "unwritten": stream.unwritten,
            "unauthentic": stream.unauthentic,
        },
        "ssrcs": [f"{ssrc:08x}" for ssrc in counts.ssrcs],
        "ssrc_changes": counts.ssrc_changes,
        "timestamp_jumps": counts.jumps,
        "codecs": dict(sorted(stream.codecs.items())),
        "unknown_payload_types": {str(t): n for t, n in sorted(stream.unknown.items())},
        "silence_descriptors": stream.silence + stream.codecs.get(COMFORT_NOISE, 0),
        "dtmf_events": stream.dtmf_events,
        "jitter_ms": round(jitter_ms, 3),
        "max_delay_ms": round(placer.most_delayed_ns / 1e6, 1) if placer else 0.0,
        "drift_ppm": None if drift is None else round(drift, 1),
        "reanchored": placer.reanchored if placer else 0,
        "unplaced_ms": made.ms(voice.unplaced if voice else 0),
        "concealed_ms": made.ms(voice.concealed if voice else 0),
        "no_media": stream.no_media,
        "sources": [
            {
                "start_ms": source["at_ns"] // 1_000_000,
                "host": source["host"],
                "port": source["port"],
                "ssrc": source["ssrc"],
            }
            for source in stream.sources
        ],
        "gaps": {
            "count": cover.count if cover else 0,
            "total_ms": made.ms(cover.samples) if cover else 0,
            "listed": [
                {"start_ms": made.ms(start), "length_ms": made.ms(length)}
                for start, length in (cover.listed if cover else ())
            ],
        },
    }


def _problems(
    track: RecordingTrack, found: JournalSurvey, made: Rendering, streams: list[StreamSurvey]
) -> list[str]:
    """What a listener should know, a sentence each."""
    said: list[str] = []
    for wanted in track.tracks:
        if not any(s.track is wanted and s.timeline.sequencer.counts.received for s in streams):
            said.append(f"Nothing was received on the {wanted.value} track.")
    for stream in streams:
        who = f"{stream.track.value} stream {stream.number}"
        sequencer = stream.timeline.sequencer
        if stream.is_unheard:
            said.append(f"{who.capitalize()}: nothing of it can be heard. The journal keeps it.")
        undecodable = sum(stream.unknown.values())
        voice = made.voices.get(stream.number)
        unplaced_ms = made.ms(voice.unplaced if voice else 0)
        for number, sentence in (
            (sequencer.lost(), f"of {sequencer.expected()} packets were lost."),
            (stream.kernel, "packets were dropped by the kernel: the receive buffer was full."),
            (stream.truncated, "packets were too long to be kept."),
            (stream.unwritten, "packets could not be written to the journal."),
            (undecodable, "packets are of a codec that cannot be decoded."),
            (stream.malformed, "packets are no RTP."),
            (stream.unauthentic, "packets failed authentication (SRTP) and are not heard."),
            (unplaced_ms, "ms of audio came too late to be put in its place."),
        ):
            if number:
                said.append(f"{who.capitalize()}: {number} {sentence}")
    if found.hole_count:
        said.append(
            f"The journal is damaged in {found.hole_count} places, {found.hole_bytes} bytes in all."
        )
    if found.headless:
        said.append(f"The journal's segments {found.headless} have lost their headers.")
    if found.unreadable:
        said.append(f"{found.unreadable} blocks of the journal make no sense.")
    if len(found.generations) > 1:
        said.append(f"The media worker was restarted {len(found.generations) - 1} times.")
    if found.end_reason is None and found.segments:
        said.append("The recording was not stopped in order.")
    return said


def _utc(wall_ns: int) -> str:
    """ISO 8601 with microseconds."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    try:
        at = epoch + timedelta(microseconds=wall_ns // 1000)
    except OverflowError:
        at = epoch
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
