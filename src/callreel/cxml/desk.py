"""What the verbs of one call share: the actions they ask for, and the recordings that run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from callreel.calls.model import Dialect, RecordingRequest, RecordingSource
from callreel.cxml import actions
from callreel.cxml.actions import Action, Note, Severity
from callreel.cxml.codes import Code
from callreel.cxml.events import RecordingFailed, RecordingStarted, RecordingStopped
from callreel.cxml.verbs import Place


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """A recording that was asked for and has not stopped."""

    key: str
    """What the interpreter calls it."""
    source: RecordingSource
    """Which verb asked."""
    name: str = ""
    """What the document calls it, if anything."""
    sid: str = ""
    """Empty until it runs."""
    url: str = ""
    """Empty until it runs."""
    stopping: bool = False
    """Whether its end was asked for."""


class Desk:
    """The actions of one call, in order, and what has been made of them."""

    def __init__(self, *, answered: bool, dialect: Dialect) -> None:
        self.answered = answered
        """Whether the call is, or was asked to be."""
        self.dialect = dialect
        """Whose ways are followed where the vendors' differ."""
        self._actions: deque[Action] = deque()
        self._recordings: dict[str, OpenRecording] = {}
        self._number = 0

    def act(self, action: Action) -> None:
        """Ask for something to be done."""
        self._actions.append(action)

    def next_action(self) -> Action | None:
        """The next thing to do, or None."""
        return self._actions.popleft() if self._actions else None

    def next_number(self) -> int:
        """A number that this call has not used."""
        self._number += 1
        return self._number

    def next_id(self, kind: str) -> str:
        """A name that this call has not used: ``play-7``."""
        return f"{kind}-{self.next_number()}"

    def answer(self) -> None:
        """Answer the call, if it is not."""
        if not self.answered:
            self.answered = True
            self.act(actions.Answer())

    def info(self, message: str, place: Place | None = None) -> None:
        """Tell the call's story."""
        self._note(Severity.INFO, message, None, place)

    def warn(self, message: str, code: Code | None = None, place: Place | None = None) -> None:
        """Tell what is not as it should be."""
        self._note(Severity.WARNING, message, code, place)

    def fail(self, message: str, code: Code | None = None, place: Place | None = None) -> None:
        """Tell what the document wants and the call does not do."""
        self._note(Severity.ERROR, message, code, place)

    def _note(
        self, severity: Severity, message: str, code: Code | None, place: Place | None
    ) -> None:
        line, column = (place.line, place.column) if place else (None, None)
        self.act(Note(severity, message, None if code is None else int(code), line, column))

    # Recordings

    def start_recording(
        self, request: RecordingRequest, source: RecordingSource, name: str = ""
    ) -> str:
        """Ask for a recording; its key."""
        key = self.next_id("recording")
        self._recordings[key] = OpenRecording(key, source, name)
        self.act(actions.StartRecording(key, request, source))
        return key

    def stop_recording(self, key: str) -> None:
        """Ask for its end; nothing if it is over."""
        known = self._recordings.get(key)
        if known is not None and not known.stopping:
            self._recordings[key] = replace(known, stopping=True)
            self.act(actions.StopRecording(key))

    def stop_recordings(self, *sources: RecordingSource) -> None:
        """Ask for the end of all that these verbs asked for, and forget them."""
        for recording in list(self._recordings.values()):
            if recording.source in sources:
                self.stop_recording(recording.key)
                del self._recordings[recording.key]

    def documents_recordings(self) -> list[OpenRecording]:
        """Those that ``Start`` began, the oldest first."""
        wanted = RecordingSource.START_CALL_RECORDING_DOCUMENT
        return [
            item
            for item in self._recordings.values()
            if item.source is wanted and not item.stopping
        ]

    def recording_started(self, event: RecordingStarted) -> None:
        """It runs."""
        known = self._recordings.get(event.key)
        if known is not None:
            self._recordings[event.key] = replace(known, sid=event.sid, url=event.url)
            self.info(f"recording {event.sid} has started")

    def recording_over(self, event: RecordingStopped | RecordingFailed) -> None:
        """It has stopped, or never began."""
        known = self._recordings.pop(event.key, None)
        if known is not None:
            if isinstance(event, RecordingFailed):
                self.fail(f"there is no recording: {event.message}")
            else:
                self.info(f"recording {known.sid} has stopped after {event.duration_s} s")

    # A successor

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; actions that nobody took are not in it."""
        return {
            "answered": self.answered,
            "dialect": self.dialect.value,
            "number": self._number,
            "recordings": [
                {
                    "key": item.key,
                    "source": item.source.value,
                    "name": item.name,
                    "sid": item.sid,
                    "url": item.url,
                }
                for item in self._recordings.values()
            ],
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Desk:
        """What :meth:`to_dict` wrote down."""
        desk = cls(answered=state["answered"], dialect=Dialect(state["dialect"]))
        desk._number = state["number"]
        for item in state["recordings"]:
            source = RecordingSource(item["source"])
            desk._recordings[item["key"]] = OpenRecording(
                item["key"], source, item["name"], item["sid"], item["url"]
            )
        return desk
