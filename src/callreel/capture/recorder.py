"""What a media worker does: calls, their sockets, their recordings. Synchronous.

Each command is idempotent by its ids. The order of steps within one is what makes its promise
true to the packet: see ``start`` and ``_cut``.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callreel.base.errors import CapacityError, MachineError, UsageError
from callreel.calls.media import CaptureState, CaptureStopped, Stream
from callreel.calls.model import PauseBehavior, Track
from callreel.capture.anchor import Anchor, Instant
from callreel.capture.handover import MAX_BLOB_BYTES, Keeper, NoKeeper
from callreel.capture.protocol import (
    MAX_STREAMS,
    CallPorts,
    WorkerEvent,
    WorkerEventKind,
    WorkerState,
    codec_to_json,
    datetime_of,
    stream_from_json,
    stream_to_json,
)
from callreel.capture.recording import MAX_HELD_BYTES, LiveRecording
from callreel.capture.settings import WorkerSettings
from callreel.capture.sockets import PortRange, open_pair
from callreel.capture.sweep import Sweeper, Tap
from callreel.journal import format as journal
from callreel.journal.format import Event, Kind
from callreel.journal.reader import find_end

NO_MEDIA_NS = 5_000_000_000
"""After how long nothing from the expected source is reported."""
MAX_RECORDINGS = 16
"""Of one call at once."""
_RARELY = 5
"""RTCP sockets and drop counters are looked at with every so many sweeps of a call."""
_REMEMBERED = 10_000
_SPARE_FDS = 64
_MAX_HELD_IN_ALL_BYTES = 64 * 1024 * 1024
_STREAMS_BLOB_BYTES = MAX_BLOB_BYTES * 2 // 3


@dataclass(slots=True)
class LiveStream:
    """A stream of a call and its two sockets."""

    stream: Stream
    """As signalled last."""
    port: int
    """RTP port."""
    rtp: Tap
    """RTP socket, and RTCP where both share it."""
    rtcp: Tap
    """RTCP socket."""
    keepers: tuple[LiveRecording, ...] = ()
    """The recordings that keep it now."""
    ssrc: int = 0
    """Of the first packet from the latched source."""

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The sockets something may come to."""
        return (self.rtp,) if self.stream.rtcp_mux else (self.rtp, self.rtcp)


@dataclass(slots=True)
class LiveCall:
    """An open call."""

    id: str
    """32 hex digits."""
    streams: dict[int, LiveStream]
    """By stream number."""
    recordings: dict[str, LiveRecording]
    """Live ones."""
    due_ns: int = 0
    """When it is swept next, arrival time; 0 while nothing of it is kept."""
    sweeps: int = 0
    """How often it was swept."""


class Recorder:
    """Calls, streams and recordings of one worker.

    ``fd_limit`` and ``socket_limit`` bound descriptors in all and media sockets.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        on_event: Callable[[WorkerEvent], None],
        keeper: Keeper | None = None,
        generation: int = 1,
        fd_limit: int = 1024,
        socket_limit: int = 1024,
    ) -> None:
        self._settings = settings
        self._host = settings.bind_host
        self._root = settings.journal_root
        self._on_event = on_event
        self._keeper: Keeper = keeper or NoKeeper()
        self._generation = generation
        self._fd_limit = fd_limit
        self._socket_limit = socket_limit
        self._ports = PortRange(settings.port_low, settings.port_high)
        self._ipv6 = ":" in settings.bind_host
        self._sweeper = Sweeper(socket.AF_INET6 if self._ipv6 else socket.AF_INET)
        self._anchor = Anchor()
        self._period_ns = settings.sweep_ms * 1_000_000
        self._calls: dict[str, LiveCall] = {}
        self._recordings: dict[str, LiveRecording] = {}
        self._stopped: OrderedDict[str, CaptureStopped] = OrderedDict()
        self._due: deque[LiveCall] = deque()
        self._boot_id = _boot_id()

    # Calls

    def open(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, int]:
        """Give a call its sockets; RTP ports by stream number. One that is open is updated."""
        if call_id in self._calls:
            return self.update(call_id, streams)
        self._check(streams, more=len(streams), journals=1)
        call = LiveCall(call_id, self._open_streams(streams), {})
        self._calls[call_id] = call
        self._save(call, sockets=True)
        return self._ports_of(call)

    def update(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, int]:
        """Change a call's streams to exactly these; RTP ports by stream number."""
        call = self._call(call_id)
        wanted = {stream.number: stream for stream in streams}
        added = [stream for stream in streams if stream.number not in call.streams]
        self._check(streams, more=len(added), journals=0)
        # What can fail comes first: a call whose update is refused goes on as it was.
        opened = self._open_streams(added)
        for number in [number for number in call.streams if number not in wanted]:
            self._drop_stream(call, call.streams.pop(number))
        for live in call.streams.values():
            if live.stream != wanted[live.stream.number]:
                self._change_stream(call, live, wanted[live.stream.number])
        for live in opened.values():
            call.streams[live.stream.number] = live
            self._add_stream(call, live)
        self._flush(call)
        self._schedule(call)
        self._save(call, sockets=True)
        return self._ports_of(call)

    def close(self, call_id: str) -> None:
        """Take a call's sockets away; what is still recorded of it is stopped."""
        call = self._calls.get(call_id)
        if call is None:
            return
        for recording in list(call.recordings.values()):
            self._stop(call, recording, "call closed")
            self._tell(WorkerEventKind.ENDED, call, recording, reason="call closed")
        del self._calls[call_id]
        for live in call.streams.values():
            self._close_stream(live)
        self._keeper.release(call_id)

    def _call(self, call_id: str) -> LiveCall:
        call = self._calls.get(call_id)
        if call is None:
            raise MachineError(f"call {call_id} is not open here")
        return call

    def _ports_of(self, call: LiveCall) -> Mapping[int, int]:
        return {number: live.port for number, live in call.streams.items()}

    def _check(self, streams: Sequence[Stream], *, more: int, journals: int) -> None:
        if len(streams) > MAX_STREAMS:
            raise CapacityError(f"a call of {len(streams)} streams; {MAX_STREAMS} are the most")
        for stream in streams:
            address = ipaddress.ip_address(stream.remote_host.partition("%")[0])
            mapped = address.version == 6 and getattr(address, "ipv4_mapped", None) is not None
            if address.version == 6 and not mapped and not self._ipv6:
                raise UsageError(
                    f"media from {stream.remote_host} cannot reach {self._host}; bind to ::"
                )
        if len(_pack([stream_to_json(stream) for stream in streams])) > _STREAMS_BLOB_BYTES:
            raise CapacityError("the description of a call's streams is too long")
        sockets = 2 * sum(len(call.streams) for call in self._calls.values())
        self._check_fds(sockets, more_sockets=2 * more, more_files=journals)

    def _check_fds(self, sockets: int, *, more_sockets: int, more_files: int) -> None:
        used = sockets + len(self._recordings) + _SPARE_FDS
        if (
            sockets + more_sockets > self._socket_limit
            or used + more_sockets + more_files > self._fd_limit
        ):
            raise CapacityError(
                "no file descriptor is left for one more",
                hint="raise the limit of open files (RLIMIT_NOFILE)",
            )

    # Streams

    def _open_streams(self, streams: Iterable[Stream]) -> dict[int, LiveStream]:
        opened: dict[int, LiveStream] = {}
        try:
            for stream in streams:
                rtp, rtcp = open_pair(self._host, self._ports)
                port = int(rtp.getsockname()[1])
                opened[stream.number] = LiveStream(stream, port, Tap(rtp), Tap(rtcp))
        except BaseException:
            for live in opened.values():
                self._close_stream(live)
            raise
        return opened

    def _close_stream(self, live: LiveStream) -> None:
        live.rtp.sock.close()
        live.rtcp.sock.close()
        self._ports.give_back(live.port)

    def _add_stream(self, call: LiveCall, live: LiveStream) -> None:
        self._find_keepers(call, live)
        self._refilter(live)
        now = self._anchor.now()
        for recording in self._recordings_of(call, live.stream):
            recording.note(Event.STREAM, now, **_journal_stream(live.stream))
        for recording in live.keepers:
            recording.waiting[live.stream.number] = now.mono_ns
            self._forget_drops(recording, live)

    def _change_stream(self, call: LiveCall, live: LiveStream, stream: Stream) -> None:
        self._drain(live, rtcp=True)
        before, live.stream = live.stream, stream
        kept_before = live.keepers
        self._find_keepers(call, live)
        self._refilter(live)
        for tap in live.taps:
            tap.latch.forget()
        now = self._anchor.now()
        concerned = {
            recording.id: recording
            for one in (before, stream)
            for recording in self._recordings_of(call, one)
        }
        for recording in concerned.values():
            recording.note(Event.STREAM, now, **_journal_stream(stream))
        for recording in live.keepers:
            if recording not in kept_before or (stream.sending and not before.sending):
                recording.waiting[stream.number] = now.mono_ns
            if recording not in kept_before:
                self._forget_drops(recording, live)

    def _drop_stream(self, call: LiveCall, live: LiveStream) -> None:
        self._drain(live, rtcp=True)
        now = self._anchor.now()
        for recording in live.keepers:
            recording.note_drops(live.stream.number, live.rtp)
        for recording in self._recordings_of(call, live.stream):
            recording.note(Event.STREAM, now, **_journal_stream(live.stream), closed=True)
            recording.waiting.pop(live.stream.number, None)
            for tap in (live.rtp, live.rtcp):
                recording.reported.pop(tap, None)
                recording.fresh.discard(tap)
        self._close_stream(live)

    def _recordings_of(self, call: LiveCall, stream: Stream) -> list[LiveRecording]:
        return [item for item in call.recordings.values() if stream.track in item.tracks]

    def _find_keepers(self, call: LiveCall, live: LiveStream) -> None:
        live.keepers = tuple(
            recording
            for recording in self._recordings_of(call, live.stream)
            if recording.paused is None
        )

    def _refilter(self, live: LiveStream) -> None:
        """Have exactly what is kept queued, from the signalled address alone."""
        now_ns = self._anchor.now().mono_ns
        for tap in (live.rtp, live.rtcp):
            if live.keepers and tap in live.taps:
                if tap.host != live.stream.remote_host:
                    tap.listen(live.stream.remote_host, now_mono_ns=now_ns)
            elif tap.host is not None:
                tap.refuse()

    def _forget_drops(self, recording: LiveRecording, live: LiveStream) -> None:
        recording.reported[live.rtp] = live.rtp.lost()

    # Recordings

    def start(self, recording_id: str, call_id: str, tracks: Iterable[Track]) -> Instant:
        """Keep these tracks of a call from now on; the instant."""
        call = self._call(call_id)
        known = self._recordings.get(recording_id)
        if known is not None:
            if known.call_id != call_id:
                raise UsageError(f"recording {recording_id} is of another call")
            return known.started
        if recording_id in self._stopped or find_end(self._root, recording_id) is not None:
            raise UsageError(f"recording {recording_id} was stopped already")
        if len(call.recordings) >= MAX_RECORDINGS:
            raise CapacityError(f"{MAX_RECORDINGS} recordings of one call are the most")
        sockets = 2 * sum(len(call.streams) for call in self._calls.values())
        self._check_fds(sockets, more_sockets=0, more_files=1)
        recording = LiveRecording(
            recording_id, call_id, frozenset(tracks), root=self._root, anchor=self._anchor
        )
        recording.open_journal()
        call.recordings[recording_id] = recording
        try:
            # First the filter, then the instant: whatever is stamped later was let through.
            instant = self._begin_keeping(call, recording)
            recording.started = instant
            recording.begin(self._header(call, recording), instant)
        except BaseException:
            del call.recordings[recording_id]
            self._settle_filters(call)
            assert recording.writer is not None
            recording.writer.discard()
            raise
        self._recordings[recording_id] = recording
        self._note_latches(call, recording, instant)
        self._flush(call)
        self._schedule(call)
        self._save(call)
        return instant

    def pause(self, recording_id: str, behavior: PauseBehavior) -> Instant:
        """Keep nothing from now on; the instant. One that is paused stays as it is."""
        recording = self._recording(recording_id)
        if recording.paused is not None:
            return recording.changed
        call = self._calls[recording.call_id]
        instant = self._cut(call, recording)
        recording.paused = behavior
        recording.changed = instant
        self._settle_filters(call)
        recording.note(Event.PAUSE, instant, behavior=behavior.value)
        self._flush(call)
        self._save(call)
        return instant

    def resume(self, recording_id: str) -> Instant:
        """Keep again from now on; the instant. One that is running goes on running."""
        recording = self._recording(recording_id)
        if recording.paused is None:
            return recording.changed
        call = self._calls[recording.call_id]
        behavior, recording.paused = recording.paused, None
        try:
            instant = self._begin_keeping(call, recording)
        except BaseException:
            recording.paused = behavior
            self._settle_filters(call)
            raise
        recording.note(Event.RESUME, instant)
        self._note_latches(call, recording, instant)
        self._flush(call)
        self._schedule(call)
        self._save(call)
        return instant

    def stop(self, recording_id: str) -> CaptureStopped:
        """Write all that has arrived and close the journal."""
        done = self._stopped.get(recording_id) or self._ended(recording_id)
        if done is not None:
            return done
        recording = self._recording(recording_id)
        call = self._calls[recording.call_id]
        stopped = self._stop(call, recording, "stopped")
        self._save(call)
        return stopped

    def _ended(self, recording_id: str) -> CaptureStopped | None:
        """What became of a recording that a former worker ended, whose answer was lost."""
        if recording_id in self._recordings:
            return None
        end = find_end(self._root, recording_id)
        if end is None:
            return None
        packets = end.value.get("packets")
        return CaptureStopped(datetime_of(end.wall_ns), packets if isinstance(packets, int) else 0)

    def _recording(self, recording_id: str) -> LiveRecording:
        recording = self._recordings.get(recording_id)
        if recording is None:
            raise MachineError(f"recording {recording_id} is not live here")
        return recording

    def _stop(self, call: LiveCall, recording: LiveRecording, reason: str) -> CaptureStopped:
        instant = self._anchor.now() if recording.paused else self._cut(call, recording)
        del call.recordings[recording.id], self._recordings[recording.id]
        self._settle_filters(call)
        self._write(call, recording)
        self._flush(call)
        packets = recording.packets()
        try:
            if recording.writer is None:
                raise MachineError(recording.failure or "the journal was never made")
            recording.writer.end(
                reason, mono_ns=instant.mono_ns, wall_ns=instant.wall_ns, packets=packets
            )
        except MachineError as error:
            # The journal holds what it holds; to go on for ever would help nobody.
            self._tell(WorkerEventKind.WRITE_FAILED, call, recording, message=str(error), packets=0)
        stopped = CaptureStopped(datetime_of(instant.wall_ns), packets)
        self._stopped[recording.id] = stopped
        while len(self._stopped) > _REMEMBERED:
            self._stopped.popitem(last=False)
        return stopped

    def _begin_keeping(self, call: LiveCall, recording: LiveRecording) -> Instant:
        """Have the recording's streams queued, and say from when it may take what is."""
        mine = [live for live in call.streams.values() if live.stream.track in recording.tracks]
        for live in mine:
            # What is queued by now belongs to others alone.
            self._drain(live, rtcp=True)
            self._find_keepers(call, live)
            self._refilter(live)
        instant = self._anchor.now()
        recording.changed = instant
        recording.after_ns = instant.mono_ns
        recording.fresh = {tap for live in mine for tap in live.taps}
        recording.waiting = {live.stream.number: instant.mono_ns for live in mine}
        for live in mine:
            self._forget_drops(recording, live)
        return instant

    def _cut(self, call: LiveCall, recording: LiveRecording) -> Instant:
        """Take all that arrived by now for this recording, and nothing later; the instant.

        Drained twice: what was on its way through the kernel at the instant has come by the second
        time. Whoever else keeps a stream gets all of both.
        """
        instant = self._anchor.now()
        recording.until_ns = instant.mono_ns
        for _ in range(2):
            for live in call.streams.values():
                if recording in live.keepers:
                    self._drain(live, rtcp=True)
        for live in call.streams.values():
            if recording in live.keepers:
                live.rtp.read_drops()
                recording.note_drops(live.stream.number, live.rtp)
        recording.until_ns = None
        recording.fresh.clear()
        recording.waiting.clear()
        return instant

    def _settle_filters(self, call: LiveCall) -> None:
        """Who keeps what has changed: refuse what nobody keeps any more."""
        for live in call.streams.values():
            self._find_keepers(call, live)
            self._refilter(live)
            for tap in (live.rtp, live.rtcp):
                if tap.host is None:
                    # It may have got into the queue before the filter went on. Nobody keeps it, so
                    # it must not be found there when somebody next does.
                    tap.discard(self._sweeper)

    def _note_latches(self, call: LiveCall, recording: LiveRecording, instant: Instant) -> None:
        for live in call.streams.values():
            if recording in live.keepers and live.rtp.latch.source is not None:
                keys = _latch_keys(live)
                recording.note(Event.LATCH, instant, **keys)

    def _header(self, call: LiveCall, recording: LiveRecording) -> dict[str, Any]:
        return {
            "call": call.id,
            "generation": self._generation,
            "boot_id": self._boot_id,
            "started_mono_ns": recording.started.mono_ns,
            "paused": recording.paused.value if recording.paused else None,
            "tracks": [track.value for track in Track if track in recording.tracks],
            "streams": [
                _journal_stream(live.stream)
                for live in call.streams.values()
                if live.stream.track in recording.tracks
            ],
        }

    def state(self, pid: int) -> WorkerState:
        """What is open and live."""
        return WorkerState(
            self._generation,
            pid,
            tuple(CallPorts(call.id, self._ports_of(call)) for call in self._calls.values()),
            tuple(
                CaptureState(recording.id, recording.call_id, recording.paused is not None)
                for recording in self._recordings.values()
            ),
        )

    # The sweep

    def next_due_ns(self) -> int | None:
        """When the next sweep is due, arrival time; None while nothing is kept."""
        return self._due[0].due_ns if self._due else None

    def sweep(self, now_ns: int, *, calls: int) -> bool:
        """Sweep at most so many of the calls that are due; whether there are more."""
        if not self._due or self._due[0].due_ns > now_ns:
            return False
        self._anchor.check()
        for _ in range(calls):
            if not self._due or self._due[0].due_ns > now_ns:
                return False
            call = self._due.popleft()
            call.due_ns = 0
            if self._calls.get(call.id) is not call:
                continue
            self._sweep_call(call)
            self._schedule(call)
        return bool(self._due) and self._due[0].due_ns <= now_ns

    def _schedule(self, call: LiveCall) -> None:
        if call.due_ns:
            return
        # A recording whose journal could not be written has something to try again, kept or not.
        if not any(live.keepers for live in call.streams.values()) and not any(
            recording.failure for recording in call.recordings.values()
        ):
            return
        # All calls at once, on the grid of the period: what is swept in one go finds the caches
        # warm and wakes the process once. (Spread over eight parts of it, a packet cost a quarter
        # more.)
        due_ns = time.monotonic_ns() + self._period_ns
        call.due_ns = due_ns - due_ns % self._period_ns
        self._due.append(call)

    def _sweep_call(self, call: LiveCall) -> None:
        call.sweeps += 1
        rarely = call.sweeps % _RARELY == 0
        for live in call.streams.values():
            if not live.keepers:
                continue
            self._drain(live, rtcp=rarely)
            if rarely:
                live.rtp.read_drops()
                for recording in live.keepers:
                    recording.note_drops(live.stream.number, live.rtp)
        for recording in call.recordings.values():
            if recording.waiting and recording.paused is None:
                self._look_for_silence(call, recording)
        self._flush(call)

    def _drain(self, live: LiveStream, *, rtcp: bool) -> None:
        """Have what came to a stream kept by its keepers."""
        self._drain_tap(live, live.rtp, Kind.RTP)
        if rtcp and not live.stream.rtcp_mux:
            self._drain_tap(live, live.rtcp, Kind.RTCP)

    def _drain_tap(self, live: LiveStream, tap: Tap, kind: Kind) -> None:
        if tap.host is None:
            return
        batches, latched = tap.drain(self._sweeper, self._anchor)
        if latched is not None and kind is Kind.RTP:
            live.ssrc = latched.ssrc
            self._latched(live)
        number = live.stream.number
        for recording in live.keepers:
            for batch in batches:
                recording.keep(kind, number, tap, batch)
            if recording.fresh:
                recording.fresh.discard(tap)

    def _latched(self, live: LiveStream) -> None:
        keys = _latch_keys(live)
        now = self._anchor.now()
        for recording in live.keepers:
            recording.note(Event.LATCH, now, **keys)
        call = self._calls.get(live.keepers[0].call_id) if live.keepers else None
        if call is not None:
            self._tell(WorkerEventKind.LATCHED, call, None, **keys)
            self._save(call)

    def _look_for_silence(self, call: LiveCall, recording: LiveRecording) -> None:
        now = self._anchor.now()
        for number, since_ns in list(recording.waiting.items()):
            live = call.streams.get(number)
            if live is None:
                del recording.waiting[number]
            elif not live.stream.sending:
                recording.waiting[number] = now.mono_ns
            elif now.mono_ns - since_ns >= NO_MEDIA_NS:
                del recording.waiting[number]
                recording.note(Event.NO_MEDIA, now, stream=number)
                self._tell(WorkerEventKind.NO_MEDIA, call, recording, stream=number)

    def _flush(self, call: LiveCall) -> None:
        for recording in call.recordings.values():
            self._write(call, recording)

    def _write(self, call: LiveCall, recording: LiveRecording) -> None:
        failed_before = recording.failure is not None
        lost = recording.lost_packets
        try:
            recording.flush()
        except MachineError as error:
            failing = sum(item.failure is not None for item in self._recordings.values())
            recording.give_up_beyond(min(MAX_HELD_BYTES, _MAX_HELD_IN_ALL_BYTES // max(1, failing)))
            if not failed_before or (recording.lost_packets and not lost):
                self._tell(
                    WorkerEventKind.WRITE_FAILED,
                    call,
                    recording,
                    message=str(error),
                    packets=recording.lost_packets,
                )
        else:
            if failed_before:
                self._tell(WorkerEventKind.WRITE_RECOVERED, call, recording, packets=lost)

    def _tell(
        self,
        kind: WorkerEventKind,
        call: LiveCall,
        recording: LiveRecording | None,
        **data: Any,
    ) -> None:
        self._on_event(WorkerEvent(kind, call.id, recording.id if recording else "", data))

    # Ends and beginnings of the process

    def shut_down(self) -> None:
        """Sweep once more, and close all journals as they are: a successor may go on with them."""
        for call in self._calls.values():
            for live in call.streams.values():
                self._drain(live, rtcp=True)
            self._flush(call)
            for recording in call.recordings.values():
                if recording.writer is not None:
                    try:
                        recording.writer.sync()
                    except MachineError as error:
                        self._tell(
                            WorkerEventKind.WRITE_FAILED,
                            call,
                            recording,
                            message=str(error),
                            packets=0,
                        )
                    recording.writer.close()
            for live in call.streams.values():
                # The supervisor's duplicates stay open, with what comes from now on.
                live.rtp.sock.close()
                live.rtcp.sock.close()
        self._calls.clear()
        self._recordings.clear()
        self._due.clear()

    def _save(self, call: LiveCall, *, sockets: bool = False) -> None:
        """Leave with the supervisor what a successor needs to go on with a call."""
        if call.id not in self._calls:
            return
        lives = sorted(call.streams.values(), key=lambda live: live.stream.number)
        blob = _pack(
            {
                "streams": [
                    {
                        "stream": stream_to_json(live.stream),
                        "ssrc": live.ssrc,
                        "taps": [
                            [tap.latch.source.hex() if tap.latch.source else "", tap.drops.total]
                            for tap in (live.rtp, live.rtcp)
                        ],
                    }
                    for live in lives
                ],
                "recordings": [
                    {
                        "id": recording.id,
                        "tracks": [track.value for track in recording.tracks],
                        "paused": recording.paused.value if recording.paused else None,
                        "started": [recording.started.mono_ns, recording.started.wall_ns],
                        "changed": [recording.changed.mono_ns, recording.changed.wall_ns],
                        "waiting": list(recording.waiting.items()),
                    }
                    for recording in call.recordings.values()
                ],
            }
        )
        if sockets:
            fds = [tap.sock.fileno() for live in lives for tap in (live.rtp, live.rtcp)]
            self._keeper.hold(call.id, blob, fds)
        else:
            self._keeper.state(call.id, blob)

    def take_over(self, call_id: str, blob: bytes, fds: Sequence[int]) -> None:
        """Go on with a call of a former worker, and with what it was recording of it.

        What has queued up in the sockets meanwhile is kept. Raises ``ValueError`` if the state
        makes no sense; the descriptors are closed then.
        """
        socks = [socket.socket(fileno=fd) for fd in fds]
        try:
            value = json.loads(zlib.decompress(blob))
            call = LiveCall(call_id, {}, {})
            for index, entry in enumerate(value["streams"]):
                stream = stream_from_json(entry["stream"])
                rtp, rtcp = socks[2 * index : 2 * index + 2]
                port = int(rtp.getsockname()[1])
                call.streams[stream.number] = LiveStream(
                    stream, port, Tap(rtp), Tap(rtcp), ssrc=entry["ssrc"]
                )
            for entry in value["recordings"]:
                recording = self._revive(call_id, entry)
                call.recordings[recording.id] = recording
            self._go_on(call, value["streams"])
        except (ValueError, TypeError, KeyError, zlib.error, OSError) as error:
            for sock in socks:
                sock.close()
            raise ValueError(f"cannot take over call {call_id}: {error}") from error
        self._calls[call_id] = call
        self._recordings.update(call.recordings)
        for live in call.streams.values():
            self._ports.remove(live.port)
        for recording in call.recordings.values():
            recording.header = self._header(call, recording)
            self._note_latches(call, recording, self._anchor.now())
            self._write(call, recording)
            self._tell(
                WorkerEventKind.TAKEN_OVER,
                call,
                recording,
                segment=recording.writer.number if recording.writer else 0,
            )
        self._schedule(call)

    def _revive(self, call_id: str, entry: Mapping[str, Any]) -> LiveRecording:
        recording = LiveRecording(
            entry["id"],
            call_id,
            frozenset(Track(name) for name in entry["tracks"]),
            root=self._root,
            anchor=self._anchor,
        )
        recording.paused = PauseBehavior(entry["paused"]) if entry["paused"] else None
        recording.started = Instant(*entry["started"])
        recording.changed = Instant(*entry["changed"])
        recording.after_ns = recording.changed.mono_ns
        recording.waiting = {int(number): int(since) for number, since in entry["waiting"]}
        return recording

    def _go_on(self, call: LiveCall, entries: Sequence[Mapping[str, Any]]) -> None:
        now_ns = self._anchor.now().mono_ns
        for live, entry in zip(call.streams.values(), entries, strict=True):
            self._find_keepers(call, live)
            for tap, (source, drops) in zip((live.rtp, live.rtcp), entry["taps"], strict=True):
                if live.keepers and tap in live.taps:
                    tap.take_over(
                        live.stream.remote_host,
                        bytes.fromhex(source) if source else None,
                        drops,
                        now_mono_ns=now_ns,
                    )
                    for recording in live.keepers:
                        recording.fresh.add(tap)
                        recording.reported[tap] = tap.lost()
                else:
                    tap.refuse()
                    tap.discard(self._sweeper)


def _pack(value: object) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)


def _journal_stream(stream: Stream) -> dict[str, Any]:
    return journal.stream_to_json(
        stream.number,
        stream.track.value,
        [codec_to_json(codec) for codec in stream.codecs],
        label=stream.label,
        participant=stream.participant,
        sending=stream.sending,
    )


def _latch_keys(live: LiveStream) -> dict[str, Any]:
    source = live.rtp.latch.source
    assert source is not None
    packed = source[4:8] if len(source) == 16 else source[8:24]
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return {
        "stream": live.stream.number,
        "host": str(mapped or address),
        "port": int.from_bytes(source[2:4], "big"),
        "ssrc": live.ssrc,
    }


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
