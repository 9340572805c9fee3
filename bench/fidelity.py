"""How much of a voice a recording keeps: ``python -m bench.fidelity``.

Recorded speech of the demo is encoded by each codec, goes through a journal into a WAV, and is
compared with the original by PESQ (ITU-T P.862), beside what the codec alone gives: the same
packets through its decoder and nothing else. Wants the package ``pesq``, which is compiled where it
is installed. Exit status 1 where a recording is worse by more than 0.05.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

import callreel.demo
from callreel.audio.codec import format_for
from callreel.calls.model import RecordingTrack
from callreel.render.job import RenderSpec, render_recording
from callreel.testing.ears import read_wav
from callreel.testing.link import (
    NS,
    RECORDING_ID,
    Link,
    Sender,
    Taped,
    journal_blocks,
    write_journal,
)

ALLOWED = 0.05
SPEECH = Path(callreel.demo.__file__).parent / "speech" / "caller.flac"
CODECS = (
    ("PCMU", "pcm_mulaw", 8000, 8000, 0),
    ("PCMA", "pcm_alaw", 8000, 8000, 8),
    ("G722", "g722", 8000, 16_000, 9),
    ("OPUS", "libopus", 48_000, 48_000, 111),
)
"""Name, FFmpeg's encoder, RTP clock, sampling rate, payload type."""


def speech(rate_hz: int) -> NDArray[np.int16]:
    """The demo's caller, 8 seconds from where it speaks; int16."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
    with av.open(str(SPEECH), "r") as source:
        frames = [one for frame in source.decode(audio=0) for one in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    first = int(np.argmax(np.abs(samples) > 1000))
    found: NDArray[np.int16] = samples[first : first + 8 * rate_hz].astype(np.int16)
    return found


def packets(samples: NDArray[np.int16], encoder: str, rate_hz: int) -> list[bytes]:
    """20 ms each."""
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = rate_hz, "mono", "s16"
    made = []
    size = rate_hz // 50
    for at in range(0, len(samples) - size + 1, size):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + size], "s16", "mono")
        frame.sample_rate, frame.pts = rate_hz, at
        made += [bytes(packet) for packet in context.encode(frame)]
    return made


def recorded(folder: Path, payloads: list[bytes], codec: tuple[str, str, int, int, int]) -> Path:
    """The same by way of a network with some jitter, a journal and the renderer."""
    name, _, clock_hz, _, number = codec
    about = {"payload_type": number, "name": name, "clock_rate_hz": clock_hz}
    about["channels"] = 2 if name == "OPUS" else 1
    sender = Sender(payload_type=number, clock_hz=clock_hz)
    flow = Link(jitter_ms=30).carry(sender.send_frames(payloads, clock_hz // 50))
    blocks = journal_blocks([Taped(0, flow, codecs=[about])], length_ns=9 * NS)
    spec = RenderSpec(RECORDING_ID, track=RecordingTrack.INBOUND)
    result = render_recording(write_journal(folder / name, blocks), folder / name / "out", spec)
    assert result.wav is not None
    return result.wav


def main() -> int:
    """Compare each."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        from pesq import pesq
    except ImportError:
        print("pesq is not installed (pip install pesq): nothing is measured")
        return 0
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as name:
        for codec in CODECS:
            rate_hz, clock_hz = codec[3], codec[2]
            voice = speech(rate_hz)
            payloads = packets(voice, codec[1], rate_hz)
            format_ = format_for(codec[0], clock_hz, 2 if codec[0] == "OPUS" else 1)
            assert format_ is not None
            sizes = np.array([len(payload) for payload in payloads], np.int64)
            alone = format_.decoder().decode(np.frombuffer(b"".join(payloads), np.uint8), sizes)
            _, file = read_wav(recorded(Path(name), payloads, codec))
            step = 3 if rate_hz == 48_000 else 1
            mode = "nb" if rate_hz == 8000 else "wb"

            def score(
                heard: NDArray[np.int16],
                voice: NDArray[np.int16] = voice,
                step: int = step,
                mode: str = mode,
            ) -> float:
                n = min(len(heard), len(voice)) // step * step
                rate = 8000 if mode == "nb" else 16_000
                return float(pesq(rate, voice[:n:step], heard[:n:step], mode))

            of_codec, of_file = score(alone), score(file[:, 0])
            worst = max(worst, of_codec - of_file)
            print(f"{codec[0]}: the codec alone {of_codec:.3f}, recorded {of_file:.3f} ({mode})")
    print(f"worse by {worst:.3f} at most; {ALLOWED} is allowed")
    return 0 if worst <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
