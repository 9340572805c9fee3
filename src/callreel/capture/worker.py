"""The media worker's process: one loop over control connections, the supervisor and the sweep.

Started as ``python -m callreel.capture.worker SETTINGS`` (see :mod:`callreel.capture.settings`)
with a listening Unix socket in ``CALLREEL_LISTEN_FD`` and, under a supervisor, its socket in
``CALLREEL_SUPERVISOR_FD``. Ends after one more sweep when it is told to; whatever was live then is
taken over by the next worker. If the supervisor is gone it goes on until the control process has
ended calls and recordings in order, and is gone as well.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from callreel.base.errors import CallreelError, MachineError, PeerError, UsageError
from callreel.base.log_lines import formatter
from callreel.capture import handover
from callreel.capture.handover import Keeper, Message, NoKeeper, Word
from callreel.capture.protocol import (
    FrameReader,
    Op,
    Request,
    WorkerEvent,
    WorkerEventKind,
    datetime_of,
    encode_frame,
    error_to_json,
    event_to_json,
    instant_to_json,
    ports_to_json,
    request_from_json,
    seen_to_json,
    state_to_json,
    stopped_to_json,
)
from callreel.capture.recorder import Recorder
from callreel.capture.settings import (
    END_SIGNAL,
    GENERATION,
    LISTEN_FD,
    SUPERVISOR_FD,
    WorkerSettings,
    settings_from_argument,
)

_LOG_LINE = "callreel worker %(process)d: %(message)s"
_READ_BYTES = 64 * 1024
_MAX_UNSENT_BYTES = 16 * 1024 * 1024
_CALLS_AT_A_TIME = 16
"""Calls swept before commands are looked at again."""
_CALLS_BETWEEN_RELAYS = 4
"""The same while there is a relay: for what waits to be relayed, a sweep is a delay."""
_HANDOVER_TIMEOUT_S = 2.0
_STALLED_NS = 1_000_000_000
"""A sweep that is so late says that something held us up."""
_ORPHANED_S = 20.0
"""How long a control process may take for that."""
_MUST_BE_TOLD = (WorkerEventKind.PLAYED, WorkerEventKind.DIGIT, WorkerEventKind.FELL_SILENT)
"""Documents wait for these: what happens while there is no control connection is told to the
next."""
_MAX_UNTOLD = 1000
_EX_CONFIG = 78
_NICENESS = -10
_GC_THRESHOLD = 50_000

_log = logging.getLogger("callreel.capture")


class SupervisorKeeper:
    """Leaves sockets and state with the supervisor."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.is_gone = False
        """Nobody keeps anything any more."""

    def hold(self, key: str, blob: bytes, fds: Sequence[int]) -> None:
        """Keep a state and its sockets."""
        self._send(Message(Word.HOLD, key, blob, tuple(fds)))

    def state(self, key: str, blob: bytes) -> None:
        """Keep a newer state, with the sockets there are."""
        self._send(Message(Word.STATE, key, blob))

    def release(self, key: str) -> None:
        """The sockets are closed for good."""
        self._send(Message(Word.RELEASE, key))

    def _send(self, message: Message) -> None:
        if self.is_gone:
            return
        try:
            handover.send(self._sock, message)
        except OSError as error:
            # The recording itself goes on; what is lost is only its safety net.
            _log.error("cannot leave call %s with the supervisor: %s", message.key, error)


class _Client:
    """One control connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader()
        self.unsent = bytearray()


class Worker:
    """The loop.

    ``listener`` is a listening Unix socket, ``supervisor`` the one to the supervisor if any.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        listener: socket.socket,
        supervisor: socket.socket | None = None,
        generation: int = 1,
    ) -> None:
        self._listener = listener
        self._supervisor = supervisor
        self._left_with = None if supervisor is None else SupervisorKeeper(supervisor)
        keeper: Keeper = self._left_with or NoKeeper()
        self._keeper = keeper
        hard = _raise_file_limit()
        self._recorder = Recorder(
            settings,
            on_event=self._tell,
            keeper=keeper,
            generation=generation,
            fd_limit=hard,
            socket_limit=(hard - 256) // max(1, settings.workers),
        )
        self._clients: dict[int, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._untold: deque[bytes] = deque(maxlen=_MAX_UNTOLD)
        self._stopping = False
        self._orphaned_until_s: float | None = None

    def run(self) -> None:
        """Until it is told to end (by SIGTERM if it runs alone), or the supervisor is gone."""
        waker, signalled = socket.socketpair()
        waker.setblocking(False)
        signalled.setblocking(False)
        alone = self._supervisor is None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, (lambda *_: None) if alone else signal.SIG_IGN)
        signal.signal(END_SIGNAL, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(waker.fileno())
        self._selector.register(signalled, selectors.EVENT_READ, self._stop)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(
            self._recorder.relay_fileno(), selectors.EVENT_READ, self._recorder.relay
        )
        self._selector.register(
            self._recorder.players_fileno(), selectors.EVENT_READ, self._recorder.play_on
        )
        if self._supervisor is not None:
            self._take_over(self._supervisor)
            self._selector.register(self._supervisor, selectors.EVENT_READ, self._heed_supervisor)
        # Nothing in a sweep makes a reference cycle: looking for one every few hundred objects
        # cost a tenth of it.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        try:
            while not self._stopping:
                self._turn()
        finally:
            signal.set_wakeup_fd(-1)
        self._recorder.shut_down()

    def _turn(self) -> None:
        due_ns = self._recorder.next_due_ns()
        if due_ns is not None and time.monotonic_ns() - due_ns > _STALLED_NS:
            # What was asked meanwhile comes first: a stop must not find more kept than it wanted.
            self._attend(0)
        calls = _CALLS_BETWEEN_RELAYS if self._recorder.is_relaying else _CALLS_AT_A_TIME
        more = self._recorder.sweep(time.monotonic_ns(), calls=calls)
        self._recorder.watch(time.monotonic_ns())
        due_ns = self._recorder.next_due_ns()
        timeout: float | None = None
        if more:
            timeout = 0
        elif due_ns is not None:
            timeout = max(0, due_ns - time.monotonic_ns()) / 1e9
        if self._orphaned_until_s is not None:
            left_s = self._orphaned_until_s - time.monotonic()
            if not self._clients or left_s <= 0:
                self._stopping = True
                return
            timeout = left_s if timeout is None else min(timeout, left_s)
        self._attend(timeout)

    def _attend(self, timeout: float | None) -> None:
        """Wait for something to come, and see to it."""
        for key, events in self._selector.select(timeout):
            if isinstance(key.data, _Client):
                self._serve(key.data, events)
            else:
                key.data()

    def _stop(self) -> None:
        self._stopping = True

    # Supervisor

    def _take_over(self, supervisor: socket.socket) -> None:
        """What a former worker left: all of it comes before anything else is done."""
        self._receive_calls(supervisor)
        if not self._stopping:
            self._recorder.go_on()

    def _receive_calls(self, supervisor: socket.socket) -> None:
        supervisor.settimeout(_HANDOVER_TIMEOUT_S)
        while True:
            try:
                message = handover.receive(supervisor)
            except TimeoutError:
                _log.error("the supervisor does not say what is held")
                return
            except (OSError, ValueError) as error:
                _log.error("a call was lost on its way from the supervisor: %s", error)
                continue
            if message is None:
                self._stopping = True
                return
            if message.word is Word.THAT_IS_ALL:
                return
            try:
                self._recorder.take_over(message.key, message.blob, message.fds)
            except ValueError as error:
                _log.error("%s", error)
                self._keeper.release(message.key)

    def _heed_supervisor(self) -> None:
        assert self._supervisor is not None
        try:
            gone = handover.receive(self._supervisor) is None
        except (OSError, ValueError):
            gone = True
        if gone:
            _log.error("the supervisor is gone")
            assert self._left_with is not None
            self._left_with.is_gone = True
            self._selector.unregister(self._supervisor)
            self._orphaned_until_s = time.monotonic() + _ORPHANED_S

    # Control connections

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            _log.error("cannot take a control connection: %s", error)
            return
        sock.setblocking(False)
        client = _Client(sock)
        self._clients[sock.fileno()] = client
        self._selector.register(sock, selectors.EVENT_READ, client)
        while self._untold:
            self._send(client, self._untold.popleft())

    def _serve(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(client, b"")
        if not events & selectors.EVENT_READ or client.sock.fileno() < 0:
            return
        try:
            data = client.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        try:
            for frame in client.reader.feed(data):
                self._send(client, encode_frame(self._answer(frame)))
        except PeerError as error:
            _log.error("a control connection is closed for %s", error)
            self._drop(client)

    def _answer(self, frame: dict[str, Any]) -> dict[str, Any]:
        number = frame.get("id")
        if not isinstance(number, int):
            raise PeerError("a frame that is no request")
        try:
            return {"id": number, "ok": self._do(request_from_json(frame))}
        except CallreelError as error:
            return {"id": number, **error_to_json(error)}
        except OSError as error:
            return {"id": number, **error_to_json(MachineError(str(error)))}

    def _do(self, request: Request) -> dict[str, Any]:
        recorder = self._recorder
        match request.op:
            case Op.OPEN:
                return {"ports": ports_to_json(recorder.open(request.call_id, request.streams))}
            case Op.UPDATE:
                return {"ports": ports_to_json(recorder.update(request.call_id, request.streams))}
            case Op.CLOSE:
                recorder.close(request.call_id)
                return {}
            case Op.BRIDGE:
                recorder.bridge(request.call_id, request.other_call_id)
                return {}
            case Op.UNBRIDGE:
                recorder.unbridge(request.call_id)
                return {}
            case Op.ATTEND:
                recorder.attend(request.call_id)
                return {}
            case Op.PLAY:
                recorder.play(request.call_id, request.play_id, request.sounds, token=request.token)
                return {}
            case Op.STOP_PLAYING:
                recorder.stop_playing(request.call_id)
                return {}
            case Op.LISTEN:
                recorder.listen(request.call_id, request.silence_ms)
                return {}
            case Op.START:
                instant = recorder.start(request.recording_id, request.call_id, request.tracks)
                return instant_to_json(datetime_of(instant.wall_ns))
            case Op.PAUSE:
                instant = recorder.pause(request.recording_id, request.behavior)
                return instant_to_json(datetime_of(instant.wall_ns))
            case Op.RESUME:
                instant = recorder.resume(request.recording_id)
                return instant_to_json(datetime_of(instant.wall_ns))
            case Op.STOP:
                return stopped_to_json(recorder.stop(request.recording_id, request.until_ns))
            case Op.OBSERVE:
                return seen_to_json(recorder.observe(request.call_id))
            case Op.LIST:
                return state_to_json(recorder.state(os.getpid()))
            case Op.PING:
                return {}

    def _tell(self, event: WorkerEvent) -> None:
        if event.kind is WorkerEventKind.WRITE_FAILED:
            _log.error("recording %s: %s", event.recording_id, event.data.get("message"))
        frame = encode_frame(event_to_json(event))
        if not self._clients and event.kind in _MUST_BE_TOLD:
            self._untold.append(frame)
        for client in list(self._clients.values()):
            self._send(client, frame)

    def _send(self, client: _Client, frame: bytes) -> None:
        client.unsent += frame
        try:
            sent = client.sock.send(client.unsent) if client.unsent else 0
            del client.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if len(client.unsent) > _MAX_UNSENT_BYTES:
            _log.error("a control connection is closed: it does not read what it asked for")
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        if self._selector.get_key(client.sock).events != events:
            self._selector.modify(client.sock, events, client)

    def _drop(self, client: _Client) -> None:
        fd = client.sock.fileno()
        if self._clients.pop(fd, None) is None:
            return
        with contextlib.suppress(KeyError):
            self._selector.unregister(client.sock)
        client.sock.close()


def _raise_file_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return min(soft, 1 << 20)


def main(arguments: Sequence[str]) -> int:
    """Run a worker; the process's exit status."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_LOG_LINE))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        if len(arguments) != 1:
            raise UsageError("want one argument, the settings")
        settings = settings_from_argument(arguments[0])
        handler.setFormatter(formatter(settings.log_format, _LOG_LINE))
        if LISTEN_FD not in os.environ:
            raise UsageError(f"want a listening socket in {LISTEN_FD}")
        listener = socket.socket(fileno=int(os.environ[LISTEN_FD]))
        supervisor = None
        if SUPERVISOR_FD in os.environ:
            supervisor = socket.socket(fileno=int(os.environ[SUPERVISOR_FD]))
        worker = Worker(
            settings,
            listener=listener,
            supervisor=supervisor,
            generation=int(os.environ.get(GENERATION, "1")),
        )
    except (UsageError, OSError, ValueError) as error:
        _log.error("%s", error)
        return _EX_CONFIG
    with contextlib.suppress(OSError):
        # Where we may: whatever else the machine does can wait a few milliseconds, a sweep cannot.
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
