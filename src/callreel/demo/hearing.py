"""Whether a finished file holds what was said, and who said it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from callreel.base.errors import CallreelError
from callreel.demo.voices import draw, find_voice, read_channels
from callreel.phone.sources import read_audio
from callreel.phone.voices import NAMES, SPEECH

LIKE_A_VOICE = 0.9
UNLIKE_A_VOICE = 0.3

Say = Callable[[str], None]


class DemoFailed(CallreelError):
    """A step did not happen as it must."""


def check_and_draw(path: Path, expected_s: float, say: Say) -> None:
    """Each voice must be in its own channel, and only there. Raises :class:`DemoFailed`."""
    channels, rate_hz = read_channels(path)
    if len(channels) != 2:
        raise DemoFailed(f"the file has {len(channels)} channels, not 2")
    seconds = len(channels[0]) / rate_hz
    if abs(seconds - expected_s) > 2:
        raise DemoFailed(f"the file is {seconds:.1f} s long, not about {expected_s:.0f} s")
    voices = [read_audio(SPEECH / f"{name}.flac") for name in NAMES]
    for index, channel in enumerate(channels):
        own = find_voice(channel, voices[index])
        other = find_voice(channel, voices[1 - index])
        if own.likeness < LIKE_A_VOICE or other.likeness > UNLIKE_A_VOICE:
            raise DemoFailed(
                f"channel {index + 1} is {own.likeness:.2f} like its own voice "
                f"and {other.likeness:.2f} like the other"
            )
        say(
            f"channel {index + 1} is the {NAMES[index]}: {own.likeness:.0%} like that voice, "
            f"{other.likeness:.0%} like the other"
        )
    say("")
    for line in draw(channels, rate_hz, [f"{i + 1} {name}" for i, name in enumerate(NAMES)]):
        say(line)
    say("")
