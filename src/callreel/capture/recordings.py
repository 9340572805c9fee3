"""The live recordings of a worker: start, pause, resume, stop, each true to the packet.

The order of steps within one is what makes its promise true: see ``start`` and ``_cut``. Whatever
touches the disk goes through :class:`~callreel.capture.disk.Disk`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from callreel.base.errors import CapacityError, MachineError, UsageError
from callreel.calls.media import CaptureStopped, NotWritten
from callreel.calls.model import PauseBehavior, Track
from callreel.capture.anchor import Anchor, Instant
from callreel.capture.disk import Disk
from callreel.capture.intake import Intake
from callreel.capture.opening import Opener
from callreel.capture.protocol import WorkerEventKind, datetime_of
from callreel.capture.recording import MAX_HELD_BYTES, LiveRecording
from callreel.capture.streams import LiveCall
from callreel.capture.successor import restore_recording, tracks_of
from callreel.journal.format import Event
from callreel.journal.reader import find_end

NO_MEDIA_NS = 5_000_000_000
"""After how long nothing from the expected source is reported."""
MAX_RECORDINGS = 16
"""Of one call at once."""
_REMEMBERED = 10_000
_MAX_HELD_IN_ALL_BYTES = 64 * 1024 * 1024


class Recordings:
    """All of them, by id. ``tell`` is given what happens to one unasked."""

    def __init__(
        self,
        root: Path,
        intake: Intake,
        disk: Disk,
        opener: Opener,
        *,
        tell: Callable[..., None],
        generation: int,
    ) -> None:
        self.live: dict[str, LiveRecording] = {}
        """Those that are live."""
        self._root = root
        self._intake = intake
        self._disk = disk
        self._opener = opener
        self._tell = tell
        self._generation = generation
        self._boot_id = _boot_id()
        self._stopped: OrderedDict[str, CaptureStopped] = OrderedDict()

    @property
    def _anchor(self) -> Anchor:
        return self._intake.anchor

    def get(self, recording_id: str) -> LiveRecording:
        """A live one. Raises ``MachineError``."""
        recording = self.live.get(recording_id)
        if recording is None:
            raise MachineError(f"recording {recording_id} is not live here")
        return recording

    def start(self, recording_id: str, call: LiveCall, tracks: Iterable[Track]) -> Instant:
        """Keep these tracks of a call from now on; the instant."""
        known = self.live.get(recording_id)
        if known is not None:
            if known.call_id != call.id:
                raise UsageError(f"recording {recording_id} is of another call")
            return known.started
        if recording_id in self._stopped or self._find_end(recording_id) is not None:
            raise UsageError(f"recording {recording_id} was stopped already")
        if len(call.recordings) >= MAX_RECORDINGS:
            raise CapacityError(f"{MAX_RECORDINGS} recordings of one call are the most")
        self._opener.check_room(streams=0, journals=1)
        recording = self._disk.run(lambda: self._make(recording_id, call, frozenset(tracks)))
        call.recordings[recording_id] = recording
        try:
            # First the filter, then the instant: whatever is stamped later was let through.
            instant = self._begin_keeping(call, recording)
            recording.started = instant
            # Before the disk is waited for: what is latched meanwhile is told on its own.
            self._note_latches(call, recording, instant)
            header = self._header(call, recording)
            self._disk.run(lambda: recording.begin(header, instant))
            self._repeat_keys(call, recording, instant)
        except BaseException:
            del call.recordings[recording_id]
            self._intake.settle(call.lives())
            assert recording.writer is not None
            self._disk.run(recording.writer.discard)
            raise
        self._add(recording)
        self.write(call)
        return instant

    def pause(self, recording_id: str, call: LiveCall, behavior: PauseBehavior) -> Instant:
        """Keep nothing from now on; the instant. One that is paused stays as it is."""
        recording = self.get(recording_id)
        if recording.paused is not None:
            return recording.changed
        instant = self._cut(call, recording)
        recording.paused = behavior
        recording.changed = instant
        self._intake.settle(call.lives())
        recording.note(Event.PAUSE, instant, behavior=behavior.value)
        self.write(call)
        return instant

    def resume(self, recording_id: str, call: LiveCall) -> Instant:
        """Keep again from now on; the instant. One that is running goes on running."""
        recording = self.get(recording_id)
        if recording.paused is None:
            return recording.changed
        behavior, recording.paused = recording.paused, None
        try:
            instant = self._begin_keeping(call, recording)
        except BaseException:
            recording.paused = behavior
            self._intake.settle(call.lives())
            raise
        recording.note(Event.RESUME, instant)
        self._note_latches(call, recording, instant)
        self.write(call)
        return instant

    def ended(self, recording_id: str) -> CaptureStopped | None:
        """What became of a recording that was stopped, be it by a former worker."""
        known = self._stopped.get(recording_id)
        if known is not None or recording_id in self.live:
            return known
        end = self._find_end(recording_id)
        if end is None:
            return None
        packets = end.value.get("packets")
        return CaptureStopped(datetime_of(end.wall_ns), packets if isinstance(packets, int) else 0)

    def stop(
        self, call: LiveCall, recording: LiveRecording, reason: str, *, until_ns: int = 0
    ) -> CaptureStopped:
        """Write all that has arrived, up to ``until_ns`` (wall time; 0: now), and close the
        journal. Raises ``NotWritten``: it keeps nothing more, and is to be stopped again."""
        if recording.cut is None:
            paused = recording.paused is not None
            recording.cut = self._anchor.now() if paused else self._cut(call, recording, until_ns)
            self._intake.settle(call.lives())
        self._write([(call, item) for item in call.recordings.values()])
        if recording.failure is not None:
            raise NotWritten(f"its journal cannot be written now: {recording.failure}")
        instant = recording.cut
        del call.recordings[recording.id], self.live[recording.id]
        self._opener.journals -= 1
        try:
            packets = self._disk.run(lambda: self._end(recording, reason, instant))
        except MachineError as error:
            # All packets are in it: that its end is not said costs nothing.
            packets = recording.packets()
            self._tell(WorkerEventKind.WRITE_FAILED, call, recording, message=str(error), packets=0)
            # There is nothing more to write: nobody is to wait for it.
            self._tell(WorkerEventKind.WRITE_RECOVERED, call, recording, packets=0)
        stopped = CaptureStopped(datetime_of(instant.wall_ns), packets)
        self._stopped[recording.id] = stopped
        while len(self._stopped) > _REMEMBERED:
            self._stopped.popitem(last=False)
        return stopped

    def write(self, *calls: LiveCall) -> None:
        """Write what waits of all recordings of some calls: one piece of work for the disk."""
        self._write([(call, item) for call in calls for item in call.recordings.values()])

    def look_for_silence(self, call: LiveCall) -> None:
        """Report streams that nothing has come from for long."""
        for recording in call.recordings.values():
            if not recording.waiting or recording.paused is not None:
                continue
            now = self._anchor.now()
            sources = {source.number: source for source in call.sources()}
            for number, since_ns in list(recording.waiting.items()):
                source = sources.get(number)
                if source is None:
                    del recording.waiting[number]
                elif not source.sending:
                    recording.waiting[number] = now.mono_ns
                elif now.mono_ns - since_ns >= NO_MEDIA_NS:
                    del recording.waiting[number]
                    recording.note(Event.NO_MEDIA, now, stream=number)
                    self._tell(WorkerEventKind.NO_MEDIA, call, recording, stream=number)

    def close(self, call: LiveCall) -> None:
        """Have a call's journals synced and closed as they are: a successor may go on with them."""
        self.write(call)
        for recording in call.recordings.values():
            if recording.writer is not None:
                try:
                    self._disk.run(recording.writer.sync)
                except MachineError as error:
                    self._tell(
                        WorkerEventKind.WRITE_FAILED,
                        call,
                        recording,
                        message=str(error),
                        packets=0,
                    )
                recording.writer.close()

    def revive(self, call_id: str, entry: Mapping[str, Any]) -> LiveRecording:
        """One of a former worker. Raises ``ValueError``, ``TypeError`` or ``KeyError``."""
        recording = LiveRecording(
            entry["id"], call_id, tracks_of(entry), root=self._root, anchor=self._anchor
        )
        restore_recording(recording, entry)
        return recording

    def go_on(self, call: LiveCall) -> None:
        """Begin a segment for each revived recording of a call."""
        for recording in call.recordings.values():
            self._add(recording)
            recording.header = self._header(call, recording)
            self._repeat_keys(call, recording, self._anchor.now())
            self._note_latches(call, recording, self._anchor.now())
            self._write([(call, recording)])
            self._tell(
                WorkerEventKind.TAKEN_OVER,
                call,
                recording,
                segment=recording.writer.number if recording.writer else 0,
            )

    def _add(self, recording: LiveRecording) -> None:
        self.live[recording.id] = recording
        self._opener.journals += 1

    def _make(self, recording_id: str, call: LiveCall, tracks: frozenset[Track]) -> LiveRecording:
        recording = LiveRecording(
            recording_id, call.id, tracks, root=self._root, anchor=self._anchor
        )
        recording.open_journal()
        return recording

    def _find_end(self, recording_id: str) -> Any:
        return self._disk.run(lambda: find_end(self._root, recording_id))

    def _end(self, recording: LiveRecording, reason: str, instant: Instant) -> int:
        packets = recording.packets()
        if recording.writer is None:
            raise MachineError(recording.failure or "the journal was never made")
        recording.writer.end(
            reason, mono_ns=instant.mono_ns, wall_ns=instant.wall_ns, packets=packets
        )
        return packets

    def _begin_keeping(self, call: LiveCall, recording: LiveRecording) -> Instant:
        """Have the recording's sources queued, and say from when it may take what is."""
        sources = call.sources_of(recording)
        for source in sources:
            # What is queued by now belongs to others alone.
            self._intake.drain(source.live)
            self._intake.assign(source.live)
        instant = self._anchor.now()
        recording.changed = instant
        recording.after_ns = instant.mono_ns
        # What we send ourselves comes from no socket, and is sent whatever happens.
        sources = [source for source in sources if not source.is_ours]
        recording.fresh = {tap for source in sources for tap in source.live.taps}
        recording.waiting = {source.number: instant.mono_ns for source in sources}
        for source in sources:
            for tap in source.live.taps:
                recording.reported[tap] = tap.lost()
        return instant

    def _cut(self, call: LiveCall, recording: LiveRecording, until_ns: int = 0) -> Instant:
        """Take all that arrived by now, or by ``until_ns`` (wall time) where that is past, for
        this recording, and nothing later; the instant.

        Drained twice: what was on its way through the kernel at the instant has come by the second
        time. Whoever else keeps a stream gets all of both.
        """
        sources = call.sources_of(recording)
        instant = self._anchor.now()
        if 0 < until_ns < instant.wall_ns:
            mono_ns = max(until_ns - self._anchor.offset_ns, recording.changed.mono_ns)
            instant = Instant(mono_ns, mono_ns + self._anchor.offset_ns)
        recording.until_ns = instant.mono_ns
        for _ in range(2):
            for source in sources:
                self._intake.drain(source.live)
        for source in sources:
            if not source.is_ours:
                for tap in source.live.taps:
                    tap.read_drops()
                    recording.note_drops(source.number, tap)
        recording.until_ns = None
        recording.fresh.clear()
        recording.waiting.clear()
        return instant

    def _note_latches(self, call: LiveCall, recording: LiveRecording, instant: Instant) -> None:
        for source in call.sources_of(recording):
            live = source.live
            kept = any(keeping.recording is recording for keeping in live.keepers)
            if kept and not source.is_ours and live.rtp.latch.source is not None:
                recording.note(Event.LATCH, instant, stream=source.number, **live.source)

    def _repeat_keys(self, call: LiveCall, recording: LiveRecording, instant: Instant) -> None:
        """Say once more what the header says of streams that are SRTP: with a torn header all of
        them would be lost."""
        for source in call.sources_of(recording):
            if source.live.stream.srtp is not None:
                recording.note(Event.STREAM, instant, **source.description)

    def _header(self, call: LiveCall, recording: LiveRecording) -> dict[str, Any]:
        return {
            "call": call.id,
            "generation": self._generation,
            "boot_id": self._boot_id,
            "started_mono_ns": recording.started.mono_ns,
            "paused": recording.paused.value if recording.paused else None,
            "tracks": [track.value for track in Track if track in recording.tracks],
            "streams": [source.description for source in call.sources_of(recording)],
        }

    def _write(self, recordings: Sequence[tuple[LiveCall, LiveRecording]]) -> None:
        if not recordings:
            return
        outcomes = self._disk.run(lambda: [_flush(recording) for _, recording in recordings])
        if not any(outcomes):
            return
        for (call, recording), outcome in zip(recordings, outcomes, strict=True):
            if outcome is not None:
                self._tell_written(call, recording, outcome)

    def _tell_written(
        self,
        call: LiveCall,
        recording: LiveRecording,
        outcome: tuple[MachineError | None, bool, int],
    ) -> None:
        error, failed_before, lost = outcome
        if error is None:
            self._tell(WorkerEventKind.WRITE_RECOVERED, call, recording, packets=lost)
            return
        failing = sum(item.failure is not None for item in self.live.values())
        recording.give_up_beyond(min(MAX_HELD_BYTES, _MAX_HELD_IN_ALL_BYTES // max(1, failing)))
        if not failed_before or (recording.lost_packets and not lost):
            self._tell(
                WorkerEventKind.WRITE_FAILED,
                call,
                recording,
                message=str(error),
                packets=recording.lost_packets,
            )


def _flush(recording: LiveRecording) -> tuple[MachineError | None, bool, int] | None:
    """Write what waits: the error if that failed, whether it had failed before, and how many
    packets had been given up by then. None if it did not and had not."""
    failed_before = recording.failure is not None
    lost = recording.lost_packets if failed_before else 0
    try:
        recording.flush()
    except MachineError as error:
        return error, failed_before, lost
    return (None, True, lost) if failed_before else None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
