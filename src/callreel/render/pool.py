"""The render pool seen from asyncio: processes of their own, so that rendering disturbs no call.

A child that dies (out of memory, killed) takes only its job with it, which is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, TypeVar

from callreel.base.errors import MachineError
from callreel.calls.model import Recording
from callreel.calls.rendering import Encoding, Rendered
from callreel.journal.keys import JournalSeal
from callreel.render.encoding import encode
from callreel.render.job import KEPT, RenderResult, RenderSpec, render_recording
from callreel.render.mixdown import mix_down

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_ID = re.compile(r"[0-9a-f]{32}")

TRIES = 3
"""How often a job is begun whose process dies under it."""
_NICENESS = 19
"""Beside a media worker that wants a core, a render gets a sixtieth of it. What it reads and writes
waits for others too: the kernel goes by niceness there as well."""
_PR_SET_PDEATHSIG = 1


class RenderPool:
    """So many render processes, started when there is something to do. Of one event loop."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor: ProcessPoolExecutor | None = None
        self._alone = asyncio.Lock()
        self._closed = False

    async def warm(self) -> None:
        """Start the processes now, so that the first recording to end need not wait for them."""
        loop, executor = asyncio.get_running_loop(), self._running()
        ready = (loop.run_in_executor(executor, _nothing) for _ in range(self._workers))
        await asyncio.gather(*ready, return_exceptions=True)

    async def render(self, journal: Path, destination: Path, spec: RenderSpec) -> RenderResult:
        """See :func:`callreel.render.job.render_recording`. Raises ``MachineError``."""
        return await self._run(render_recording, journal, destination, spec)

    async def mixdown(self, wav: Path, mono: Path) -> None:
        """See :func:`callreel.render.mixdown.mix_down`. Raises ``MachineError``."""
        await self._run(mix_down, wav, mono)

    async def encode(self, wav: Path, target: Path, encoding: Encoding) -> None:
        """See :func:`callreel.render.encoding.encode`. Raises ``MachineError``."""
        await self._run(encode, wav, target, encoding)

    async def close(self) -> None:
        """Wait for the jobs that run, drop those that wait, and end the processes."""
        self._closed = True
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)

    async def _run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        executor = self._running()
        try:
            return await self._attempt(executor, job, args)
        except BrokenProcessPool:
            # Every job of the pool sees this, whichever of them it was that died.
            if self._executor is executor:
                self._executor = None
                executor.shutdown(wait=False)
        # So each is tried again alone: what kills its process kills no other job then.
        for _ in range(TRIES - 1):
            async with self._alone:
                self._refuse_if_closed()
                executor = _processes(1)
                try:
                    return await self._attempt(executor, job, args)
                except BrokenProcessPool:
                    pass
                finally:
                    await asyncio.to_thread(executor.shutdown)
        raise MachineError(
            f"the process rendering it died {TRIES} times",
            hint="look for the kernel's out-of-memory killer",
        )

    async def _attempt(
        self, executor: ProcessPoolExecutor, job: Callable[..., T], args: tuple[object, ...]
    ) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, job, *args)
        except asyncio.CancelledError:
            if self._closed and not _being_cancelled():
                raise MachineError("the render pool is closed") from None
            raise

    def _running(self) -> ProcessPoolExecutor:
        self._refuse_if_closed()
        if self._executor is None:
            self._executor = _processes(self._workers)
        return self._executor

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise MachineError("the render pool is closed")


def _being_cancelled() -> bool:
    """Whether it is this task that is cancelled, and not merely what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _processes(workers: int) -> ProcessPoolExecutor:
    # A fork would copy the event loop, its sockets and whatever its threads had locked.
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_settle,
        initargs=(os.getpid(),),
    )


def _nothing() -> None:
    """A job that is done once its process is up."""


def _settle(parent: int) -> None:
    """In a child: give way to calls, die with the parent, leave Ctrl-C and SIGTERM to it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    # Never in the way of what was just woken, such as a media worker.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    libc = ctypes.CDLL(None, use_errno=True)
    # To be exact: with the thread that spawned it, which is the event loop's.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It died before it was asked to be waited for.
        os._exit(1)


class JournalRenderer:
    """The :class:`callreel.calls.rendering.Renderer` of a server.

    ``journals`` is the folder of the journals' folders, ``scratch`` where rendered files wait to
    be taken into the media store; ``silence_dbfs`` is what ``trim-silence`` goes by; ``seal`` opens
    the keys of SRTP.
    """

    def __init__(
        self,
        pool: RenderPool,
        journals: Path,
        scratch: Path,
        *,
        silence_dbfs: float = -50.0,
        seal: JournalSeal | None = None,
    ) -> None:
        self._seal = seal
        self._silence_dbfs = silence_dbfs
        self._pool = pool
        self._journals = journals
        self._scratch = scratch

    async def render(self, recording: Recording) -> Rendered:
        """Turn a recording's journal into a WAV and an integrity report."""
        spec = RenderSpec(
            recording_id=recording.id,
            track=recording.request.track,
            channel_count=recording.request.channel_count,
            trim=recording.request.trim,
            silence_dbfs=self._silence_dbfs,
            key_secret=None if self._seal is None else self._seal.secret,
        )
        journal = self._journals / recording.id
        result = await self._pool.render(journal, self._scratch / recording.id, spec)
        return Rendered(
            wav=result.wav,
            report=result.report_path,
            duration_ms=result.duration_ms,
            size_bytes=result.size_bytes,
            sha256=result.sha256,
            absent_code=result.absent_code,
        )

    async def mixdown(self, wav: Path, mono: Path) -> None:
        """Mix all channels of a WAV into one."""
        await self._pool.mixdown(wav, mono)

    async def encode(self, wav: Path, target: Path, encoding: Encoding) -> None:
        """Encode a WAV."""
        await self._pool.encode(wav, target, encoding)

    async def journals(self) -> Sequence[str]:
        """Recordings that there is a journal of, by id."""
        return await asyncio.to_thread(self._found)

    def _found(self) -> list[str]:
        return [one.name for one in self._journals.iterdir() if _ID.fullmatch(one.name)]

    async def release(self, recording_id: str) -> None:
        """Delete what a finished recording needs no longer."""
        await asyncio.to_thread(self._discard, recording_id, kept=True)

    async def discard(self, recording_id: str) -> None:
        """Delete a recording's journal and whatever rendering left behind."""
        await asyncio.to_thread(self._discard, recording_id)

    def _discard(self, recording_id: str, *, kept: bool = False) -> None:
        try:
            for suffix in (".wav", ".json", ".wav.part", ".json.part"):
                Path(f"{self._scratch / recording_id}{suffix}").unlink(missing_ok=True)
            folder = self._journals / recording_id
            if kept and (folder / KEPT).exists():
                log.warning("recording %s: its journal is kept, see its report", recording_id)
                return
            while folder.exists():
                with contextlib.suppress(FileNotFoundError):  # somebody deletes it beside us
                    shutil.rmtree(folder)
        except OSError as error:
            raise MachineError(
                f"cannot delete a journal: {error.strerror}", path=self._journals / recording_id
            ) from error
