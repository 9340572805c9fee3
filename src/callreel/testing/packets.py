"""Numbered RTP packets, sent over real sockets and found again in a journal."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from callreel.journal.format import Block, Event, Kind
from callreel.journal.reader import read_journal

RTP_HEADER_BYTES = 12


class NumberedSource:
    """A socket that sends RTP packets whose sequence numbers count up from 0 (RFC 3550 §5.1).

    Usable as a context manager.
    """

    def __init__(self, host: str = "127.0.0.1", *, ssrc: int = 0x11223344) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.host = host
        self.port = int(self.sock.getsockname()[1])
        self.ssrc = ssrc
        self.next = 0
        """Sequence number of the next packet."""

    def send(
        self, port: int, count: int = 1, *, payload_bytes: int = 160, to: str | None = None
    ) -> list[int]:
        """Send some packets to a port; their numbers."""
        numbers = list(range(self.next, self.next + count))
        for number in numbers:
            header = struct.pack(
                ">BBHII", 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, self.ssrc
            )
            self.sock.sendto(header + b"\xd5" * payload_bytes, (to or self.host, port))
        self.next += count
        return numbers

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def kept_numbers(root: Path, recording_id: str, stream: int = 0) -> list[int]:
    """The sequence numbers of a stream's RTP packets in a journal, in order of arrival."""
    numbers: list[int] = []
    for _, part in read_journal(root, recording_id):
        if isinstance(part, Block) and part.kind is Kind.RTP and part.stream == stream:
            slab = part.packets()
            at = 0
            for length in slab.lengths.tolist():
                numbers.append(int.from_bytes(slab.data[at + 2 : at + 4], "big"))
                at += length
    return numbers


def journal_events(root: Path, recording_id: str) -> list[dict[str, object]]:
    """The events of a journal in order; ``{"event": "segment", …}`` for each segment's header."""
    events: list[dict[str, object]] = []
    for _, part in read_journal(root, recording_id):
        if not isinstance(part, Block):
            continue
        if part.kind is Kind.SEGMENT:
            events.append({"event": "segment", **part.json()})
        elif part.kind is Kind.EVENT:
            events.append(part.json())
    return events


def event_names(root: Path, recording_id: str) -> list[str]:
    """The names of a journal's events, without those of sources latched."""
    names = [str(event["event"]) for event in journal_events(root, recording_id)]
    return [name for name in names if name != Event.LATCH]
