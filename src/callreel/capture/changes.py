"""What changes about streams while recordings run: added, changed, dropped, bridged, parted,
attended, left.

Each step drains before it changes anything, so that what came before is kept as it was then, and
notes the change in the journals that it concerns.
"""

from __future__ import annotations

from collections.abc import Iterable

from callreel.calls.media import Stream
from callreel.capture.anchor import Instant
from callreel.capture.intake import Intake
from callreel.capture.opening import aim
from callreel.capture.players import Players
from callreel.capture.recording import LiveRecording
from callreel.capture.relay import Relay
from callreel.capture.streams import Attendant, LiveCall, LiveStream, Source
from callreel.journal.format import Event


class Changes:
    """The steps."""

    def __init__(self, intake: Intake, relay: Relay, players: Players) -> None:
        self._intake = intake
        self._relay = relay
        self._players = players

    def add(self, live: LiveStream) -> None:
        """A call has a new stream."""
        self._intake.assign(live)
        self._begin(live.call, self._own(live), self._intake.anchor.now())

    def change(self, live: LiveStream, stream: Stream) -> None:
        """New signalling for a stream."""
        self._intake.drain(live)
        if live.across is not None:
            self._intake.drain(live.across)
        before, live.stream = live.stream, stream
        live.protection.rekey(stream.srtp)
        kept_before = {keeping.recording for keeping in live.keepers}
        self._intake.assign(live)
        moved_ns = self._intake.anchor.now().mono_ns
        for tap in live.taps:
            if before.remote_port != stream.remote_port and before.remote_port:
                tap.latch.move(moved_ns)
            else:
                tap.latch.forget()
        if _address(before) != _address(stream):
            aim(live)
        now = self._intake.anchor.now()
        self._tell(live.call, self._own(live), now, kept_before, before)
        if live.attendant is not None:
            self._relay.route(live)
            ours = live.call.played_source(live)
            for recording in _of_track(live.call, ours):
                recording.note(Event.STREAM, now, **ours.description)
        if live.across is not None:
            self._relay.route(live)
            self._relay.route(live.across)
            hearer = live.across.call
            self._tell(hearer, hearer.heard_source(live), now, kept_before, before)
            if before.receiving != stream.receiving:
                heard = live.call.heard_source(live.across)
                for recording in _of_track(live.call, heard):
                    recording.note(Event.STREAM, now, **heard.description)

    def drop(self, live: LiveStream) -> None:
        """A call has a stream no more; its sockets are for the caller to close."""
        if live.across is not None:
            self.part(live)
        if live.attendant is not None:
            self.leave(live)
        self._intake.drain(live)
        now = self._intake.anchor.now()
        self._end(live.call, self._own(live), now)

    def pair(self, one: LiveStream, two: LiveStream) -> None:
        """Relay between two streams. Raises ``CapacityError`` and changes nothing."""
        for live in (one, two):
            self._intake.drain(live)
        self._relay.add(one, two)
        one.across, two.across = two, one
        for live, across in ((one, two), (two, one)):
            self._relay.route(live)
            across.call.hear(live.stream.number)
        for live in (one, two):
            self._intake.assign(live)
        now = self._intake.anchor.now()
        for live, hearer in ((one, two.call), (two, one.call)):
            self._begin(hearer, hearer.heard_source(live), now)

    def part(self, one: LiveStream) -> None:
        """Relay no more between a stream and the one across."""
        two = one.across
        assert two is not None
        for live in (one, two):
            self._intake.drain(live)
        now = self._intake.anchor.now()
        for live, hearer in ((one, two.call), (two, one.call)):
            self._end(hearer, hearer.heard_source(live), now)
        for live in (one, two):
            self._relay.remove(live)
        for live, hearer in ((one, two.call), (two, one.call)):
            live.across = None
            del hearer.heard[live.stream.number]
        self._intake.settle((one, two))

    def attend(self, live: LiveStream, attendant: Attendant) -> None:
        """What comes to a stream is heard, and it is played to. Raises ``CapacityError`` and
        changes nothing."""
        self._intake.drain(live)
        self._relay.add(live)
        live.attendant = attendant
        attendant.number = live.call.number_heard()
        self._relay.route(live)
        self._intake.assign(live)
        self._begin(live.call, live.call.played_source(live), self._intake.anchor.now())
        self._players.add(live)

    def leave(self, live: LiveStream) -> None:
        """Neither play to it nor hear it any more."""
        assert live.attendant is not None
        self._intake.drain(live)
        self._players.remove(live)
        self._end(live.call, live.call.played_source(live), self._intake.anchor.now())
        self._relay.remove(live)
        live.attendant.keepers = ()
        live.attendant = None
        self._intake.settle((live,))

    def _own(self, live: LiveStream) -> Source:
        return Source(live.stream.number, live, live.stream.track, live.stream.sending)

    def _begin(self, call: LiveCall, source: Source, now: Instant) -> None:
        """A call's recordings have a source that they had not."""
        for recording in _of_track(call, source):
            recording.note(Event.STREAM, now, **source.description)
            if recording.paused is None and not source.is_ours:
                self._expect(recording, source, now)

    def _tell(
        self,
        call: LiveCall,
        source: Source,
        now: Instant,
        kept_before: set[LiveRecording],
        before: Stream,
    ) -> None:
        """A source has changed: to those who keep it now, and to those who did."""
        for recording in call.recordings.values():
            concerned = source.track in recording.tracks
            if concerned or (source.live.call is call and before.track in recording.tracks):
                recording.note(Event.STREAM, now, **source.description)
            if not concerned or recording.paused is not None:
                continue
            if recording not in kept_before:
                self._expect(recording, source, now)
            elif source.live.stream.sending and not before.sending:
                recording.waiting[source.number] = now.mono_ns

    def _end(self, call: LiveCall, source: Source, now: Instant) -> None:
        """A call's recordings have a source no more."""
        live = source.live
        for keeping in () if source.is_ours else live.keepers:
            if keeping.recording.call_id == call.id:
                for tap in live.taps:
                    keeping.recording.note_drops(source.number, tap)
        for recording in _of_track(call, source):
            recording.note(Event.STREAM, now, **source.description, closed=True)
            if source.is_ours:
                continue
            recording.waiting.pop(source.number, None)
            for tap in (live.rtp, live.rtcp):
                recording.reported.pop(tap, None)
                recording.fresh.discard(tap)

    def _expect(self, recording: LiveRecording, source: Source, now: Instant) -> None:
        recording.waiting[source.number] = now.mono_ns
        for tap in source.live.taps:
            recording.reported[tap] = tap.lost()


def _of_track(call: LiveCall, source: Source) -> Iterable[LiveRecording]:
    return [item for item in call.recordings.values() if source.track in item.tracks]


def _address(stream: Stream) -> tuple[str, int]:
    return stream.remote_host, stream.remote_port
