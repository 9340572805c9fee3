"""Signalling, media, speech and programs that do as they are told: for tests of steered calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from callreel.calls.model import CallbackMethod, CallStatus
from callreel.calls.voice import (
    DocumentUnavailable,
    Ending,
    FetchedDocument,
    NoRoute,
    NotConnected,
    Played,
    Sound,
    SpeechError,
    Target,
    VoiceCalls,
)
from callreel.service.calls import CallService


@dataclass
class ScriptedTelephone:
    """Implements ``Telephone``: what is at an address is in ``ends``."""

    calls: CallService
    """Whose rows it moves on, as signalling does."""
    ends: dict[str, NotConnected | None] = field(default_factory=dict)
    """By address: None answers at once, an error is raised; whoever is not there rings for ever."""
    told: list[tuple[str, ...]] = field(default_factory=list)
    """What was asked of it, in order."""
    steering: VoiceCalls | None = None
    """Who is told what happens."""
    up: set[str] = field(default_factory=set)
    """Calls that are answered."""

    def check(self, account_id: str, target: Target) -> None:
        """Anything but ``nowhere`` can be called."""
        if "nowhere" in target.to:
            raise NoRoute("no trunk takes it")

    async def dial(
        self,
        call_id: str,
        target: Target,
        *,
        account_id: str,
        caller: str,
        ring_seconds: float,
        ringing: Callable[[], None],
        beside: str | None = None,
    ) -> None:
        """As ``ends`` says."""
        self.told.append(("dial", target.to, caller))
        ringing()
        await asyncio.sleep(0)
        if target.to not in self.ends:
            await asyncio.Event().wait()
        error = self.ends[target.to]
        if error is not None:
            raise error
        await self._answered(call_id)

    async def answer(self, call_id: str) -> None:
        """It is answered."""
        self.told.append(("answer", call_id))
        if call_id not in self.up:
            await self._answered(call_id)

    async def reject(self, call_id: str, *, busy: bool) -> None:
        """It is refused."""
        self.told.append(("reject", call_id, str(busy)))

    async def connect(self, call_id: str, other_id: str) -> None:
        """They hear each other."""
        self.told.append(("connect", call_id, other_id))

    async def part(self, call_id: str) -> None:
        """They do not any more."""
        self.told.append(("part", call_id))

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """It is over."""
        self.told.append(("hang_up", call_id, reason))
        return await self._over(call_id, Ending.OURS)

    def live(self) -> Mapping[str, str | None]:
        """Those that are answered."""
        return dict.fromkeys(self.up)

    async def hangs_up(self, call_id: str) -> None:
        """The party does."""
        await self._over(call_id, Ending.PARTY)

    async def _answered(self, call_id: str) -> None:
        self.up.add(call_id)
        await self.calls.picked_up(call_id, "{}")

    async def _over(self, call_id: str, ending: Ending) -> bool:
        if call_id not in self.up:
            return False
        self.up.discard(call_id)
        await self.calls.ended(call_id, CallStatus.COMPLETED, reason=ending.value)
        if self.steering is not None:
            self.steering.hung_up(call_id, ending)
        return True


@dataclass
class ScriptedVoice:
    """Implements ``VoiceMedia``: everything is out as soon as it is played."""

    steering: VoiceCalls | None = None
    """Who is told."""
    played: list[tuple[str, tuple[Sound, ...]]] = field(default_factory=list)
    """By call."""
    listening: list[tuple[str, int | None]] = field(default_factory=list)
    """By call, and for how long a silence."""
    silent: bool = False
    """Whether nothing is ever played to its end."""

    async def attend(self, call_id: str) -> None:
        """Nothing to do."""

    async def play(self, call_id: str, play_id: str, sounds: Sequence[Sound]) -> None:
        """It is out."""
        self.played.append((call_id, tuple(sounds)))
        if self.steering is not None and not self.silent:
            asyncio.get_running_loop().call_soon(
                self.steering.heard, Played(call_id=call_id, play_id=play_id)
            )

    async def stop_playing(self, call_id: str) -> None:
        """Nothing to do."""

    async def listen(self, call_id: str, silence_ms: int | None) -> None:
        """Noted."""
        self.listening.append((call_id, silence_ms))


class ScriptedPrompts:
    """Implements ``Prompts``: a path that names what was asked for."""

    async def say(self, text: str, *, language: str, voice: str) -> Path:
        """Whatever it is."""
        return Path("/said") / text

    async def fetch(self, account_id: str, url: str) -> Path:
        """Unless it is missing."""
        if "missing" in url:
            raise SpeechError("no such file")
        return Path("/fetched") / url.rpartition("/")[2]


@dataclass
class ScriptedDocuments:
    """Implements ``Documents``: what is at a URL is in ``pages``."""

    pages: dict[str, str] = field(default_factory=dict)
    """Documents by URL."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """URLs and fields, in order."""

    async def fetch(
        self, account_id: str, url: str, method: CallbackMethod, fields: Sequence[tuple[str, str]]
    ) -> FetchedDocument:
        """The page, or 404."""
        self.asked.append((url, dict(fields)))
        if url not in self.pages:
            raise DocumentUnavailable("not there", http_status=404)
        return FetchedDocument(url, self.pages[url].encode(), "application/xml")
