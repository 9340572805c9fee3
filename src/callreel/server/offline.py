"""Administration while no server runs: the same application, over a data folder that is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.types import ASGIApp

from callreel.base.errors import UsageError
from callreel.capture.client import WorkerPool
from callreel.mediastore import MediaStore
from callreel.render.pool import JournalRenderer, RenderPool
from callreel.server.admin import AdminServices, create_admin
from callreel.server.datadir import DataDir
from callreel.server.peering import takes_calls_of
from callreel.server.settings import Settings
from callreel.server.system import RandomIds, SystemClock
from callreel.service.account_removal import AccountRemoval
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.deletion import DeletionService
from callreel.service.media import MediaService
from callreel.service.recordings import RecordingService
from callreel.store.database import Database
from callreel.store.seal import Seal


@asynccontextmanager
async def offline_admin(settings: Settings, data: DataDir) -> AsyncIterator[ASGIApp]:
    """The application, its database opened and migrated. The caller holds ``data``'s lock.

    Raises ``UsageError``, ``MachineError``.
    """
    async with AsyncExitStack() as stack:
        key = data.prepare()
        url = settings.database_url or f"sqlite:///{data.database}"
        database = Database(url, Seal(key))
        stack.push_async_callback(database.close)
        await asyncio.to_thread(database.migrate)
        context = Context(
            database=database,
            media=WorkerPool([], on_event=lambda _: None, advertised_host=""),
            clock=SystemClock(),
            ids=RandomIds(),
            public_url="",
            delivery_owed=lambda: None,
        )
        accounts = AccountService(context)
        every = await accounts.every()
        if not every:
            raise UsageError(
                f"{data.root} has no account yet: run callreel serve first, which makes one"
            )
        renderer = JournalRenderer(RenderPool(1), data.journals, data.scratch)
        media_store = MediaStore.from_url(settings.media_url or str(data.media))
        deletion = DeletionService(
            context, renderer, MediaService(renderer, media_store, data.scratch)
        )
        stack.push_async_callback(deletion.close)
        removal = AccountRemoval(
            context, accounts, deletion.delete, takes_calls_of(settings, every[0])
        )
        calls = CallService(context, RecordingService(context, lambda _: None))
        yield create_admin(AdminServices(accounts, removal, calls, public_url=None))
