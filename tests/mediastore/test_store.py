"""The media store: one suite for a folder, memory and, where there is one, S3."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from obstore.store import MemoryStore

from callreel.base.errors import MachineError, UsageError
from callreel.mediastore.store import MAX_CHUNK_BYTES, MediaStore, MissingMediaError

S3_URL = os.environ.get("CALLREEL_TEST_S3_URL", "")
"""``s3://bucket/prefix``; endpoint and credentials as usual in ``AWS_*``."""


@pytest_asyncio.fixture(
    params=[
        "folder",
        "memory",
        pytest.param(
            "s3",
            marks=[
                pytest.mark.object_store,
                pytest.mark.skipif(not S3_URL, reason="CALLREEL_TEST_S3_URL is not set"),
            ],
        ),
    ]
)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MediaStore]:
    match request.param:
        case "folder":
            yield MediaStore.from_url(tmp_path / "media")
        case "memory":
            yield MediaStore(MemoryStore())
        case _:
            made = MediaStore.from_url(f"{S3_URL.rstrip('/')}/{secrets.token_hex(8)}")
            yield made
            for file in [file async for file in made.list()]:
                await made.delete(file.key)


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A file of 1 MB whose every byte can be told."""
    path = tmp_path / "rendered.wav"
    path.write_bytes(CONTENT)
    return path


CONTENT = bytes(range(251)) * 4000
KEY = "ab/abcdef01.wav"


async def content(store: MediaStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, start, end)])


async def test_put_and_read_back(store: MediaStore, rendered: Path) -> None:
    put = await store.put_file(KEY, rendered)
    assert not rendered.exists()
    assert (put.key, put.size_bytes) == (KEY, len(CONTENT))
    assert abs(put.modified - datetime.now(UTC)) < timedelta(minutes=10)
    assert put.etag
    assert await store.head(KEY) == put
    assert await content(store, KEY) == CONTENT


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 1),
        (0, len(CONTENT)),
        (1, 44),
        (250_000, 800_001),
        (len(CONTENT) - 1, len(CONTENT)),
        (len(CONTENT) - 10, len(CONTENT) + 10),
        (999_000, None),
        (7, 7),
    ],
)
async def test_ranges(store: MediaStore, rendered: Path, start: int, end: int | None) -> None:
    await store.put_file(KEY, rendered)
    assert await content(store, KEY, start, end) == CONTENT[start:end]


async def test_pieces_are_small(store: MediaStore, rendered: Path) -> None:
    await store.put_file(KEY, rendered)
    sizes = [len(chunk) async for chunk in store.read(KEY)]
    assert max(sizes) <= MAX_CHUNK_BYTES
    assert sum(sizes) == len(CONTENT)


async def test_what_is_not_there(store: MediaStore) -> None:
    assert await store.head(KEY) is None
    with pytest.raises(MissingMediaError):
        await content(store, KEY)
    await store.delete(KEY)
    assert [file async for file in store.list()] == []


async def test_deleting(store: MediaStore, rendered: Path) -> None:
    await store.put_file(KEY, rendered)
    await store.delete(KEY)
    assert await store.head(KEY) is None
    await store.delete(KEY)


async def test_putting_again_replaces_and_changes_the_etag(
    store: MediaStore, rendered: Path
) -> None:
    first = await store.put_file(KEY, rendered)
    rendered.write_bytes(b"another")
    second = await store.put_file(KEY, rendered)
    assert await content(store, KEY) == b"another"
    assert second.etag != first.etag


async def test_listing_by_folder(store: MediaStore, tmp_path: Path) -> None:
    keys = ["ab/01.wav", "ab/01.json", "ab/cd/02.wav.part1", "cd/03.mp3"]
    for key in keys:
        path = tmp_path / "one"
        path.write_bytes(key.encode())
        await store.put_file(key, path)
    assert sorted([file.key async for file in store.list()]) == sorted(keys)
    assert sorted([file.key async for file in store.list("ab/")]) == sorted(keys[:3])
    assert [file.key async for file in store.list("a")] == []
    assert {file.key: file.size_bytes async for file in store.list("cd")} == {"cd/03.mp3": 9}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ab",
        "/ab.wav",
        "../ab.wav",
        "ab/../cd.wav",
        "ab//cd.wav",
        "ab/.wav",
        "ab.wav/",
        "AB.wav",
        "ab.wav\n",
        "ab cd.wav",
        "xy.wav",
        "ab.w%61v",
        "ab.wav\x00",
        "a" * 300 + ".wav",
    ],
)
async def test_nothing_but_keys_are_taken(store: MediaStore, rendered: Path, key: str) -> None:
    with pytest.raises(UsageError):
        await store.put_file(key, rendered)
    with pytest.raises(UsageError):
        await store.head(key)
    with pytest.raises(UsageError):
        await content(store, key)
    with pytest.raises(UsageError):
        await store.delete(key)
    assert rendered.exists()


@pytest.mark.parametrize("prefix", ["..", "/", "ab/../cd", "x", "ab.wav", "ab\n"])
async def test_nothing_but_folders_are_listed(store: MediaStore, prefix: str) -> None:
    with pytest.raises(UsageError):
        [file async for file in store.list(prefix)]


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 4)])
async def test_ranges_that_are_none(
    store: MediaStore, rendered: Path, start: int, end: int
) -> None:
    await store.put_file(KEY, rendered)
    with pytest.raises(UsageError):
        await content(store, KEY, start, end)


async def test_a_missing_source_is_the_machines_failure(store: MediaStore, tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        await store.put_file(KEY, tmp_path / "nowhere")
    assert await store.head(KEY) is None
