"""A finished WAV mixed down to one channel, in constant memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from callreel.audio.mixing import saturate
from callreel.base.errors import MachineError
from callreel.journal.durable import sync_folder
from callreel.render.wav import WavFormat, WavWriter

_CHUNK_FRAMES = 1 << 18


def mix_down(wav: Path, mono: Path) -> None:
    """Add the channels of ``wav``, one of ours, up into ``mono``: written aside, synced, renamed.

    What a mono recording of the same call would hold. Raises ``MachineError`` if the WAV cannot be
    read or the file cannot be written.
    """
    part = mono.with_name(mono.name + ".part")
    try:
        with wav.open("rb") as source, part.open("wb+") as file:
            about = WavFormat.read(source)
            target = WavWriter(file, rate_hz=about.rate_hz, channels=1)
            left = about.frames
            while left:
                raw = source.read(min(left, _CHUNK_FRAMES) * about.channels * 2)
                frames = np.frombuffer(raw, "<i2").reshape(-1, about.channels)
                if not len(frames):
                    raise ValueError("it ends early")
                target.write(saturate(frames.sum(axis=1, dtype=np.int32, keepdims=True)))
                left -= len(frames)
            target.finish()
            file.flush()
            os.fsync(file.fileno())
        part.replace(mono)
        sync_folder(mono.parent)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise MachineError(f"cannot mix a recording down: {error}", path=wav) from error
