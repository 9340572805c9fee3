"""How fast a journal becomes audio: ``python -m bench.render [--minutes N]``.

Journal to WAV, in multiples of real time and of one core: G.711 on a good and on a bad network,
and the other codecs. Then the WAV into each format, beside what the ``ffmpeg`` and ``sox`` commands
need for the same samples at the same settings in the same run; ratios above 1 are in callreel's
favour.
All times are CPU time, system calls and children included.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from callreel.calls.rendering import Encoding
from callreel.render.containers import FLAC_LEVEL, OPUS_APPLICATION, OPUS_BIT_RATES, OPUS_COMPLEXITY
from callreel.render.encoding import encode
from callreel.render.job import RenderSpec, render_recording
from callreel.render.mp3 import LAME_QUALITY, bit_rate
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
WAV_GOAL = 3000


def voice(seconds: int, seed: int, rate_hz: int = RATE_HZ) -> NDArray[np.int16]:
    """Something like speech: coloured noise in syllables and pauses; int16."""
    noise = np.random.default_rng(seed).standard_normal(seconds * rate_hz).astype(np.float32)
    coloured = np.convolve(noise, np.hanning(12).astype(np.float32), "same")
    at = np.arange(seconds * rate_hz, dtype=np.float32) / rate_hz
    envelope = np.clip(np.sin(at * 9 + seed), 0, 1) * (np.sin(at * 0.7 + 3 * seed) > -0.2)
    samples: NDArray[np.int16] = (coloured * envelope * 2000).astype(np.int16)
    return samples


def cpu_s(work: Callable[[], object], tries: int = 3) -> float:
    """CPU seconds that it took, children included: the least of some tries."""

    def spent() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))

    took = []
    for _ in range(tries):
        before = spent()
        work()
        took.append(spent() - before)
    return min(took)


def render(folder: Path, name: str, streams: Sequence[Taped], seconds: int) -> float:
    """Measure journal to WAV, dual; in multiples of real time."""
    journal = write_journal(folder / name, journal_blocks(streams, length_ns=seconds * NS))
    spec = RenderSpec(RECORDING_ID, channel_count=2)
    took = cpu_s(lambda: render_recording(journal, folder / name / "out", spec))
    packets = sum(len(taped.flow) for taped in streams)
    print(
        f"journal to WAV, dual, {name}: {seconds / took:,.0f} x real time, "
        f"{took / packets * 1e6:.2f} us a packet"
    )
    return seconds / took


def g711(links: tuple[Link, Link], seconds: int) -> list[Taped]:
    """Two parties."""
    return [
        Taped(number, link.carry(Sender(ssrc=number, ppm=ppm).send(voice(seconds, number + 1))))
        for number, (link, ppm) in enumerate(zip(links, (20, -30), strict=True))
    ]


def other_codecs(folder: Path) -> None:
    """Measure the codecs that keep state, a minute of each."""
    seconds = 60
    for name, encoder, clock_hz, rate_hz, number, channels in (
        ("G722", "g722", 8000, 16_000, 9, 1),
        ("OPUS", "libopus", 48_000, 48_000, 111, 2),
    ):
        codec = {"payload_type": number, "name": name, "clock_rate_hz": clock_hz}
        streams = []
        for party in range(2):
            context = av.CodecContext.create(encoder, "w")
            assert isinstance(context, AudioCodecContext)
            context.sample_rate, context.layout, context.format = rate_hz, "mono", "s16"
            samples = voice(seconds, party + 1, rate_hz)
            payloads = []
            for at in range(0, len(samples), rate_hz // 50):
                part = samples[None, at : at + rate_hz // 50]
                frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
                frame.sample_rate, frame.pts = rate_hz, at
                payloads += [bytes(packet) for packet in context.encode(frame)]
            sender = Sender(ssrc=party, payload_type=number, clock_hz=clock_hz)
            flow = Link(seed=party, jitter_ms=2).carry(sender.send_frames(payloads, clock_hz // 50))
            streams.append(Taped(party, flow, codecs=[{**codec, "channels": channels}]))
        render(folder, name, streams, seconds)


def commands(wav: Path, out: Path, encoding: Encoding, channels: int) -> dict[str, list[str]]:
    """What others are asked for the same."""
    made = str(out.with_suffix(f".{encoding.value}"))
    kbit = bit_rate(RATE_HZ, channels) // 1000
    opus = str(OPUS_BIT_RATES[RATE_HZ] * channels)
    ffmpeg = {
        Encoding.MP3: ["libmp3lame", "-b:a", f"{kbit}k", "-compression_level", str(LAME_QUALITY)],
        Encoding.FLAC: ["flac", "-compression_level", str(FLAC_LEVEL)],
        Encoding.OPUS: [
            "libopus", "-b:a", opus, "-compression_level", str(OPUS_COMPLEXITY),
            "-application", OPUS_APPLICATION,
        ],
    }[encoding]  # fmt: skip
    sox = {
        Encoding.MP3: ["-C", f"{kbit}.{LAME_QUALITY}"],
        Encoding.FLAC: ["-C", str(FLAC_LEVEL)],
    }.get(encoding)
    asked = {
        "ffmpeg": ["-v", "error", "-y", "-i", str(wav), "-c:a", *ffmpeg, "-threads", "1", made]
    }
    if sox is not None:
        asked["sox"] = [str(wav), *sox, made]
    return asked


def compare(folder: Path, wav: Path, encoding: Encoding, seconds: int, channels: int) -> None:
    """Measure WAV to another format beside others."""
    label = f"WAV to {encoding.name}, {'dual' if channels == 2 else 'mono'}"
    own = cpu_s(lambda: encode(wav, folder / "own", encoding))
    print(f"{label}, callreel: {seconds / own:,.0f} x real time")
    for name, arguments in commands(wav, folder / "theirs", encoding, channels).items():
        program = shutil.which(name)
        if program is None:
            print(f"  {name} is not installed: nothing to compare with")
            continue
        try:
            theirs = cpu_s(
                partial(subprocess.run, [program, *arguments], check=True, capture_output=True)
            )
        except subprocess.CalledProcessError as error:
            print(f"  {name} cannot: {error.stderr.decode().strip()[:100]}")
            continue
        print(
            f"  {name}: {seconds / theirs:,.0f} x real time; "
            f"callreel runs at {theirs / own:.2f} of its speed"
        )


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10, help="length of the call")
    seconds = parser.parse_args().minutes * 60
    print(f"a call of {seconds // 60} minutes, CPU time of one core, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as name:
        folder = Path(name)
        good = Link(jitter_ms=2), Link(seed=2, jitter_ms=2)
        bad = Link(jitter_ms=80, loss=0.02), Link(seed=2, jitter_ms=60, duplicate=0.01)
        reached = render(folder, "good network", g711(good, seconds), seconds)
        print(f"  that is {reached / WAV_GOAL:.2f} of {WAV_GOAL:,} x")
        render(folder, "bad network", g711(bad, seconds), seconds)
        other_codecs(folder)
        journal = folder / "good network" / RECORDING_ID
        render_recording(journal, folder / "mono", RenderSpec(RECORDING_ID))
        for encoding in Encoding:
            for channels, wav in (
                (2, folder / "good network" / "out.wav"),
                (1, folder / "mono.wav"),
            ):
                compare(folder, wav, encoding, seconds, channels)


if __name__ == "__main__":
    main()
