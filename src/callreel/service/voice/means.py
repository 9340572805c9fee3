"""What steering a call takes, besides the call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from callreel.calls.voice import Documents, Prompts, Telephone, VoiceMedia
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.recordings import RecordingService
from callreel.service.voice.rows import Rows

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Means:
    """Handed to each steered call."""

    context: Context
    """The database and the outside world."""
    accounts: AccountService
    """Whose calls they are."""
    calls: CallService
    """Their rows and stories."""
    recordings: RecordingService
    """Their recordings."""
    rows: Rows
    """What of their rows is ours alone."""
    media: VoiceMedia
    """Plays and hears."""
    prompts: Prompts
    """Makes what is played."""
    documents: Documents
    """Asks programs."""
    _telephone: Telephone | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def telephone(self) -> Telephone:
        """Signalling; ``server`` sets it once it exists."""
        assert self._telephone is not None, "signalling comes up before calls do"
        return self._telephone

    @telephone.setter
    def telephone(self, telephone: Telephone) -> None:
        self._telephone = telephone

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Have something done that no call waits for. What goes wrong is logged."""
        task = asyncio.create_task(_logged(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, timeout_s: float) -> None:
        """Let what was spawned end, then give it up."""
        tasks = set(self._tasks)
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=timeout_s)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def _logged(work: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await work
    except Exception:
        log.exception("%s failed", name)
