"""One call on paper: documents and events in, actions out, a clock that is moved by hand."""

from __future__ import annotations

import json
from typing import TypeVar

from callreel.calls.model import CallbackMethod, Dialect
from callreel.cxml.actions import Action, Fetch, Note, Play, Severity, StartRecording
from callreel.cxml.events import (
    Event,
    Fetched,
    FetchFailed,
    Instructed,
    PlayDone,
    RecordingStarted,
    RecordingStopped,
)
from callreel.cxml.interpreter import Interpreter

URL = "https://app.example/voice/start"
_Kind = TypeVar("_Kind", bound=Action)


def response(body: str) -> str:
    """A document with these verbs."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>{body}</Response>'


class PaperCall:
    """Drives an interpreter; keeps notes apart from what is to be done."""

    def __init__(
        self,
        body: str | None = None,
        *,
        answered: bool = True,
        dialect: Dialect = Dialect.TWILIO,
        fallback_url: str | None = None,
    ) -> None:
        self.now = 1000.0
        self.notes: list[Note] = []
        self.interpreter = Interpreter(answered=answered, dialect=dialect)
        if body is not None:
            fetch = self.only(Fetch, self.receive(Instructed(URL, fallback_url=fallback_url)))
            self.actions = self.fetched(fetch, body)

    def receive(self, event: Event) -> list[Action]:
        self.interpreter.receive(event, now=self.now)
        return self.take()

    def take(self) -> list[Action]:
        taken: list[Action] = []
        while (action := self.interpreter.next_action()) is not None:
            if isinstance(action, Note):
                self.notes.append(action)
            else:
                taken.append(action)
        return taken

    def elapse(self, seconds: float) -> list[Action]:
        """Move the clock, stopping at each deadline."""
        end = self.now + seconds
        taken: list[Action] = []
        for _ in range(10_000):
            deadline = self.interpreter.next_deadline()
            if deadline is None or deadline > end:
                self.now = end
                return taken
            self.now = max(self.now, deadline)
            self.interpreter.handle_timeout(now=self.now)
            taken += self.take()
        raise AssertionError("a deadline does not pass")

    def only(self, kind: type[_Kind], actions: list[Action]) -> _Kind:
        """The one action of a kind."""
        found = [action for action in actions if isinstance(action, kind)]
        assert len(found) == 1, actions
        return found[0]

    def fetched(self, fetch: Fetch, body: str, url: str | None = None) -> list[Action]:
        return self.receive(Fetched(fetch.number, url or fetch.url, response(body).encode()))

    def fetch_failed(self, fetch: Fetch) -> list[Action]:
        return self.receive(FetchFailed(fetch.number, "it answers 500", 500))

    def played(self, actions: list[Action]) -> list[Action]:
        return self.receive(PlayDone(self.only(Play, actions).play_id))

    def recording_started(self, actions: list[Action]) -> tuple[StartRecording, list[Action]]:
        start = self.only(StartRecording, actions)
        event = RecordingStarted(start.key, "RE1", "https://callreel.example/RE1")
        return start, self.receive(event)

    def recording_stopped(self, start: StartRecording, duration_s: int = 7) -> list[Action]:
        return self.receive(RecordingStopped(start.key, duration_s))

    def restart(self) -> list[Action]:
        """As a successor would: through JSON, with another clock."""
        state = json.loads(json.dumps(self.interpreter.to_dict(now=self.now)))
        self.now += 7777
        self.interpreter = Interpreter.from_dict(state, now=self.now)
        return self.take()

    def codes(self, severity: Severity) -> list[int | None]:
        """Of the notes of a severity, in order."""
        return [note.code for note in self.notes if note.severity is severity]


def fields(fetch: Fetch) -> dict[str, str]:
    """What a program is told; no name twice."""
    told = dict(fetch.fields)
    assert len(told) == len(fetch.fields)
    return told


POST, GET = CallbackMethod.POST, CallbackMethod.GET
