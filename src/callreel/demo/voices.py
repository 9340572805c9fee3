"""Who speaks when: found in the finished file, and drawn for the terminal."""

from __future__ import annotations

import itertools
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SPEECH_DBFS = -45.0


@dataclass(frozen=True, slots=True)
class Finding:
    """How a channel relates to a voice."""

    likeness: float
    """Normalised correlation at the best place, 0..1: near 1 where the voice is in the channel."""
    offset_s: float
    """Where in the voice the channel begins."""


def read_channels(path: Path) -> tuple[list[NDArray[np.int16]], int]:
    """The channels of a WAV, int16[n] each, and its rate in Hz."""
    with wave.open(str(path), "rb") as file:
        count, rate_hz = file.getnchannels(), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return [samples[channel::count] for channel in range(count)], rate_hz


def find_voice(channel: NDArray[np.int16], voice: NDArray[np.int16]) -> Finding:
    """Slide the channel along the whole voice and see where it fits best, and how well."""
    size = 1 << (len(channel) + len(voice) - 1).bit_length()
    heard = channel.astype(np.float64)
    said = voice.astype(np.float64)
    spectrum = np.fft.rfft(said, size) * np.conj(np.fft.rfft(heard, size))
    match = np.fft.irfft(spectrum, size)
    # Only where the voice covers the channel from its start; what is past its end was silence.
    places = match[: len(voice)]
    energy = np.concatenate(([0.0], np.cumsum(said**2)))
    ends = np.minimum(np.arange(len(voice)) + len(channel), len(voice))
    covered = energy[ends] - energy[: len(voice)]
    scale = np.sqrt(np.maximum(covered * np.sum(heard**2), 1.0))
    likeness = places / scale
    best = int(np.argmax(likeness))
    return Finding(float(likeness[best]), best / 8000)


def speech_columns(
    channel: NDArray[np.int16], rate_hz: int, *, seconds: float, columns: int
) -> list[bool]:
    """Whether somebody speaks in each of ``columns`` equal parts of ``seconds``."""
    edges = np.linspace(0, seconds * rate_hz, columns + 1).astype(int)
    spoken = []
    for start, end in itertools.pairwise(edges):
        part = channel[start:end].astype(np.float64)
        level = np.sqrt(np.mean(part**2)) / 32768 if len(part) else 0.0
        spoken.append(20 * np.log10(max(level, 1e-9)) > _SPEECH_DBFS)
    return spoken


def draw(channels: list[NDArray[np.int16]], rate_hz: int, names: list[str]) -> list[str]:
    """A line for each channel and a time axis, a column every quarter second."""
    seconds = max(len(channel) for channel in channels) / rate_hz
    columns = max(1, round(seconds * 4))
    width = max(len(name) for name in names)
    lines = []
    for name, channel in zip(names, channels, strict=True):
        spoken = speech_columns(channel, rate_hz, seconds=seconds, columns=columns)
        lines.append(f"  {name:<{width}}  " + "".join("█" if one else "·" for one in spoken))
    axis = "".join(f"{f'|{second} s':<20}" for second in range(0, int(seconds) + 1, 5))
    lines.append(f"  {'':<{width}}  {axis[:columns]}")
    return lines
