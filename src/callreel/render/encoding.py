"""A finished WAV into another format, in constant memory. The same WAV gives the same bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from callreel.base.errors import MachineError
from callreel.calls.rendering import Encoding
from callreel.journal.durable import sync_folder
from callreel.render.containers import write_flac, write_opus
from callreel.render.mp3 import write_mp3
from callreel.render.wav import WavFormat

_CHUNK_FRAMES = 1 << 16


def encode(wav: Path, target: Path, encoding: Encoding) -> None:
    """Encode ``wav``, one of ours, as ``target``: written beside it, synced, renamed.

    Raises ``MachineError`` if the WAV cannot be read or the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        with wav.open("rb") as source:
            about = WavFormat.read(source)
            if about.channels not in (1, 2):
                raise ValueError(f"{about.channels} channels cannot be encoded")
            _encode(source, about, part, encoding)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except (OSError, FFmpegError, ValueError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise MachineError(f"cannot make a {encoding.name} file: {error}", path=wav) from error


def _encode(source: BinaryIO, about: WavFormat, part: Path, encoding: Encoding) -> None:
    chunks = _chunks(source, about)
    match encoding:
        case Encoding.MP3:
            with part.open("wb+") as file:
                write_mp3(chunks, about, file)
        case Encoding.FLAC:
            write_flac(chunks, about, part)
        case Encoding.OPUS:
            write_opus(chunks, about, part)


def _chunks(source: BinaryIO, about: WavFormat) -> Iterator[NDArray[np.int16]]:
    """The samples, interleaved; int16[n · channels]. Raises ``ValueError`` if it ends early."""
    left = about.frames
    while left:
        wanted = min(left, _CHUNK_FRAMES)
        raw = source.read(wanted * about.channels * 2)
        if len(raw) != wanted * about.channels * 2:
            raise ValueError("it ends early")
        yield np.frombuffer(raw, "<i2")
        left -= wanted
