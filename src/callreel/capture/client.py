"""The control process's end: all media workers as one ``MediaPlane``."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from callreel.base.errors import CapacityError, MachineError, PeerError
from callreel.calls.media import (
    CaptureStarted,
    CaptureState,
    CaptureStopped,
    MediaAddress,
    NoAnswer,
    Stream,
    StreamState,
)
from callreel.calls.model import PauseBehavior, Track
from callreel.calls.voice import Sound
from callreel.capture.protocol import (
    FrameReader,
    Op,
    Request,
    WorkerEvent,
    WorkerEventKind,
    WorkerState,
    encode_frame,
    error_from_json,
    event_from_json,
    instant_from_json,
    ns_of,
    ports_from_json,
    request_to_json,
    seen_from_json,
    state_from_json,
    stopped_from_json,
)
from callreel.wire.sdes import Key

DEADLINE_S = 5.0
"""How long a worker may be away, or take, before what was asked of it fails."""
_SOON_S = 1.0
_FIRST_RETRY_S = 0.02
_LONGEST_RETRY_S = 0.5
_READ_BYTES = 256 * 1024
_BROKEN = (OSError, EOFError, PeerError, ValueError, TypeError, KeyError)

_log = logging.getLogger("callreel.capture")


class _Link:
    """The connection to one worker: made anew when it breaks, unanswered requests sent again."""

    def __init__(
        self,
        path: Path,
        index: int,
        *,
        on_event: Callable[[WorkerEvent], None],
        on_state: Callable[[int, WorkerState], None],
    ) -> None:
        self._path = path
        self._index = index
        self._on_event = on_event
        self._on_state = on_state
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[bytes, asyncio.Future[dict[str, Any]]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._unwritten: list[bytes] = []
        self.ready = asyncio.Event()
        """Set while the worker answers."""

    async def ask(self, request: Request) -> dict[str, Any]:
        """A request's answer. Raises what the worker raised; ``NoAnswer`` when it is late."""
        number = next(self._numbers)
        frame = encode_frame({"id": number, **request_to_json(request)})
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (frame, answer)
        # What many calls ask for within one turn of the loop goes out at once: each write wakes the
        # worker.
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._write)
        self._unwritten.append(frame)
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"media worker {self._index} does not answer", path=self._path) from None
        finally:
            del self._waiting[number]

    def _write(self) -> None:
        # Without a connection: all that waits for an answer is sent again when there is one.
        if self._writer is not None and self._unwritten:
            self._writer.write(b"".join(self._unwritten))
        self._unwritten.clear()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
                continue
            try:
                await self._serve(reader, writer)
            except _BROKEN as error:
                _log.warning("media worker %d: connection lost: %s", self._index, error)
            finally:
                was_ready = self.ready.is_set()
                self.ready.clear()
                self._writer = None
                writer.close()
            if was_ready:
                retry_s = _FIRST_RETRY_S
                self._on_event(WorkerEvent(WorkerEventKind.WORKER_LOST, worker=self._index))
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _LONGEST_RETRY_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        # The answer to this comes before those to what is sent again: by then it is known which
        # calls the worker has.
        listing = next(self._numbers)
        writer.write(encode_frame({"id": listing, **request_to_json(Request(Op.LIST))}))
        for frame, _ in self._waiting.values():
            writer.write(frame)
        self._unwritten.clear()
        self._writer = writer
        while True:
            data = await reader.read(_READ_BYTES)
            if not data:
                raise EOFError("closed by the worker")
            for value in frames.feed(data):
                if "event" in value:
                    self._on_event(event_from_json(value, worker=self._index))
                elif value.get("id") == listing:
                    self._on_state(self._index, state_from_json(value["ok"]))
                    self.ready.set()
                else:
                    self._settle(value)

    def _settle(self, value: Mapping[str, Any]) -> None:
        _, answer = self._waiting.get(value.get("id", 0), (b"", None))
        if answer is None or answer.done():
            return
        if "error" in value:
            answer.set_exception(error_from_json(value))
        else:
            answer.set_result(dict(value["ok"]))


class _Places:
    """Which worker has which call, and how many streams each worker has."""

    def __init__(self, workers: int) -> None:
        self._of: dict[str, tuple[int, int]] = {}
        self.load = [0] * workers
        """Streams, by worker."""

    def put(self, call_id: str, index: int, streams: int) -> None:
        """A worker has a call of so many streams."""
        self.pop(call_id)
        self._of[call_id] = (index, streams)
        self.load[index] += streams

    def pop(self, call_id: str) -> None:
        """No worker has a call any more, if one had it."""
        index, streams = self._of.pop(call_id, (0, 0))
        self.load[index] -= streams

    def get(self, call_id: str) -> int | None:
        """Which worker has a call; None if none has."""
        placed = self._of.get(call_id)
        return None if placed is None else placed[0]

    def all(self) -> list[str]:
        """The calls."""
        return list(self._of)

    def of(self, index: int) -> set[str]:
        """The calls of one worker."""
        return {call_id for call_id, (worker, _) in self._of.items() if worker == index}


class WorkerPool:
    """The media workers behind their Unix sockets, as one ``MediaPlane``.

    A new call goes to the worker with the fewest streams, and all of it stays there. A worker that
    dies is waited for; what was asked of it is asked of its successor, which has taken over the
    sockets. ``seal`` makes of a key of SRTP what journals hold. ``on_event`` is called from
    the event loop and must not block.

    ``advertised_host`` is where peers send media to; those with an IPv4 address to
    ``advertised_ipv4``, where the sockets are of both families.

    ``async with WorkerPool(…) as pool`` connects and closes.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        on_event: Callable[[WorkerEvent], None],
        advertised_host: str,
        advertised_ipv4: str | None = None,
        seal: Callable[[Key], str] | None = None,
    ) -> None:
        self._host = advertised_host
        self._ipv4 = advertised_ipv4 or advertised_host
        self._seal = seal
        self._on_event = on_event
        self._links = [
            _Link(path, index, on_event=self._heed, on_state=self._learn)
            for index, path in enumerate(paths)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()
        # Calls whose end was asked for: whatever a worker lists, they are not to be counted on.
        self._going: set[str] = set()
        self._calls = _Places(len(paths))
        # Counted before they are open: calls that come together must not all go to one worker.
        self._opening = _Places(len(paths))
        self._recordings: dict[str, int] = {}
        self._starting: set[str] = set()
        self._seen = [0] * len(paths)
        self._token = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._plays: dict[str, str | None] = {}
        """The token of what was asked to be played to a call last, None once it is out or cut off;
        calls of which nothing is known are not there."""

    async def connect(self, *, timeout_s: float = 10.0) -> None:
        """Connect to all workers and learn what they are doing. Raises ``MachineError``."""
        self._tasks = [asyncio.create_task(link.run()) for link in self._links]
        try:
            async with asyncio.timeout(timeout_s):
                for link in self._links:
                    await link.ready.wait()
        except TimeoutError:
            await self.aclose()
            raise MachineError("the media workers do not answer") from None

    async def aclose(self) -> None:
        """Close the connections; the workers go on."""
        tasks = [*self._tasks, *self._closing]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def healthy(self) -> bool:
        """Whether all workers answer."""
        return all(link.ready.is_set() for link in self._links)

    @property
    def calls(self) -> Sequence[str]:
        """Ids of the calls that workers have open."""
        return self._calls.all()

    async def open(
        self, call_id: str, streams: Sequence[Stream], *, beside: str | None = None
    ) -> Mapping[int, MediaAddress]:
        """Give a call its sockets, one pair a stream; answers by stream number.

        ``beside`` names an open call that it is to be bridged with: both go to one worker.
        """
        request = Request(Op.OPEN, call_id=call_id, streams=self._sealed(streams))
        known = self._calls.get(call_id)
        if known is None:
            known = self._opening.get(call_id)
        if known is not None:
            candidates = [known]
        else:
            candidates = self._by_load() if beside is None else [self._worker_of(beside)]
        refusal: MachineError | None = None
        for index in candidates:
            self._opening.put(call_id, index, len(streams))
            try:
                addresses = await self._ports(index, request)
                self._calls.put(call_id, index, len(streams))
                return addresses
            except MachineError as error:
                if known is None and not isinstance(error, CapacityError):
                    # It may have come through all the same.
                    self._abandon(index, call_id)
                refusal = refusal if isinstance(refusal, CapacityError) else error
            finally:
                self._opening.pop(call_id)
        raise refusal or MachineError("there are no media workers")

    async def update(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, MediaAddress]:
        """Change a call's streams to exactly these."""
        index = self._worker_of(call_id)
        addresses = await self._ports(
            index, Request(Op.UPDATE, call_id=call_id, streams=self._sealed(streams))
        )
        self._calls.put(call_id, index, len(streams))
        return addresses

    async def close(self, call_id: str) -> None:
        """Take a call's sockets away. Nothing if no worker has it."""
        index = self._calls.get(call_id)
        if index is not None:
            self._calls.pop(call_id)
            self._going.add(call_id)
            try:
                await self._links[index].ask(Request(Op.CLOSE, call_id=call_id))
            except BaseException:
                # It may not have come through: sockets that nobody knew of would stay for ever.
                self._abandon(index, call_id)
                raise
            self._going.discard(call_id)
            self._plays.pop(call_id, None)

    async def bridge(self, call_id: str, other_call_id: str) -> None:
        """Relay between two calls from now on."""
        index = self._worker_of(call_id)
        if self._worker_of(other_call_id) != index:
            raise MachineError(f"calls {call_id} and {other_call_id} are in different workers")
        await self._links[index].ask(
            Request(Op.BRIDGE, call_id=call_id, other_call_id=other_call_id)
        )
        # What was being played was cut off by that.
        self._plays |= {call_id: None, other_call_id: None}

    async def unbridge(self, call_id: str) -> None:
        """Relay nothing to or from a call any more. Nothing if no worker has it."""
        index = self._calls.get(call_id)
        if index is not None:
            await self._links[index].ask(Request(Op.UNBRIDGE, call_id=call_id))

    async def bridges(self) -> Mapping[str, str]:
        """What the workers are relaying now: each bridged call's other one."""
        calls = [call for state in await self.states() for call in state.calls]
        return {call.call_id: call.bridged for call in calls if call.bridged}

    async def attend(self, call_id: str) -> None:
        """From now on the call's media ends here, while it is not bridged."""
        await self._ask_about(call_id, Request(Op.ATTEND, call_id=call_id))

    async def play(self, call_id: str, play_id: str, sounds: Sequence[Sound]) -> None:
        """Play these from now on, one after the other; what was being played is cut off."""
        token = f"{self._token}-{next(self._numbers)}"
        request = Request(
            Op.PLAY, call_id=call_id, play_id=play_id, token=token, sounds=tuple(sounds)
        )
        before = self._plays.get(call_id)
        # Before it is asked: what is short may be out before the answer was read.
        self._plays[call_id] = token
        try:
            await self._ask_about(call_id, request)
        except BaseException:
            # What was being played before goes on.
            if self._plays.get(call_id) == token:
                self._plays[call_id] = before
            raise

    async def stop_playing(self, call_id: str) -> None:
        """Cut off what is being played. Nothing if nothing is."""
        self._plays[call_id] = None
        await self._ask_about(call_id, Request(Op.STOP_PLAYING, call_id=call_id))

    async def listen(self, call_id: str, silence_ms: int | None) -> None:
        """Tell once when the party has said nothing for so long; None: listen no more."""
        await self._ask_about(call_id, Request(Op.LISTEN, call_id=call_id, silence_ms=silence_ms))

    async def attended(self) -> Mapping[str, str]:
        """The calls that end here, while they are not bridged, and what is being played to each:
        the id of the play, or an empty string."""
        calls = [call for state in await self.states() for call in state.calls]
        return {call.call_id: call.playing for call in calls if call.attended}

    async def start(
        self, recording_id: str, call_id: str, tracks: Sequence[Track]
    ) -> CaptureStarted:
        """Keep these tracks of a call from now on."""
        index = self._worker_of(call_id)
        request = Request(
            Op.START, call_id=call_id, recording_id=recording_id, tracks=tuple(tracks)
        )
        self._recordings[recording_id] = index
        self._starting.add(recording_id)
        try:
            return CaptureStarted(instant_from_json(await self._links[index].ask(request)))
        except BaseException:
            self._recordings.pop(recording_id, None)
            raise
        finally:
            self._starting.discard(recording_id)

    async def pause(self, recording_id: str, behavior: PauseBehavior) -> datetime:
        """Keep nothing from now on; returns the instant."""
        request = Request(Op.PAUSE, recording_id=recording_id, behavior=behavior)
        return instant_from_json(await self._ask_keeper(recording_id, request))

    async def resume(self, recording_id: str) -> datetime:
        """Keep again from now on; returns the instant."""
        request = Request(Op.RESUME, recording_id=recording_id)
        return instant_from_json(await self._ask_keeper(recording_id, request))

    async def stop(self, recording_id: str, *, until: datetime | None = None) -> CaptureStopped:
        """Write what has arrived, up to ``until`` if that is past, and close the journal.

        A worker that gets to it only after we have given up on it keeps nothing from later on.
        """
        given_up_ns = time.time_ns() + round(DEADLINE_S * 1e9)
        until_ns = given_up_ns if until is None else ns_of(until)
        request = Request(Op.STOP, recording_id=recording_id, until_ns=until_ns)
        stopped = stopped_from_json(await self._ask_keeper(recording_id, request))
        self._recordings.pop(recording_id, None)
        return stopped

    async def observe(self, call_id: str) -> Sequence[StreamState]:
        """The streams of a call as they are now."""
        index = self._worker_of(call_id)
        return seen_from_json(await self._links[index].ask(Request(Op.OBSERVE, call_id=call_id)))

    async def captures(self) -> Sequence[CaptureState]:
        """What the workers are keeping now."""
        return [capture for state in await self.states() for capture in state.captures]

    async def states(self) -> Sequence[WorkerState]:
        """What each worker is doing, in their order."""
        answers = await asyncio.gather(*(link.ask(Request(Op.LIST)) for link in self._links))
        return [state_from_json(answer) for answer in answers]

    async def states_or_none(self) -> Sequence[WorkerState | None]:
        """The same, soon: None for a worker that does not answer now."""

        async def ask(link: _Link) -> WorkerState | None:
            if not link.ready.is_set():
                return None
            try:
                async with asyncio.timeout(_SOON_S):
                    return state_from_json(await link.ask(Request(Op.LIST)))
            except (TimeoutError, MachineError):
                return None

        return await asyncio.gather(*map(ask, self._links))

    def _sealed(self, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """The streams, with their keys as journals hold them: no worker can make or open those."""
        found = []
        for stream in streams:
            if stream.srtp is not None:
                assert self._seal is not None, "whoever agrees on SRTP has a seal"
                srtp = replace(
                    stream.srtp,
                    sealed=self._seal(stream.srtp.receive),
                    sealed_send=self._seal(stream.srtp.send),
                )
                stream = replace(stream, srtp=srtp)
            found.append(stream)
        return tuple(found)

    def _by_load(self) -> list[int]:
        """Worker indices: those that answer first, then by the number of their streams."""
        open_, opening = self._calls.load, self._opening.load
        return sorted(
            range(len(self._links)),
            key=lambda index: (
                not self._links[index].ready.is_set(),
                open_[index] + opening[index],
            ),
        )

    def _worker_of(self, call_id: str) -> int:
        index = self._calls.get(call_id)
        if index is None:
            raise MachineError(f"no media worker has call {call_id}")
        return index

    async def _ask_about(self, call_id: str, request: Request) -> None:
        await self._links[self._worker_of(call_id)].ask(request)

    async def _ports(self, index: int, request: Request) -> Mapping[int, MediaAddress]:
        ports = ports_from_json((await self._links[index].ask(request)).get("ports"))
        ipv4 = {one.number for one in request.streams if ":" not in one.remote_host}
        return {
            number: MediaAddress(self._ipv4 if number in ipv4 else self._host, port, port + 1)
            for number, port in ports.items()
        }

    async def _ask_keeper(self, recording_id: str, request: Request) -> dict[str, Any]:
        """Ask whoever has the recording; all in turn if that is not known (any more)."""
        known = self._recordings.get(recording_id)
        if known is not None:
            return await self._links[known].ask(request)
        refusal = MachineError("there are no media workers")
        for link in self._links:
            try:
                return await link.ask(request)
            except MachineError as error:
                refusal = error
        raise refusal

    def _abandon(self, index: int, call_id: str) -> None:
        async def close() -> None:
            while True:
                try:
                    await self._links[index].ask(Request(Op.CLOSE, call_id=call_id))
                except NoAnswer:
                    continue
                except MachineError as error:
                    _log.error("call %s cannot be closed: %s", call_id, error)
                return

        self._going.add(call_id)
        task = asyncio.create_task(close())
        self._closing.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._closing.discard(task)
            self._going.discard(call_id)

        task.add_done_callback(done)

    def _heed(self, event: WorkerEvent) -> None:
        if event.kind is WorkerEventKind.ENDED:
            self._recordings.pop(event.recording_id, None)
        if event.kind is WorkerEventKind.PLAYED:
            token = event.data.get("token")
            if self._plays.get(event.call_id, token) != token:
                # It was on its way while the play was cut off, or is told a second time.
                return
            self._plays[event.call_id] = None
        self._on_event(event)

    def _learn(self, index: int, state: WorkerState) -> None:
        """A worker was connected to: what it has is what counts, whatever was thought."""
        had = self._calls.of(index)
        has = {call.call_id: len(call.ports) for call in state.calls}
        for call_id, streams in has.items():
            if call_id not in self._going:
                self._calls.put(call_id, index, streams)
        kept = {capture.recording_id for capture in state.captures}
        gone = {one for one, worker in self._recordings.items() if worker == index} - kept
        for recording_id in kept:
            self._recordings[recording_id] = index
        if self._seen[index]:
            self._on_event(WorkerEvent(WorkerEventKind.WORKER_BACK, worker=index))
            for call_id in sorted(had - set(has)):
                self._calls.pop(call_id)
                self._plays.pop(call_id, None)
                self._on_event(
                    WorkerEvent(WorkerEventKind.CALL_LOST, call_id=call_id, worker=index)
                )
            for recording_id in sorted(gone - self._starting):
                self._recordings.pop(recording_id, None)
                self._on_event(
                    WorkerEvent(
                        WorkerEventKind.RECORDING_LOST, recording_id=recording_id, worker=index
                    )
                )
        self._seen[index] = state.generation
