"""What control process and media worker say to each other: values and frames. Pure.

A frame is a 4-byte big-endian length and that many bytes of a JSON object: a request
(``{"id", "op", …}``), a reply (``{"id", "ok"}`` or ``{"id", "error", "kind"}``) or an event
(``{"event"}``). Requests are idempotent by the ids they carry, so that one whose reply was lost
with its connection is simply sent again.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from callreel.base.errors import CallreelError, CapacityError, MachineError, PeerError, UsageError
from callreel.calls.media import (
    CaptureState,
    CaptureStopped,
    Codec,
    NotWritten,
    Srtp,
    Stream,
    StreamState,
)
from callreel.calls.model import PauseBehavior, Track
from callreel.calls.voice import (
    DigitHeard,
    Digits,
    FellSilent,
    MediaHeard,
    Played,
    Prompt,
    Silence,
    Sound,
    Tone,
)
from callreel.wire.sdes import Key, Suite

MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_STREAMS = 32
MAX_CODECS = 64
MAX_TEXT = 1024
MAX_SOUNDS = 256
MAX_SILENCE_MS = 24 * 3600 * 1000
MAX_TONE_MS = 60 * 1000
_MAX_NAME = 128
_ID = re.compile(r"[0-9a-f]{32}")
_PATH = re.compile(r"/[^\0\ud800-\udfff]{0,4094}")
_KEYS = re.compile(r"[0-9*#A-Dw]{0,256}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Op(Enum):
    """What a worker can be asked."""

    OPEN = "open"
    UPDATE = "update"
    CLOSE = "close"
    BRIDGE = "bridge"
    UNBRIDGE = "unbridge"
    ATTEND = "attend"
    PLAY = "play"
    STOP_PLAYING = "stop-playing"
    LISTEN = "listen"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    OBSERVE = "observe"
    LIST = "list"
    PING = "ping"


_ABOUT_A_CALL = (
    *(Op.OPEN, Op.UPDATE, Op.CLOSE, Op.BRIDGE, Op.UNBRIDGE, Op.START, Op.OBSERVE),
    *(Op.ATTEND, Op.PLAY, Op.STOP_PLAYING, Op.LISTEN),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of a worker. Which fields count depends on ``op``."""

    op: Op
    """What is asked."""
    call_id: str = ""
    """open, update, close, bridge, unbridge, start, observe, attend, play, stop-playing, listen."""
    other_call_id: str = ""
    """bridge."""
    recording_id: str = ""
    """start, pause, resume, stop."""
    streams: tuple[Stream, ...] = ()
    """open, update: all the streams of the call."""
    tracks: tuple[Track, ...] = ()
    """start."""
    behavior: PauseBehavior = PauseBehavior.SILENCE
    """pause."""
    until_ns: int = 0
    """stop: nothing that arrived later, wall time, is to be kept; 0: up to now."""
    play_id: str = ""
    """play."""
    token: str = ""
    """play: tells one from the next, which may have the same id."""
    sounds: tuple[Sound, ...] = ()
    """play."""
    silence_ms: int | None = None
    """listen; None stops it."""


class WorkerEventKind(Enum):
    """What a worker, or the pool of them, reports unasked."""

    LATCHED = "latched"
    """A source was latched: ``stream``, ``host``, ``port``, ``ssrc``."""
    NO_MEDIA = "no-media"
    """Nothing came from the expected source: ``stream``."""
    SILENT = "silent"
    """Nothing has come for long from a peer that should send, of a bridged or attended call:
    ``stream``."""
    STRANGERS = "strangers"
    """Packets come to a stream from addresses that its signalling does not name, and are refused:
    ``stream``, ``packets``, how many so far. Told at 100, and whenever they have become ten times
    as many."""
    PLAYED = "played"
    """All of a play is out: ``play_id``, ``token``."""
    DIGIT = "digit"
    """The party of an attended call pressed a key: ``key``."""
    FELL_SILENT = "fell-silent"
    """It has said nothing for as long as was asked: ``spoke``."""
    WRITE_FAILED = "write-failed"
    """A journal cannot be written (``message``); what comes is held back in memory and tried
    again with each sweep, and lost (``packets``, a total) when there is too much of it."""
    WRITE_RECOVERED = "write-recovered"
    """It can again: ``packets`` were lost."""
    TAKEN_OVER = "taken-over"
    """A restarted worker goes on with a recording in a new segment: ``segment``."""
    ENDED = "ended"
    """A recording ended although nobody asked for it (its call was closed): ``reason``."""
    WORKER_LOST = "worker-lost"
    """The connection to a worker broke. From the pool."""
    WORKER_BACK = "worker-back"
    """A worker answers again. From the pool."""
    RECORDING_LOST = "recording-lost"
    """A worker that came back keeps a recording no more that it kept. From the pool."""
    CALL_LOST = "call-lost"
    """A worker that came back knows nothing of a call it had. From the pool."""


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Something that happened to a call or recording."""

    kind: WorkerEventKind
    """What."""
    call_id: str = ""
    """32 hex digits, or empty where it concerns a whole worker."""
    recording_id: str = ""
    """32 hex digits, or empty where it concerns no one recording."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """More about it, by kind."""
    worker: int = -1
    """Index of the worker in the pool; the pool fills it in."""


@dataclass(frozen=True, slots=True)
class CallPorts:
    """Where a worker receives a call's streams."""

    call_id: str
    """32 hex digits."""
    ports: Mapping[int, int]
    """RTP port by stream number; RTCP is the next one."""
    bridged: str = ""
    """The call it is bridged with, or empty."""
    attended: bool = False
    """Whether it ends here while it is not bridged."""
    playing: str = ""
    """What is being played, or empty."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker is doing: the answer to ``list``."""

    generation: int
    """How often this worker was started; 1 for the first time."""
    pid: int
    """Process id."""
    calls: tuple[CallPorts, ...]
    """Open calls."""
    captures: tuple[CaptureState, ...]
    """Live recordings."""
    relayed: int = 0
    """Packets relayed by this process."""
    unsent: int = 0
    """Packets that could not be sent on: the kernel would not take them."""
    strange: int = 0
    """Datagrams not sent on because they were neither RTP nor RTCP."""
    unauthentic: int = 0
    """SRTP not sent on because it was not made with the key, or was replayed."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """How it keeps up: see :meth:`callreel.capture.gauge.Gauge.told`."""
    played: int = 0
    """Packets sent to attended calls by this process."""


def encode_frame(value: Mapping[str, Any]) -> bytes:
    """A frame holding a JSON object."""
    body = json.dumps(value, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise UsageError(f"a message of {len(body)} bytes is too long for a media worker")
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Takes bytes as they come, gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The frames that ``data`` completes. Raises ``PeerError`` for what is none; nothing that
        follows can be understood then."""
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > MAX_FRAME_BYTES:
                raise PeerError(f"a frame of {length} bytes")
            if len(self._buffer) < 4 + length:
                return
            body = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            try:
                value = json.loads(body)
            except (ValueError, RecursionError) as error:
                raise PeerError("a frame that is not JSON") from error
            if not isinstance(value, dict):
                raise PeerError("a frame that is not a JSON object")
            yield value


def request_to_json(request: Request) -> dict[str, Any]:
    """A request without its ``id``."""
    value: dict[str, Any] = {"op": request.op.value}
    if request.call_id:
        value["call_id"] = request.call_id
    if request.other_call_id:
        value["other_call_id"] = request.other_call_id
    if request.recording_id:
        value["recording_id"] = request.recording_id
    if request.op in (Op.OPEN, Op.UPDATE):
        value["streams"] = [stream_to_json(stream) for stream in request.streams]
    if request.op is Op.START:
        value["tracks"] = [track.value for track in request.tracks]
    if request.op is Op.PAUSE:
        value["behavior"] = request.behavior.value
    if request.op is Op.STOP and request.until_ns:
        value["until_ns"] = request.until_ns
    if request.op is Op.PLAY:
        value["play_id"] = request.play_id
        value["token"] = request.token
        value["sounds"] = sounds_to_json(request.sounds)
    if request.op is Op.LISTEN:
        value["silence_ms"] = request.silence_ms
    return value


def request_from_json(value: Mapping[str, Any]) -> Request:
    """Reads what ``request_to_json`` made. Raises ``PeerError`` for anything else."""
    try:
        op = Op(value.get("op"))
        needs_call = op in _ABOUT_A_CALL
        needs_recording = op in (Op.START, Op.PAUSE, Op.RESUME, Op.STOP)
        streams: tuple[Stream, ...] = ()
        if op in (Op.OPEN, Op.UPDATE):
            streams = streams_from_json(value.get("streams"))
        tracks: tuple[Track, ...] = ()
        if op is Op.START:
            tracks = tuple(dict.fromkeys(Track(name) for name in _list(value, "tracks", 2)))
            if not tracks:
                raise ValueError("no tracks")
        return Request(
            op,
            call_id=_id(value, "call_id") if needs_call else "",
            other_call_id=_id(value, "other_call_id") if op is Op.BRIDGE else "",
            recording_id=_id(value, "recording_id") if needs_recording else "",
            streams=streams,
            tracks=tracks,
            behavior=PauseBehavior(value.get("behavior", PauseBehavior.SILENCE.value)),
            until_ns=_instant_ns(value) if op is Op.STOP else 0,
            play_id=_name(value, "play_id") if op is Op.PLAY else "",
            token=_name(value, "token") if op is Op.PLAY else "",
            sounds=sounds_from_json(value.get("sounds")) if op is Op.PLAY else (),
            silence_ms=_silence_ms(value) if op is Op.LISTEN else None,
        )
    except (ValueError, TypeError) as error:
        raise PeerError(f"a request that cannot be understood: {error}") from error


def _instant_ns(value: Mapping[str, Any]) -> int:
    found = value.get("until_ns", 0)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ValueError("until_ns must be a whole number")
    return found


def streams_from_json(value: object) -> tuple[Stream, ...]:
    """The streams of a call. Raises ``ValueError``."""
    if not isinstance(value, list) or len(value) > MAX_STREAMS:
        raise ValueError(f"streams: want a list of at most {MAX_STREAMS}")
    streams = tuple(stream_from_json(item) for item in value)
    if len({stream.number for stream in streams}) < len(streams):
        raise ValueError("streams: a number occurs twice")
    return streams


def sounds_to_json(sounds: Sequence[Sound]) -> list[list[Any]]:
    """What is to be played."""
    return [_sound_to_json(sound) for sound in sounds]


def _sound_to_json(sound: Sound) -> list[Any]:
    match sound:
        case Prompt(path):
            return ["prompt", str(path)]
        case Silence(ms):
            return ["silence", ms]
        case Tone(hz, ms):
            return ["tone", hz, ms]
        case Digits(keys):
            return ["digits", keys]


def sounds_from_json(value: object) -> tuple[Sound, ...]:
    """Reads what ``sounds_to_json`` made. Raises ``ValueError`` for anything else."""
    if not isinstance(value, list) or len(value) > MAX_SOUNDS:
        raise ValueError(f"sounds: want a list of at most {MAX_SOUNDS}")
    return tuple(_sound(item) for item in value)


def _sound(value: object) -> Sound:
    match value:
        case ["prompt", str(path)] if _PATH.fullmatch(path):
            return Prompt(Path(path))
        case ["silence", int(ms)] if 0 <= ms <= MAX_SILENCE_MS:
            return Silence(ms)
        case ["tone", int(hz), int(ms)] if 1 <= hz < 4000 and 0 <= ms <= MAX_TONE_MS:
            return Tone(hz, ms)
        case ["digits", str(keys)] if _KEYS.fullmatch(keys):
            return Digits(keys)
    raise ValueError("sounds: one that is none")


def codec_to_json(codec: Codec) -> dict[str, Any]:
    """A codec, as the journal holds it too."""
    return {
        "payload_type": codec.payload_type,
        "name": codec.name,
        "clock_rate_hz": codec.clock_rate_hz,
        "channels": codec.channels,
        "fmtp": codec.fmtp,
    }


def stream_to_json(stream: Stream) -> dict[str, Any]:
    """A stream with everything there is to know of it."""
    return {
        "number": stream.number,
        "track": stream.track.value,
        "remote_host": stream.remote_host,
        "remote_port": stream.remote_port,
        "codecs": [codec_to_json(codec) for codec in stream.codecs],
        "label": stream.label,
        "participant": stream.participant,
        "sending": stream.sending,
        "receiving": stream.receiving,
        "rtcp_mux": stream.rtcp_mux,
        "srtp": None if stream.srtp is None else _srtp_to_json(stream.srtp),
    }


def stream_from_json(value: object) -> Stream:
    """Reads what ``stream_to_json`` made. Raises ``ValueError`` for anything else."""
    if not isinstance(value, dict):
        raise ValueError("a stream that is not an object")
    host = _text(value, "remote_host")
    ipaddress.ip_address(host.partition("%")[0])
    return Stream(
        number=_int(value, "number", 0, 0xFFFF),
        track=Track(value.get("track")),
        remote_host=host,
        remote_port=_int(value, "remote_port", 0, 0xFFFF),
        codecs=tuple(_codec(item) for item in _list(value, "codecs", MAX_CODECS)),
        label=_text(value, "label"),
        participant=_text(value, "participant"),
        sending=_bool(value, "sending"),
        receiving=_bool(value, "receiving"),
        rtcp_mux=_bool(value, "rtcp_mux"),
        srtp=None if value.get("srtp") is None else _srtp(value["srtp"]),
    )


def key_to_json(key: Key) -> list[str]:
    """A key. It goes over a socket of this machine, and is never written to a disk."""
    return [key.suite.value, key.master.hex(), key.mki.hex()]


def key_from_json(value: object) -> Key:
    """Reads what ``key_to_json`` made. Raises ``ValueError`` for anything else, without telling
    what it was."""
    try:
        if not isinstance(value, list):
            raise ValueError("not a list")
        suite, master, mki = value
        return Key(Suite(suite), bytes.fromhex(master), bytes.fromhex(mki))
    except (ValueError, TypeError):
        raise ValueError("srtp: a key that is none") from None


def _srtp_to_json(srtp: Srtp) -> dict[str, Any]:
    return {
        "receive": key_to_json(srtp.receive),
        "send": key_to_json(srtp.send),
        "sealed": srtp.sealed,
        "sealed_send": srtp.sealed_send,
    }


def _srtp(value: object) -> Srtp:
    if not isinstance(value, dict):
        raise ValueError("srtp: want an object")
    return Srtp(
        receive=key_from_json(value.get("receive")),
        send=key_from_json(value.get("send")),
        sealed=_text(value, "sealed"),
        sealed_send=_text(value, "sealed_send"),
    )


def _codec(value: object) -> Codec:
    if not isinstance(value, dict):
        raise ValueError("a codec that is not an object")
    return Codec(
        payload_type=_int(value, "payload_type", 0, 127),
        name=_text(value, "name"),
        clock_rate_hz=_int(value, "clock_rate_hz", 1, 1_000_000),
        channels=_int(value, "channels", 1, 255),
        fmtp=_text(value, "fmtp"),
    )


def error_to_json(error: CallreelError) -> dict[str, Any]:
    """The error of a reply."""
    kind = "machine"
    if isinstance(error, CapacityError):
        kind = "capacity"
    elif isinstance(error, UsageError | PeerError):
        kind = "usage"
    elif isinstance(error, NotWritten):
        kind = "unwritten"
    return {"error": str(error), "kind": kind}


def error_from_json(value: Mapping[str, Any]) -> CallreelError:
    """The error that a reply carries."""
    message = str(value.get("error"))
    match value.get("kind"):
        case "capacity":
            return CapacityError(message)
        case "usage":
            return UsageError(message)
        case "unwritten":
            return NotWritten(message)
        case _:
            return MachineError(message)


def ports_to_json(ports: Mapping[int, int]) -> dict[str, int]:
    """RTP ports by stream number."""
    return {str(number): port for number, port in ports.items()}


def ports_from_json(value: object) -> dict[int, int]:
    """Reads what ``ports_to_json`` made. Raises ``ValueError``."""
    if not isinstance(value, dict):
        raise ValueError("ports that are not an object")
    return {int(number): _int(value, number, 1, 0xFFFF) for number in value}


def stopped_to_json(stopped: CaptureStopped) -> dict[str, Any]:
    """The answer to ``stop``."""
    return {"at": _microseconds(stopped.stopped_at), "packets": stopped.packets}


def stopped_from_json(value: Mapping[str, Any]) -> CaptureStopped:
    """Reads what ``stopped_to_json`` made. Raises ``ValueError``."""
    return CaptureStopped(instant_from_json(value), _int(value, "packets", 0, 1 << 62))


def instant_to_json(instant: datetime) -> dict[str, Any]:
    """The answer to ``start``, ``pause`` and ``resume``."""
    return {"at": _microseconds(instant)}


def instant_from_json(value: Mapping[str, Any]) -> datetime:
    """Reads what ``instant_to_json`` made. Raises ``ValueError``."""
    return _EPOCH + timedelta(microseconds=_int(value, "at", 0, 1 << 53))


def datetime_of(wall_ns: int) -> datetime:
    """Wall time, UTC, rounded down to the microsecond."""
    return _EPOCH + timedelta(microseconds=wall_ns // 1000)


def ns_of(moment: datetime) -> int:
    """Nanoseconds of wall time."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def seen_to_json(states: Sequence[StreamState]) -> dict[str, Any]:
    """The answer to ``observe``."""
    return {"streams": [{**asdict(one), "track": one.track.value} for one in states]}


def seen_from_json(value: Mapping[str, Any]) -> tuple[StreamState, ...]:
    """Reads what ``seen_to_json`` made. Raises ``ValueError`` or ``TypeError``."""
    return tuple(
        StreamState(**{**one, "track": Track(one["track"])})
        for one in _list(value, "streams", 2 * MAX_STREAMS)
    )


def state_to_json(state: WorkerState) -> dict[str, Any]:
    """The answer to ``list``."""
    return {
        "generation": state.generation,
        "pid": state.pid,
        "calls": [
            [call.call_id, ports_to_json(call.ports), call.bridged, call.attended, call.playing]
            for call in state.calls
        ],
        "captures": [
            [capture.recording_id, capture.call_id, capture.paused] for capture in state.captures
        ],
        "relayed": state.relayed,
        "unsent": state.unsent,
        "strange": state.strange,
        "unauthentic": state.unauthentic,
        "figures": dict(state.figures),
        "played": state.played,
    }


def state_from_json(value: Mapping[str, Any]) -> WorkerState:
    """Reads what ``state_to_json`` made. Raises ``ValueError`` or ``TypeError``."""
    return WorkerState(
        generation=_int(value, "generation", 0, 1 << 62),
        pid=_int(value, "pid", 0, 1 << 62),
        calls=tuple(
            CallPorts(
                str(call_id), ports_from_json(ports), str(bridged), bool(attended), str(playing)
            )
            for call_id, ports, bridged, attended, playing in value["calls"]
        ),
        captures=tuple(
            CaptureState(str(recording_id), str(call_id), bool(paused))
            for recording_id, call_id, paused in value["captures"]
        ),
        relayed=_int(value, "relayed", 0, 1 << 62),
        unsent=_int(value, "unsent", 0, 1 << 62),
        strange=_int(value, "strange", 0, 1 << 62),
        unauthentic=_int(value, "unauthentic", 0, 1 << 62),
        figures={str(name): float(one) for name, one in value.get("figures", {}).items()},
        played=_int(value, "played", 0, 1 << 62),
    )


def event_to_json(event: WorkerEvent) -> dict[str, Any]:
    """An event, without the worker's index."""
    return {
        "event": event.kind.value,
        "call_id": event.call_id,
        "recording_id": event.recording_id,
        "data": dict(event.data),
    }


def event_from_json(value: Mapping[str, Any], *, worker: int) -> WorkerEvent:
    """Reads what ``event_to_json`` made. Raises ``ValueError`` or ``TypeError``."""
    return WorkerEvent(
        WorkerEventKind(value.get("event")),
        _text(value, "call_id"),
        _text(value, "recording_id"),
        dict(value.get("data", {})),
        worker,
    )


def media_heard(event: WorkerEvent) -> MediaHeard | None:
    """What an event says of a call that is played to or listened to; None if it says something
    else."""
    match event.kind:
        case WorkerEventKind.PLAYED:
            return Played(event.call_id, str(event.data.get("play_id", "")))
        case WorkerEventKind.DIGIT:
            return DigitHeard(event.call_id, str(event.data.get("key", "")))
        case WorkerEventKind.FELL_SILENT:
            return FellSilent(event.call_id, spoke=bool(event.data.get("spoke")))
        case _:
            return None


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def is_id(text: str) -> bool:
    """Whether this is 32 lower-case hex digits, and so safe in a path."""
    return _ID.fullmatch(text) is not None


def _id(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not is_id(text):
        raise ValueError(f"{key}: want 32 lower-case hex digits")
    return text


def _name(value: Mapping[str, Any], key: str) -> str:
    text = _text(value, key)
    if not text or len(text) > _MAX_NAME:
        raise ValueError(f"{key}: want 1 to {_MAX_NAME} characters")
    return text


def _silence_ms(value: Mapping[str, Any]) -> int | None:
    if value.get("silence_ms") is None:
        return None
    return _int(value, "silence_ms", 1, MAX_SILENCE_MS)


def _int(value: Mapping[str, Any], key: str, low: int, high: int) -> int:
    number = value.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise ValueError(f"{key}: want an integer from {low} to {high}")
    return number


def _bool(value: Mapping[str, Any], key: str) -> bool:
    flag = value.get(key)
    if not isinstance(flag, bool):
        raise ValueError(f"{key}: want true or false")
    return flag


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ValueError(f"{key}: want at most {MAX_TEXT} characters")
    return text


def _list(value: Mapping[str, Any], key: str, longest: int) -> Sequence[Any]:
    items = value.get(key)
    if not isinstance(items, list) or len(items) > longest:
        raise ValueError(f"{key}: want a list of at most {longest}")
    return items
