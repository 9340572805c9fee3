"""``Record``: a message, from the beep to the silence after it."""

from __future__ import annotations

from callreel.calls.model import Dialect, RecordingSource, Trim
from callreel.calls.voice import Tone
from callreel.cxml import actions, verbs
from callreel.cxml.desk import Desk
from callreel.cxml.events import (
    Digit,
    Event,
    FellSilent,
    PlayDone,
    PlayFailed,
    RecordingFailed,
    RecordingStarted,
    RecordingStopped,
)
from callreel.cxml.step import RECORDING_STOPS_S, Go, Next, Outcome, Step

BEEP = Tone(hz=1000, ms=500)
"""What goes before a message; it is not on the recording."""


class RecordStep(Step):
    """Records one message. States: beep, starting, recording, stopping."""

    def __init__(self, desk: Desk, verb: verbs.Record) -> None:
        self._desk = desk
        self._verb = verb
        self._beep_id: str | None = None
        self._key: str | None = None
        self._sid = self._url = ""
        self._began = 0.0
        self._runs = False
        self._stopping = False
        self._digits = ""
        self._silent = False
        self._deadline: float | None = None

    def begin(self, now: float) -> Outcome | None:
        """Answer, and beep."""
        self._desk.answer()
        if self._verb.play_beep:
            self._beep_id = self._desk.next_id("play")
            self._desk.act(actions.Play(self._beep_id, (BEEP,)))
        else:
            self._start()
        return None

    def _start(self) -> None:
        self._key = self._desk.start_recording(self._verb.request, RecordingSource.RECORD_VERB)

    def receive(self, event: Event, now: float) -> Outcome | None:
        """What happened to the beep, to the recording, and what the caller does."""
        match event:
            case PlayDone() | PlayFailed() if self._key is None and event.play_id == self._beep_id:
                self._start()
            case RecordingStarted() if event.key == self._key:
                self._sid, self._url, self._began = event.sid, event.url, now
                if not self._stopping:
                    self._runs = True
                    self._deadline = now + self._verb.max_length_s
                    self._desk.act(actions.Listen(self._verb.timeout_s * 1000))
            case RecordingFailed() if event.key == self._key:
                self._deaf()
                return Next()
            case RecordingStopped() if event.key == self._key:
                self._deaf()
                return self._finish(event.duration_s, event.empty)
            case Digit() if self._runs and event.key in self._verb.finish_on_key:
                self._digits = event.key
                self._stop(now)
            case FellSilent() if self._runs:
                self._silent = not event.spoke
                self._stop(now)
            case _:
                pass
        return None

    def _stop(self, now: float) -> None:
        self._deaf()
        self._stopping = True
        self._deadline = now + RECORDING_STOPS_S
        if self._key is not None:
            self._desk.stop_recording(self._key)

    def _deaf(self) -> None:
        if self._runs:
            self._runs = False
            self._desk.act(actions.Listen(None))

    def next_deadline(self) -> float | None:
        """The greatest length, or when there is no more waiting for the end."""
        return self._deadline

    def expire(self, now: float) -> Outcome | None:
        """Long enough; or it is not known to have stopped, and the call goes on."""
        if self._stopping:
            return self._finish(int(now - self._began), False)
        self._stop(now)
        return None

    def _finish(self, duration_s: int, empty: bool) -> Outcome:
        # What is trimmed to nothing leaves no recording; what is not trimmed is kept, even silent.
        empty = empty or (self._silent and self._verb.request.trim is Trim.TRIM_SILENCE)
        if not self._sid or (empty and self._desk.dialect is Dialect.TWILIO):
            return Next()
        fields = (
            ("RecordingUrl", self._url),
            ("RecordingSid", self._sid),
            ("RecordingDuration", str(0 if empty else max(0, duration_s))),
            ("Digits", self._digits),
        )
        return Go(self._verb.follow, fields)

    def hang_up(self, now: float) -> Outcome | None:
        """The message is kept, and its program is told, with ``hangup`` for a key."""
        if self._key is None:
            self.abandon()
            return Next()
        if not self._stopping:
            self._digits = "hangup"
            self._stop(now)
        return None

    def abandon(self) -> None:
        """Stop the recording; nobody is told."""
        if self._key is None:
            if self._beep_id is not None:
                self._desk.act(actions.StopPlaying())
            return
        self._deaf()
        if not self._stopping:
            self._desk.stop_recording(self._key)
