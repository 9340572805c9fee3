"""Audio files made into prompts, each by a process that is not trusted (:mod:`.decoding`)."""

from __future__ import annotations

import sys
from pathlib import Path

from callreel.calls.voice import SpeechError
from callreel.prompts.decoding import REFUSED
from callreel.prompts.formats import AudioFormat
from callreel.prompts.program import run

TIMEOUT_S = 90.0


async def decode(kind: AudioFormat, source: Path, destination: Path) -> None:
    """Write a file's samples as a prompt. Raises ``SpeechError``."""
    done = await run(
        [
            sys.executable,
            "-m",
            "callreel.prompts.decoding",
            kind.name,
            str(source),
            str(destination),
        ],
        timeout_s=TIMEOUT_S,
        max_bytes=4096,
    )
    if done.status == REFUSED:
        raise SpeechError(f"the audio cannot be played: {done.output.decode(errors='replace')}")
    if done.status:
        raise SpeechError(f"the audio cannot be played: decoding it ended with {done.status}")
