"""Piper, where it is installed: a neural voice, of which each language needs a model.

It is run as a program, as the package ``piper-tts`` brings one: what it loads is not loaded here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from callreel.calls.voice import SpeechError
from callreel.prompts.engine import Spoken
from callreel.prompts.languages import listed, nearest
from callreel.prompts.program import run
from callreel.prompts.voices import wanted

MISSING = (
    "Piper is not installed: pip install piper-tts into the environment of callreel, or put the "
    "program piper on the PATH"
)
TIMEOUT_S = 60.0
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
_MAX_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Model:
    """A voice on disk."""

    path: Path
    """The ``.onnx`` file."""
    language: str
    """BCP-47, in lower case."""
    rate_hz: int
    """Sampling rate of what it says."""
    size_bytes: int
    """Of the file, which tells one version from another."""

    @classmethod
    def read(cls, path: Path) -> Model:
        """A model by its file, beside which lies its description. Raises ``SpeechError``."""
        described = path.with_name(path.name + ".json")
        try:
            size = path.stat().st_size
            with described.open("rb") as file:
                found = json.loads(file.read(_MAX_CONFIG_BYTES))
            language, rate_hz = str(found["language"]["code"]), int(found["audio"]["sample_rate"])
        except OSError as error:
            raise SpeechError(
                f"the Piper voice {path} cannot be read: {error.filename}: {error.strerror}"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise SpeechError(f"{described} does not describe a Piper voice") from None
        if not 8000 <= rate_hz <= 96_000:
            raise SpeechError(f"{described}: a sampling rate of {rate_hz} Hz")
        return cls(path, language.replace("_", "-").lower(), rate_hz, size)


class Piper:
    """Implements ``Engine`` with the voices (``.onnx`` files) that it is given."""

    name = "piper"

    def __init__(self, voices: Sequence[Path], program: Sequence[str] | None = None) -> None:
        """``program``: how it is run; found unless given."""
        self._paths = tuple(voices)
        self._program = program
        self._models: dict[str, Model] | None = None

    async def version(self) -> str:
        """See ``Engine``."""
        self._command()
        try:
            return importlib.metadata.version("piper-tts")
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    async def choose(self, language: str, voice: str) -> str:
        """The name of a model's file, and its size; see ``Engine``."""
        self._command()
        models = self._known()
        asked = wanted(language, voice)
        by_language: dict[str, str] = {}
        for name, model in models.items():
            by_language.setdefault(model.language, name)
        found = nearest(asked.language, by_language)
        if found is None:
            raise SpeechError(
                f"no Piper voice speaks {asked.language[:40]!r}; piper_voices has "
                f"{listed(by_language)}"
            )
        return by_language[found]

    async def speak(self, text: str, voice: str) -> Spoken:
        """See ``Engine``."""
        model = self._known()[voice]
        done = await run(
            [*self._command(), "--model", str(model.path), "--output-raw"],
            f"{text}\n".encode(),
            timeout_s=TIMEOUT_S,
            max_bytes=MAX_OUTPUT_BYTES,
        )
        if done.status or not done.output:
            raise SpeechError(f"Piper failed ({done.status}): {done.complaint[-300:]}")
        samples = done.output[: len(done.output) - len(done.output) % 2]
        return Spoken(np.frombuffer(samples, "<i2"), model.rate_hz)

    def _known(self) -> dict[str, Model]:
        if not self._paths:
            raise SpeechError("Piper has no voice: name .onnx files in the setting piper_voices")
        if self._models is None:
            models = [Model.read(path) for path in self._paths]
            self._models = {f"{one.path}:{one.size_bytes}": one for one in models}
        return self._models

    def _command(self) -> Sequence[str]:
        if self._program is not None:
            return self._program
        if importlib.util.find_spec("piper") is not None:
            return [sys.executable, "-m", "piper"]
        path = shutil.which("piper")
        if path is None:
            raise SpeechError(MISSING)
        return [path]
