"""Whatever happens, in whatever order: nothing is raised, nothing follows the end, there is one."""

from __future__ import annotations

import json

from hypothesis import given, settings, strategies as st

from callreel.calls.model import CallStatus, Dialect
from callreel.cxml.actions import (
    Action,
    Answer,
    EndCall,
    Fetch,
    Play,
    Ring,
    StartRecording,
    StopRecording,
)
from callreel.cxml.events import (
    Digit,
    Event,
    FellSilent,
    Fetched,
    FetchFailed,
    HungUp,
    Instructed,
    OtherEnded,
    PlayDone,
    PlayFailed,
    RecordingFailed,
    RecordingStarted,
    RecordingStopped,
    TargetAnswered,
    TargetFailed,
    TargetRinging,
)
from callreel.cxml.interpreter import Interpreter
from tests.cxml.driver import response

_verbs = st.sampled_from(
    [
        "<Say>a</Say>",
        '<Play loop="0">/a</Play>',
        "<Play>nowhere:/</Play>",
        "<Pause/>",
        "<Gather><Say>a</Say></Gather>",
        '<Gather action="/k" numDigits="1" actionOnEmptyResult="true"/>',
        '<Dial action="/d" record="record-from-ringing-dual" hangupOnStar="true">1</Dial>',
        '<Dial answerOnBridge="true" record="true"><Number>1</Number><Sip>sip:a@b</Sip></Dial>',
        "<Dial/>",
        "<Record/>",
        '<Record action="/r" playBeep="false" trim="do-not-trim"/>',
        "<Start><Recording/></Start>",
        "<Stop><Recording/></Stop>",
        "<Redirect>/x</Redirect>",
        "<Redirect/>",
        "<Hangup/>",
        "<Reject/>",
        "<Enqueue/>",
    ]
)
_documents = st.lists(_verbs, max_size=5).map("".join).map(response)
_bytes = st.one_of(_documents.map(str.encode), st.sampled_from([b"", b"<Response>", b"<a/>"]))
_numbers = st.integers(1, 12)
_status = st.sampled_from(
    [CallStatus.BUSY, CallStatus.NO_ANSWER, CallStatus.FAILED, CallStatus.CANCELED]
)


def _key(kind: str) -> st.SearchStrategy[str]:
    return _numbers.map(lambda number: f"{kind}-{number}")


_plays, _recordings, _targets = _key("play"), _key("recording"), _key("target")
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Fetched, _numbers, st.just("https://app.example/a"), _bytes),
    st.builds(FetchFailed, _numbers, st.just("why")),
    st.builds(PlayDone, _plays),
    st.builds(PlayFailed, _plays, st.just("why")),
    st.builds(Digit, st.sampled_from("0123456789*#ABCD")),
    st.builds(FellSilent, st.booleans()),
    st.builds(RecordingStarted, _recordings, st.just("RE1"), st.just("https://c.example/RE1")),
    st.builds(RecordingFailed, _recordings, st.just("why")),
    st.builds(RecordingStopped, _recordings, st.integers(0, 9), st.booleans()),
    st.builds(TargetRinging, _targets),
    st.builds(TargetAnswered, _targets, st.just("CA2")),
    st.builds(TargetFailed, _targets, _status),
    st.builds(OtherEnded, _targets, st.integers(0, 9)),
    st.builds(
        Instructed,
        st.sampled_from([None, "https://app.example/"]),
        fallback_url=st.sampled_from([None, "https://b.example/"]),
        document=st.none() | _documents,
    ),
    st.builds(HungUp),
)


class _Answerer:
    """A shell that sometimes does what it is asked, so that calls come further than by chance."""

    def __init__(self) -> None:
        self.answers: list[Event] = []
        self.ended = False
        self.answered = 0
        self.open: set[str] = set()
        self.started: set[str] = set()

    def take(self, interpreter: Interpreter, document: bytes, status: CallStatus) -> None:
        while (action := interpreter.next_action()) is not None:
            assert not self.ended, f"{action} after the end"
            self._take(action, document, status)

    def _take(self, action: Action, document: bytes, status: CallStatus) -> None:
        match action:
            case EndCall():
                self.ended = True
                assert not self.open, "recordings are stopped by then"
            case Answer():
                self.answered += 1
                assert self.answered == 1
            case Fetch():
                self.answers.append(Fetched(action.number, action.url, document))
            case Play():
                assert action.sounds
                self.answers.append(PlayDone(action.play_id))
            case StartRecording():
                assert action.key not in self.started
                self.started.add(action.key)
                self.open.add(action.key)
                self.answers.append(RecordingStarted(action.key, "RE1", "https://c.example/RE1"))
            case StopRecording():
                assert action.key in self.started
                self.open.discard(action.key)
                self.answers.append(RecordingStopped(action.key, 3))
            case Ring():
                for target in action.targets:
                    self.answers.append(TargetFailed(target.target_id, status))
                self.answers.append(TargetAnswered(action.targets[0].target_id, "CA2"))
            case _:
                pass


_steps = st.tuples(
    st.none() | _events, st.sampled_from([0.0, 0.5, 6.0, 40.0]), _bytes, _status, st.booleans()
)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.sampled_from(Dialect), _bytes, st.lists(_steps, max_size=25))
def test_any_events(
    answered: bool,
    dialect: Dialect,
    first: bytes,
    steps: list[tuple[Event | None, float, bytes, CallStatus, bool]],
) -> None:
    interpreter = Interpreter(answered=answered, dialect=dialect)
    shell, now = _Answerer(), 100.0
    interpreter.receive(Instructed("https://app.example/"), now=now)
    shell.take(interpreter, first, CallStatus.BUSY)
    for event, elapsed, document, status, restart in steps:
        now += elapsed
        if event is None and shell.answers:
            event = shell.answers.pop()
        if event is not None:
            if isinstance(event, RecordingStopped | RecordingFailed):
                shell.open.discard(event.key)
            interpreter.receive(event, now=now)
            shell.take(interpreter, document, status)
        interpreter.handle_timeout(now=now)
        shell.take(interpreter, document, status)
        if restart:
            state = json.loads(json.dumps(interpreter.to_dict(now=now)))
            interpreter = Interpreter.from_dict(state, now=now)
            shell.take(interpreter, document, status)
        assert shell.ended is interpreter.is_over
    interpreter.receive(HungUp(), now=now)
    shell.take(interpreter, first, CallStatus.BUSY)
    for _ in range(5):
        deadline = interpreter.next_deadline()
        if deadline is not None:
            interpreter.handle_timeout(now=deadline)
            shell.take(interpreter, first, CallStatus.BUSY)
    assert shell.ended, "who hangs up ends the call, whatever a program or a worker does"
    assert interpreter.next_deadline() is None
