"""What a program that speaks is to us."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAX_TEXT_CHARACTERS = 4096
"""Of one text; the vendors' bound."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A text, spoken."""

    samples: NDArray[np.int16] = field(repr=False)
    """``int16[samples]``, mono."""
    rate_hz: int
    """Their sampling rate."""


class Engine(Protocol):
    """Turns text into speech."""

    @property
    def name(self) -> str:
        """``espeak``, ``piper``."""
        ...

    async def version(self) -> str:
        """Of the program, so that a newer one speaks anew. Raises ``SpeechError``: it is not
        there; the text says what to install."""
        ...

    async def choose(self, language: str, voice: str) -> str:
        """This engine's own name of the voice for a language (BCP-47) and a vendor's voice name,
        either of which may be empty. Raises ``SpeechError`` that says which languages there are.
        """
        ...

    async def speak(self, text: str, voice: str) -> Spoken:
        """Speak a text (:func:`speakable`) with a voice of :meth:`choose`. Raises
        ``SpeechError``."""
        ...


def speakable(text: str) -> str:
    """A text as engines are given it: one line, nothing in it that is more than text to them.

    >>> speakable("Hello,\\n  [[w'3:ld]]\\x07")
    "Hello, [ [w'3:ld] ]"
    """
    printable = "".join(char if char.isprintable() else " " for char in text)
    # Engines take what is in double brackets for phonemes.
    while "[[" in printable or "]]" in printable:
        printable = printable.replace("[[", "[ [").replace("]]", "] ]")
    return " ".join(printable.split())
