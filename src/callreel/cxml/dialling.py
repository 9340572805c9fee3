"""``Dial``: several ring, one answers, the two talk."""

from __future__ import annotations

from typing import Any

from callreel.calls.model import CallStatus, RecordingSource
from callreel.calls.voice import Target
from callreel.cxml import actions, verbs
from callreel.cxml.actions import RingTarget
from callreel.cxml.desk import Desk
from callreel.cxml.events import (
    Digit,
    Event,
    OtherEnded,
    RecordingFailed,
    RecordingStarted,
    RecordingStopped,
    TargetAnswered,
    TargetFailed,
    TargetRinging,
)
from callreel.cxml.step import RECORDING_STOPS_S, Go, Next, Outcome, Step

RING_GRACE_S = 5.0
"""How much longer than asked a call may ring before it is given up: ``Ring`` ends it in time."""

_BEST_FIRST = (CallStatus.BUSY, CallStatus.NO_ANSWER, CallStatus.FAILED, CallStatus.CANCELED)


class DialStep(Step):
    """Calls parties and connects the first that answers. States: ringing, connected, ending."""

    def __init__(self, desk: Desk, verb: verbs.Dial) -> None:
        self._desk = desk
        self._verb = verb
        self._ringing: dict[str, verbs.Number | verbs.Sip] = {}
        self._failed: list[TargetFailed] = []
        self._sids: dict[str, str] = {}
        self._other: str | None = None
        self._other_sid = ""
        self._since = 0.0
        self._recording: str | None = None
        self._recording_fields: tuple[tuple[str, str], ...] = ()
        self._result: tuple[tuple[str, str], ...] | None = None
        self._deadline: float | None = None

    # Ringing

    def begin(self, now: float) -> Outcome | None:
        """Ring them all."""
        if not self._verb.answer_on_bridge:
            self._desk.answer()
        if not self._verb.targets:
            return self._end(now, self._failure())
        if self._verb.record_ringing and self._desk.answered:
            self._record()
        for target in self._verb.targets:
            self._ringing[self._desk.next_id("target")] = target
        self._desk.act(
            actions.Ring(
                tuple(_ring(target_id, target) for target_id, target in self._ringing.items()),
                self._verb.timeout_s,
                self._verb.caller_id,
                self._verb.caller_name,
            )
        )
        self._deadline = now + self._verb.timeout_s + RING_GRACE_S
        return None

    def _record(self) -> None:
        if self._verb.record is not None and self._recording is None:
            self._recording = self._desk.start_recording(
                self._verb.record, RecordingSource.DIAL_VERB
            )

    def receive(self, event: Event, now: float) -> Outcome | None:
        """What the called do, what the caller does, and what becomes of the recording."""
        match event:
            case RecordingStarted() if event.key == self._recording:
                self._recording_fields = (
                    ("RecordingUrl", event.url),
                    ("RecordingSid", event.sid),
                )
            case RecordingStopped() if event.key == self._recording:
                self._recording = None
                if self._recording_fields:
                    self._recording_fields += (("RecordingDuration", str(event.duration_s)),)
                return self._outcome()
            case RecordingFailed() if event.key == self._recording:
                self._recording = None
                return self._outcome()
            case TargetRinging():
                self._sids.setdefault(event.target_id, event.call_sid)
            case TargetAnswered():
                self._answered(event, now)
            case TargetFailed():
                return self._not_reached(event, now)
            case OtherEnded() if event.target_id == self._other:
                return self._ended(event.duration_s, now)
            case Digit() if self._other and self._verb.hangup_on_star and event.key == "*":
                return self._part(now)
            case _:
                pass
        return None

    def _answered(self, event: TargetAnswered, now: float) -> None:
        if self._ringing.pop(event.target_id, None) is None:
            if event.target_id != self._other:  # another was faster
                self._desk.act(actions.HangUpOther(event.target_id))
            return
        self._other, self._other_sid, self._since = event.target_id, event.call_sid, now
        self._take_back()
        self._desk.answer()
        self._record()
        self._desk.act(actions.Connect(event.target_id))
        self._desk.info(f"connected with {event.call_sid}")
        self._deadline = now + self._verb.time_limit_s

    def _not_reached(self, event: TargetFailed, now: float) -> Outcome | None:
        if event.target_id == self._other:
            return self._ended(round(now - self._since), now)
        if self._ringing.pop(event.target_id, None) is None:
            return None
        why = f": {event.message[:200]}" if event.message else ""
        self._desk.info(f"{event.status.value}{why}")
        self._failed.append(event)
        return None if self._ringing else self._end(now, self._failure())

    def _take_back(self) -> None:
        """Give up those that still ring."""
        for target_id in self._ringing:
            self._desk.act(actions.HangUpOther(target_id))
        self._ringing.clear()

    def _failure(self, status: CallStatus | None = None) -> tuple[tuple[str, str], ...]:
        """What is told of a ``Dial`` that nobody answered: the best there was."""
        sid, sip_code = next(iter(self._sids.values()), ""), None
        if status is None:
            status = CallStatus.FAILED
            for best in _BEST_FIRST:
                told = next((item for item in self._failed if item.status is best), None)
                if told is not None:
                    status, sip_code = best, told.sip_code
                    sid = told.call_sid or self._sids.get(told.target_id, "")
                    break
        fields = [("DialCallStatus", status.value)]
        if sid:
            fields.append(("DialCallSid", sid))
        if sip_code is not None:
            fields.append(("DialSipResponseCode", str(sip_code)))
        fields.append(("DialBridged", "false"))
        return tuple(fields)

    # Connected

    def _part(self, now: float) -> Outcome | None:
        """End the conversation; the call goes on."""
        assert self._other is not None
        self._desk.act(actions.HangUpOther(self._other))
        return self._ended(round(now - self._since), now)

    def _ended(self, duration_s: int, now: float) -> Outcome | None:
        self._other = None
        fields = (
            ("DialCallStatus", CallStatus.COMPLETED.value),
            ("DialCallSid", self._other_sid),
            ("DialCallDuration", str(max(0, duration_s))),
            ("DialBridged", "true"),
        )
        return self._end(now, fields)

    # The end

    def _end(self, now: float, result: tuple[tuple[str, str], ...]) -> Outcome | None:
        """The recording is to stop before the program is told of it."""
        self._result = result
        if self._recording is not None:
            self._desk.stop_recording(self._recording)
            if self._verb.follow is not None:
                self._deadline = now + RECORDING_STOPS_S
                return None
        return self._go()

    def _outcome(self) -> Outcome | None:
        return None if self._result is None else self._go()

    def _go(self) -> Outcome:
        if self._verb.follow is None or self._result is None:
            return Next()
        return Go(self._verb.follow, self._result + self._recording_fields)

    def next_deadline(self) -> float | None:
        """The end of the ringing, of the time limit, or of waiting for the recording's end."""
        return self._deadline

    def expire(self, now: float) -> Outcome | None:
        """One of these has come."""
        if self._result is not None:
            return self._go()
        if self._other is not None:
            self._desk.info("the time limit of the conversation is reached")
            return self._part(now)
        self._take_back()
        return self._end(now, self._failure(CallStatus.NO_ANSWER))

    def hang_up(self, now: float) -> Outcome | None:
        """The caller is gone: so are all that ring, and the other."""
        if self._result is not None:
            return None
        if self._other is not None:
            return self._part(now)
        self._take_back()
        return self._end(now, self._failure(CallStatus.CANCELED))

    def abandon(self) -> None:
        """Hang everybody up, and stop the recording."""
        self._take_back()
        if self._other is not None:
            self._desk.act(actions.HangUpOther(self._other))
        if self._recording is not None and self._result is None:
            self._desk.stop_recording(self._recording)

    # A successor

    def to_dict(self, now: float) -> dict[str, Any] | None:
        """What a successor needs to go on with the conversation; None if there is none."""
        if self._other is None:
            return None
        return {
            "other": self._other,
            "sid": self._other_sid,
            "talked_s": now - self._since,
            "recording": self._recording,
            "recording_fields": [list(item) for item in self._recording_fields],
        }

    def resume(self, state: dict[str, Any], now: float) -> None:
        """Go on with a conversation, in place of :meth:`begin`."""
        self._other, self._other_sid = state["other"], state["sid"]
        self._since = now - state["talked_s"]
        self._deadline = self._since + self._verb.time_limit_s
        self._recording = state["recording"]
        self._recording_fields = tuple((name, value) for name, value in state["recording_fields"])


def _ring(target_id: str, target: verbs.Number | verbs.Sip) -> RingTarget:
    match target:
        case verbs.Number():
            return RingTarget(
                target_id, Target(target.number), target.send_digits, target.status_callback
            )
        case verbs.Sip():
            who = Target(target.uri, target.username, target.password)
            return RingTarget(target_id, who, status_callback=target.status_callback)
