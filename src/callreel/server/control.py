"""The control process: signalling, API, webhooks and scheduling on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from callreel.api.app import ApiServices, create_app
from callreel.api.metrics import Metrics
from callreel.base.errors import CallreelError, MachineError, UsageError
from callreel.base.log_lines import formatter
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerEvent, WorkerEventKind, media_heard
from callreel.console.services import Addresses, ConsoleServices
from callreel.delivery.address import AddressPolicy
from callreel.delivery.documents import ProgramDocuments
from callreel.delivery.exchange import Exchange
from callreel.delivery.sender import Sender
from callreel.delivery.worker import DeliveryLoop
from callreel.journal.keys import JournalSeal
from callreel.mediastore import MediaStore
from callreel.render.pool import JournalRenderer, RenderPool
from callreel.server.addresses import Bound, bind_tcp, loopback, reachable, url_host
from callreel.server.admin import AdminServices, admin_socket, create_admin, listen_admin
from callreel.server.banner import banner, clear_text_warning, own_command
from callreel.server.bounds import Bounds
from callreel.server.console import audio_of, mount_console
from callreel.server.datadir import DataDir
from callreel.server.disk import DiskWatch
from callreel.server.health import Down, Health
from callreel.server.http import serving
from callreel.server.machine import ServerMachine
from callreel.server.metrics import CONTENT_TYPE, exposition
from callreel.server.outbox import StoreOutbox
from callreel.server.peering import takes_calls_of
from callreel.server.rereading import Rereading
from callreel.server.settings import Settings, load_settings
from callreel.server.sip_listening import listen_sip, listen_sips
from callreel.server.speech import prompts_of, signing_keys
from callreel.server.status import Status
from callreel.server.supervisor import (
    LIFELINE_FD,
    REPLACE_ME,
    REPLACE_SIGNAL,
    announce_ready,
    worker_socket,
)
from callreel.server.syncer import Syncer
from callreel.server.system import RandomIds, SystemClock
from callreel.server.telephony import Telephony
from callreel.server.tls import sip_tls_of, tls_of
from callreel.server.trial_calls import LoopbackTrialCalls
from callreel.server.voice import Voice
from callreel.service.account_removal import AccountRemoval
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.bundle import BundleService
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.deletion import DeletionService
from callreel.service.deliveries import DeliveryService
from callreel.service.finishing import FinishingService
from callreel.service.live import LiveService
from callreel.service.media import MediaService
from callreel.service.recordings import RecordingService
from callreel.service.recovery import recover
from callreel.service.registrations import RegistrationService
from callreel.service.retention import RetentionService
from callreel.service.room import Room, Step
from callreel.service.sign_in import SignInService
from callreel.service.throttle import FailureThrottle
from callreel.service.verification import Finding, Verification
from callreel.signalling.front_door import FrontDoor
from callreel.signalling.user_agent import UserAgent
from callreel.store.database import Database
from callreel.store.seal import Seal

log = logging.getLogger(__name__)

EX_CONFIG = 78
SHUTDOWN = "the server is shutting down"
_LOOK_AFTER_S = 10.0
_LOOK_PAUSE_S = 0.1
_ORPHANED_S = 5.0
"""For rendering and webhooks where the supervisor is gone: somebody waits to start it anew."""


class Control:
    """Everything wired together, from settings to a running server."""

    def __init__(
        self, settings: Settings, runtime: Path, load: Callable[[], Settings] | None = None
    ) -> None:
        """``load`` reads the settings anew."""
        self._settings = settings
        self._load = load or (lambda: settings)
        self._reread_asked = False
        self._rereading: Rereading | None = None
        self._runtime = runtime
        self._data = DataDir(settings.data.absolute())
        self._stop = asyncio.Event()
        self._is_up = False
        self._orphaned = False
        self._replaced = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._signalling: FrontDoor | None = None
        self._recordings: RecordingService | None = None
        self._unwritable: set[str] = set()
        self._voice: Voice | None = None

    def stop(self) -> None:
        """Begin the orderly end of :meth:`run`."""
        self._stop.set()

    def supervisor_gone(self) -> None:
        """End in order, and soon: nobody would start anew what dies from now on. At once where
        nothing was begun yet."""
        if not self._is_up:
            logging.shutdown()
            os._exit(1)
        self._orphaned = True
        self._stop.set()

    def leave(self) -> None:
        """Make way for a successor: requests under way are answered, calls and recordings go on."""
        self._replaced = True
        self._stop.set()

    def reread(self) -> None:
        """Have the settings read anew, as soon as the server is up."""
        self._reread_asked = True
        if self._rereading is not None:
            self._rereading.ask()

    async def run(self) -> bool:
        """Serve until stopped; then end calls and recordings, finish them, and return.

        True where a successor is to take over: then nothing was ended, and this process is to end
        at once, as it is.
        """
        settings, data = self._settings, self._data
        clock, ids = SystemClock(), RandomIds()
        async with AsyncExitStack() as stack:
            key = data.prepare()
            journal_seal = JournalSeal.of(key)
            url = settings.database_url or f"sqlite:///{data.database}"
            database = Database(url, Seal(key))
            stack.push_async_callback(database.close)
            await asyncio.to_thread(database.migrate)
            data.empty_scratch()

            media_host = settings.public_address or reachable(settings.sip_address[0])
            workers = WorkerPool(
                [worker_socket(self._runtime, n) for n in range(settings.worker_count)],
                on_event=self._worker_event,
                advertised_host=media_host,
                advertised_ipv4=reachable("0.0.0.0") if ":" in media_host else None,
                seal=journal_seal.seal,
            )
            await stack.enter_async_context(workers)

            bound = Bound(self._runtime)
            http_socket = bind_tcp(bound.http(settings.http_address))
            stack.callback(http_socket.close)
            http_host, http_port = http_socket.getsockname()[:2]
            http_url = f"http://{url_host(reachable(http_host))}:{http_port}"
            tls, secured, https_port, https_url = None, None, 0, None
            if settings.https_address is not None:
                tls = tls_of(settings, data.tls, clock)
                https_socket = bind_tcp(bound.https(settings.https_address), option="--https")
                stack.callback(https_socket.close)
                https_host, https_port = https_socket.getsockname()[:2]
                secured = https_socket, tls.context
                https_url = f"https://{url_host(reachable(https_host))}:{https_port}"

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
                media=workers,
                clock=clock,
                ids=ids,
                public_url=settings.public_url or https_url or http_url,
                delivery_owed=deliveries.notify,
            )
            pool = RenderPool(settings.render_worker_count)
            stack.push_async_callback(pool.close)
            renderer = JournalRenderer(
                pool,
                data.journals,
                data.scratch,
                silence_dbfs=settings.silence_dbfs,
                seal=journal_seal,
            )
            media_store = MediaStore.from_url(settings.media_url or str(data.media))
            finishing = FinishingService(context, renderer, media_store)
            recordings = RecordingService(context, finishing.enqueue)
            calls = CallService(context, recordings)

            async def room_again() -> None:
                finishing.try_again()
                await recordings.room_again()

            media_folder = (
                []
                if "://" in (settings.media_url or "")
                else [Path(settings.media_url or data.media)]
            )
            disk = DiskWatch(
                context.room,
                [data.root, data.journals, *media_folder],
                warning_mb=settings.disk_warning_mb,
                reserve_mb=settings.disk_reserve_mb,
                again=room_again,
            )
            disk.look()
            accounts = AccountService(context, throttle=_throttle(settings))
            account = await accounts.ensure_first(
                Bootstrap(settings.bootstrap_account_sid, settings.bootstrap_auth_token)
            )
            signing_key = signing_keys(database)
            prompts = prompts_of(settings, data, exchange, signing_key, clock)
            stack.push_async_callback(prompts.close)
            voice = Voice(
                context,
                account,
                accounts=accounts,
                calls=calls,
                recordings=recordings,
                media=workers,
                prompts=prompts,
                documents=ProgramDocuments(exchange, signing_key, new_id=ids.new_id),
            )
            await voice.configure(settings)
            telephony = await Telephony.of(
                settings,
                account,
                accounts=accounts,
                calls=calls,
                recordings=recordings,
                registrations=RegistrationService(database),
                media=workers,
                clock=clock,
                ids=ids,
                voice_media=workers,
            )
            agent, signalling = telephony.agent, telephony.door
            self._recordings = recordings
            voice.attach(telephony)
            self._signalling, self._voice = signalling, voice
            stack.push_async_callback(telephony.close)
            taken_up = await signalling.restore()
            await recover(context, calls, recordings, finishing, taken_up=taken_up)
            await voice.service.restore(taken_up)
            sip_host, sip_port = await listen_sip(agent, bound.sip(settings.sip_address))
            sips_uri, sips_port = None, 0
            if settings.sips_address is not None:
                sip_tls = sip_tls_of(settings, data.tls, clock)
                sips_host, sips_port = await listen_sips(
                    agent, bound.sips(settings.sips_address), sip_tls
                )
                await stack.enter_async_context(_running(sip_tls.watch(), "SIP certificate"))
                sips_host = url_host(settings.public_address or reachable(sips_host))
                sips_uri = f"sip:{sips_host}:{sips_port};transport=tls"
            await telephony.start()

            media = MediaService(renderer, media_store, data.scratch)
            deletion = DeletionService(context, renderer, media)
            stack.push_async_callback(deletion.close)
            await deletion.recover()
            health = Health()
            health.add("database", database.ping)
            health.add("workers", lambda: _workers_up(workers))
            health.add("sip", lambda: _sip_up(agent))
            health.add("disk", lambda: _disk_state(context.room))
            health.add("journals", self._journals_state)
            health.add("finishing", lambda: _finishing_state(finishing))
            syncer = Syncer(data.journals, lambda: len(signalling) > 0)
            bounds = Bounds(agent, context.backlog)
            status = Status(
                clock=clock,
                database=database,
                workers=workers,
                finishing=finishing,
                delivery=deliveries,
                syncer=syncer,
                room=context.room,
                health=health,
                calls=lambda: len(signalling),
                limits=bounds.used,
                sweep_s=settings.sweep_period_ms / 1000,
            )
            logging.getLogger().addHandler(status.logged)
            stack.callback(logging.getLogger().removeHandler, status.logged)

            async def figures() -> tuple[bytes, str]:
                return exposition(await status.gather()), CONTENT_TYPE

            app = create_app(
                ApiServices(
                    accounts=accounts,
                    calls=calls,
                    voice=voice.service,
                    recordings=recordings,
                    media=media,
                    deletion=deletion,
                    health=health.check,
                    metrics=Metrics(figures, settings.metrics_loopback, settings.metrics_token),
                ),
                public_url=context.public_url,
                media_auth=settings.media_auth,
            )
            doors = await stack.enter_async_context(AsyncExitStack())
            trusted = settings.trusted_proxies
            sip_uri = f"sip:{url_host(settings.public_address or reachable(sip_host))}:{sip_port}"
            warning = clear_text_warning(http_host, https_url)
            live, owed = LiveService(context, workers), DeliveryService(context)
            trial_calls = LoopbackTrialCalls(
                first=account,
                sip_address=(loopback(sip_host), sip_port),
                recordings=recordings,
                live=live,
                clock=clock,
                ids=ids,
            )
            trial_calls.accepts = settings.accept_loopback
            stack.push_async_callback(trial_calls.close)
            machine = ServerMachine(
                workers=workers,
                health=health.check,
                rendering=lambda: finishing.waiting,
                max_calls=lambda: self._settings.max_calls,
                ports=settings.port_range,
                folders=data.folders(settings.database_url, settings.media_url),
                database=database.engine_name,
                media_store=media_store.place,
                started_at=clock.now(),
                warnings=[warning] if warning else [],
            )
            idle_s = 60.0 * settings.console_idle_minutes
            services = ConsoleServices(
                sign_in=SignInService(context, accounts, idle_s=idle_s),
                calls=calls,
                recordings=recordings,
                live=live,
                media=media,
                audio=audio_of(media),
                deletion=deletion,
                bundle=BundleService(recordings, calls, media),
                deliveries=owed,
                machine=machine,
                trial_calls=trial_calls,
                addresses=Addresses(context.public_url, sip_uri, sips_uri),
                now=clock.now,
            )
            console = await mount_console(app, services)
            await doors.enter_async_context(
                serving(
                    bounds.over(app, settings.max_requests),
                    http_socket,
                    tls=secured,
                    trusted_proxies=trusted,
                )
            )
            doors.callback(console.close)
            if tls is not None:
                await stack.enter_async_context(_running(tls.watch(), "certificate"))
            admin = admin_socket(self._runtime)
            takes_calls = takes_calls_of(settings, account)
            removal = AccountRemoval(context, accounts, deletion.delete, takes_calls)
            retention = RetentionService(context, deletion, settings.retention_days)
            verification = Verification(context, renderer, media_store)
            admin_app = create_admin(
                AdminServices(
                    accounts,
                    removal,
                    owed,
                    retention,
                    verification,
                    calls,
                    context.public_url,
                    status.gather,
                )
            )
            admin_listening = listen_admin(admin)
            stack.callback(admin_listening.close)
            await doors.enter_async_context(serving(admin_app, admin_listening))
            await stack.enter_async_context(_running(deliveries.run(), "deliveries"))
            await stack.enter_async_context(_running(disk.run(), "disk"))
            await stack.enter_async_context(_running(retention.run(), "retention"))
            context.backlog.most = settings.max_owed_webhooks
            await stack.enter_async_context(_running(bounds.watch(database), "backlog"))
            await stack.enter_async_context(_running(_look_through(verification), "look through"))
            await stack.enter_async_context(_running(syncer.run(), "syncer"))
            await stack.enter_async_context(_running(pool.warm(), "render pool"))

            async def take(fresh: Settings) -> None:
                await voice.configure(fresh)
                await telephony.configure(fresh)
                takes_calls.clear()
                takes_calls.update(takes_calls_of(fresh, account))
                context.backlog.most = fresh.max_owed_webhooks
                bounds.most_requests = fresh.max_requests
                retention.days = fresh.retention_days
                disk.warning_mb, disk.reserve_mb = fresh.disk_warning_mb, fresh.disk_reserve_mb
                exchange.policy = AddressPolicy(deny_private=not fresh.webhook_private_addresses)
                logging.getLogger().setLevel(fresh.log_level.upper())
                trial_calls.accepts = fresh.accept_loopback
                self._settings = fresh

            self._rereading = Rereading(settings, self._load, take)
            await stack.enter_async_context(_running(self._rereading.run(), "rereading"))
            if self._reread_asked:  # while it came up
                self._rereading.ask()

            bound.note(
                http_port=http_port, https_port=https_port, sip_port=sip_port, sips_port=sips_port
            )
            data.write_state(
                {
                    "pid": os.getpid(),
                    "supervisor_pid": os.getppid(),
                    "http_url": http_url,
                    "https_url": https_url,
                    "sip_uri": sip_uri,
                    "sips_uri": sips_uri,
                    "admin_socket": str(admin),
                }
            )
            stack.callback(data.remove_state)
            if warning:
                log.warning("%s", warning)
            sys.stdout.write(
                banner(
                    account,
                    http_url,
                    sip_uri,
                    settings,
                    show_token=not data.token_shown,
                    command=own_command(
                        Path(sys.executable), at=Path.cwd(), found=shutil.which("callreel")
                    ),
                    https_url=https_url,
                    sips_uri=sips_uri,
                    trust=tls.to_trust if tls else None,
                    warning=warning,
                )
            )
            sys.stdout.flush()
            data.note_token_shown()
            self._is_up = True
            announce_ready()
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)

            await self._stop.wait()
            if self._replaced:
                log.info("making way for a successor: %d calls go on", len(signalling))
                await doors.aclose()
                # What follows would take registrations back and wait for renders. The successor
                # takes all of that up, as after a crash.
                stack.pop_all()
                return True
            log.info("stopping: ending %d calls", len(signalling))
            signalling.refuse_new()
            await calls.hang_up_all(reason=SHUTDOWN)
            await voice.service.close()
            await self._drain(finishing, deliveries, database)
        return False

    async def _drain(
        self, finishing: FinishingService, deliveries: DeliveryLoop, database: Database
    ) -> None:
        """Let what is owed be done within the time that a shutdown may take."""
        loop = asyncio.get_running_loop()
        patience_s = self._settings.shutdown_seconds
        if self._orphaned:
            patience_s = min(patience_s, _ORPHANED_S)
        deadline = loop.time() + patience_s
        if not await finishing.drain(patience_s):
            log.warning("%d recordings are left to the next start", finishing.waiting)
        deliveries.notify()
        outbox = StoreOutbox(database)
        while loop.time() < deadline:
            due = await outbox.next_due_at()
            if not deliveries.in_flight and (due is None or due > SystemClock().now()):
                break
            await asyncio.sleep(0.05)
        deliveries.stop()
        await finishing.close()

    def _worker_event(self, event: WorkerEvent) -> None:
        """What the workers report unasked."""
        # What a call hears is for whoever steers it. Not logged: keys may be a secret.
        if media_heard(event) is not None:
            if self._voice is not None:
                self._voice.heard(event)
            return
        about = event.recording_id or event.call_id or f"worker {event.worker}"
        quiet = event.kind in (WorkerEventKind.LATCHED, WorkerEventKind.WORKER_BACK)
        log.log(
            logging.INFO if quiet else logging.WARNING,
            "%s: %s %s",
            about,
            event.kind.value,
            dict(event.data) or "",
        )
        if event.kind is WorkerEventKind.WRITE_FAILED:
            self._unwritable.add(event.recording_id)
        elif event.kind in (WorkerEventKind.WRITE_RECOVERED, WorkerEventKind.ENDED):
            self._unwritable.discard(event.recording_id)
        elif event.kind is WorkerEventKind.WORKER_LOST:
            self._unwritable.clear()  # its successor says so anew
        if self._signalling is None:
            return
        if event.kind is WorkerEventKind.CALL_LOST:
            reason = "a media worker lost the call"
            self._spawn(self._signalling.hang_up(event.call_id, reason=reason))
        elif event.kind in (WorkerEventKind.ENDED, WorkerEventKind.RECORDING_LOST):
            if self._recordings is not None:
                self._spawn(self._recordings.not_kept(event.recording_id))
        elif event.kind is WorkerEventKind.SILENT:
            self._spawn(self._signalling.check_on(event.call_id))

    async def _journals_state(self) -> str | None:
        """Whether all journals can be written."""
        count = len(self._unwritable)
        return f"{count} recordings cannot be written to the disk now" if count else None

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _throttle(settings: Settings) -> FailureThrottle | None:
    burst = settings.auth_failures_burst
    return FailureThrottle(burst=burst, salt=secrets.token_bytes(32)) if burst else None


async def _quietly(work: Any) -> None:
    try:
        await work
    except CallreelError as error:
        log.error("%s", error)


async def _workers_up(workers: WorkerPool) -> None:
    if not workers.healthy:
        raise MachineError("a media worker is away")


async def _look_through(verification: Verification) -> None:
    """Look for files without a row and rows without a file, once, and say what was found.

    Not before the first rush of a start is over, and at its leisure.
    """
    await asyncio.sleep(_LOOK_AFTER_S)
    try:
        async for one in verification.run(hashes=False, pause_s=_LOOK_PAUSE_S):
            if isinstance(one, Finding):
                level = logging.INFO if one.mended else logging.WARNING
                mended = ": deleted" if one.mended else "; see callreel verify"
                log.log(level, "%s: %s%s", one.about, one.trouble.value, mended)
    except Exception as error:
        log.error("what is kept cannot be looked through now: %s", error)


async def _disk_state(room: Room) -> str | None:
    if room.step is Step.OUT:
        raise Down(f"no new recording is begun, {room.free_bytes / 1e9:.2f} GB are free")
    return f"{room.free_bytes / 1e9:.2f} GB are free" if room.step is Step.LOW else None


async def _finishing_state(finishing: FinishingService) -> str | None:
    count = len(finishing.failing)
    return f"{count} recordings cannot be finished now; it is tried again" if count else None


async def _sip_up(agent: UserAgent) -> None:
    if not agent.is_listening:
        raise MachineError("SIP is not listening")


@asynccontextmanager
async def _running(work: Any, name: str) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _serve(
    settings: Settings, runtime: Path, load: Callable[[], Settings], hangups: Sequence[int]
) -> None:
    """``hangups``: the SIGHUPs that came since the settings were read."""
    control = Control(settings, runtime, load)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, control.reread)
    if hangups:
        control.reread()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, control.stop)
    loop.add_signal_handler(REPLACE_SIGNAL, control.leave)
    if LIFELINE_FD in os.environ:
        lifeline = int(os.environ[LIFELINE_FD])
        os.set_blocking(lifeline, False)
        loop.add_reader(lifeline, _on_lifeline, loop, lifeline, control)
    if await control.run():
        logging.shutdown()
        sys.stdout.flush()
        os._exit(REPLACE_ME)


def _on_lifeline(loop: asyncio.AbstractEventLoop, lifeline: int, control: Control) -> None:
    """The lifeline is only ever readable because the supervisor is gone."""
    with contextlib.suppress(BlockingIOError):
        if not os.read(lifeline, 4096):
            loop.remove_reader(lifeline)
            log.error("the supervisor is gone: stopping")
            control.supervisor_gone()


def main(arguments: Sequence[str]) -> int:
    """Run the control process; its exit status."""
    told = json.loads(arguments[0])
    config = Path(told["config"]) if told["config"] else None

    def load() -> Settings:
        return load_settings(config, told["options"])

    hangups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    try:
        settings = load()
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter(settings.log_format))
        logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
        for chatty in ("httpx", "httpcore", "alembic", "uvicorn"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, Path(told["runtime"]), load, hangups))
    except UsageError as error:
        sys.stderr.write(f"callreel: {error}\n")
        return EX_CONFIG
    except MachineError as error:
        sys.stderr.write(f"callreel: {error}\n")
        return 1
    return 0
