"""Runs a program that is given bytes and answers with bytes, and lets it neither run nor talk
without end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from callreel.calls.voice import SpeechError

_CHUNK_BYTES = 65_536
_MAX_COMPLAINT_BYTES = 2000
_CLOSING_S = 5.0
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV",
)  # fmt: skip
"""What a program may know of ours; there are secrets in the rest."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    status: int
    """Exit status; negative: the signal that ended it."""
    output: bytes = field(repr=False)
    """What it wrote to stdout."""
    complaint: str
    """The beginning of what it wrote to stderr, for people."""


async def run(
    arguments: Sequence[str], stdin: bytes = b"", *, timeout_s: float, max_bytes: int
) -> Finished:
    """Run a program without a shell, to its end.

    Raises ``SpeechError`` where it cannot be started, takes longer, or says more; it is killed
    then, as it is when this is cancelled.
    """
    what = arguments[0].rpartition("/")[2]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that what it has started can be ended with it
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
    except OSError as error:
        raise SpeechError(f"{what} cannot be run: {error.strerror}") from None
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(_beginning(process.stderr))
    feeding = asyncio.create_task(_feed(process.stdin, stdin))
    try:
        async with asyncio.timeout(timeout_s):
            output = await _bounded(process.stdout, max_bytes)
            if output is None:
                raise SpeechError(f"{what} said too much: more than {max_bytes} bytes")
            status = await process.wait()
            complaint = await complaints
    except TimeoutError:
        raise SpeechError(f"{what} did not end within {timeout_s:g} s") from None
    finally:
        await _end(process, complaints, feeding)
    return Finished(status, output, complaint)


async def _end(process: asyncio.subprocess.Process, *tasks: asyncio.Task[Any]) -> None:
    """See that it is gone, with whatever it has started, and that its pipes are closed."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    assert process.stdout is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSING_S):
            # A pipe that is not read to its end is not closed.
            while await process.stdout.read(_CHUNK_BYTES):
                pass
            await asyncio.wait(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it did not want to hear all of it
        stream.write(data)
        await stream.drain()
    stream.close()


async def _bounded(stream: asyncio.StreamReader, max_bytes: int) -> bytes | None:
    received = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        received += chunk
        if len(received) > max_bytes:
            return None
    return bytes(received)


async def _beginning(stream: asyncio.StreamReader) -> str:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        kept += chunk[: _MAX_COMPLAINT_BYTES - len(kept)]
    return " ".join(kept.decode(errors="replace").split())
