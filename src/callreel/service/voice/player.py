"""From what a document wants played to prompts, and to the media workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from callreel.base.errors import CallreelError, MachineError
from callreel.calls.voice import Prompt, Sound
from callreel.cxml.actions import Audio, Play, Playable, Speech
from callreel.cxml.events import Event, PlayFailed
from callreel.service.voice.means import Means


class Player:
    """Plays to one call. Prompts are made in the background; the party hears silence meanwhile."""

    def __init__(
        self, means: Means, account_id: str, call_id: str, tell: Callable[[Event], None]
    ) -> None:
        self._means = means
        self._account_id = account_id
        self._call_id = call_id
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    def play(self, wanted: Play) -> None:
        """Begin to play, in place of what is being played or made ready."""
        self._give_up()
        self._task = self._means.spawn(self._play(wanted), f"play to {self._call_id}")

    async def stop(self) -> None:
        """Cut off what is being played or made ready."""
        self._give_up()
        with contextlib.suppress(MachineError):
            await self._means.media.stop_playing(self._call_id)

    def close(self) -> None:
        """The call is over."""
        self._give_up()

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _play(self, wanted: Play) -> None:
        try:
            made = {one: await self._made(one) for one in dict.fromkeys(wanted.sounds)}
            sounds = [made[one] for one in wanted.sounds]
            await self._means.media.play(self._call_id, wanted.play_id, sounds)
        except CallreelError as error:
            self._tell(PlayFailed(wanted.play_id, str(error)))

    async def _made(self, wanted: Playable) -> Sound:
        if isinstance(wanted, Speech):
            path = await self._means.prompts.say(
                wanted.text, language=wanted.language, voice=wanted.voice
            )
            return Prompt(path)
        if isinstance(wanted, Audio):
            return Prompt(await self._means.prompts.fetch(self._account_id, wanted.url))
        return wanted
