"""Who speaks, and where what is played is kept: from the settings."""

from __future__ import annotations

from callreel.base.clock import Clock
from callreel.delivery.documents import SigningKey
from callreel.delivery.downloads import Downloads
from callreel.delivery.exchange import Exchange
from callreel.prompts.cache import PromptCache
from callreel.prompts.engine import Engine
from callreel.prompts.espeak import Espeak
from callreel.prompts.maker import PromptMaker
from callreel.prompts.piper import Piper
from callreel.server.datadir import DataDir
from callreel.server.settings import Settings


def engines(settings: Settings) -> list[Engine]:
    """Those that may speak, the best first. Whether they are installed is seen when they are to."""
    piper: list[Engine] = [Piper(settings.piper_voices)] if settings.piper_voices else []
    return [*piper, Espeak()]


def prompt_maker(
    settings: Settings, data: DataDir, exchange: Exchange, signing_key: SigningKey, clock: Clock
) -> PromptMaker:
    """Makes and keeps prompts. Raises ``MachineError`` where their folder cannot be used."""
    cache = PromptCache(data.prompts, max_bytes=settings.prompts_max_mb * 1_000_000, clock=clock)
    return PromptMaker(
        engines(settings), Downloads(exchange, signing_key), cache, data.scratch, clock
    )
