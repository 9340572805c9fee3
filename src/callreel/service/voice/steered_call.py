"""One call and the interpreter that steers it: events in, actions done, in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from callreel.base.errors import CallreelError, MachineError
from callreel.calls.model import Account, Call, CallStatus
from callreel.calls.story import StoryKind, StoryLine
from callreel.calls.voice import Digits, DocumentUnavailable
from callreel.cxml.actions import (
    Action,
    Answer,
    Connect,
    EndCall,
    Fetch,
    HangUpOther,
    Listen,
    Note,
    Play,
    Reject,
    Ring,
    Severity,
    StartRecording,
    StopPlaying,
    StopRecording,
    Tell,
)
from callreel.cxml.events import Event, Fetched, FetchFailed, HungUp, PlayDone
from callreel.cxml.interpreter import Interpreter
from callreel.service.voice.kept import Kept
from callreel.service.voice.means import Means
from callreel.service.voice.parties import KEY_S, Parties
from callreel.service.voice.player import Player
from callreel.service.voice.requests import request_fields

log = logging.getLogger(__name__)

KEYS = "keys"
"""The play of the keys that are pressed before the document is asked for."""
BROKEN = "steering it went wrong here; the log says how"


class SteeredCall:
    """Feed it with :meth:`tell`; :meth:`run` ends with the call.

    What the interpreter wants done at once is done before the next event is looked at; what takes
    time (documents, prompts, other parties) is begun, and comes back as an event.
    """

    def __init__(
        self,
        means: Means,
        account: Account,
        call: Call,
        interpreter: Interpreter,
        *,
        recordings: dict[str, str] | None = None,
    ) -> None:
        """``recordings``: what an earlier control process had begun, by the interpreter's key."""
        self._means = means
        self._account = account
        self._call_id = call.id
        self._interpreter = interpreter
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._fetching: asyncio.Task[None] | None = None
        self._hung_up = False
        self._pressed = asyncio.Event()
        self._story: list[StoryLine] = []
        self.player = Player(means, account.id, call.id, self.tell)
        """What it hears."""
        self.parties = Parties(means, account, call, self.tell)
        """Whom it talks to."""
        self.kept = Kept(means, account, call.id, recordings)
        """What is recorded of it."""

    def tell(self, event: Event) -> None:
        """Something happened."""
        if isinstance(event, HungUp):
            self._hung_up = True
            self._pressed.set()
        if isinstance(event, PlayDone) and event.play_id == KEYS:
            self._pressed.set()
            return
        self._inbox.put_nowait(event)

    async def press(self, keys: str) -> None:
        """Press keys before anything else is done, and wait until they are."""
        with contextlib.suppress(CallreelError, TimeoutError):
            await self._means.media.play(self._call_id, KEYS, [Digits(keys)])
            async with asyncio.timeout(2 + KEY_S * len(keys)):
                await self._pressed.wait()

    async def run(self) -> None:
        """Until the call is over."""
        try:
            while not self._interpreter.is_over:
                await self._step()
        except Exception as error:
            log.exception("call %s cannot be steered any more", self._call_id)
            await self._give_up(error)
        finally:
            self.player.close()
            if self._fetching is not None:
                self._fetching.cancel()

    async def begin(self) -> None:
        """Do what the interpreter wants before anything has happened: after a restart."""
        await self._act()

    def to_dict(self) -> dict[str, Any]:
        """What a successor needs, as JSON has it."""
        now = self._means.context.clock.monotonic()
        return {
            "interpreter": self._interpreter.to_dict(now=now),
            "recordings": self.kept.ids,
            "parties": self.parties.to_dict(now=now),
        }

    async def _step(self) -> None:
        event = await self._next()
        now = self._means.context.clock.monotonic()
        if event is None:
            self._interpreter.handle_timeout(now=now)
        else:
            self._interpreter.receive(event, now=now)
        await self._act()

    async def _act(self) -> None:
        acted = False
        while (action := self._interpreter.next_action()) is not None:
            acted = True
            await self._do(action)
        if acted:
            over = self._interpreter.is_over
            story, self._story = self._story, []
            await self._means.rows.keep(self._call_id, None if over else self.to_dict(), story)

    async def _next(self) -> Event | None:
        """The next event; None once the interpreter's deadline has passed."""
        deadline = self._interpreter.next_deadline()
        if deadline is None:
            return await self._inbox.get()
        left = deadline - self._means.context.clock.monotonic()
        if left <= 0 and self._inbox.empty():
            return None
        try:
            async with asyncio.timeout(max(0.0, left)):
                return await self._inbox.get()
        except TimeoutError:
            return None

    async def _do(self, action: Action) -> None:
        match action:
            case Fetch():
                self._fetch(action)
            case Tell():
                self._means.spawn(self._ask(action), f"tell of {self._call_id}")
            case Play():
                self.player.play(action)
            case StopPlaying():
                await self.player.stop()
            case Listen():
                with contextlib.suppress(MachineError):
                    await self._means.media.listen(self._call_id, action.silence_ms)
            case StartRecording():
                self.tell(await self.kept.start(action))
            case StopRecording():
                stopped = await self.kept.stop(action.key)
                if stopped is not None:
                    self.tell(stopped)
            case Answer():
                await self._answer()
            case Reject():
                await self._means.telephone.reject(self._call_id, busy=action.busy)
            case Ring():
                await self.parties.ring(action)
            case Connect():
                await self.parties.connect(action.target_id)
            case HangUpOther():
                await self.parties.hang_up(action.target_id)
            case Note():
                self._note(action)
            case EndCall():
                await self._end(action.reason)

    # Documents

    def _fetch(self, wanted: Fetch) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        self._fetching = self._means.spawn(
            self._fetched(wanted), f"fetch a document for {self._call_id}"
        )

    async def _fetched(self, wanted: Fetch) -> None:
        means = self._means
        fields = await request_fields(means, self._account, self._call_id, wanted.fields)
        try:
            found = await means.documents.fetch(self._account.id, wanted.url, wanted.method, fields)
        except DocumentUnavailable as error:
            self.tell(FetchFailed(wanted.number, str(error), error.http_status))
        else:
            self.tell(Fetched(wanted.number, found.url, found.text))

    async def _ask(self, wanted: Tell) -> None:
        """Whatever comes of it: the call is over."""
        means = self._means
        fields = await request_fields(means, self._account, self._call_id, wanted.fields)
        try:
            await means.documents.fetch(self._account.id, wanted.url, wanted.method, fields)
        except DocumentUnavailable as error:
            await means.calls.note(self._call_id, StoryKind.ERROR, str(error))

    # The call

    async def _answer(self) -> None:
        try:
            await self._means.telephone.answer(self._call_id)
        except CallreelError as error:
            self.tell(HungUp(f"it could not be answered: {error}"))

    async def _end(self, reason: str) -> None:
        await self.parties.close()
        if not self._hung_up:
            await self._means.telephone.hang_up(self._call_id, reason=reason)
        await self._means.rows.forget(self._call_id)

    async def _give_up(self, error: Exception) -> None:
        """Something broke in here: the call ends, and with it its recordings, which are kept."""
        means = self._means
        with contextlib.suppress(Exception):
            await means.calls.note(self._call_id, StoryKind.ERROR, f"{BROKEN} ({type(error)})")
        with contextlib.suppress(Exception):
            await self.parties.close()
        if not await means.telephone.hang_up(self._call_id, reason=BROKEN):
            await means.calls.ended(self._call_id, CallStatus.FAILED, reason=BROKEN)
        with contextlib.suppress(Exception):
            await means.rows.forget(self._call_id)

    def _note(self, note: Note) -> None:
        kind = StoryKind.ERROR if note.severity is Severity.ERROR else StoryKind.VERB
        details: dict[str, str | int | None] = {
            name: value
            for name, value in (("code", note.code), ("line", note.line), ("column", note.column))
            if value is not None
        }
        if note.severity is Severity.WARNING:
            details["severity"] = note.severity.value
        now = self._means.context.clock.now()
        self._story.append(StoryLine(now, kind, note.message, details))
