"""Phones for tests: made on loopback, closed at the end."""

from __future__ import annotations

from pathlib import Path

from callreel.phone.call import Talk
from callreel.phone.softphone import Phone
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans
from callreel.wire.sdes import Suite

Spans = list[tuple[float, float]]


def talk(
    play: str = "tone:440",
    record: Path | None = None,
    codecs: tuple[str, ...] = ("PCMU", "PCMA"),
    early_media: bool = False,
    suites: tuple[Suite, ...] = (),
) -> Talk:
    return Talk(parse_source(play), record, codecs, early_media, suites)


class Phones:
    """Makes phones that know each other's clock, and closes them."""

    def __init__(self) -> None:
        self.all: list[Phone] = []

    async def make(self, how: Talk | None = None, **options: object) -> Phone:
        phone = Phone(
            how or talk(),
            clock=SystemClock(),
            ids=RandomIds(),
            host_token="here",
            **options,  # type: ignore[arg-type]
        )
        self.all.append(phone)
        await phone.start()
        return phone

    async def close(self) -> None:
        for phone in self.all:
            await phone.close()


def spans(path: Path, hz: int) -> Spans:
    rate_hz, samples = read_wav(path)
    assert (rate_hz, samples.shape[1]) == (8000, 1)
    return tone_spans(samples[:, 0], rate_hz, hz)


def seconds(path: Path) -> float:
    rate_hz, samples = read_wav(path)
    return len(samples) / rate_hz
