from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from callreel.audio.tone import tone
from callreel.base.errors import MachineError
from callreel.calls.model import (
    Recording,
    RecordingChannels,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
    Trim,
)
from callreel.calls.rendering import Encoding, Renderer
from callreel.render.job import RenderSpec
from callreel.render.pool import TRIES, JournalRenderer, RenderPool
from callreel.testing.doomed import about_me, die, die_once
from callreel.testing.link import NS, RECORDING_ID, Sender, Taped, journal_blocks, write_journal

DUAL = RenderSpec(RECORDING_ID, channel_count=2)
START = datetime(2026, 1, 1, tzinfo=UTC)
RECORDING = Recording(
    id=RECORDING_ID,
    account_id="00" * 16,
    call_id="cd" * 16,
    status=RecordingStatus.STOPPED,
    source=RecordingSource.START_CALL_RECORDING_API,
    request=RecordingRequest(channels=RecordingChannels.DUAL),
    created_at=START,
    updated_at=START,
)


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    pool = RenderPool(1)
    yield pool
    await pool.close()


def make_journal(root: Path) -> Path:
    flow = Sender().send(tone(440, 2 * 8000))
    return write_journal(root, journal_blocks([Taped(0, flow)], length_ns=2 * NS))


async def test_it_renders_encodes_and_discards(pool: RenderPool, tmp_path: Path) -> None:
    make_journal(tmp_path / "journals")
    scratch = tmp_path / "scratch"
    renderer: Renderer = JournalRenderer(pool, tmp_path / "journals", scratch)
    rendered = await renderer.render(RECORDING)
    assert rendered.wav == scratch / f"{RECORDING_ID}.wav"
    assert rendered.wav.stat().st_size == rendered.size_bytes
    assert (rendered.duration_ms, rendered.absent_code) == (2000, None)
    await renderer.encode(rendered.wav, tmp_path / "out.mp3", Encoding.MP3)
    assert (tmp_path / "out.mp3").stat().st_size > 8000
    await renderer.discard(RECORDING_ID)
    assert list(scratch.iterdir()) == list((tmp_path / "journals").iterdir()) == []
    await renderer.discard(RECORDING_ID)
    silent = replace(RECORDING, request=RecordingRequest(trim=Trim.TRIM_SILENCE))
    assert (await renderer.render(silent)).absent_code == 16101


async def test_a_journal_that_holds_what_cannot_be_heard_is_kept_until_it_is_deleted(
    pool: RenderPool, tmp_path: Path
) -> None:
    journals = tmp_path / "journals"
    strange = Sender(payload_type=96).send_payloads(np.zeros((50, 40), np.uint8), ticks=160)
    journal = write_journal(journals, journal_blocks([Taped(0, strange)], length_ns=NS))
    renderer: Renderer = JournalRenderer(pool, journals, tmp_path / "scratch")
    rendered = await renderer.render(RECORDING)
    report = json.loads(rendered.report.read_text())
    assert (rendered.duration_ms, report["clean"], report["journal"]["kept"]) == (1000, False, True)
    assert any("nothing of it can be heard" in problem for problem in report["problems"])
    await renderer.release(RECORDING_ID)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert await renderer.journals() == [RECORDING_ID]
    assert {path.name for path in journal.iterdir()} == {"000001.seg", "kept"}
    # It can still be rendered: the same, and with its codec known it is let go.
    assert (await renderer.render(RECORDING)).sha256 == rendered.sha256
    write_journal(
        journals, journal_blocks([Taped(0, Sender().send(tone(440, 8000)))], length_ns=NS)
    )
    await renderer.render(RECORDING)
    await renderer.release(RECORDING_ID)
    assert await renderer.journals() == []
    write_journal(journals, journal_blocks([Taped(0, strange)], length_ns=NS))
    await renderer.render(RECORDING)
    await renderer.discard(RECORDING_ID)
    assert await renderer.journals() == []


async def test_children_give_way_to_calls(pool: RenderPool) -> None:
    _, niceness, policy, ignored = await pool._run(about_me)
    assert niceness == 19
    assert policy == os.SCHED_BATCH
    assert ignored


async def test_what_a_job_raises_reaches_the_caller(pool: RenderPool, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="name of its recording") as caught:
        await pool.render(tmp_path / "other", tmp_path / "out", DUAL)
    assert caught.value.path == tmp_path / "other"
    with pytest.raises(MachineError, match="MP3"):
        await pool.encode(tmp_path / "none.wav", tmp_path / "out.mp3", Encoding.MP3)


async def test_a_killed_child_takes_nothing_along(pool: RenderPool, tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "journals")
    killed, rendered = await asyncio.gather(
        pool._run(die_once, tmp_path / "marker"),
        pool.render(journal, tmp_path / "out", DUAL),
    )
    assert killed == "done"
    assert rendered.duration_ms == 2000


async def test_a_job_that_kills_every_child_is_given_up_alone(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "journals")
    pool = RenderPool(2)
    doomed, rendered = await asyncio.gather(
        pool._run(die, tmp_path / "counter"),
        pool.render(journal, tmp_path / "out", DUAL),
        return_exceptions=True,
    )
    assert isinstance(doomed, MachineError)
    assert "died" in str(doomed)
    assert (tmp_path / "counter").read_text() == "x" * TRIES
    assert not isinstance(rendered, BaseException)
    await pool.close()


async def test_closing_waits_for_what_runs_and_drops_what_waits(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "journals")
    pool = RenderPool(1)
    jobs = [asyncio.create_task(pool.render(journal, tmp_path / f"out{n}", DUAL)) for n in range(9)]
    await jobs[0]
    await pool.close()
    ended = await asyncio.gather(*jobs, return_exceptions=True)
    for number, end in enumerate(ended):
        if isinstance(end, MachineError):
            assert "closed" in str(end)
        else:
            assert not isinstance(end, BaseException)
            assert end.wav == tmp_path / f"out{number}.wav"
    assert list(tmp_path.glob("*.part")) == []


async def test_a_closed_pool_says_so(tmp_path: Path) -> None:
    pool = RenderPool(1)
    await pool.close()
    with pytest.raises(MachineError, match="closed"):
        await pool.encode(tmp_path / "in.wav", tmp_path / "out.mp3", Encoding.MP3)


PARENT = """
import asyncio, os
from callreel.render.pool import RenderPool
def main():
    async def run():
        pool = RenderPool(1)
        print(await pool._run(os.getpid), flush=True)
        await asyncio.sleep(60)
    asyncio.run(run())
if __name__ == "__main__":
    main()
"""


async def test_children_die_with_the_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    deadline = time.monotonic() + 10
    while _is_alive(child):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
