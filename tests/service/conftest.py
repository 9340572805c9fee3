"""The use cases over a real database, with media and rendering that do as they are told."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callreel.calls.model import (
    Account,
    Call,
    Callback,
    CallbackEvent,
    CallDirection,
    Recording,
    RecordingChannels,
    RecordingRequest,
)
from callreel.mediastore import MediaStore
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.calls import CallService, NewCall
from callreel.service.context import Context
from callreel.service.deletion import DeletionService
from callreel.service.finishing import FinishingService
from callreel.service.media import MediaService
from callreel.service.recordings import RecordingService
from callreel.service.voice import VoiceService
from callreel.service.voice.means import Means
from callreel.service.voice.rows import Rows
from callreel.store import deliveries
from callreel.store.database import Database
from callreel.store.deliveries import OwedDelivery
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia, ScriptedRenderer
from callreel.testing.voice import (
    ScriptedDocuments,
    ScriptedPrompts,
    ScriptedTelephone,
    ScriptedVoice,
)


class StepClock:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    def monotonic(self) -> float:
        return self.now().timestamp()


class CountedIds:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        return f"{next(self._numbers):032x}"

    def new_token(self) -> str:
        return f"token-{next(self._numbers)}"


@dataclass
class House:
    """Everything wired."""

    context: Context
    media: ScriptedMedia
    renderer: ScriptedRenderer
    store: MediaStore
    accounts: AccountService
    calls: CallService
    recordings: RecordingService
    finishing: FinishingService
    audio: MediaService
    deletion: DeletionService
    voice: VoiceService
    telephone: ScriptedTelephone
    sounds: ScriptedVoice
    documents: ScriptedDocuments
    account: Account
    notified: list[int]

    async def a_call(self) -> Call:
        new = NewCall(self.account.id, CallDirection.INBOUND, "+15550100", "+15550199")
        return await self.calls.answered(await self.calls.ringing(new), "{}")

    @staticmethod
    def said(text: str) -> Path:
        """The prompt of a spoken text."""
        return Path("/said") / text

    async def a_finished_recording(self) -> Recording:
        """Dual, completed."""
        call = await self.a_call()
        dual = RecordingRequest(channels=RecordingChannels.DUAL)
        started, _ = await self.recordings.start(self.account, call.id, dual)
        await self.recordings.stop(started)
        assert await self.finishing.drain(5)
        return await self.recordings.get(self.account, started.id)

    async def owed(self, recording_id: str) -> list[OwedDelivery]:
        database = self.context.database
        async with database.read() as connection:
            return list(await deliveries.of_recording(connection, database.seal, recording_id))


def wire(context: Context, media: ScriptedMedia, renderer: ScriptedRenderer, store: MediaStore,
         account: Account, notified: list[int]) -> House:  # fmt: skip
    finishing = FinishingService(context, renderer, store)
    audio = MediaService(renderer, store, renderer.folder)
    recordings = RecordingService(context, finishing.enqueue)
    accounts, calls = AccountService(context), CallService(context, recordings)
    telephone, sounds, documents = ScriptedTelephone(calls), ScriptedVoice(), ScriptedDocuments()
    means = Means(
        context=context,
        accounts=accounts,
        calls=calls,
        recordings=recordings,
        rows=Rows(context),
        media=sounds,
        prompts=ScriptedPrompts(),
        documents=documents,
    )
    means.telephone = telephone
    voice = VoiceService(means, telephone)
    calls.control = telephone.steering = sounds.steering = voice
    return House(
        context=context,
        media=media,
        renderer=renderer,
        store=store,
        accounts=accounts,
        calls=calls,
        recordings=recordings,
        finishing=finishing,
        audio=audio,
        deletion=DeletionService(context, renderer, audio),
        voice=voice,
        telephone=telephone,
        sounds=sounds,
        documents=documents,
        account=account,
        notified=notified,
    )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", Seal(b"k" * 32))
    database.migrate()
    clock, ids = StepClock(), CountedIds()
    media = ScriptedMedia(clock)
    notified: list[int] = []
    context = Context(
        database=database,
        media=media,
        clock=clock,
        ids=ids,
        public_url="https://rec.example.com",
        delivery_owed=lambda: notified.append(1),
    )
    account = await AccountService(context).ensure_first(Bootstrap())
    (tmp_path / "scratch").mkdir()
    renderer = ScriptedRenderer(tmp_path / "scratch")
    store = MediaStore.from_url(tmp_path / "media")
    house = wire(context, media, renderer, store, account, notified)
    yield house
    await house.voice.close(0)
    await house.deletion.close()
    await house.finishing.close()
    await database.close()


def restarted(house: House) -> House:
    """The same database and media under a new control process."""
    return replace(
        wire(house.context, house.media, house.renderer, house.store, house.account, []),
        notified=house.notified,
    )


ALL_EVENTS = RecordingRequest(
    callback=Callback("https://example.com/cb", events=frozenset(CallbackEvent))
)
