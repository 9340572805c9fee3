"""Messages out of a byte stream (RFC 3261 §18.3, keep-alive of RFC 5626 §4.4.1). No I/O."""

from __future__ import annotations

import enum
import re

from callreel.base.errors import PeerError
from callreel.wire.sip.message import MAX_STREAM_MESSAGE_BYTES
from callreel.wire.sip.values import parse_integer

MAX_HEADER_BYTES = 65_536

_CONTENT_LENGTH = re.compile(rb"(?:^|\n)(?:content-length|l)[ \t]*:([^\r\n]*)", re.IGNORECASE)


class Keepalive(enum.Enum):
    """What keeps a connection open when nothing is said."""

    PING = b"\r\n\r\n"
    """A double line break: to be answered with a single one."""


PONG = b"\r\n"


class BrokenStream(PeerError):
    """The stream cannot be followed further; the connection is of no use any more.

    ``head`` holds the header of the message at fault, for an answer; it may be empty.
    """

    def __init__(self, message: str, *, status: int = 400, head: bytes = b"") -> None:
        super().__init__(message, status=status)
        self.head = head
        """The message as far as it was read."""


class StreamFramer:
    """Cuts a stream into messages. Feed it bytes as they come, then take frames until None."""

    def __init__(
        self,
        *,
        max_message_bytes: int = MAX_STREAM_MESSAGE_BYTES,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._max_header_bytes = max_header_bytes
        self._buffer = bytearray()
        self._searched_bytes = 0
        self._frame_bytes: int | None = None
        self._line_breaks = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes held that are not yet a whole message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what the connection gave."""
        self._buffer += data

    def next_frame(self) -> bytes | Keepalive | None:
        """The next whole message, or ping, or None until more is fed.

        Raises :class:`BrokenStream` if the length of a message is not known or too great.
        """
        if self._frame_bytes is None:
            if self._skip_line_breaks():
                return Keepalive.PING
            self._frame_bytes = self._measure()
            if self._frame_bytes is None:
                return None
        if len(self._buffer) < self._frame_bytes:
            return None
        frame = bytes(self._buffer[: self._frame_bytes])
        del self._buffer[: self._frame_bytes]
        self._frame_bytes = None
        return frame

    def _skip_line_breaks(self) -> bool:
        """Drop line breaks between messages; True at each second one, a ping."""
        while self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
            self._line_breaks += 1
            if self._line_breaks == 2:
                self._line_breaks = 0
                return True
        if self._buffer and self._buffer != b"\r":
            self._line_breaks = 0
        return False

    def _measure(self) -> int | None:
        """The length in bytes of the message at the front; None if its header is not whole."""
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched_bytes - 3))
        if end < 0:
            self._searched_bytes = len(self._buffer)
            if len(self._buffer) > self._max_header_bytes:
                raise BrokenStream(f"header of over {self._max_header_bytes} bytes", status=513)
            return None
        self._searched_bytes = 0
        head = bytes(self._buffer[: end + 4])
        if len(head) > self._max_header_bytes:
            raise BrokenStream(f"header of over {self._max_header_bytes} bytes", status=513)
        lengths = _CONTENT_LENGTH.findall(head)
        if len(lengths) != 1:
            problem = "is missing" if not lengths else "occurs more than once"
            raise BrokenStream(f"Content-Length {problem}", head=head)
        try:
            body_bytes = parse_integer(lengths[0].decode("latin-1"), maximum=2**31)
        except ValueError as error:
            raise BrokenStream(f"Content-Length: {error}", head=head) from error
        total_bytes = len(head) + body_bytes
        if total_bytes > self._max_message_bytes:
            raise BrokenStream(
                f"message of over {self._max_message_bytes} bytes", status=513, head=head
            )
        return total_bytes
