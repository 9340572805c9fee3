"""Speech and audio for calls, put together from the settings."""

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
from callreel.store import accounts
from callreel.store.database import Database


def engines_of(settings: Settings) -> list[Engine]:
    """The engines to speak with, the one that is preferred first."""
    match settings.speech_engine:
        case "none":
            return []
        case "piper":
            return [Piper(settings.piper_voices)]
        case "espeak":
            return [Espeak()]
        case "auto":
            # A language that no Piper voice speaks is espeak-ng's.
            piper: list[Engine] = [Piper(settings.piper_voices)] if settings.piper_voices else []
            return [*piper, Espeak()]


def prompts_of(
    settings: Settings, data: DataDir, exchange: Exchange, signing_key: SigningKey, clock: Clock
) -> PromptMaker:
    """Implements ``calls.voice.Prompts``; to be closed. Raises ``MachineError``."""
    cache = PromptCache(data.prompts, max_bytes=settings.prompts_max_mb * 1_000_000, clock=clock)
    downloads = Downloads(exchange, signing_key)
    return PromptMaker(engines_of(settings), downloads, cache, data.scratch, clock)


def signing_keys(database: Database) -> SigningKey:
    """Accounts' keys, as they are when they are asked for."""

    async def key(account_id: str) -> str | None:
        async with database.read() as connection:
            account = await accounts.get(connection, database.seal, account_id)
        return None if account is None else account.signing_key

    return key
