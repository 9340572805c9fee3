"""Sounds as clips: files read and encoded, tones made. Encoded prompts are remembered."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from callreel.audio.dtmf import dtmf
from callreel.audio.encoding import FRAME_MS, FRAME_SAMPLES, PLAYED_HZ, Encoding, whole_frames
from callreel.audio.tone import tone
from callreel.base.errors import MachineError, UsageError
from callreel.calls.voice import Digits, Prompt, Silence, Sound, Tone
from callreel.capture.player import (
    END_FRAMES,
    GAP_FRAMES,
    PRESSED_FRAMES,
    Audio,
    Clip,
    Format,
    Key,
    Quiet,
)
from callreel.wire.telephone_event import EVENTS

MAX_PROMPT_SAMPLES = 3600 * PLAYED_HZ
"""Of one file: an hour."""
CACHED_BYTES = 64 * 1024 * 1024
"""Encoded prompts that are remembered."""
WAIT_FRAMES = 500 // FRAME_MS
"""What ``w`` among keys waits."""
_TONE_DBFS = -15.0
_PIECE_SAMPLES = 100 * FRAME_SAMPLES


class Prompts:
    """Makes clips. Reads files: to be called where that may take its time."""

    def __init__(self, cached_bytes: int = CACHED_BYTES) -> None:
        self._cached_bytes = cached_bytes
        self._known: OrderedDict[tuple[Path, int, int, str], Audio] = OrderedDict()
        self._held_bytes = 0

    def clips(self, sounds: Sequence[Sound], form: Format) -> list[Clip]:
        """Sounds as a peer of this format is played them. However they are encoded, they last as
        long. Raises ``MachineError`` for a file that cannot be read, ``UsageError`` for one that
        is too long."""
        clips: list[Clip] = []
        for sound in sounds:
            match sound:
                case Prompt(path):
                    clips.append(self._prompt(path, form.encoding))
                case Silence(ms):
                    clips.append(Quiet(frames_of(ms)))
                case Tone(hz, ms):
                    clips.append(_tone(hz, frames_of(ms), form.encoding))
                case Digits(keys):
                    clips += _keys(keys, form)
        return [clip for clip in clips if clip.frames]

    def _prompt(self, path: Path, encoding: Encoding) -> Audio:
        try:
            # Whatever is there, nobody waits for it to say something.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise OSError(errno.EINVAL, "not a file")
                key = (path, about.st_mtime_ns, about.st_size, encoding.name)
                known = self._known.get(key)
                if known is not None:
                    self._known.move_to_end(key)
                    return known
                if about.st_size > 2 * MAX_PROMPT_SAMPLES:
                    raise UsageError(f"{path} is longer than {MAX_PROMPT_SAMPLES // PLAYED_HZ} s")
                pieces = []
                # In pieces: between them, whoever waits for the interpreter gets it.
                left = about.st_size
                while piece := file.read(min(left, 2 * _PIECE_SAMPLES)):
                    left -= len(piece)
                    samples = np.frombuffer(piece[: len(piece) // 2 * 2], "<i2").astype(np.int16)
                    pieces.append(encoding.encode(whole_frames(samples)))
        except OSError as error:
            raise MachineError(f"cannot read a prompt: {error.strerror}", path=path) from error
        payloads = b"".join(pieces)
        made = Audio(payloads, len(payloads) // encoding.frame_bytes)
        self._known[key] = made
        self._held_bytes += len(payloads)
        while self._held_bytes > self._cached_bytes:
            _, dropped = self._known.popitem(last=False)
            self._held_bytes -= len(dropped.payloads)
        return made


def frames_of(ms: int) -> int:
    """The frames that last so long, the last one begun counting in full."""
    return -(-ms // FRAME_MS)


def _tone(hz: int, frames: int, encoding: Encoding) -> Audio:
    """A sine of a whole number of hertz repeats itself each second."""
    second = PLAYED_HZ // FRAME_SAMPLES
    samples = tone(hz, min(frames, second) * FRAME_SAMPLES, level_dbfs=_TONE_DBFS)
    payloads = encoding.encode(samples)
    repeated = payloads * -(-frames // second) if frames else b""
    return Audio(repeated[: frames * encoding.frame_bytes], frames)


def _keys(keys: str, form: Format) -> list[Clip]:
    clips: list[Clip] = []
    for key in keys:
        if key == "w":
            clips.append(Quiet(WAIT_FRAMES))
        elif form.event_type is not None:
            clips += [Key(EVENTS.index(key)), Quiet(GAP_FRAMES)]
        else:
            payloads = form.encoding.encode(dtmf(key, PRESSED_FRAMES * FRAME_SAMPLES))
            clips += [Audio(payloads, PRESSED_FRAMES), Quiet(END_FRAMES + GAP_FRAMES)]
    return clips
