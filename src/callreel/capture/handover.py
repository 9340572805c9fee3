"""How sockets outlive a worker: messages between worker and supervisor, with descriptors.

Each is one ``SOCK_SEQPACKET`` message: a letter, the key (a call's id), a NUL and an opaque blob,
and the call's sockets as ``SCM_RIGHTS``. The supervisor keeps the latest blob and descriptors of
each key and gives them all to the worker's successor, then says that this was all. Standard
library only: the supervisor imports it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

MAX_BLOB_BYTES = 60_000
MAX_FDS = 250
"""The kernel's own bound is 253 a message."""
_MAX_MESSAGE_BYTES = MAX_BLOB_BYTES + 256


class Word(Enum):
    """The kinds of message."""

    HOLD = b"H"
    """Keep this blob and these descriptors, in place of former ones of the key."""
    STATE = b"S"
    """Keep this blob; the descriptors stay as they are."""
    RELEASE = b"R"
    """Close and forget the key."""
    THAT_IS_ALL = b"A"
    """To the worker: everything held was sent."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    word: Word
    """What is meant."""
    key: str = ""
    """Whose state it is."""
    blob: bytes = b""
    """The state, known to workers alone."""
    fds: tuple[int, ...] = ()
    """Descriptors; whoever receives them owns them."""


def send(sock: socket.socket, message: Message) -> None:
    """Send one message whole. Raises ``OSError``; ``ValueError`` if it is too long."""
    if len(message.blob) > MAX_BLOB_BYTES or len(message.fds) > MAX_FDS:
        raise ValueError("too much state for one message")
    body = message.word.value + message.key.encode("ascii") + b"\0" + message.blob
    if message.fds:
        socket.send_fds(sock, [body], list(message.fds), socket.MSG_NOSIGNAL)
    else:
        sock.send(body, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> Message | None:
    """The next message; None at the end of the connection. Raises ``OSError``
    (``BlockingIOError`` when there is none yet), ``ValueError`` for what is no message."""
    body, fds, flags, _ = socket.recv_fds(
        sock, _MAX_MESSAGE_BYTES, MAX_FDS, socket.MSG_CMSG_CLOEXEC
    )
    if not body:
        close_all(fds)
        return None
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a message was cut short; is the limit of open files too low?")
        key, nul, blob = body[1:].partition(b"\0")
        if not nul:
            raise ValueError("a message without a key")
        return Message(Word(body[:1]), key.decode("ascii"), blob, tuple(fds))
    except ValueError:
        close_all(fds)
        raise


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
    for fd in fds:
        os.close(fd)


class Keeper(Protocol):
    """Where a worker leaves what its successor needs."""

    def hold(self, key: str, blob: bytes, fds: Sequence[int]) -> None:
        """Keep a state and its sockets."""
        ...

    def state(self, key: str, blob: bytes) -> None:
        """Keep a newer state, with the sockets there are."""
        ...

    def release(self, key: str) -> None:
        """The sockets are closed for good."""
        ...


class NoKeeper:
    """For a worker that runs without a supervisor: nothing outlives it."""

    def hold(self, key: str, blob: bytes, fds: Sequence[int]) -> None:
        """Nothing."""

    def state(self, key: str, blob: bytes) -> None:
        """Nothing."""

    def release(self, key: str) -> None:
        """Nothing."""
