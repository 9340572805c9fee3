"""Makes prompts: speaks texts, fetches audio, and remembers both."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from callreel.base.clock import Clock
from callreel.calls.voice import DocumentUnavailable, SpeechError
from callreel.prompts.cache import PromptCache
from callreel.prompts.decoder import decode
from callreel.prompts.engine import MAX_TEXT_CHARACTERS, Engine, speakable
from callreel.prompts.espeak import MISSING
from callreel.prompts.formats import HEAD_BYTES, AudioFormat, sniffed
from callreel.prompts.freshness import freshness
from callreel.prompts.sampling import resampled
from callreel.prompts.sharing import Shared

MAX_FILE_BYTES = 40_000_000
"""Of an audio file; Twilio's bound."""

_MADE_AS = "1"
"""Changes with whatever makes other samples of the same text or file."""
_MAX_URLS = 10_000


class Download(Protocol):
    """What a server answered."""

    @property
    def http_status(self) -> int:
        """2xx, or 304 where the headers asked for it."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...


class Fetcher(Protocol):
    """Fetches files by the rules of webhooks; ``server`` fills it in."""

    async def download(
        self, account_id: str, url: str, *, headers: Mapping[str, str], into: Path, max_bytes: int
    ) -> Download:
        """GET a URL into a file; with 304 nothing is written. Raises ``DocumentUnavailable``."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    """What a URL gave last."""

    key: str
    kind: AudioFormat
    fresh_until: float
    """Monotonic seconds."""
    validators: Mapping[str, str]


class PromptMaker:
    """Implements ``calls.voice.Prompts``."""

    def __init__(
        self,
        engines: Sequence[Engine],
        fetcher: Fetcher,
        cache: PromptCache,
        scratch: Path,
        clock: Clock,
        *,
        at_once: int | None = None,
    ) -> None:
        """``engines``: the first that speaks a language does. ``scratch``: a folder for files on
        their way. ``at_once``: how much is spoken and decoded at the same time.
        """
        self._engines = tuple(engines)
        self._fetcher = fetcher
        self._cache = cache
        self._scratch = scratch
        self._clock = clock
        self._gate = asyncio.Semaphore(at_once or os.cpu_count() or 1)
        self._urls: OrderedDict[str, _Known] = OrderedDict()
        self._fetching: Shared[Path] = Shared()
        self._files = 0

    async def close(self) -> None:
        """Give up what is being made."""
        await self._fetching.close()
        await self._cache.close()

    # Speech

    async def say(self, text: str, *, language: str, voice: str) -> Path:
        """See ``Prompts``. What is not plain text in it is spoken as it stands."""
        if len(text) > MAX_TEXT_CHARACTERS:
            raise SpeechError(f"a text of more than {MAX_TEXT_CHARACTERS} characters")
        spoken = speakable(text)
        if not spoken:
            raise SpeechError("there is nothing to say")
        engine, own_voice = await self._choose(language, voice)
        key = _key("say", engine.name, await engine.version(), own_voice, spoken)

        async def make(path: Path) -> None:
            async with self._gate:
                said = await engine.speak(spoken, own_voice)
                samples = await asyncio.to_thread(resampled, said.samples, said.rate_hz)
            if not samples:
                raise SpeechError("nothing can be heard of the text")
            await asyncio.to_thread(path.write_bytes, samples)

        return await self._cache.get(key, make)

    async def _choose(self, language: str, voice: str) -> tuple[Engine, str]:
        failure = SpeechError(MISSING)
        for engine in self._engines:
            try:
                return engine, await engine.choose(language, voice)
            except SpeechError as error:
                failure = error
        raise failure

    # Audio

    async def fetch(self, account_id: str, url: str) -> Path:
        """See ``Prompts``."""
        address = _key("url", account_id, url)
        return await self._fetching.do(address, lambda: self._fetch(address, account_id, url))

    async def _fetch(self, address: str, account_id: str, url: str) -> Path:
        known = self._urls.get(address)
        if known is not None:
            try:
                if self._clock.monotonic() < known.fresh_until:
                    return await self._cache.get(known.key, _gone)
            except _GoneError:
                known = None
        self._files += 1
        file = self._scratch / f"audio-{os.getpid()}-{self._files}"
        try:
            return await self._ask(address, account_id, url, known, file)
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    async def _ask(
        self, address: str, account_id: str, url: str, known: _Known | None, file: Path
    ) -> Path:
        try:
            done = await self._fetcher.download(
                account_id,
                url,
                headers={} if known is None else known.validators,
                into=file,
                max_bytes=MAX_FILE_BYTES,
            )
        except DocumentUnavailable as error:
            raise SpeechError(f"the audio cannot be fetched: {error}") from None
        except OSError as error:
            raise SpeechError(f"the audio cannot be kept: {error.strerror}") from None
        says = freshness(done.headers)
        fresh_until = self._clock.monotonic() + says.seconds
        if done.http_status == 304:
            if known is None:
                raise SpeechError("the audio cannot be fetched: answered 304 to a first request")
            try:
                path = await self._cache.get(known.key, _gone)
            except _GoneError:  # while it was asked
                return await self._ask(address, account_id, url, None, file)
            self._remember(address, _Known(known.key, known.kind, fresh_until, known.validators))
            return path
        try:
            head, digest = await asyncio.to_thread(_looked_at, file)
        except OSError:
            raise SpeechError("the audio cannot be fetched: nothing came") from None
        kind = sniffed(head, done.headers.get("Content-Type", ""), url)
        if kind is None:
            raise SpeechError(
                "what is there is no audio: WAV, MP3, AIFF, FLAC, Ogg, GSM and mu-law can be played"
            )
        key = _key("file", kind.value, digest)

        async def make(path: Path) -> None:
            async with self._gate:
                await decode(kind, file, path)

        path = await self._cache.get(key, make)
        self._remember(address, _Known(key, kind, fresh_until, says.validators))
        return path

    def _remember(self, address: str, known: _Known) -> None:
        self._urls[address] = known
        self._urls.move_to_end(address)
        if len(self._urls) > _MAX_URLS:
            self._urls.popitem(last=False)


class _GoneError(Exception):
    """The prompt that was kept is kept no more."""


async def _gone(_: Path) -> None:
    raise _GoneError


def _looked_at(file: Path) -> tuple[bytes, str]:
    """The first bytes of a file, and its SHA-256."""
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
        opened.seek(0)
        return head, hashlib.file_digest(opened, "sha256").hexdigest()


def _key(*parts: str) -> str:
    """One name for so many parts, none of which can be mistaken for another's beginning."""
    digest = hashlib.sha256(_MADE_AS.encode())
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
