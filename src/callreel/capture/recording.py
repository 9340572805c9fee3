"""One live recording in a worker: what it keeps from when, and its journal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callreel.base.errors import MachineError
from callreel.calls.model import PauseBehavior, Track
from callreel.capture.anchor import Anchor, Instant
from callreel.capture.sweep import Batch
from callreel.capture.tap import Tap
from callreel.capture.volley import Packed
from callreel.journal.format import Event, Kind, event_block, packed_block, packet_payload, seed_of
from callreel.journal.reader import count_packets
from callreel.journal.writer import (
    JournalWriteError,
    JournalWriter,
    segment_numbers,
    segment_path,
)

MAX_HELD_BYTES = 1024 * 1024
"""What a recording holds back while its journal cannot be written: a minute of two G.711 streams
and a bit. A disk that is full for a moment costs nothing; one that stays full must not cost the
memory of the machine."""


class LiveRecording:
    """Blocks wait here for the end of their sweep and are then written with one call.

    While the disk refuses them they go on waiting, up to ``MAX_HELD_BYTES``; then the oldest are
    given up and counted, and the count goes into the journal as soon as it can be written again.
    """

    __slots__ = (
        "_anchor",
        "_blocks",
        "_counts",
        "_former",
        "_root",
        "_seed",
        "_unwritten",
        "_written",
        "after_ns",
        "call_id",
        "changed",
        "cut",
        "failure",
        "fresh",
        "header",
        "id",
        "paused",
        "reported",
        "started",
        "tracks",
        "until_ns",
        "waiting",
        "writer",
    )

    def __init__(
        self,
        recording_id: str,
        call_id: str,
        tracks: frozenset[Track],
        *,
        root: Path,
        anchor: Anchor,
    ) -> None:
        self.id = recording_id
        self.call_id = call_id
        self.tracks = tracks
        """The tracks kept."""
        self.paused: PauseBehavior | None = None
        """How it is paused, if it is."""
        self.cut: Instant | None = None
        """When it was stopped, while that is not on the disk; it keeps nothing more."""
        self.started = self.changed = anchor.now()
        """When it started; when it was last started, paused or resumed."""
        self.after_ns = 0
        """Arrival time of the last start or resume: nothing from before is kept."""
        self.fresh: set[Tap] = set()
        """Sockets that were not drained since then, and may hold something from before."""
        self.until_ns: int | None = None
        """While it is being stopped or paused: nothing that arrived later is kept."""
        self.waiting: dict[int, int] = {}
        """Streams that nothing has come from as yet, and since when, arrival time."""
        self.reported: dict[Tap, tuple[int, int, int]] = {}
        """What each socket had lost when that was last written down."""
        self.header: Mapping[str, Any] = {}
        """For the SEGMENT block."""
        self.writer: JournalWriter | None = None
        """None when the next segment could not be made as yet."""
        self.failure: str | None = None
        """Why the journal cannot be written; None while it can."""
        self._root = root
        self._anchor = anchor
        self._seed = seed_of(recording_id)
        try:
            self._former = segment_numbers(root / recording_id)
        except MachineError:
            self._former = []
        self._blocks: list[bytes] = []
        self._counts: list[tuple[int, int]] = []
        self._unwritten: dict[int, int] = {}
        self._written = 0

    def open_journal(self) -> None:
        """Make a new segment, as yet without its header. Raises ``MachineError``."""
        self.writer = JournalWriter(self._root, self.id)

    def begin(self, header: Mapping[str, Any], instant: Instant) -> None:
        """Write the segment's header. Raises ``MachineError``."""
        assert self.writer is not None
        self.header = header
        self.writer.begin(dict(header), mono_ns=instant.mono_ns, wall_ns=instant.wall_ns)

    @property
    def is_keeping(self) -> bool:
        """Whether it keeps what comes: it is neither paused nor stopped."""
        return self.paused is None and self.cut is None

    @property
    def held_bytes(self) -> int:
        """What waits to be written."""
        return sum(map(len, self._blocks))

    @property
    def lost_packets(self) -> int:
        """Packets given up because the disk refused them, not yet written down in the journal."""
        return sum(self._unwritten.values())

    def packets(self) -> int:
        """RTP packets in the journal, former segments included."""
        folder = self._root / self.id
        try:
            former = sum(count_packets(segment_path(folder, number)) for number in self._former)
        except MachineError:
            former = 0
        return former + self._written

    def keep(self, kind: Kind, stream: int, tap: Tap, batch: Batch) -> None:
        """Keep what this recording wants of a batch."""
        if tap in self.fresh or self.until_ns is not None:
            batch = self._within(tap, batch)
            if not len(batch):
                return
        payload = packet_payload(batch.lengths, batch.stamps_ns, batch.data)
        self._add(kind, stream, len(batch), payload, time.monotonic_ns())

    def keep_packed(self, kind: Kind, stream: int, tap: Tap, packed: Packed, mono_ns: int) -> None:
        """:meth:`keep`, ``mono_ns`` being now."""
        if self.fresh or self.until_ns is not None:
            self.keep(kind, stream, tap, packed.unpacked())
        else:
            self._add(kind, stream, packed.count, packed.payload, mono_ns)

    def _add(self, kind: Kind, stream: int, count: int, payload: bytes, mono_ns: int) -> None:
        if kind is Kind.RTP:
            if self.waiting:
                self.waiting.pop(stream, None)
            self._counts.append((stream, count))
        else:
            self._counts.append((stream, 0))
        wall_ns = mono_ns + self._anchor.offset_ns
        self._blocks.append(
            packed_block(kind, stream, count, payload, self._seed, mono_ns, wall_ns)
        )

    def _within(self, tap: Tap, batch: Batch) -> Batch:
        arrival_ns: NDArray[np.int64] = batch.stamps_ns - self._anchor.offset_ns
        wanted = np.ones(len(batch), np.bool_)
        if tap in self.fresh:
            wanted &= arrival_ns > self.after_ns
        if self.until_ns is not None:
            wanted &= arrival_ns <= self.until_ns
        return batch if wanted.all() else batch.select(wanted)

    def note(self, event: str, instant: Instant, **keys: Any) -> None:
        """Keep an event."""
        self._counts.append((-1, 0))
        self._blocks.append(
            event_block(
                event, seed=self._seed, mono_ns=instant.mono_ns, wall_ns=instant.wall_ns, **keys
            )
        )

    def note_drops(self, stream: int, tap: Tap) -> None:
        """Keep what a socket has lost since this was last done, if it has."""
        lost = tap.lost()
        if self.reported.get(tap) == lost:
            return
        kernel, foreign, truncated = (
            now - before
            for now, before in zip(lost, self.reported.get(tap, (0, 0, 0)), strict=True)
        )
        self.reported[tap] = lost
        if kernel or foreign or truncated:
            self.note(
                Event.DROPS,
                self._anchor.now(),
                stream=stream,
                kernel=kernel,
                foreign=foreign,
                truncated=truncated,
            )

    def flush(self) -> None:
        """Write what waits. Raises ``MachineError`` if that cannot be done now; it waits on."""
        if self.writer is not None and not self._blocks and self.failure is None:
            return
        try:
            if self.writer is None:
                self._reopen()
            self._write()
            if self._unwritten:
                # Only now that there is room: made with each try, they would pile up.
                for stream, packets in self._unwritten.items():
                    self._note_unwritten(stream, packets)
                self._unwritten = {}
                self._write()
        except MachineError as error:
            self.failure = str(error)
            raise
        self.failure = None

    def _write(self) -> None:
        assert self.writer is not None
        try:
            self.writer.append(self._blocks)
        except JournalWriteError as error:
            self._forget_written(error.blocks_written)
            raise
        self._forget_written(len(self._blocks))

    def _reopen(self) -> None:
        self.open_journal()
        try:
            self.begin(self.header, self._anchor.now())
        except MachineError:
            assert self.writer is not None
            writer, self.writer = self.writer, None
            writer.discard()
            raise

    def _note_unwritten(self, stream: int, packets: int) -> None:
        self.note(
            Event.DROPS,
            self._anchor.now(),
            stream=stream,
            kernel=0,
            foreign=0,
            truncated=0,
            unwritten=packets,
        )

    def _forget_written(self, done: int) -> None:
        self._written += sum([packets for _, packets in self._counts[:done]])
        del self._blocks[:done], self._counts[:done]

    def give_up_beyond(self, limit_bytes: int) -> None:
        """Give up the oldest packets that wait until no more than this does."""
        held = self.held_bytes
        at = 0
        while held > limit_bytes and at < len(self._blocks):
            stream, packets = self._counts[at]
            if stream < 0:
                at += 1
                continue
            held -= len(self._blocks[at])
            if packets:
                self._unwritten[stream] = self._unwritten.get(stream, 0) + packets
            del self._blocks[at], self._counts[at]
