"""Work that waits for the disk, done while the relay and the players go on.

Making, writing and syncing a journal take microseconds or, on a disk that is busy, seconds. A call
that is relayed or played to by the same process must not hear that. So while there is one, such
work is done by a thread, and the loop's own thread goes on until it is finished. Nothing else
happens meanwhile: whoever asked gets the answer as if it had done the work itself. With nothing to
relay or play it has.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from callreel.capture.players import Players
from callreel.capture.relay import Relay

T = TypeVar("T")


class Disk:
    """One thread, started when it is first needed."""

    def __init__(self, relay: Relay, players: Players) -> None:
        self._relay = relay
        self._players = players
        self._thread: ThreadPoolExecutor | None = None
        self._done_fd = -1
        self._poll = select.poll()

    def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises. It must touch nothing that relay and players
        do."""
        if not self._relay.is_busy:
            return work()
        if self._thread is None:
            self._start()
        assert self._thread is not None
        future = self._thread.submit(work)
        future.add_done_callback(self._finished)
        while not future.done():
            for fd, _ in self._poll.poll():
                if fd == self._done_fd:
                    self._forget()
                elif fd == self._players.fileno():
                    self._players.turn()
                else:
                    self._relay.turn()
        return future.result()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
            os.close(self._done_fd)

    def _start(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._done_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._done_fd, select.POLLIN)
        self._poll.register(self._relay.fileno(), select.POLLIN)
        self._poll.register(self._players.fileno(), select.POLLIN)

    def _finished(self, _: Future[T]) -> None:
        os.eventfd_write(self._done_fd, 1)

    def _forget(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._done_fd)
