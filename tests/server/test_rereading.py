from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from callreel.base.errors import UsageError
from callreel.server.rereading import REREAD, Rereading, merged
from callreel.server.settings import Settings

DOCS = Path(__file__).parents[2] / "docs/settings.md"


def test_what_can_change_does_and_the_rest_waits() -> None:
    current = Settings(sip="127.0.0.1:1", max_calls=3)
    fresh = Settings(sip="127.0.0.1:2", max_calls=4, workers=2, refuse_silently=True)
    settings, taken, waiting = merged(current, fresh)
    assert (settings.sip, settings.max_calls, settings.workers) == ("127.0.0.1:1", 4, 0)
    assert settings.refuse_silently
    assert (sorted(taken), sorted(waiting)) == (
        ["max_calls", "refuse_silently"],
        ["sip", "workers"],
    )
    assert merged(settings, settings) == (settings, [], [])


def test_what_is_reread_is_documented() -> None:
    assert set(REREAD) <= set(Settings.model_fields)
    section = DOCS.read_text().partition("## Reading the file anew")[2]
    assert section
    for name in REREAD:
        assert f"`{name}`" in section


async def test_a_refusal_is_logged_and_the_next_time_is_no_worse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    files = [Settings(max_calls=1), Settings(max_calls=2), None, Settings(max_calls=4)]
    taken: asyncio.Queue[int] = asyncio.Queue()

    def load() -> Settings:
        found = files.pop(0)
        if found is None:
            raise UsageError("line 7 is bad")
        return found

    async def take(settings: Settings) -> None:
        taken.put_nowait(settings.max_calls)
        if settings.max_calls == 2:
            raise UsageError("there is no account x")

    rereading = Rereading(Settings(), load, take)
    task = asyncio.create_task(rereading.run())
    async with asyncio.timeout(5):
        for expected in (1, 2):
            rereading.ask()
            assert await taken.get() == expected
        rereading.ask()
        while "line 7 is bad" not in caplog.text:
            await asyncio.sleep(0.01)
        rereading.ask()
        assert await taken.get() == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "the settings stay as they are: there is no account x" in caplog.text
