"""The journal on disk: whole blocks or none, read back whatever happened."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from callreel.base.errors import MachineError
from callreel.journal.format import (
    HEADER_BYTES,
    MAGIC,
    Block,
    Event,
    Hole,
    Kind,
    event_block,
    packet_block,
    read_blocks,
    seed_of,
)
from callreel.journal.reader import count_packets, find_end, read_journal, read_segments
from callreel.journal.writer import JournalWriteError, JournalWriter, segment_numbers

RECORDING = "0123456789abcdef" * 2
SEED = seed_of(RECORDING)


def packets(*payloads: bytes, stream: int = 0, seed: int = SEED) -> bytes:
    return packet_block(
        Kind.RTP,
        stream,
        np.array([len(item) for item in payloads], np.uint16),
        np.arange(len(payloads), dtype=np.int64) + 1_000,
        b"".join(payloads),
        seed=seed,
        mono_ns=500,
        wall_ns=2_000,
    )


def written(root: Path, blocks: list[bytes]) -> JournalWriter:
    writer = JournalWriter(root, RECORDING)
    writer.begin({"call": "c"}, mono_ns=1, wall_ns=2)
    writer.append(blocks)
    return writer


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond this: what a full disk does, at a byte of our choice."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer = written(tmp_path, [packets(b"one", b"three"), packets(b"two", stream=1)])
    writer.end("stopped", mono_ns=7, wall_ns=8, packets=3)
    parts = list(read_journal(tmp_path, RECORDING))
    blocks = [part for _, part in parts if isinstance(part, Block)]
    assert len(blocks) == len(parts) == 4
    assert blocks[0].json() == {"call": "c", "recording": RECORDING, "segment": 1}
    assert bytes(blocks[1].packets().data) == b"onethree"
    assert blocks[1].packets().lengths.tolist() == [3, 5]
    assert blocks[2].stream == 1
    assert blocks[3].json() == {"event": "end", "reason": "stopped", "packets": 3}
    assert parts[0][0].header == blocks[0].json()
    assert count_packets(writer.path) == 3


def test_a_restart_begins_a_new_segment(tmp_path: Path) -> None:
    written(tmp_path, [packets(b"a")]).close()
    written(tmp_path, [packets(b"b")]).close()
    assert segment_numbers(tmp_path / RECORDING) == [1, 2]
    data = [
        (segment.number, bytes(part.packets().data))
        for segment, part in read_journal(tmp_path, RECORDING)
        if isinstance(part, Block) and part.kind is Kind.RTP
    ]
    assert data == [(1, b"a"), (2, b"b")]


def test_end_is_found_only_at_the_end(tmp_path: Path) -> None:
    assert find_end(tmp_path, RECORDING) is None
    writer = written(tmp_path, [])
    assert find_end(tmp_path, RECORDING) is None
    writer.end("stopped", mono_ns=7, wall_ns=8)
    end = find_end(tmp_path, RECORDING)
    assert end is not None
    assert end.wall_ns == 8
    written(tmp_path, []).close()
    assert find_end(tmp_path, RECORDING) is None


def test_empty_headless_and_strange_files_do_not_matter(tmp_path: Path) -> None:
    written(tmp_path, [packets(b"a")]).close()
    folder = tmp_path / RECORDING
    (folder / "000002.seg").write_bytes(b"")
    (folder / "000003.seg").write_bytes(packets(b"headless"))
    (folder / "notes.txt").write_text("not ours")
    (folder / "x.seg").write_text("not ours")
    segments = list(read_segments(tmp_path, RECORDING))
    assert [segment.number for segment in segments] == [1, 2, 3]
    assert [segment.header is None for segment in segments] == [False, True, True]
    assert [len(list(segment.parts())) for segment in segments] == [2, 0, 1]


@pytest.mark.parametrize("room", [0, 1, HEADER_BYTES, 70, 150])
def test_a_full_disk_keeps_whole_blocks_only(tmp_path: Path, room: int) -> None:
    writer = written(tmp_path, [packets(b"before")])
    start = writer.size_bytes
    blocks = [packets(b"x" * 20), packets(b"y" * 20), packets(b"z" * 20)]
    fits = room // len(blocks[0])
    with file_size_limit(start + room), pytest.raises(JournalWriteError) as caught:
        writer.append(blocks)
    assert caught.value.blocks_written == fits
    assert caught.value.hint is not None
    assert writer.path.stat().st_size == writer.size_bytes == start + fits * len(blocks[0])
    writer.append(blocks[fits:])
    writer.end("stopped", mono_ns=7, wall_ns=8)
    parts = [part for _, part in read_journal(tmp_path, RECORDING)]
    assert not [part for part in parts if isinstance(part, Hole)]
    assert len(parts) == 6


def test_more_blocks_than_one_call_takes(tmp_path: Path) -> None:
    writer = written(tmp_path, [packets(b"%d" % number) for number in range(1500)])
    writer.close()
    assert count_packets(writer.path) == 1500


def test_no_room_for_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError):
        JournalWriter(tmp_path / "file", RECORDING)


def test_an_unused_journal_leaves_nothing(tmp_path: Path) -> None:
    JournalWriter(tmp_path, RECORDING).discard()
    assert list(tmp_path.iterdir()) == []


SEGMENT = b"".join(
    [
        packets(b"first", b"second"),
        event_block(Event.PAUSE, seed=SEED, mono_ns=3, wall_ns=4, behavior="skip"),
        packets(b"third" * 30, stream=1),
        # A peer's packets may hold anything, our magic and whole blocks of ours included.
        packets(MAGIC, packets(b"fake", seed=0), MAGIC * 7, stream=1),
        event_block(Event.END, seed=SEED, mono_ns=5, wall_ns=6, reason="stopped"),
    ]
)
BLOCKS = [part for part in read_blocks(SEGMENT, seed=SEED) if isinstance(part, Block)]


def spans(blocks: list[Block]) -> list[tuple[int, bytes]]:
    return [(block.offset, bytes(block.payload)) for block in blocks]


def read_damaged(segment: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The blocks read, and how many bytes the holes take up."""
    parts = list(read_blocks(segment, seed=SEED))
    blocks = [part for part in parts if isinstance(part, Block)]
    covered = sum(HEADER_BYTES + len(block.payload) for block in blocks)
    holes = sum(part.length for part in parts if isinstance(part, Hole))
    assert covered + holes == len(segment)
    return spans(blocks), holes


def untouched(start: int, stop: int) -> list[tuple[int, bytes]]:
    """The blocks that a change of these bytes does not touch."""
    return spans(
        [
            block
            for block in BLOCKS
            if block.offset + HEADER_BYTES + len(block.payload) <= start or block.offset >= stop
        ]
    )


def test_the_segment_is_whole() -> None:
    assert len(BLOCKS) == 5
    assert read_damaged(SEGMENT) == (spans(BLOCKS), 0)


def test_cut_at_any_byte() -> None:
    for end in range(len(SEGMENT)):
        assert read_damaged(SEGMENT[:end])[0] == untouched(end, len(SEGMENT))


@given(st.integers(0, len(SEGMENT)), st.integers(0, 5000))
def test_zeroed_tail(end: int, zeros: int) -> None:
    read, _ = read_damaged(SEGMENT[:end] + bytes(zeros))
    # Zeros that were there before are no damage.
    assert read[: len(untouched(end, len(SEGMENT)))] == untouched(end, len(SEGMENT))
    assert all(block in spans(BLOCKS) for block in read)


@given(st.integers(0, len(SEGMENT) - 1), st.integers(1, 255))
def test_a_flipped_byte(at: int, mask: int) -> None:
    damaged = bytearray(SEGMENT)
    damaged[at] ^= mask
    read, holes = read_damaged(bytes(damaged))
    assert read == untouched(at, at + 1)
    assert holes > 0


@given(st.integers(0, len(SEGMENT)), st.binary(min_size=1, max_size=300))
def test_foreign_bytes_in_between(at: int, foreign: bytes) -> None:
    read, _ = read_damaged(SEGMENT[:at] + foreign + SEGMENT[at:])
    expected = [
        (offset + (len(foreign) if offset >= at else 0), payload)
        for offset, payload in untouched(at, at)
    ]
    assert read == expected


@settings(max_examples=25)
@given(cut=st.integers(1, 60), later=st.binary(max_size=40))
def test_a_torn_block_in_the_middle_of_a_file(
    tmp_path_factory: pytest.TempPathFactory, cut: int, later: bytes
) -> None:
    root = tmp_path_factory.mktemp("journal")
    writer = written(root, [packets(b"a" * 30)])
    writer.append([packets(b"torn" * 20)[:-cut]])
    writer.append([packets(later)])
    writer.close()
    parts = [part for _, part in read_journal(root, RECORDING)]
    assert [type(part) for part in parts] == [Block, Block, Hole, Block]
    last = parts[-1]
    assert isinstance(last, Block)
    assert bytes(last.packets().data) == later
