"""What all doors of a server share: its database, media workers, outbox and use cases."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from callreel.base.clock import Clock
from callreel.base.ids import IdSource
from callreel.calls.model import Account
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerEvent
from callreel.delivery.address import AddressPolicy
from callreel.delivery.exchange import Exchange
from callreel.delivery.sender import Sender
from callreel.delivery.worker import DeliveryLoop
from callreel.journal.keys import JournalSeal
from callreel.mediastore import MediaStore
from callreel.render.pool import JournalRenderer, RenderPool
from callreel.server.addresses import reachable
from callreel.server.datadir import DataDir
from callreel.server.disk import DiskWatch
from callreel.server.outbox import StoreOutbox
from callreel.server.settings import Settings
from callreel.server.supervisor import worker_socket
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.deletion import DeletionService
from callreel.service.finishing import FinishingService
from callreel.service.media import MediaService
from callreel.service.recordings import RecordingService
from callreel.service.throttle import FailureThrottle
from callreel.store.database import Database
from callreel.store.seal import Seal


@dataclass(frozen=True, slots=True)
class Foundation:
    """What there has to be before anything is listened on."""

    database: Database
    """Migrated."""
    workers: WorkerPool
    """Connected, or about to be."""
    journal_seal: JournalSeal
    """For keys in journals."""

    @classmethod
    async def open(
        cls,
        settings: Settings,
        data: DataDir,
        runtime: Path,
        stack: AsyncExitStack,
        *,
        on_event: Callable[[WorkerEvent], None],
    ) -> Foundation:
        """Make it; ``stack`` takes it away again. Raises ``UsageError`` or ``MachineError``."""
        key = data.prepare()
        seal = JournalSeal.of(key)
        database = Database(settings.database_url or f"sqlite:///{data.database}", Seal(key))
        stack.push_async_callback(database.close)
        await asyncio.to_thread(database.migrate)
        data.empty_scratch()
        media_host = settings.public_address or reachable(settings.sip_address[0])
        workers = WorkerPool(
            [worker_socket(runtime, n) for n in range(settings.worker_count)],
            on_event=on_event,
            advertised_host=media_host,
            advertised_ipv4=reachable("0.0.0.0") if ":" in media_host else None,
            seal=seal.seal,
        )
        await stack.enter_async_context(workers)
        return cls(database, workers, seal)


@dataclass(frozen=True, slots=True)
class Core:
    """The use cases, and what they stand on."""

    database: Database
    """Migrated."""
    workers: WorkerPool
    """The media workers."""
    exchange: Exchange
    """Requests to the programs of others."""
    deliveries: DeliveryLoop
    """Webhooks that are owed; not running as yet."""
    context: Context
    """What use cases share."""
    pool: RenderPool
    """Render processes."""
    renderer: JournalRenderer
    """Makes files of journals."""
    media_store: MediaStore
    """Finished files."""
    finishing: FinishingService
    """From a stop to a file."""
    recordings: RecordingService
    """Recordings."""
    calls: CallService
    """Calls."""
    media: MediaService
    """Files as they are asked for."""
    deletion: DeletionService
    """What is deleted; what a former process had begun is not taken up as yet."""
    accounts: AccountService
    """Accounts."""
    account: Account
    """The first one."""
    disk: DiskWatch
    """Looked at once; not running as yet."""

    @classmethod
    async def open(
        cls,
        settings: Settings,
        data: DataDir,
        foundation: Foundation,
        stack: AsyncExitStack,
        *,
        clock: Clock,
        ids: IdSource,
        public_url: str,
    ) -> Core:
        """Wire it together; ``stack`` takes it apart. Raises ``UsageError``, ``MachineError``."""
        database = foundation.database
        exchange = await stack.enter_async_context(
            Exchange(policy=AddressPolicy(deny_private=not settings.webhook_private_addresses))
        )
        deliveries = DeliveryLoop(
            StoreOutbox(database),
            Sender(clock, exchange),
            clock,
            jitter=random.SystemRandom().random,
        )
        context = Context(
            database=database,
            media=foundation.workers,
            clock=clock,
            ids=ids,
            public_url=public_url,
            delivery_owed=deliveries.notify,
        )
        context.backlog.most = settings.max_owed_webhooks
        pool = RenderPool(settings.render_worker_count)
        stack.push_async_callback(pool.close)
        renderer = JournalRenderer(
            pool,
            data.journals,
            data.scratch,
            silence_dbfs=settings.silence_dbfs,
            seal=foundation.journal_seal,
        )
        media_store = MediaStore.from_url(settings.media_url or str(data.media))
        finishing = FinishingService(context, renderer, media_store)
        recordings = RecordingService(context, finishing.enqueue)
        media = MediaService(renderer, media_store, data.scratch)
        deletion = DeletionService(context, renderer, media)
        stack.push_async_callback(deletion.close)
        disk = _disk_watch(settings, data, context, finishing, recordings)
        disk.look()
        accounts = AccountService(context, throttle=_throttle(settings))
        account = await accounts.ensure_first(
            Bootstrap(settings.bootstrap_account_sid, settings.bootstrap_auth_token)
        )
        return cls(
            database=database,
            workers=foundation.workers,
            exchange=exchange,
            deliveries=deliveries,
            context=context,
            pool=pool,
            renderer=renderer,
            media_store=media_store,
            finishing=finishing,
            recordings=recordings,
            calls=CallService(context, recordings),
            media=media,
            deletion=deletion,
            accounts=accounts,
            account=account,
            disk=disk,
        )

    def configure(self, settings: Settings) -> None:
        """Go by these from now on, as far as a running server can."""
        self.context.backlog.most = settings.max_owed_webhooks
        self.disk.warning_mb = settings.disk_warning_mb
        self.disk.reserve_mb = settings.disk_reserve_mb
        self.exchange.policy = AddressPolicy(deny_private=not settings.webhook_private_addresses)


def _disk_watch(
    settings: Settings,
    data: DataDir,
    context: Context,
    finishing: FinishingService,
    recordings: RecordingService,
) -> DiskWatch:
    folders = [data.root, data.journals]
    if "://" not in (settings.media_url or ""):
        folders.append(Path(settings.media_url or data.media))

    async def room_again() -> None:
        finishing.try_again()
        await recordings.room_again()

    return DiskWatch(
        context.room,
        folders,
        warning_mb=settings.disk_warning_mb,
        reserve_mb=settings.disk_reserve_mb,
        again=room_again,
    )


def _throttle(settings: Settings) -> FailureThrottle | None:
    burst = settings.auth_failures_burst
    return FailureThrottle(burst=burst, salt=secrets.token_bytes(32)) if burst else None
