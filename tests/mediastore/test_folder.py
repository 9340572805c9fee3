"""What only a folder can be asked: durability, permissions, other filesystems, full disks."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from callreel.base.errors import MachineError, UsageError
from callreel.mediastore.store import MediaStore

KEY = "ab/cd/ef01.wav"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    path = tmp_path / "rendered.wav"
    path.write_bytes(b"RIFF" * 1000)
    return path


@pytest.fixture
def elsewhere(folder: Path) -> Iterator[Path]:
    """A file on another filesystem."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == folder.parent.stat().st_dev:
        pytest.skip("no second filesystem at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shm) as made:
        path = Path(made) / "rendered.wav"
        path.write_bytes(b"RIFF" * 1_000_000)
        yield path


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_rename_with_file_and_every_folder_synced(
    folder: Path, rendered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MediaStore.from_url(folder)
    inode = rendered.stat().st_ino
    synced: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    await store.put_file(KEY, rendered)
    assert (folder / KEY).stat().st_ino == inode
    assert synced == [
        str(folder),  # holds ab now
        str(folder / "ab"),  # holds cd now
        str(rendered),
        str(folder / "ab/cd"),
    ]
    synced.clear()
    await store.delete(KEY)
    assert synced == [str(folder / "ab/cd")]


async def test_calls_are_private(folder: Path, rendered: Path) -> None:
    store = MediaStore.from_url(folder)
    await store.put_file(KEY, rendered)
    for path in (folder, folder / "ab", folder / "ab/cd"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEY).stat().st_mode) == 0o600
    assert store.local_path(KEY) == folder / KEY


async def test_from_another_filesystem(folder: Path, elsewhere: Path) -> None:
    store = MediaStore.from_url(folder)
    stored = await store.put_file(KEY, elsewhere)
    assert stored.size_bytes == 4_000_000
    assert (folder / KEY).read_bytes() == b"RIFF" * 1_000_000
    assert not elsewhere.exists()
    assert everything_in(folder) == [KEY]


async def test_a_disk_that_fills_while_copying_harms_nothing(
    folder: Path, rendered: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MediaStore.from_url(folder)
    await store.put_file(KEY, rendered)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(MachineError, match="free some disk space"):
        await store.put_file(KEY, elsewhere)
    assert elsewhere.exists()
    assert (folder / KEY).read_bytes() == b"RIFF" * 1000
    assert everything_in(folder) == [KEY]


async def test_what_is_not_ours_is_not_listed(folder: Path, rendered: Path) -> None:
    store = MediaStore.from_url(folder)
    await store.put_file(KEY, rendered)
    (folder / "ab" / ".ef01.wav.part").write_bytes(b"half")
    (folder / "lost+found").mkdir()
    (folder / "README").write_text("hello")
    assert [file.key async for file in store.list()] == [KEY]


async def test_a_folder_by_url(tmp_path: Path, rendered: Path) -> None:
    folder = tmp_path / "with space"
    store = MediaStore.from_url(folder.as_uri())
    await store.put_file(KEY, rendered)
    assert everything_in(folder) == [KEY]


def test_what_is_no_store() -> None:
    with pytest.raises(UsageError):
        MediaStore.from_url("ftp://example.com/")


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="cannot be used"):
        MediaStore.from_url(tmp_path / "file" / "media")


def test_buckets_are_reached_by_url() -> None:
    store = MediaStore.from_url("s3://bucket/prefix", region="eu-central-1", skip_signature="true")
    assert store.local_path(KEY) is None
    with pytest.raises(UsageError):
        MediaStore.from_url("s3://bucket", no_such_option="x")
