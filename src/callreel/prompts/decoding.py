"""The process that turns a file from who knows where into samples: ``python -m …decoding``.

It is started for one file and ends with it. It holds itself to bounds before it looks at the file,
so that what takes over a decoder has no memory, time or disk to speak of, and can open no file, no
connection and no process.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer

from callreel.calls.voice import PROMPT_RATE_HZ
from callreel.prompts.formats import CODECS, AudioFormat

REFUSED = 3
"""Exit status with which the reason is on stdout."""
MAX_SECONDS = 3600
"""Of a prompt."""
MAX_CPU_S = 60
MAX_MEMORY_BYTES = 512 * 1024**2
"""Of address space, besides what libraries have taken by then."""

_HEADERLESS = frozenset({AudioFormat.ULAW, AudioFormat.ALAW})
_MAX_BAD_PACKETS = 1000
_NICENESS = 5


class _RefusedError(Exception):
    """The file cannot be played; the text is for people, and quotes nothing of the file."""


def main(arguments: Sequence[str]) -> int:
    """``FORMAT SOURCE DESTINATION``; the exit status."""
    kind, source, destination = AudioFormat[arguments[0]], Path(arguments[1]), Path(arguments[2])
    _load_all()
    try:
        with source.open("rb") as audio, destination.open("wb") as samples:
            _hold_to_bounds(files=1 + max(audio.fileno(), samples.fileno()))
            _decode(kind, audio, samples)
    except _RefusedError as reason:
        sys.stdout.write(str(reason))
        return REFUSED
    except MemoryError:
        sys.stdout.write("it needs too much memory")
        return REFUSED
    return 0


def _load_all() -> None:
    """Decode a file of our own: what is loaded when it is first needed cannot be loaded later."""
    own = io.BytesIO()
    with wave.open(own, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(2 * PROMPT_RATE_HZ)
        file.writeframes(bytes(4 * PROMPT_RATE_HZ))
    own.seek(0)
    _decode(AudioFormat.WAV, own, io.BytesIO())


def _hold_to_bounds(*, files: int) -> None:
    os.nice(_NICENESS)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error then, not a death
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_AS, _address_space_bytes() + MAX_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, MAX_SECONDS * PROMPT_RATE_HZ * 2),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, files),
    ):
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _decode(kind: AudioFormat, audio: BinaryIO, samples: BinaryIO) -> None:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=PROMPT_RATE_HZ)
    left = MAX_SECONDS * PROMPT_RATE_HZ
    written = 0

    def keep(frame: av.AudioFrame | None) -> None:
        nonlocal left, written
        for piece in resampler.resample(frame):
            left -= piece.samples
            if left < 0:
                raise _RefusedError(f"it is longer than {MAX_SECONDS // 60} minutes")
            written += samples.write(piece.to_ndarray().astype(np.dtype("<i2")).tobytes())

    for frame in _frames(kind, audio):
        keep(frame)
    if written:
        keep(None)
    else:
        raise _RefusedError("there is no audio in it")


def _frames(kind: AudioFormat, audio: BinaryIO) -> Iterator[av.AudioFrame]:
    # FFmpeg reads this file alone: it is given no name, and a kind that opens no others.
    options = {"protocol_whitelist": "none", "max_streams": "8"}
    if kind in _HEADERLESS:
        options["sample_rate"] = str(PROMPT_RATE_HZ)
    try:
        container = av.open(
            audio, "r", format=kind.value, options=options, metadata_errors="ignore"
        )
    except (av.FFmpegError, ValueError, OSError):
        raise _RefusedError("it is damaged, or no audio") from None
    with container:
        yield from _decoded(container)


def _decoded(container: InputContainer) -> Iterator[av.AudioFrame]:
    """What can be decoded, up to where a file is cut off."""
    if not container.streams.audio:
        raise _RefusedError("there is no audio in it")
    stream = container.streams.audio[0]
    if stream.codec_context is None or stream.codec_context.name not in CODECS:
        raise _RefusedError("it is of a kind that cannot be played")
    stream.codec_context.thread_count = 1
    bad = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            frames = packet.decode()
        except StopIteration:
            return
        except av.InvalidDataError:
            bad += 1
            if bad > _MAX_BAD_PACKETS:
                raise _RefusedError("it is damaged, or no audio") from None
            continue
        except (av.FFmpegError, ValueError):
            return
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                yield frame


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
