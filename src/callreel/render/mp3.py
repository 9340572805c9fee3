"""A finished WAV into an MP3, in constant memory. The same WAV gives the same bytes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.error import FFmpegError

from callreel.base.errors import MachineError
from callreel.journal.durable import sync_folder

BIT_RATE_PER_CHANNEL = 32_000
"""Of speech sampled at 8 kHz this is transparent, and a fourth of the WAV."""
LAME_QUALITY = 7
"""0 best, 9 fastest. 7 costs half of the default, 5, and is not told from it on calls."""


def encode_mp3(wav: Path, mp3: Path) -> None:
    """Encode ``wav``, mono or stereo, as ``mp3``: written beside it, synced, renamed.

    Raises ``MachineError`` if the WAV cannot be read or the file cannot be written.
    """
    part = mp3.with_name(mp3.name + ".part")
    try:
        _encode(wav, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(mp3)
        sync_folder(mp3.parent)
    except (OSError, FFmpegError, ValueError) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise MachineError(f"cannot make an MP3: {error}", path=wav) from error


def _encode(wav: Path, part: Path) -> None:
    with av.open(str(wav), format="wav") as source:
        if not source.streams.audio:
            raise ValueError("there is no audio in it")
        voice = source.streams.audio[0]
        channels = voice.codec_context.channels
        if channels not in (1, 2):
            raise ValueError(f"{channels} channels cannot be encoded")
        # Without bit-exactness the library writes its own version into the file.
        flags = {"fflags": "+bitexact"}
        with av.open(str(part), "w", format="mp3", options=flags) as target:
            stream: AudioStream = target.add_stream("libmp3lame", rate=voice.codec_context.rate)
            context = stream.codec_context
            context.layout = "mono" if channels == 1 else "stereo"
            context.format = "s16p"
            context.bit_rate = BIT_RATE_PER_CHANNEL * channels
            context.options = {"compression_level": str(LAME_QUALITY)}
            context.flags |= Flags.bitexact
            for frame in source.decode(voice):
                assert isinstance(frame, AudioFrame)
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
