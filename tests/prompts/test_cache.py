"""Prompts on disk."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callreel.base.errors import MachineError
from callreel.calls.voice import SpeechError
from callreel.prompts.cache import KEEP_S, PromptCache
from callreel.prompts.sharing import Shared


class HandClock:
    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Maker:
    """Writes so many bytes, and counts how often it was asked."""

    def __init__(self, size: int = 100, error: Exception | None = None) -> None:
        self.size, self.error, self.made = size, error, 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, path: Path) -> None:
        self.made += 1
        path.write_bytes(b"x" * (self.size // 2))
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        path.write_bytes(b"x" * self.size)


def key(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def cache(tmp_path: Path, clock: HandClock) -> PromptCache:
    return PromptCache(tmp_path / "prompts", max_bytes=250, clock=clock)


async def test_a_prompt_is_made_once_and_is_there_after_a_restart(
    cache: PromptCache, tmp_path: Path, clock: HandClock
) -> None:
    make = Maker()
    path = await cache.get(key(1), make)
    assert path.read_bytes() == b"x" * 100
    assert await cache.get(key(1), make) == path
    (tmp_path / "prompts" / f"{key(2)}.part").write_bytes(b"half")  # as a crash leaves it
    again = PromptCache(tmp_path / "prompts", max_bytes=250, clock=clock)
    assert await again.get(key(1), make) == path
    assert (make.made, again.size_bytes) == (1, 100)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


async def test_many_at_once_are_one_piece_of_work_that_outlives_who_asked(
    cache: PromptCache,
) -> None:
    make = Maker()
    make.go_on.clear()
    asked = [asyncio.create_task(cache.get(key(1), make)) for _ in range(10)]
    while not make.made:
        await asyncio.sleep(0)
    asked[0].cancel()
    assert not any(path.suffix == ".raw" for path in cache._folder.iterdir())  # never half
    make.go_on.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert len({path for path in found[1:] if isinstance(path, Path)}) == 1
    assert make.made == 1


async def test_what_fails_leaves_nothing_and_is_tried_anew(cache: PromptCache) -> None:
    for error, raised in ((SpeechError("no"), SpeechError), (OSError(28, "full"), SpeechError)):
        with pytest.raises(raised):
            await cache.get(key(1), Maker(error=error))
    assert list(cache._folder.iterdir()) == []
    assert (await cache.get(key(1), Maker())).exists()


async def test_the_least_recently_used_goes_but_nothing_that_may_be_played(
    cache: PromptCache, clock: HandClock
) -> None:
    first = await cache.get(key(1), Maker())
    clock.pass_(1)
    second = await cache.get(key(2), Maker())
    with pytest.raises(SpeechError, match="no room"):
        await cache.get(key(3), Maker())
    clock.pass_(KEEP_S - 2)
    assert await cache.get(key(1), Maker()) == first  # used again
    clock.pass_(2)
    third = await cache.get(key(3), Maker())
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    assert cache.size_bytes == 200
    make = Maker(size=1000)
    clock.pass_(2 * KEEP_S)
    with pytest.raises(SpeechError, match="no room"):
        await cache.get(key(4), make)


async def test_use_counts_across_restarts(
    cache: PromptCache, tmp_path: Path, clock: HandClock
) -> None:
    first = await cache.get(key(1), Maker())
    clock.pass_(1)
    second = await cache.get(key(2), Maker())
    clock.pass_(KEEP_S)
    await cache.get(key(1), Maker())
    again = PromptCache(tmp_path / "prompts", max_bytes=250, clock=clock)
    await again.get(key(3), Maker())
    assert (first.exists(), second.exists()) == (True, False)


async def test_a_file_that_somebody_removed_is_made_again(cache: PromptCache) -> None:
    make = Maker()
    (await cache.get(key(1), make)).unlink()
    assert (await cache.get(key(1), make)).exists()
    assert (make.made, cache.size_bytes) == (2, 100)


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="folder of prompts"):
        PromptCache(tmp_path / "file", max_bytes=1, clock=clock)


async def test_what_is_under_way_ends_when_closed() -> None:
    shared: Shared[int] = Shared()
    never = asyncio.Event()

    async def work() -> int:
        await never.wait()
        return 1

    asked = asyncio.create_task(shared.do("a", work))
    await asyncio.sleep(0)
    await shared.close()
    with pytest.raises(asyncio.CancelledError):
        await asked
