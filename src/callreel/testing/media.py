"""A media plane and a renderer that do as a test tells them, for tests of the use cases."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from callreel.base.clock import Clock
from callreel.base.errors import MachineError
from callreel.calls.media import (
    CaptureStarted,
    CaptureState,
    CaptureStopped,
    MediaAddress,
    NoAnswer,
    Stream,
)
from callreel.calls.model import PauseBehavior, Recording, Track
from callreel.calls.rendering import Encoding, Rendered


class ScriptedMedia:
    """A ``MediaPlane`` that notes what it is asked; ``fail`` makes steps raise."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.fail: set[str] = set()
        """Names of steps that raise ``MachineError``."""
        self.silent: set[str] = set()
        """Names of steps that raise ``NoAnswer``."""
        self.log: list[tuple[str, str]] = []
        """Steps in order, each with its call or recording."""
        self.live: dict[str, str] = {}
        """Recordings that are being kept, with their calls."""
        self.bridged: dict[str, str] = {}
        """Calls that are bridged, both ways."""

    def _step(self, name: str, about: str) -> None:
        self.log.append((name, about))
        if name in self.silent:
            raise NoAnswer(f"{name} was not to be answered")
        if name in self.fail:
            raise MachineError(f"{name} was to fail")

    async def open(
        self, call_id: str, streams: Sequence[Stream], *, beside: str | None = None
    ) -> Mapping[int, MediaAddress]:
        """Ports that nobody listens on."""
        self._step("open", call_id)
        return {one.number: MediaAddress("127.0.0.1", 10000, 10001) for one in streams}

    async def update(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, MediaAddress]:
        """As :meth:`open`."""
        self._step("update", call_id)
        return {one.number: MediaAddress("127.0.0.1", 10000, 10001) for one in streams}

    async def close(self, call_id: str) -> None:
        """Noted."""
        self._step("close", call_id)
        self._part(call_id)

    async def bridge(self, call_id: str, other_call_id: str) -> None:
        """Noted."""
        self._step("bridge", call_id)
        self._part(call_id)
        self._part(other_call_id)
        self.bridged |= {call_id: other_call_id, other_call_id: call_id}

    async def unbridge(self, call_id: str) -> None:
        """Noted."""
        self._step("unbridge", call_id)
        self._part(call_id)

    async def bridges(self) -> Mapping[str, str]:
        """What was bridged and not parted."""
        return dict(self.bridged)

    def _part(self, call_id: str) -> None:
        other = self.bridged.pop(call_id, None)
        if other is not None:
            self.bridged.pop(other, None)

    async def start(
        self, recording_id: str, call_id: str, tracks: Sequence[Track]
    ) -> CaptureStarted:
        """From now on, says the clock."""
        self._step("start", recording_id)
        self.live[recording_id] = call_id
        return CaptureStarted(self._clock.now())

    async def pause(self, recording_id: str, behavior: PauseBehavior) -> datetime:
        """Noted."""
        self._step("pause", recording_id)
        return self._clock.now()

    async def resume(self, recording_id: str) -> datetime:
        """Noted."""
        self._step("resume", recording_id)
        return self._clock.now()

    async def stop(self, recording_id: str) -> CaptureStopped:
        """Until now, says the clock."""
        self._step("stop", recording_id)
        self.live.pop(recording_id, None)
        return CaptureStopped(self._clock.now(), packets=1)

    @property
    def calls(self) -> Sequence[str]:
        """Calls that something is kept of."""
        return list(self.live.values())

    async def captures(self) -> Sequence[CaptureState]:
        """What was started and not stopped."""
        return [CaptureState(one, call, paused=False) for one, call in self.live.items()]


class ScriptedRenderer:
    """A ``Renderer`` that writes a small file, or fails so often as it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where it writes."""
        self.failures = 0
        """Renders that are still to raise ``MachineError``."""
        self.discard_failures = 0
        """Deletions of a journal that are still to raise ``MachineError``."""
        self.rendered: list[str] = []
        """Recordings that were rendered, once for each time."""
        self.absent_code: int | None = None
        """Given, there is no audio."""
        self.left: list[str] = []
        """Recordings whose journal an earlier run left."""
        self.discarded: list[str] = []
        """Recordings whose journal was deleted."""
        self.may_encode = asyncio.Event()
        """Until it is set, whatever is being encoded is not finished."""
        self.may_encode.set()

    async def render(self, recording: Recording) -> Rendered:
        """One second of nothing."""
        if self.failures:
            self.failures -= 1
            raise MachineError("the disk was to fail")
        self.rendered.append(recording.id)
        report = self.folder / f"{recording.id}.json"
        report.write_text("{}")
        wav = self.folder / f"{recording.id}.wav"
        wav.write_bytes(b"RIFF")
        absent = self.absent_code is not None
        return Rendered(
            wav=None if absent else wav,
            report=report,
            duration_ms=0 if absent else 1000,
            size_bytes=0 if absent else 4,
            sha256=None if absent else "0" * 64,
            absent_code=self.absent_code,
        )

    async def mixdown(self, wav: Path, mono: Path) -> None:
        """A file that only says what it is."""
        await asyncio.to_thread(mono.write_bytes, b"MONO")

    async def encode(self, wav: Path, target: Path, encoding: Encoding) -> None:
        """A file that only says what it is."""
        await self.may_encode.wait()
        data = {Encoding.MP3: b"ID3", Encoding.FLAC: b"fLaC", Encoding.OPUS: b"OggS"}[encoding]
        await asyncio.to_thread(target.write_bytes, data)

    async def journals(self) -> Sequence[str]:
        """What a test says there is."""
        return self.left

    async def release(self, recording_id: str) -> None:
        """As :meth:`discard`."""
        await self.discard(recording_id)

    async def discard(self, recording_id: str) -> None:
        """Noted."""
        if self.discard_failures:
            self.discard_failures -= 1
            raise MachineError("the folder was to stay")
        self.discarded.append(recording_id)
