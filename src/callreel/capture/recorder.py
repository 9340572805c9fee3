"""What a media worker does: calls, their sockets, their bridges, their recordings. Synchronous.

Each command is idempotent by its ids. What it is made of: :mod:`~callreel.capture.streams` (what
there is), :mod:`~callreel.capture.opening` (ports, sockets, bounds),
:mod:`~callreel.capture.relay` (between bridged calls), :mod:`~callreel.capture.attending` and
:mod:`~callreel.capture.players` (calls that end here), :mod:`~callreel.capture.intake` (from
sockets to recordings), :mod:`~callreel.capture.changes` (streams added, changed, bridged),
:mod:`~callreel.capture.recordings` (start, pause, resume, stop),
:mod:`~callreel.capture.successor` (what is left for whoever comes after).
"""

from __future__ import annotations

import socket
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from callreel.base.errors import CapacityError, MachineError, UsageError
from callreel.calls.media import (
    CaptureState,
    CaptureStopped,
    NotWritten,
    Stream,
    StreamState,
)
from callreel.calls.model import PauseBehavior, Track
from callreel.calls.voice import Sound
from callreel.capture.anchor import Anchor, Instant
from callreel.capture.attending import Attending
from callreel.capture.changes import Changes
from callreel.capture.disk import Disk
from callreel.capture.gauge import Gauge
from callreel.capture.handover import Keeper, NoKeeper
from callreel.capture.intake import Intake
from callreel.capture.opening import Opener
from callreel.capture.period import SweepPeriod
from callreel.capture.players import Players
from callreel.capture.protection import Protection
from callreel.capture.protocol import (
    CallPorts,
    WorkerEvent,
    WorkerEventKind,
    WorkerState,
    stream_from_json,
)
from callreel.capture.recording import LiveRecording
from callreel.capture.recordings import Recordings
from callreel.capture.relay import Relay
from callreel.capture.settings import WorkerSettings
from callreel.capture.streams import LiveCall, LiveStream, keepers_of, keepers_of_ours
from callreel.capture.successor import call_to_blob, in_order, read_blob, restore_addresses
from callreel.capture.sweep import Sweeper
from callreel.capture.tap import Tap
from callreel.capture.volley import Volley
from callreel.capture.watch import observe
from callreel.journal.format import Kind

_RARELY = 5
"""RTCP sockets and drop counters are looked at with every so many sweeps of a call."""
_CLOCK_CHECK_NS = 500_000_000
"""How often it is looked whether the clock was set, where no sweep does so."""

_STRANGERS = 100
"""Packets of strangers to one stream that are worth a word."""
_WATCH_NS = 5_000_000_000
"""How often silent peers are looked for."""


class Recorder:
    """Calls, streams, bridges and recordings of one worker.

    ``fd_limit`` and ``socket_limit`` bound descriptors in all and media sockets. ``relay_fileno``
    is readable while there is something to relay: ``relay`` is to be called then; so is
    ``players_fileno`` while something is to be played, and ``play_on`` is to be called.
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
        self._on_event = on_event
        self._keeper: Keeper = keeper or NoKeeper()
        self._generation = generation
        family = socket.AF_INET6 if ":" in settings.bind_host else socket.AF_INET
        self._sweeper = Sweeper(family)
        self._anchor = Anchor()
        self._relay = Relay(self._sweeper, self._anchor)
        self._players = Players(self._relay, self._anchor)
        self._disk = Disk(self._relay, self._players)
        self._opener = Opener(settings, fd_limit=fd_limit, socket_limit=socket_limit)
        self._intake = Intake(
            self._sweeper,
            Volley(family),
            self._anchor,
            self._relay,
            on_latched=self._latched,
        )
        self._changes = Changes(self._intake, self._relay, self._players)
        self._attending = Attending(
            self._changes,
            self._relay,
            self._players,
            self._disk,
            self._anchor,
            tell=self._tell,
            save=self._save,
        )
        self._recordings = Recordings(
            settings.journal_root,
            self._intake,
            self._disk,
            self._opener,
            tell=self._tell,
            generation=generation,
        )
        self._period = SweepPeriod(settings.sweep_ms * 1_000_000)
        self._fullest = 0.0
        self._round_ns = 0
        self._silent_ns = settings.media_timeout_ms * 1_000_000
        self._watch_due_ns = 0
        self._gauge = Gauge()
        self._calls: dict[str, LiveCall] = {}
        self._left: dict[str, LiveCall] = {}
        self._due: deque[LiveCall] = deque()
        self._checked_ns = 0
        self._revived: dict[str, tuple[LiveCall, Mapping[str, Any]]] = {}

    # Calls

    def open(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, int]:
        """Give a call its sockets; RTP ports by stream number. One that is open is updated."""
        if call_id in self._calls:
            return self.update(call_id, streams)
        self._opener.check(streams)
        self._opener.check_room(streams=len(streams), journals=1, calls=len(self._calls))
        call = LiveCall(call_id)
        call.streams = self._opener.open(call, streams)
        self._calls[call_id] = call
        self._save(call, sockets=True)
        return _ports_of(call)

    def update(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, int]:
        """Change a call's streams to exactly these; RTP ports by stream number."""
        call = self._call(call_id)
        wanted = {stream.number: stream for stream in streams}
        added = [stream for stream in streams if stream.number not in call.streams]
        self._opener.check(streams)
        self._opener.check_room(streams=len(added), journals=0, calls=len(self._calls))
        # What can fail comes first: a call whose update is refused goes on as it was.
        rewritten = self._attending.ready(call, streams)
        opened = self._opener.open(call, added)
        for number in [number for number in call.streams if number not in wanted]:
            live = call.streams[number]
            self._changes.drop(live)
            del call.streams[number]
            self._opener.close(live)
        for live in call.streams.values():
            if live.stream != wanted[live.stream.number]:
                self._changes.change(live, wanted[live.stream.number])
        for number, live in opened.items():
            call.streams[number] = live
            self._changes.add(live)
        if call.other is not None:
            self._pair(call, call.other)
            self._changed(call.other)
        self._attending.update(call, rewritten)
        self._changed(call, sockets=True)
        return _ports_of(call)

    def close(self, call_id: str) -> None:
        """Take a call's sockets away; what is still recorded of it is stopped."""
        call = self._calls.get(call_id)
        if call is None:
            return
        self._stop_all(call, left=LiveCall(call_id))
        call.is_attended = False
        self._attending.let_go(call)
        self.unbridge(call_id)
        del self._calls[call_id]
        for live in call.streams.values():
            self._opener.close(live)
        self._keeper.release(call_id)

    def _stop_all(self, call: LiveCall, *, left: LiveCall) -> None:
        """Stop what is recorded of a call that is closed. What cannot be written now is left over,
        and tried again with each sweep."""
        for recording in list(call.recordings.values()):
            try:
                self._recordings.stop(call, recording, "call closed")
            except NotWritten:
                if call is not left:
                    left.recordings[recording.id] = call.recordings.pop(recording.id)
            else:
                self._tell(WorkerEventKind.ENDED, call, recording, reason="call closed")
        if left.recordings:
            self._left[call.id] = left
            self._schedule(left)
        else:
            self._left.pop(call.id, None)

    def bridge(self, call_id: str, other_id: str) -> None:
        """Relay between two calls, stream by stream of the same number. What either was bridged
        with before is parted from it; neither is attended while they are."""
        call, other = self._call(call_id), self._call(other_id)
        if call is other:
            raise UsageError(f"call {call_id} cannot be bridged with itself")
        parted: list[LiveCall] = []
        if call.other is not other:
            parted = [*self._part(call), *self._part(other)]
            call.other, other.other = other, call
        for one in (call, other):
            self._attending.let_go(one)
        try:
            self._pair(call, other)
            for one in parted:
                self._attending.resume(one)
        except CapacityError:
            for one in self._part(call):
                self._attending.resume(one)
            raise
        finally:
            # The disk comes last: until both are relayed, what they say is not let through.
            for one in dict.fromkeys((call, other, *parted)):
                self._changed(one)

    def unbridge(self, call_id: str) -> None:
        """Relay nothing to or from a call any more. Nothing if it is not bridged or not there.
        Those that were attended before are so again."""
        call = self._calls.get(call_id)
        if call is not None:
            for one in self._part(call):
                self._attending.resume(one)
                self._changed(one)

    def _part(self, call: LiveCall) -> Sequence[LiveCall]:
        """Part a call from the one it is bridged with; those that have changed by it."""
        other = call.other
        if other is None:
            return ()
        for live in call.streams.values():
            if live.across is not None:
                self._changes.part(live)
        call.other = other.other = None
        return call, other

    def _pair(self, call: LiveCall, other: LiveCall) -> None:
        """Relay between the streams of two bridged calls that are not paired yet."""
        for number, live in call.streams.items():
            if live.across is None and number in other.streams:
                self._changes.pair(live, other.streams[number])

    def _call(self, call_id: str) -> LiveCall:
        call = self._calls.get(call_id)
        if call is None:
            raise MachineError(f"call {call_id} is not open here")
        return call

    def _changed(self, call: LiveCall, *, sockets: bool = False) -> None:
        """Have what changed about a call written, swept for, and left for a successor."""
        self._recordings.write(call)
        self._schedule(call)
        self._save(call, sockets=sockets)

    # Calls that end here

    def attend(self, call_id: str) -> None:
        """From now on the call's media ends here, while it is not bridged."""
        call = self._call(call_id)
        self._attending.attend(call)
        self._changed(call)

    def play(self, call_id: str, play_id: str, sounds: Sequence[Sound], *, token: str) -> None:
        """Play these from now on; what was being played is cut off. ``token`` tells one that is
        asked again from the next."""
        call = self._call(call_id)
        self._attending.play(call, play_id, sounds, token=token)
        self._save(call)

    def stop_playing(self, call_id: str) -> None:
        """Cut off what is being played."""
        call = self._call(call_id)
        self._attending.stop_playing(call)
        self._save(call)

    def listen(self, call_id: str, silence_ms: int | None) -> None:
        """Tell once when the party has said nothing for so long; None: listen no more."""
        call = self._call(call_id)
        self._attending.listen(call, silence_ms)
        self._save(call)

    def players_fileno(self) -> int:
        """To wait on."""
        return self._players.fileno()

    def play_on(self) -> None:
        """Send some of what is due to be played."""
        self._players.turn()
        self._heed_players()

    def _heed_players(self) -> None:
        if self._relay.pressed or self._players.has_news:
            self._attending.report()

    # Recordings

    def start(self, recording_id: str, call_id: str, tracks: Iterable[Track]) -> Instant:
        """Keep these tracks of a call from now on; the instant."""
        call = self._call(call_id)
        known = recording_id in self._recordings.live
        instant = self._recordings.start(recording_id, call, tracks)
        if not known:
            self._schedule(call)
            self._save(call)
        return instant

    def pause(self, recording_id: str, behavior: PauseBehavior) -> Instant:
        """Keep nothing from now on; the instant. One that is paused stays as it is."""
        call = self._call_of(recording_id)
        instant = self._recordings.pause(recording_id, call, behavior)
        self._save(call)
        return instant

    def resume(self, recording_id: str) -> Instant:
        """Keep again from now on; the instant. One that is running goes on running."""
        call = self._call_of(recording_id)
        instant = self._recordings.resume(recording_id, call)
        self._schedule(call)
        self._save(call)
        return instant

    def stop(self, recording_id: str, until_ns: int = 0) -> CaptureStopped:
        """Write all that has arrived and close the journal.

        Nothing is kept that arrived after ``until_ns``, wall time, where that is past: whoever
        asked was told that it had stopped, while we were held up. 0: up to now.
        """
        done = self._recordings.ended(recording_id)
        if done is not None:
            return done
        call = self._call_of(recording_id)
        stopped = self._recordings.stop(
            call, self._recordings.get(recording_id), "stopped", until_ns=until_ns
        )
        self._save(call)
        return stopped

    def _call_of(self, recording_id: str) -> LiveCall:
        call_id = self._recordings.get(recording_id).call_id
        left = self._left.get(call_id)
        return left if left and recording_id in left.recordings else self._calls[call_id]

    def observe(self, call_id: str) -> Sequence[StreamState]:
        """What the streams of a call are like now."""
        return observe(self._call(call_id), time.monotonic_ns())

    def state(self, pid: int) -> WorkerState:
        """What is open, bridged and live."""
        return WorkerState(
            self._generation,
            pid,
            tuple(
                CallPorts(
                    call.id,
                    _ports_of(call),
                    call.other.id if call.other else "",
                    call.is_attended,
                    call.attendant.player.play_id if call.attendant else "",
                )
                for call in self._calls.values()
            ),
            tuple(
                CaptureState(recording.id, recording.call_id, recording.paused is not None)
                for recording in self._recordings.live.values()
            ),
            relayed=self._relay.sent,
            unsent=self._relay.unsent + self._players.unsent,
            strange=self._relay.strange,
            unauthentic=self._relay.unauthentic,
            figures=self._gauge.told(
                time.monotonic_ns(),
                packets=self._intake.kept,
                dropped=sum(
                    tap.drops.overflowed
                    for call in self._calls.values()
                    for live in call.streams.values()
                    for tap in (live.rtp, live.rtcp)
                ),
                journals=len(self._recordings.live),
            ),
            played=self._players.sent,
        )

    # The relay

    def relay_fileno(self) -> int:
        """To wait on."""
        return self._relay.fileno()

    @property
    def is_relaying(self) -> bool:
        """Whether anything is bridged or attended: whoever does something else must not do it for
        long."""
        return self._relay.is_busy

    def relay(self) -> None:
        """Relay some of what has come."""
        self._relay.turn()
        if self._relay.latched:
            self._intake.report_latched()
        self._heed_players()
        while self._relay.moved:
            self._save(self._relay.moved.pop().call)
        now_ns = time.monotonic_ns()
        if now_ns - self._checked_ns >= _CLOCK_CHECK_NS:
            self._checked_ns = now_ns
            self._anchor.check()

    # The sweep

    def next_due_ns(self) -> int | None:
        """When there is something to do next, arrival time; None while nothing is kept."""
        due_ns = self._due[0].due_ns if self._due else None
        if not self._silent_ns or not self._relay.is_busy:
            return due_ns
        return self._watch_due_ns if due_ns is None else min(due_ns, self._watch_due_ns)

    def watch(self, now_ns: int) -> None:
        """Report peers of bridged and attended calls that should send and do not: they may be
        gone."""
        if not self._silent_ns or now_ns < self._watch_due_ns:
            return
        self._watch_due_ns = now_ns + min(_WATCH_NS, self._silent_ns)
        for call in self._calls.values():
            for live in call.streams.values():
                if not live.is_read_at_once:
                    continue
                for tap in live.taps:
                    tap.read_drops()
                self._look_for_strangers(live)
                heard_ns = max(live.rtp.latch.heard_ns, live.rtcp.latch.heard_ns)
                silent = live.stream.sending and now_ns - heard_ns >= self._silent_ns
                if silent and not live.is_silent:
                    self._tell(WorkerEventKind.SILENT, call, None, stream=live.stream.number)
                live.is_silent = silent

    def sweep(self, now_ns: int, *, calls: int) -> bool:
        """Sweep at most so many of the calls that are due; whether there are more."""
        if not self._due or self._due[0].due_ns > now_ns:
            return False
        self._anchor.check()
        first_due_ns, begun_ns = self._due[0].due_ns, time.monotonic_ns()
        swept: list[LiveCall] = []
        for _ in range(calls):
            if not self._due or self._due[0].due_ns > now_ns:
                break
            call = self._due.popleft()
            if call.due_ns != self._round_ns:
                # All that are due at one instant are one sweep: the one before is over.
                self._round_ns = call.due_ns
                self._period.swept(self._fullest)
                self._fullest = 0.0
            call.due_ns = 0
            if self._left.get(call.id) is call:
                self._stop_all(call, left=call)
            elif self._calls.get(call.id) is call:
                swept.append(call)
        if swept:
            kept = self._sweep_calls(swept)
            self._recordings.write(*swept)
            for call in swept:
                self._schedule(call, is_kept=call in kept)
        self._gauge.swept(first_due_ns, begun_ns, time.monotonic_ns())
        return bool(self._due) and self._due[0].due_ns <= now_ns

    def _schedule(self, call: LiveCall, *, is_kept: bool = False) -> None:
        """Have a call swept next time, if there is a reason; ``is_kept``: it is known to be one.

        All calls at once, on the grid of the period: what is swept in one go finds the caches warm
        and wakes the process once. (Spread over eight parts of it, a packet cost a quarter more.)
        """
        if call.due_ns or not (is_kept or self._has_work(call)):
            return
        due_ns = time.monotonic_ns() + self._period.ns
        call.due_ns = due_ns - due_ns % self._period.ns
        self._due.append(call)

    @staticmethod
    def _has_work(call: LiveCall) -> bool:
        # A recording whose journal could not be written has something to try again, kept or not.
        return any(live.is_kept for live in call.lives()) or any(
            recording.failure for recording in call.recordings.values()
        )

    def _sweep_calls(self, calls: Sequence[LiveCall]) -> set[LiveCall]:
        """Collect what came; the calls of which anything is kept."""
        plain: list[LiveStream] = []
        kept: set[LiveCall] = set()
        for call in calls:
            call.sweeps += 1
            for live in call.lives():
                if live.across is not None or live.attendant is not None:
                    if live.is_kept:
                        kept.add(call)
                        self._intake.collect(live, rtcp=call.sweeps % _RARELY == 0)
                elif live.keepers and live.rtp.host is not None:
                    kept.add(call)
                    plain.append(live)
        self._intake.collect_many(plain, Kind.RTP)
        for live in plain:
            fill = live.rtp.drops.fill
            if fill > self._fullest:
                self._fullest = fill
        rarely = [call for call in calls if call.sweeps % _RARELY == 0]
        if rarely:
            self._look_rarely(rarely)
        for call in calls:
            self._recordings.look_for_silence(call)
        return kept

    def _look_rarely(self, calls: Sequence[LiveCall]) -> None:
        """At what changes seldom: RTCP, the kernel's drop counters, strangers."""
        kept = [live for call in calls for live in call.lives() if live.is_kept]
        self._intake.collect_many(
            [
                live
                for live in kept
                if not live.is_read_at_once and live.rtcp.host and not live.stream.rtcp_mux
            ],
            Kind.RTCP,
        )
        for live in kept:
            for tap in live.taps:
                if tap.drops.fill == 0 or live.is_read_at_once:
                    # Nothing came that carried a count.
                    tap.read_drops()
                for keeping in live.keepers:
                    keeping.recording.note_drops(keeping.number, tap)
            self._look_for_strangers(live)

    def _look_for_strangers(self, live: LiveStream) -> None:
        """Report a stream that strangers send to: now and then, however much they send."""
        found = live.strangers
        if found >= max(_STRANGERS, 10 * live.strangers_told):
            live.strangers_told = found
            number = live.stream.number
            self._tell(WorkerEventKind.STRANGERS, live.call, None, stream=number, packets=found)

    def _latched(self, live: LiveStream) -> None:
        call = live.call
        keys = {"stream": live.stream.number, **live.source}
        self._tell(WorkerEventKind.LATCHED, call, None, **keys)
        self._save(call)

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
                self._intake.drain(live)
        for call in (*self._calls.values(), *self._left.values()):
            self._recordings.close(call)
        for call in self._calls.values():
            for live in call.streams.values():
                # The supervisor's duplicates stay open, with what comes from now on.
                live.rtp.sock.close()
                live.rtcp.sock.close()
        self._disk.close()
        self._players.close()
        self._calls.clear()
        self._recordings.live.clear()
        self._due.clear()

    def _save(self, call: LiveCall, *, sockets: bool = False) -> None:
        """Leave with the supervisor what a successor needs to go on with a call."""
        if self._calls.get(call.id) is not call:
            return
        blob = call_to_blob(call, self._attending.to_json(call))
        if sockets:
            fds = [tap.fd for live in in_order(call) for tap in (live.rtp, live.rtcp)]
            self._keeper.hold(call.id, blob, fds)
        else:
            self._keeper.state(call.id, blob)

    def take_over(self, call_id: str, blob: bytes, fds: Sequence[int]) -> None:
        """Go on with a call of a former worker, once ``go_on`` is called.

        Raises ``ValueError`` if the state makes no sense; the descriptors are closed then.
        """
        socks = [socket.socket(fileno=fd) for fd in fds]
        try:
            value = read_blob(blob)
            call = LiveCall(call_id, next_heard=int(value["next_heard"]))
            for index, entry in enumerate(value["streams"]):
                stream = stream_from_json(entry["stream"])
                rtp, rtcp = socks[2 * index : 2 * index + 2]
                port = int(rtp.getsockname()[1])
                live = LiveStream(call, stream, port, Tap(rtp), Tap(rtcp), ssrc=entry["ssrc"])
                live.protection = Protection.from_json(stream.srtp, entry["protection"])
                call.streams[stream.number] = live
            for entry in value["recordings"]:
                recording = self._recordings.revive(call_id, entry)
                call.recordings[recording.id] = recording
            call.heard = {int(number): int(heard) for number, heard in value["heard"]}
            call.is_attended = bool(value["attended"])
            self._attending.revive(call, value["attendant"])
            for live, entry in zip(call.streams.values(), value["streams"], strict=True):
                for tap, left in zip((live.rtp, live.rtcp), entry["taps"], strict=True):
                    tap.latch.source, total = restore_addresses(tap, left)
                    tap.drops.restart(total)
        except (ValueError, TypeError, KeyError, zlib.error, OSError) as error:
            for sock in socks:
                sock.close()
            raise ValueError(f"cannot take over call {call_id}: {error}") from error
        self._calls[call_id] = call
        self._revived[call_id] = (call, value)
        for live in call.streams.values():
            self._opener.adopt(live)

    def go_on(self) -> None:
        """All that a former worker left is there: go on with it, bridges first.

        What has queued up in the sockets meanwhile is relayed and kept.
        """
        for call, value in self._revived.values():
            other, theirs = self._revived.get(value["bridged"], (None, {}))
            # A bridge of which only one side speaks was being made or broken: whoever asked for
            # it was not answered, and will ask again.
            if other is not None and theirs["bridged"] == call.id:
                call.other = other
                call.heard = {
                    number: heard
                    for number, heard in call.heard.items()
                    if number in call.streams and number in other.heard
                }
                for number in call.heard:
                    call.streams[number].across = other.streams.get(number)
            else:
                call.heard = {}
        for call, _ in self._revived.values():
            for live in call.streams.values():
                if live.across is not None:
                    self._relay.add(live)
                    self._relay.route(live)
            self._attending.hear_again(call)
        for call, _ in self._revived.values():
            for live in call.streams.values():
                self._listen_on(live)
        for call, _ in self._revived.values():
            self._attending.play_again(call)
        for call, _ in self._revived.values():
            self._recordings.go_on(call)
            self._schedule(call)
        self._revived.clear()

    def _listen_on(self, live: LiveStream) -> None:
        """Go on with a stream: what is queued is still wanted, if anything of it is."""
        now_ns = self._anchor.now().mono_ns
        live.keepers = keepers_of(live)
        if live.attendant is not None:
            live.attendant.keepers = keepers_of_ours(live)
        for tap in (live.rtp, live.rtcp):
            if not live.is_wanted or tap not in live.taps:
                tap.latch.forget()
                tap.refuse()
                tap.discard(self._sweeper)
                continue
            tap.take_over(live.stream.remote_host, now_mono_ns=now_ns)
            for keeping in live.keepers:
                keeping.recording.fresh.add(tap)
                keeping.recording.reported[tap] = tap.lost()


def _ports_of(call: LiveCall) -> Mapping[int, int]:
    return {number: live.port for number, live in call.streams.items()}
