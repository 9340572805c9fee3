"""Reading a recording's journal back: its segments in order, whatever became of them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callreel.base.errors import MachineError
from callreel.journal.format import (
    HEADER,
    HEADER_BYTES,
    MAGIC,
    Block,
    Event,
    Hole,
    Kind,
    read_blocks,
    seed_of,
)
from callreel.journal.writer import segment_numbers, segment_path


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a journal, mapped into memory. The map lives as long as any block of it."""

    number: int
    """From its file name: 1 for the first."""
    path: Path
    """Where it lies."""
    seed: int
    """Of its checksums."""
    header: dict[str, Any] | None
    """Its SEGMENT block's object; None if that block is missing or damaged."""
    view: memoryview = field(repr=False)
    """Its bytes."""

    def parts(self) -> Iterator[Block | Hole]:
        """Its blocks and holes in order, the SEGMENT block among them."""
        return read_blocks(self.view, seed=self.seed)


def read_segments(root: Path, recording_id: str) -> Iterator[Segment]:
    """The segments of a journal in order; none if there is no such folder. Empty, torn and damaged
    ones are read for what they hold. Raises ``MachineError`` if a file cannot be opened."""
    for number in segment_numbers(root / recording_id):
        yield _open(root, recording_id, number)


def read_journal(root: Path, recording_id: str) -> Iterator[tuple[Segment, Block | Hole]]:
    """All blocks and holes of a journal in order, each with its segment. In constant memory."""
    for segment in read_segments(root, recording_id):
        for part in segment.parts():
            yield segment, part


@dataclass(frozen=True, slots=True)
class JournalEnd:
    """How an ended journal was ended."""

    wall_ns: int
    """Wall time of the end."""
    value: dict[str, Any]
    """The ``end`` event."""


def find_end(root: Path, recording_id: str) -> JournalEnd | None:
    """The ``end`` event of a journal that was ended in order; None if it was not."""
    numbers = segment_numbers(root / recording_id)
    if not numbers:
        return None
    found: JournalEnd | None = None
    for part in _open(root, recording_id, numbers[-1]).parts():
        found = None
        if isinstance(part, Block) and part.kind is Kind.EVENT:
            try:
                value = part.json()
            except ValueError:
                continue
            if value.get("event") == Event.END:
                found = JournalEnd(part.wall_ns, value)
    return found


def count_packets(path: Path) -> int:
    """RTP packets in one segment, by its blocks' headers alone: no checksum is looked at and the
    first damage ends the count."""
    view = _map(path)
    at = packets = 0
    while at + HEADER_BYTES <= len(view):
        magic, kind, _, _, count, length, _, _, _ = HEADER.unpack_from(view, at)
        at += HEADER_BYTES + length
        if magic != MAGIC or at > len(view):
            break
        if kind == Kind.RTP:
            packets += count
    return packets


def _open(root: Path, recording_id: str, number: int) -> Segment:
    path = segment_path(root / recording_id, number)
    seed = seed_of(recording_id)
    view = _map(path)
    return Segment(number, path, seed, _header(view, seed), view)


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            if file.tell() == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise MachineError(f"cannot read a journal: {error.strerror}", path=path) from error


def _header(view: memoryview, seed: int) -> dict[str, Any] | None:
    part = next(read_blocks(view, seed=seed), None)
    if not isinstance(part, Block) or part.kind is not Kind.SEGMENT:
        return None
    try:
        return part.json()
    except ValueError:
        return None
