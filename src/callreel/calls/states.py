"""Which status may follow which. The docs draw their diagrams from these tables."""

from __future__ import annotations

from callreel.calls.model import CallStatus, RecordingStatus

CALL_TRANSITIONS: dict[CallStatus, frozenset[CallStatus]] = {
    # Whoever is called may answer, or refuse, without ringing first.
    CallStatus.QUEUED: frozenset(
        {
            CallStatus.RINGING,
            CallStatus.IN_PROGRESS,
            CallStatus.BUSY,
            CallStatus.FAILED,
            CallStatus.NO_ANSWER,
            CallStatus.CANCELED,
        }
    ),
    CallStatus.RINGING: frozenset(
        {
            CallStatus.IN_PROGRESS,
            CallStatus.BUSY,
            CallStatus.FAILED,
            CallStatus.NO_ANSWER,
            CallStatus.CANCELED,
        }
    ),
    # Canceled: our 200 was on its way when the CANCEL came.
    CallStatus.IN_PROGRESS: frozenset(
        {CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.CANCELED}
    ),
    CallStatus.COMPLETED: frozenset(),
    CallStatus.BUSY: frozenset(),
    CallStatus.FAILED: frozenset(),
    CallStatus.NO_ANSWER: frozenset(),
    CallStatus.CANCELED: frozenset(),
}
"""Contract §10.1."""

RECORDING_TRANSITIONS: dict[RecordingStatus, frozenset[RecordingStatus]] = {
    RecordingStatus.IN_PROGRESS: frozenset({RecordingStatus.PAUSED, RecordingStatus.STOPPED}),
    RecordingStatus.PAUSED: frozenset({RecordingStatus.IN_PROGRESS, RecordingStatus.STOPPED}),
    RecordingStatus.STOPPED: frozenset({RecordingStatus.COMPLETED, RecordingStatus.ABSENT}),
    RecordingStatus.COMPLETED: frozenset(),
    RecordingStatus.ABSENT: frozenset(),
}
"""Contract §7: stop is final, and only a stopped recording becomes completed or absent."""


def is_ended(status: CallStatus) -> bool:
    """Whether a call is over: no status can follow."""
    return not CALL_TRANSITIONS[status]
