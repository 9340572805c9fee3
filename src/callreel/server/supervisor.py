"""The supervisor: starts the other processes, restarts them, and holds their sockets.

It does nothing that can fail for want of anything but memory: no disk, no network, no third-party
code. What must not be lost when a process dies is kept here: the workers' listening sockets, and a
duplicate of every media socket with the state that belongs to it, opaque bytes to us, which the
worker's successor is given.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from callreel.base.errors import UsageError
from callreel.capture import handover
from callreel.capture.handover import Message, Word
from callreel.capture.settings import END_SIGNAL, GENERATION, LISTEN_FD, SUPERVISOR_FD

LIFELINE_FD = "CALLREEL_LIFELINE_FD"
"""Environment of the control process: a socket. EOF on it: the supervisor is gone. A byte written
to it (``announce_ready``): the control process is up, its configuration was good."""

MAX_SOCKET_PATH_BYTES = 107
"""Of a Unix socket address (``sun_path``, less its NUL)."""
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_HEALTHY_AFTER_S = 3.0
"""A worker that lived so long was no failed start: its successor is started at once."""
_BAD_CONFIGURATION = (2, 78)
REPLACE_SIGNAL = signal.SIGUSR2
"""To the supervisor, which passes it on: have the control process replaced by a new one, of
whatever version is installed by now. The workers go on."""
REPLACE_ME = 75
"""Exit status of a control process that is to be replaced (``EX_TEMPFAIL``)."""
_BACKLOG = 64
_RETRY_SEND_S = 0.02
_log_as_json = False
_SAME_SIGNAL_S = 0.2
"""A second SIGTERM that comes sooner is the same order told twice, to us and to our group."""


def announce_ready(environment: Mapping[str, str] = os.environ) -> None:
    """For the control process: tell the supervisor that the start went well. Nothing without one.

    From then on whatever ends the process, short of exit status 0, has it started anew.
    """
    if LIFELINE_FD in environment:
        os.write(int(environment[LIFELINE_FD]), b"R")


def worker_socket(runtime_dir: Path, index: int) -> Path:
    """Where a worker is reached."""
    return runtime_dir / f"worker-{index}.sock"


def supervise(
    *,
    control_argv: Sequence[str],
    worker_argvs: Sequence[Sequence[str]],
    runtime_dir: Path,
    inherited: Sequence[int] = (),
    log_format: str = "text",
) -> int:
    """Run the processes until the control process ends in order or a signal comes; exit status.

    SIGTERM or SIGINT: the control process drains, then the workers end, then 0. A second one: all
    are killed at once, 1. SIGHUP is passed on to the control process, and so is
    ``REPLACE_SIGNAL``, upon which a new one is started as soon as it is gone. A configuration that
    the control process refuses (exit status 2 or 78 before it was ready) gives that status.

    Descriptors ``inherited`` stay open for as long as any process of ours lives: a lock that must
    not be free before.

    Raises ``UsageError`` if ``runtime_dir`` cannot hold sockets.
    """
    global _log_as_json
    _log_as_json = log_format == "json"
    return _Supervisor(control_argv, worker_argvs, runtime_dir, inherited).run()


@dataclass(slots=True)
class _Child:
    """A process that is to run."""

    name: str
    argv: Sequence[str]
    index: int
    """Of a worker; -1 for the control process."""
    listener: socket.socket | None = None
    """A worker's, which outlives it."""
    process: subprocess.Popen[bytes] | None = None
    link: socket.socket | None = None
    """Our end of its socket; None once it is gone or has closed it."""
    outbox: deque[Message] = field(default_factory=deque)
    """What it has yet to be given. Descriptors in it belong to ``held``."""
    held: dict[str, Message] = field(default_factory=dict)
    """What it has left with us, by key."""
    starts: int = 0
    started_s: float = 0.0
    backoff_s: float = _FIRST_BACKOFF_S
    due_s: float | None = None
    """When it is to be started; None while it runs or must not."""
    ready: bool = False
    """The control process said so, be it a former one."""
    up: bool = False
    """The one that runs has said so."""


class _Supervisor:
    def __init__(
        self,
        control_argv: Sequence[str],
        worker_argvs: Sequence[Sequence[str]],
        runtime_dir: Path,
        inherited: Sequence[int],
    ) -> None:
        self._inherited = inherited
        self._selector = selectors.DefaultSelector()
        self._control = _Child("control process", control_argv, -1)
        self._workers = [
            _Child(f"media worker {index}", argv, index) for index, argv in enumerate(worker_argvs)
        ]
        self._paths: list[Path] = []
        self._status: int | None = None
        """What to exit with; None while all should run."""
        self._told_s: float | None = None
        self._workers_told = False
        self._retry_send_s: float | None = None
        _raise_file_limit()
        _make_private(runtime_dir)
        for child in self._workers:
            path = worker_socket(runtime_dir, child.index)
            child.listener = _listen(path)
            self._paths.append(path)

    def run(self) -> int:
        waker, signalled = socket.socketpair()
        waker.setblocking(False)
        signalled.setblocking(False)
        signals = (
            *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD),
            REPLACE_SIGNAL,
        )
        before = {number: signal.signal(number, lambda *_: None) for number in signals}
        wakeup_before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(signalled, selectors.EVENT_READ, signalled)
        try:
            for child in (*self._workers, self._control):
                child.due_s = time.monotonic()
            while not self._is_over():
                self._turn()
        except BaseException:
            self._kill_all()
            raise
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._close(waker, signalled)
        return self._status or 0

    def _is_over(self) -> bool:
        return self._status is not None and not any(child.process for child in self._children)

    @property
    def _children(self) -> tuple[_Child, ...]:
        return (*self._workers, self._control)

    def _turn(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.due_s is not None and child.due_s <= now:
                self._start(child)
        if self._retry_send_s is not None and self._retry_send_s <= now:
            self._retry_send_s = None
            for child in self._workers:
                self._give(child)
        dues = [child.due_s for child in self._children if child.due_s is not None]
        if self._retry_send_s is not None:
            dues.append(self._retry_send_s)
        timeout = max(0.0, min(dues) - time.monotonic()) if dues else None
        for key, events in self._selector.select(timeout):
            if isinstance(key.data, _Child):
                self._heed(key.data, events)
            else:
                self._take_signals(key.data)
        self._reap()

    # Signals

    def _take_signals(self, signalled: socket.socket) -> None:
        try:
            numbers = signalled.recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number == signal.SIGHUP:
                _signal(self._control, signal.SIGHUP)
            elif number == REPLACE_SIGNAL:
                if self._control.up and self._status is None:
                    _log("the control process is to be replaced")
                    _signal(self._control, REPLACE_SIGNAL)
            elif number in (signal.SIGTERM, signal.SIGINT):
                now = time.monotonic()
                if self._told_s is None:
                    self._told_s = now
                    _log(f"{signal.Signals(number).name}: ending")
                    self._end(0)
                elif now - self._told_s >= _SAME_SIGNAL_S:
                    _log("told twice: killing")
                    self._status = 1
                    self._kill_all()
                    return

    def _end(self, status: int) -> None:
        """End in order: the control process first, the workers once it is gone."""
        if self._status is None:
            self._status = status
        for child in self._children:
            child.due_s = None
        if self._control.process is not None:
            _signal(self._control, signal.SIGTERM)
        else:
            self._end_workers()

    def _end_workers(self) -> None:
        if not self._workers_told:
            self._workers_told = True
            for child in self._workers:
                _signal(child, END_SIGNAL)

    def _kill_all(self) -> None:
        for child in self._children:
            child.due_s = None
            if child.process is not None:
                _kill_group(child.process.pid)
                child.process.wait()
                child.process = None

    # Processes

    def _start(self, child: _Child) -> None:
        child.due_s = None
        kind = socket.SOCK_STREAM if child is self._control else socket.SOCK_SEQPACKET
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        environment = {**os.environ}
        passed = [theirs.fileno(), *self._inherited]
        child.up = False
        if child.listener is None:
            environment[LIFELINE_FD] = str(theirs.fileno())
        else:
            passed.append(child.listener.fileno())
            environment[LISTEN_FD] = str(child.listener.fileno())
            environment[SUPERVISOR_FD] = str(theirs.fileno())
            environment[GENERATION] = str(child.starts + 1)
        child.starts += 1
        child.started_s = time.monotonic()
        try:
            child.process = subprocess.Popen(
                list(child.argv),
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=passed,
                # Its own process group: Ctrl-C in a terminal is for us alone to act upon.
                process_group=0,
            )
        except OSError as error:
            ours.close()
            _log(f"cannot start the {child.name}: {error}")
            self._start_later(child)
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        child.link = ours
        self._selector.register(ours, selectors.EVENT_READ, child)
        if child is not self._control:
            child.outbox = deque([*child.held.values(), Message(Word.THAT_IS_ALL)])
            self._give(child)

    def _start_later(self, child: _Child) -> None:
        child.due_s = time.monotonic() + child.backoff_s
        child.backoff_s = min(2 * child.backoff_s, _LONGEST_BACKOFF_S)

    def _reap(self) -> None:
        for child in self._children:
            process = child.process
            if process is None or process.poll() is None:
                continue
            # What it still had to say comes before what follows from its death.
            while child.link is not None and self._hear(child):
                pass
            child.process = None
            self._unlink(child)
            _kill_group(process.pid)
            self._died(child, process.returncode)

    def _died(self, child: _Child, status: int) -> None:
        if self._status is not None:
            if status != 0:
                _log(f"the {child.name} {_of_what(status)} while ending")
            if child is self._control:
                self._end_workers()
            return
        if child is self._control and status == 0:
            self._end(0)
            return
        if child is self._control and status == REPLACE_ME and child.up:
            child.due_s = time.monotonic()
            return
        _log(f"the {child.name} {_of_what(status)}")
        if status in _BAD_CONFIGURATION and not self._control.ready:
            self._end(status)
            return
        lived_s = time.monotonic() - child.started_s
        if child.up if child is self._control else lived_s >= _HEALTHY_AFTER_S:
            child.backoff_s = _FIRST_BACKOFF_S
        self._start_later(child)

    # What is left with us

    def _heed(self, child: _Child, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._give(child)
        if events & selectors.EVENT_READ and child.link is not None:
            self._hear(child)

    def _hear(self, child: _Child) -> bool:
        """Take one message; whether there may be more."""
        assert child.link is not None
        try:
            if child is self._control:
                said = child.link.recv(64)
                child.up = child.up or bool(said)
                child.ready = child.ready or child.up
                if not said:
                    self._unlink(child)
                return bool(said)
            message = handover.receive(child.link)
        except BlockingIOError:
            return False
        except ValueError as error:
            _log(f"the {child.name} left something that cannot be kept: {error}")
            return True
        except OSError:
            self._unlink(child)
            return False
        if message is None:
            self._unlink(child)
            return False
        self._keep(child, message)
        return True

    def _keep(self, child: _Child, message: Message) -> None:
        former = child.held.get(message.key)
        match message.word:
            case Word.HOLD:
                child.held[message.key] = message
                self._forget(child, former)
            case Word.STATE if former is not None:
                child.held[message.key] = Message(Word.HOLD, message.key, message.blob, former.fds)
                handover.close_all(message.fds)
            case Word.RELEASE:
                child.held.pop(message.key, None)
                self._forget(child, former)
                handover.close_all(message.fds)
            case _:
                handover.close_all(message.fds)

    def _forget(self, child: _Child, former: Message | None) -> None:
        if former is not None:
            handover.close_all(former.fds)

    def _give(self, child: _Child) -> None:
        """Give a worker what its predecessor left, as fast as it takes it."""
        while child.outbox and child.link is not None:
            try:
                handover.send(child.link, child.outbox[0])
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    # So many descriptors may be under way and no more: it has to read first.
                    self._retry_send_s = time.monotonic() + _RETRY_SEND_S
                    return
                if error.errno in (errno.EPIPE, errno.ECONNRESET):
                    break
                _log(f"cannot give the {child.name} a call back: {error}")
            child.outbox.popleft()
        if child.link is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.outbox else 0)
            self._selector.modify(child.link, events, child)

    def _unlink(self, child: _Child) -> None:
        child.outbox.clear()
        if child.link is not None:
            self._selector.unregister(child.link)
            child.link.close()
            child.link = None

    def _close(self, *sockets: socket.socket) -> None:
        for child in self._children:
            self._unlink(child)
            if child.listener is not None:
                child.listener.close()
            for message in child.held.values():
                handover.close_all(message.fds)
            child.held.clear()
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()
        self._selector.close()
        for sock in sockets:
            sock.close()


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise UsageError(f"cannot make the runtime folder {folder}: {error.strerror}") from error


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise UsageError(
            f"{path} is too long for a Unix socket; choose a runtime folder with a shorter path"
        )
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {path}: {error.strerror}") from error
    return listener


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _signal(child: _Child, number: signal.Signals) -> None:
    if child.process is not None:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(number)


def _kill_group(pid: int) -> None:
    """Whatever a process of ours started must not outlive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _of_what(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"died of {signal.Signals(-status).name}"
    except ValueError:
        return f"died of signal {-status}"


def _log(text: str) -> None:
    line = f"callreel supervisor: {text}"
    if _log_as_json:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        keys = {"at": at, "level": "warning", "logger": "callreel.supervisor", "message": text}
        line = json.dumps(keys)
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
