"""What a worker leaves with the supervisor for its successor: a call as a blob, and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from callreel.calls.media import Stream
from callreel.calls.model import PauseBehavior, Track
from callreel.calls.voice import Sound
from callreel.capture.anchor import Instant
from callreel.capture.handover import MAX_BLOB_BYTES
from callreel.capture.protocol import sounds_to_json, stream_to_json
from callreel.capture.recording import LiveRecording
from callreel.capture.streams import LiveCall, LiveStream
from callreel.capture.tap import Tap

_STREAMS_BLOB_BYTES = MAX_BLOB_BYTES * 2 // 3
_SOUNDS_BLOB_BYTES = MAX_BLOB_BYTES // 6


def streams_fit(streams: Sequence[Stream]) -> bool:
    """Whether the description of a call's streams leaves room for the rest of its state."""
    return len(_pack([stream_to_json(stream) for stream in streams])) <= _STREAMS_BLOB_BYTES


def sounds_fit(sounds: Sequence[Sound]) -> bool:
    """Whether what is to be played leaves room for the rest of a call's state."""
    return len(_pack(sounds_to_json(sounds))) <= _SOUNDS_BLOB_BYTES


def in_order(call: LiveCall) -> list[LiveStream]:
    """A call's streams as their sockets are handed over."""
    return sorted(call.streams.values(), key=lambda live: live.stream.number)


def call_to_blob(call: LiveCall, attendant: Mapping[str, Any] | None) -> bytes:
    """What a successor needs to go on with a call; of its attendant, see ``attending``."""
    return _pack(
        {
            "streams": [
                {
                    "stream": stream_to_json(live.stream),
                    "ssrc": live.ssrc,
                    "protection": live.protection.to_json(),
                    "taps": [_tap_to_json(tap) for tap in (live.rtp, live.rtcp)],
                }
                for live in in_order(call)
            ],
            "bridged": call.other.id if call.other is not None else None,
            "heard": list(call.heard.items()),
            "next_heard": call.next_heard,
            "attended": call.is_attended,
            "attendant": attendant,
            "recordings": [_recording_to_json(item) for item in call.recordings.values()],
        }
    )


def read_blob(blob: bytes) -> Mapping[str, Any]:
    """What ``call_to_blob`` made. Raises ``ValueError``, ``TypeError``, ``KeyError`` or
    ``zlib.error`` if it was something else."""
    value = json.loads(zlib.decompress(blob))
    if not isinstance(value["streams"], list) or not isinstance(value["recordings"], list):
        raise ValueError("not a call")
    return dict(value)


def restore_recording(recording: LiveRecording, entry: Mapping[str, Any]) -> None:
    """Have a recording be where its former worker left it."""
    recording.paused = PauseBehavior(entry["paused"]) if entry["paused"] else None
    recording.started = Instant(*entry["started"])
    recording.changed = Instant(*entry["changed"])
    recording.after_ns = recording.changed.mono_ns
    recording.waiting = {int(number): int(since) for number, since in entry["waiting"]}


def tracks_of(entry: Mapping[str, Any]) -> frozenset[Track]:
    """The tracks of a recording."""
    return frozenset(Track(name) for name in entry["tracks"])


def restore_addresses(tap: Tap, entry: Sequence[Any]) -> tuple[bytes | None, int]:
    """Have a socket send to where its former worker's did; the source that was latched, and the
    kernel's drop count when it was last looked at."""
    source, drops, to = entry
    tap.to = bytes.fromhex(to) if to else None
    return bytes.fromhex(source) if source else None, int(drops)


def _tap_to_json(tap: Tap) -> list[Any]:
    source = tap.latch.source.hex() if tap.latch.source else ""
    return [source, tap.drops.total, tap.to.hex() if tap.to else ""]


def _recording_to_json(recording: LiveRecording) -> dict[str, Any]:
    return {
        "id": recording.id,
        "tracks": [track.value for track in recording.tracks],
        "paused": recording.paused.value if recording.paused else None,
        "started": [recording.started.mono_ns, recording.started.wall_ns],
        "changed": [recording.changed.mono_ns, recording.changed.wall_ns],
        "waiting": list(recording.waiting.items()),
    }


def _pack(value: object) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)
