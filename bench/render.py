"""How fast a journal becomes audio: ``python bench/render.py [--minutes N]``.

Prints, in multiples of real time and of one core, journal to WAV on a good and on a bad network,
and WAV to MP3 beside what the ``ffmpeg`` command needs for the same samples at the same settings.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callreel.render.job import RenderSpec, render_recording
from callreel.render.mp3 import BIT_RATE_PER_CHANNEL, LAME_QUALITY, encode_mp3
from callreel.testing.link import (
    NS,
    RECORDING_ID,
    Link,
    Sender,
    Taped,
    journal_blocks,
    write_journal,
)

RATE_HZ = 8000


def voice(seconds: int, seed: int) -> NDArray[np.int16]:
    """Something like speech: coloured noise in syllables and pauses; int16."""
    noise = np.random.default_rng(seed).standard_normal(seconds * RATE_HZ).astype(np.float32)
    coloured = np.convolve(noise, np.hanning(12).astype(np.float32), "same")
    at = np.arange(seconds * RATE_HZ, dtype=np.float32) / RATE_HZ
    envelope = np.clip(np.sin(at * 9 + seed), 0, 1) * (np.sin(at * 0.7 + 3 * seed) > -0.2)
    samples: NDArray[np.int16] = (coloured * envelope * 2000).astype(np.int16)
    return samples


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds that it took, children included."""

    def spent() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))

    before = spent()
    work()
    return spent() - before


def render(folder: Path, seconds: int, name: str, links: tuple[Link, Link]) -> Path:
    """Measure journal to WAV; returns the WAV."""
    streams = [
        Taped(number, link.carry(Sender(ssrc=number, ppm=ppm).send(voice(seconds, number + 1))))
        for number, (link, ppm) in enumerate(zip(links, (20, -30), strict=True))
    ]
    journal = write_journal(folder / name, journal_blocks(streams, length_ns=seconds * NS))
    spec = RenderSpec(RECORDING_ID, channel_count=2)
    took = cpu_s(lambda: render_recording(journal, folder / name / "out", spec))
    packets = sum(len(taped.flow) for taped in streams)
    print(
        f"journal to WAV, dual, {name} network: {seconds / took:7.0f} x real time, "
        f"{took / packets * 1e6:.1f} us a packet"
    )
    return folder / name / "out.wav"


def compare_mp3(folder: Path, wav: Path, seconds: int, channels: int) -> None:
    """Measure WAV to MP3 beside ffmpeg's."""
    own = cpu_s(lambda: encode_mp3(wav, folder / "own.mp3"))
    label = "dual" if channels == 2 else "mono"
    print(f"WAV to MP3, {label}, callreel: {seconds / own:7.0f} x real time")
    program = shutil.which("ffmpeg")
    if program is None:
        print("ffmpeg is not installed: nothing to compare with")
        return
    rate = str(BIT_RATE_PER_CHANNEL * channels)
    quality = ["-compression_level", str(LAME_QUALITY)]
    encode = ["-c:a", "libmp3lame", "-b:a", rate, *quality, "-threads", "1"]
    command = [program, "-v", "error", "-y", "-i", str(wav), *encode, str(folder / "ffmpeg.mp3")]
    theirs = cpu_s(lambda: subprocess.run(command, check=True))
    print(
        f"WAV to MP3, {label}, ffmpeg:   {seconds / theirs:7.0f} x real time; "
        f"callreel runs at {theirs / own:.2f} of its speed"
    )


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=30, help="length of the call")
    seconds = parser.parse_args().minutes * 60
    print(f"a call of {seconds // 60} minutes, CPU time of one core, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as name:
        folder = Path(name)
        good = Link(jitter_ms=2), Link(seed=2, jitter_ms=2)
        bad = Link(jitter_ms=80, loss=0.02), Link(seed=2, jitter_ms=60, duplicate=0.01)
        dual = render(folder, seconds, "good", good)
        render(folder, seconds, "bad", bad)
        compare_mp3(folder, dual, seconds, 2)
        journal = folder / "good" / RECORDING_ID
        mixed = RenderSpec(RECORDING_ID)
        render_recording(journal, folder / "mono", mixed)
        compare_mp3(folder, folder / "mono.wav", seconds, 1)


if __name__ == "__main__":
    main()
