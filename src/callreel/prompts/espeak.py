"""The program ``espeak-ng``, where it is installed: small, quick, a hundred languages.

It is a program of its own, under the GPL; nothing of it is linked or shipped.
"""

from __future__ import annotations

import shutil

import numpy as np

from callreel.calls.voice import SpeechError
from callreel.prompts.engine import Spoken
from callreel.prompts.languages import listed, nearest
from callreel.prompts.program import Finished, run
from callreel.prompts.voices import wanted

PROGRAM = "espeak-ng"
MISSING = (
    "no speech engine: install the program espeak-ng (Debian, Ubuntu: apt install espeak-ng; "
    "Fedora: dnf install espeak-ng; Alpine: apk add espeak-ng)"
)
TIMEOUT_S = 20.0
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
"""25 minutes; the longest text takes about five."""

_WORDS_A_MINUTE = 160
_MAN, _WOMAN = "m3", "f2"
_WAV_HEADER_BYTES = 44


class Espeak:
    """Implements ``Engine``."""

    name = "espeak"

    def __init__(self, program: str = PROGRAM) -> None:
        self._program = program
        self._version: str | None = None
        self._languages: frozenset[str] | None = None

    async def version(self) -> str:
        """Asked once; see ``Engine``."""
        if self._version is None:
            said = (await self._run("--version")).output.decode(errors="replace")
            self._version = said.partition("Data at")[0].rpartition(":")[2].strip()
        return self._version

    async def languages(self) -> frozenset[str]:
        """The languages that are installed, in lower case. Asked once. Raises ``SpeechError``."""
        if self._languages is None:
            said = (await self._run("--voices")).output.decode(errors="replace")
            rows = [line.split() for line in said.splitlines()[1:]]
            self._languages = frozenset(row[1].lower() for row in rows if len(row) > 1)
        return self._languages

    async def choose(self, language: str, voice: str) -> str:
        """A language of its own and a variant: ``en-us+f2``; see ``Engine``."""
        asked = wanted(language, voice)
        available = await self.languages()
        found = nearest(asked.language, available)
        if found is None:
            raise SpeechError(
                f"espeak-ng does not speak {asked.language[:40]!r}; it has {listed(available)}"
            )
        return f"{found}+{_MAN if asked.is_man else _WOMAN}"

    async def speak(self, text: str, voice: str) -> Spoken:
        """See ``Engine``. The text goes over stdin: it is never part of a command."""
        done = await self._run(
            "--stdin", "--stdout", "-b", "1", "-s", str(_WORDS_A_MINUTE), "-v", voice, stdin=text
        )
        wav = done.output
        # It does not know the length beforehand: what the header says of it is nothing.
        if wav[:4] != b"RIFF" or wav[36:40] != b"data":
            raise SpeechError(f"espeak-ng said nothing: {done.complaint or 'no reason given'}")
        rate_hz = int.from_bytes(wav[24:28], "little")
        samples = wav[_WAV_HEADER_BYTES : len(wav) - len(wav) % 2]
        return Spoken(np.frombuffer(samples, "<i2"), rate_hz)

    async def _run(self, *arguments: str, stdin: str = "") -> Finished:
        path = shutil.which(self._program)
        if path is None:
            raise SpeechError(MISSING)
        done = await run(
            [path, *arguments], stdin.encode(), timeout_s=TIMEOUT_S, max_bytes=MAX_OUTPUT_BYTES
        )
        if done.status:
            raise SpeechError(f"espeak-ng failed ({done.status}): {done.complaint}")
        return done
