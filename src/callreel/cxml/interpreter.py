"""The interpreter: what documents say, verb by verb, for one call."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

from callreel.calls.model import CallbackMethod, Dialect, RecordingSource
from callreel.cxml import actions, verbs
from callreel.cxml.actions import Action
from callreel.cxml.addresses import shown
from callreel.cxml.codes import Code
from callreel.cxml.desk import Desk
from callreel.cxml.dialling import DialStep
from callreel.cxml.document import Document, read
from callreel.cxml.events import (
    Event,
    Fetched,
    FetchFailed,
    HungUp,
    Instructed,
    RecordingFailed,
    RecordingStarted,
    RecordingStopped,
)
from callreel.cxml.gathering import GatherStep
from callreel.cxml.markup import DocumentError
from callreel.cxml.playing import PauseStep, PlayingStep
from callreel.cxml.recording import RecordStep
from callreel.cxml.step import Go, Next, Outcome, Step
from callreel.cxml.verbs import Follow, Place, Verb

MAX_DOCUMENTS = 10_000
"""Documents that one call goes through at most."""
MAX_IDLE_DOCUMENTS = 50
"""Documents in a row that took no time: they lead from one to the next, and nothing happens."""
IDLE_S = 0.1
"""What is over sooner took no time."""

_STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Request:
    """A document that was asked for and has not come."""

    number: int
    url: str
    method: CallbackMethod
    fields: tuple[tuple[str, str], ...]
    fallback: bool


class Interpreter:
    """Steers one call by documents. Times: monotonic seconds.

    Begin with ``receive(Instructed(…))``. After each :meth:`receive` and :meth:`handle_timeout`,
    take actions until there are none, and arm one timer for :meth:`next_deadline`. After
    ``EndCall`` nothing follows, whatever is received. Never raises for what a document, a party or
    a program does.
    """

    def __init__(self, *, answered: bool, dialect: Dialect = Dialect.TWILIO) -> None:
        """``answered``: whether the call is (one that was placed); else a verb that needs it will
        answer it. ``dialect``: whose ways are followed where the vendors' differ."""
        self._desk = Desk(answered=answered, dialect=dialect)
        self._instructions = Instructed()
        self._request: _Request | None = None
        self._source = b""
        self._url: str | None = None
        self._base: str | None = None
        self._from_fallback = False
        self._document: Document | None = None
        self._position = 0
        self._step: Step | None = None
        self._documents = 0
        self._idle_documents = 0
        self._began: float | None = None
        self._gone = False
        self._over = False

    # In and out

    def receive(self, event: Event, *, now: float) -> None:
        """Take in what happened. What comes late, or twice, or unasked, is nothing."""
        if self._over:
            return
        match event:
            case HungUp():
                self._hung_up(event, now)
            case Instructed():
                if not self._gone:
                    self._instruct(event, now)
            case Fetched() | FetchFailed():
                if self._request is not None and event.number == self._request.number:
                    self._fetched(self._request, event, now)
            case RecordingStarted():
                self._desk.recording_started(event)
                self._pass_on(event, now)
            case RecordingStopped() | RecordingFailed():
                self._desk.recording_over(event)
                self._pass_on(event, now)
            case _:
                self._pass_on(event, now)

    def _pass_on(self, event: Event, now: float) -> None:
        if self._step is not None:
            self._settle(self._step.receive(event, now), now)

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timeout` is to be called, if nothing is received before."""
        return None if self._step is None else self._step.next_deadline()

    def handle_timeout(self, *, now: float) -> None:
        """The deadline has passed. Nothing if it has not."""
        deadline = self.next_deadline()
        if self._step is not None and deadline is not None and now >= deadline:
            self._settle(self._step.expire(now), now)

    def next_action(self) -> Action | None:
        """The next thing to do, or None."""
        return self._desk.next_action()

    @property
    def is_over(self) -> bool:
        """Whether ``EndCall`` was given: the call is over."""
        return self._over

    # Documents

    def _instruct(self, event: Instructed, now: float) -> None:
        if self._step is not None:
            self._step.abandon()
            self._step = None
        self._instructions = event
        self._request = None
        self._began = None
        self._from_fallback = False
        if event.url is not None:
            self._url = None
            self._follow(Follow(event.url, event.method), (), now)
        elif event.document is not None:
            self._url = self._base = None
            if self._count_document(now):
                self._load(event.document.encode("utf-8", "replace"), now, as_text=True)
        else:
            self._desk.fail("there is no document, and no address to ask for one")
            self._finish("there is no document")
        self._run(now)

    def _follow(
        self,
        follow: Follow,
        fields: tuple[tuple[str, str], ...],
        now: float,
        *,
        fallback: bool = False,
    ) -> None:
        """Go on with another document: ask for it, or begin the one that was given anew."""
        url = follow.url or self._url
        if not self._count_document(now):
            return
        if url is None:
            self._position = 0
            self._began = now
            return
        number = self._desk.next_number()
        self._request = _Request(number, url, follow.method, fields, fallback)
        self._desk.info(f"asking {shown(url)}")
        self._desk.act(actions.Fetch(number, url, follow.method, fields))

    def _count_document(self, now: float) -> bool:
        """Whether one more is allowed; else the call ends."""
        idle = self._began is not None and now - self._began < IDLE_S
        self._idle_documents = self._idle_documents + 1 if idle else 0
        self._documents += 1
        if self._idle_documents < MAX_IDLE_DOCUMENTS and self._documents <= MAX_DOCUMENTS:
            return True
        self._desk.fail(
            "documents lead from one to the next, and there is no end", Code.TOO_MANY_DOCUMENTS
        )
        self._finish("too many documents")
        return False

    def _fetched(self, request: _Request, event: Fetched | FetchFailed, now: float) -> None:
        self._request = None
        self._from_fallback = request.fallback
        if isinstance(event, Fetched):
            self._url, self._base = request.url, event.url
            self._load(event.text, now)
        else:
            message = f"no document from {shown(request.url)}: {event.message}"
            self._broken(Code.NOT_RETRIEVED, message, request.url, None, now)
        self._run(now)

    def _load(self, source: bytes, now: float, *, as_text: bool = False) -> None:
        """Read a document, and begin it."""
        self._document, self._source, self._position = None, source, 0
        try:
            document = read(source.decode() if as_text else source, self._base)
        except DocumentError as error:
            place = None
            if error.line is not None and error.column is not None:
                place = Place(error.line, error.column)
            self._broken(error.code, str(error), self._url, place, now)
            return
        for note in document.warnings:
            self._desk.act(note)
        self._document = document
        self._began = now

    def _broken(
        self, code: Code, message: str, url: str | None, place: Place | None, now: float
    ) -> None:
        """There is no going on by this document: ask the fallback, or end the call."""
        self._desk.fail(message, code, place)
        fallback = self._instructions.fallback_url
        if fallback is None or self._from_fallback:
            self._finish(message)
            return
        fields = (("ErrorCode", str(int(code))), ("ErrorUrl", url or ""))
        follow = Follow(fallback, self._instructions.fallback_method)
        self._follow(follow, fields, now, fallback=True)

    # Verbs

    def _run(self, now: float) -> None:
        """Begin verbs until one takes time, a document is asked for, or the call is over."""
        while not self._over and self._step is None and self._request is None:
            assert self._document is not None
            if self._position >= len(self._document.verbs):
                self._finish("the document is at its end")
                return
            outcome = self._begin(self._document.verbs[self._position], now)
            self._take(outcome, now)

    def _begin(self, verb: Verb, now: float) -> Outcome | None:
        desk = self._desk
        if not isinstance(verb, verbs.Unsupported):
            desk.info(_name(verb), verb.place)
        match verb:
            case verbs.StartRecording():
                self._start_recording(verb)
                return Next()
            case verbs.StopRecording():
                self._stop_recording(verb)
                return Next()
            case verbs.Redirect():
                return Go(verb.follow)
            case verbs.Hangup():
                self._finish("<Hangup>")
                return None
            case verbs.Reject():
                if not desk.answered:
                    desk.act(actions.Reject(verb.busy))
                self._finish("<Reject>")
                return None
            case verbs.Unsupported():
                message = f"{verb.what} is not supported"
                self._broken(Code.BAD_SCHEMA, message, self._url, verb.place, now)
                return None
            case _:
                self._step = _step(desk, verb)
                return self._step.begin(now)

    def _settle(self, outcome: Outcome | None, now: float) -> None:
        """What came of the verb that runs."""
        self._take(outcome, now)
        if outcome is not None:
            self._run(now)

    def _take(self, outcome: Outcome | None, now: float) -> None:
        if outcome is None or self._over:
            return
        self._step = None
        if self._gone:
            self._tell(outcome)
            self._finish("the party hung up")
        elif isinstance(outcome, Go):
            self._from_fallback = False
            self._follow(outcome.follow, outcome.fields, now)
        else:
            self._position += 1

    def _start_recording(self, verb: verbs.StartRecording) -> None:
        if self._desk.documents_recordings():
            self._desk.warn("the call is being recorded already", place=verb.place)
            return
        self._desk.answer()
        source = RecordingSource.START_CALL_RECORDING_DOCUMENT
        self._desk.start_recording(verb.request, source, verb.name)

    def _stop_recording(self, verb: verbs.StopRecording) -> None:
        found = [
            item
            for item in self._desk.documents_recordings()
            if not verb.name or item.name == verb.name
        ]
        if found:
            self._desk.stop_recording(found[-1].key)
        else:
            self._desk.warn("there is no such recording to stop", place=verb.place)

    # The end

    def _hung_up(self, event: HungUp, now: float) -> None:
        if self._gone:
            return
        self._gone = True
        self._request = None
        self._desk.info(event.reason)
        if self._step is None:
            self._finish(event.reason)
        else:
            self._settle(self._step.hang_up(now), now)

    def _tell(self, outcome: Outcome) -> None:
        """A program is told how it ended, though it has nothing to say any more."""
        if isinstance(outcome, Go):
            url = outcome.follow.url or self._url
            if url is not None:
                self._desk.act(actions.Tell(url, outcome.follow.method, outcome.fields))

    def _finish(self, reason: str) -> None:
        if self._over:
            return
        if self._step is not None:
            self._step.abandon()
            self._step = None
        self._request = None
        self._desk.stop_recordings(*RecordingSource)
        self._desk.act(actions.EndCall(reason))
        self._over = True

    # A successor

    def to_dict(self, *, now: float) -> dict[str, Any]:
        """What a successor needs, as JSON has it. Holds what the document holds: passwords too.

        Take all actions first: those that are left are not in it.
        """
        how, request = self._instructions, self._request
        return {
            "version": _STATE_VERSION,
            "desk": self._desk.to_dict(),
            "fallback_url": how.fallback_url,
            "fallback_method": how.fallback_method.value,
            "request": request
            and {
                "url": request.url,
                "method": request.method.value,
                "fields": [list(item) for item in request.fields],
                "fallback": request.fallback,
            },
            "source": b64encode(self._source).decode(),
            "as_text": self._base is None,
            "url": self._url,
            "base": self._base,
            "from_fallback": self._from_fallback,
            "read": self._document is not None,
            "position": self._position,
            "dial": self._step.to_dict(now) if isinstance(self._step, DialStep) else None,
            "documents": self._documents,
            "gone": self._gone,
            "over": self._over,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any], *, now: float) -> Interpreter:
        """Go on where :meth:`to_dict` left off, in another process. Its first actions are there.

        A ``Dial`` that was connected still is; a request is made again; any other verb begins anew.
        """
        made = cls(answered=True)
        made._desk = Desk.from_dict(state["desk"])
        made._instructions = Instructed(
            fallback_url=state["fallback_url"],
            fallback_method=CallbackMethod(state["fallback_method"]),
        )
        made._url, made._base = state["url"], state["base"]
        made._from_fallback = state["from_fallback"]
        made._documents = state["documents"]
        made._gone, made._over = state["gone"], state["over"]
        if made._over:
            return made
        if made._gone:
            made._finish("the party hung up")
            return made
        made._restore(state, now)
        return made

    def _restore(self, state: dict[str, Any], now: float) -> None:
        self._source = b64decode(state["source"])
        if state["read"]:
            as_text = state["as_text"]
            self._document = read(self._source.decode() if as_text else self._source, self._base)
            self._position = state["position"]
            self._began = now
        request = state["request"]
        if request is not None:
            number = self._desk.next_number()
            fields = tuple((name, value) for name, value in request["fields"])
            method = CallbackMethod(request["method"])
            self._request = _Request(number, request["url"], method, fields, request["fallback"])
            self._desk.act(actions.Fetch(number, request["url"], method, fields))
            return
        if self._document is None:
            return
        if state["dial"] is not None:
            verb = self._document.verbs[self._position]
            assert isinstance(verb, verbs.Dial)
            step = DialStep(self._desk, verb)
            step.resume(state["dial"], now)
            self._step = step
            return
        self._desk.stop_recordings(RecordingSource.DIAL_VERB, RecordingSource.RECORD_VERB)
        self._run(now)


def _step(
    desk: Desk,
    verb: verbs.Say | verbs.Play | verbs.Pause | verbs.Gather | verbs.Dial | verbs.Record,
) -> Step:
    match verb:
        case verbs.Say() | verbs.Play():
            return PlayingStep(desk, verb)
        case verbs.Pause():
            return PauseStep(verb)
        case verbs.Gather():
            return GatherStep(desk, verb)
        case verbs.Dial():
            return DialStep(desk, verb)
        case verbs.Record():
            return RecordStep(desk, verb)


def _name(verb: Verb) -> str:
    match verb:
        case verbs.StartRecording():
            return "<Start><Recording>"
        case verbs.StopRecording():
            return "<Stop><Recording>"
        case _:
            return f"<{type(verb).__name__}>"
