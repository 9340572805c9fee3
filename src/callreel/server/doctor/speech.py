"""Whether ``<Say>`` says anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np

from callreel.calls.voice import SpeechError
from callreel.prompts.engine import Engine
from callreel.server.doctor.finding import Finding, fail, ok, warn
from callreel.server.settings import Settings
from callreel.server.speech import engines_of

SENTENCE = "This is a test."
AUDIBLE = 1000
"""A sample that nobody would take for silence."""


def engines(settings: Settings) -> Iterator[Finding]:
    """Each engine of the settings says a sentence."""
    if settings.speech_engine == "none":
        yield ok("speech", "turned off (speech_engine): <Say> is an error")
        return
    for engine in engines_of(settings):
        problem = fail if settings.speech_engine == engine.name else warn
        try:
            text = asyncio.run(_heard(engine))
        except SpeechError as error:
            yield problem(
                "speech", f"{engine.name}: {error}", "until then a <Say> ends with an error"
            )
        else:
            yield ok("speech", text)


async def _heard(engine: Engine) -> str:
    version = await engine.version()
    voice = await engine.choose("", "")
    said = await engine.speak(SENTENCE, voice)
    if not len(said.samples) or np.abs(said.samples.astype(int)).max() < AUDIBLE:
        raise SpeechError("it runs, but nothing can be heard")
    seconds = len(said.samples) / said.rate_hz
    return f"{engine.name} {version} speaks: {SENTENCE!r} takes {seconds:.1f} s"
