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
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from callreel.api.app import ApiServices, create_app
from callreel.base.errors import CallreelError, MachineError, UsageError
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerEvent, WorkerEventKind, media_heard
from callreel.console.app import create_console
from callreel.delivery.address import AddressPolicy
from callreel.delivery.exchange import Exchange
from callreel.delivery.sender import Sender
from callreel.delivery.worker import DeliveryLoop
from callreel.journal.keys import JournalSeal
from callreel.mediastore import MediaStore
from callreel.render.pool import JournalRenderer, RenderPool
from callreel.server.addresses import Bound, bind_tcp, reachable, url_host
from callreel.server.admin import AdminServices, admin_socket, create_admin, listen_admin
from callreel.server.banner import banner, clear_text_warning
from callreel.server.datadir import DataDir
from callreel.server.health import Health
from callreel.server.http import serving
from callreel.server.outbox import StoreOutbox
from callreel.server.peering import takes_calls_of
from callreel.server.rereading import Rereading
from callreel.server.settings import Settings, load_settings
from callreel.server.supervisor import LIFELINE_FD, announce_ready, worker_socket
from callreel.server.syncer import Syncer
from callreel.server.system import RandomIds, SystemClock
from callreel.server.telephony import Telephony
from callreel.server.tls import Tls, sip_tls_of, tls_of
from callreel.service.account_removal import AccountRemoval
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.deletion import DeletionService
from callreel.service.finishing import FinishingService
from callreel.service.media import MediaService
from callreel.service.recordings import RecordingService
from callreel.service.recovery import recover
from callreel.service.registrations import RegistrationService
from callreel.service.throttle import FailureThrottle
from callreel.signalling.front_door import FrontDoor
from callreel.signalling.user_agent import UserAgent
from callreel.store.database import Database
from callreel.store.seal import Seal

log = logging.getLogger(__name__)

EX_CONFIG = 78
SHUTDOWN = "the server is shutting down"


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
        self._tasks: set[asyncio.Task[None]] = set()
        self._signalling: FrontDoor | None = None

    def stop(self) -> None:
        """Begin the orderly end of :meth:`run`."""
        self._stop.set()

    def reread(self) -> None:
        """Have the settings read anew, as soon as the server is up."""
        self._reread_asked = True
        if self._rereading is not None:
            self._rereading.ask()

    async def run(self) -> None:
        """Serve until stopped; then end calls and recordings, finish them, and return."""
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
            accounts = AccountService(context, throttle=_throttle(settings))
            account = await accounts.ensure_first(
                Bootstrap(settings.bootstrap_account_sid, settings.bootstrap_auth_token)
            )
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
            )
            agent, signalling = telephony.agent, telephony.door
            calls.control = self._signalling = signalling
            stack.push_async_callback(telephony.close)
            taken_up = await signalling.restore()
            await recover(context, calls, recordings, finishing, taken_up=taken_up)
            sip_host, sip_port = await _listen_sip(agent, bound.sip(settings.sip_address))
            sips_uri, sips_port = None, 0
            if settings.sips_address is not None:
                sip_tls = sip_tls_of(settings, data.tls, clock)
                sips_host, sips_port = await _listen_sips(
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
            app = create_app(
                ApiServices(
                    accounts=accounts,
                    calls=calls,
                    recordings=recordings,
                    media=media,
                    deletion=deletion,
                    health=health.check,
                ),
                public_url=context.public_url,
                media_auth=settings.media_auth,
            )
            app.mount("/console", create_console(accounts, calls, recordings))
            trusted = settings.trusted_proxies
            await stack.enter_async_context(
                serving(app, http_socket, tls=secured, trusted_proxies=trusted)
            )
            if tls is not None:
                await stack.enter_async_context(_running(tls.watch(), "certificate"))
            admin = admin_socket(self._runtime)
            takes_calls = takes_calls_of(settings, account)
            removal = AccountRemoval(context, accounts, deletion.delete, takes_calls)
            admin_app = create_admin(AdminServices(accounts, removal, calls, context.public_url))
            admin_listening = listen_admin(admin)
            stack.callback(admin_listening.close)
            await stack.enter_async_context(serving(admin_app, admin_listening))
            await stack.enter_async_context(_running(deliveries.run(), "deliveries"))
            syncer = Syncer(data.journals, lambda: len(signalling) > 0)
            await stack.enter_async_context(_running(syncer.run(), "syncer"))
            await stack.enter_async_context(_running(pool.warm(), "render pool"))

            async def take(fresh: Settings) -> None:
                await telephony.configure(fresh)
                takes_calls.clear()
                takes_calls.update(takes_calls_of(fresh, account))
                exchange.policy = AddressPolicy(deny_private=not fresh.webhook_private_addresses)
                logging.getLogger().setLevel(fresh.log_level.upper())
                self._settings = fresh

            self._rereading = Rereading(settings, self._load, take)
            await stack.enter_async_context(_running(self._rereading.run(), "rereading"))
            if self._reread_asked:  # while it came up
                self._rereading.ask()

            sip_uri = f"sip:{url_host(settings.public_address or reachable(sip_host))}:{sip_port}"
            bound.note(
                http_port=http_port, https_port=https_port, sip_port=sip_port, sips_port=sips_port
            )
            data.write_state(
                {
                    "pid": os.getpid(),
                    "http_url": http_url,
                    "https_url": https_url,
                    "sip_uri": sip_uri,
                    "sips_uri": sips_uri,
                    "admin_socket": str(admin),
                }
            )
            stack.callback(data.remove_state)
            if warning := clear_text_warning(http_host, https_url):
                log.warning("%s", warning)
            sys.stdout.write(
                banner(
                    account,
                    http_url,
                    sip_uri,
                    settings,
                    show_token=not data.token_shown,
                    https_url=https_url,
                    sips_uri=sips_uri,
                    trust=tls.to_trust if tls else None,
                    warning=warning,
                )
            )
            sys.stdout.flush()
            data.note_token_shown()
            announce_ready()
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)

            await self._stop.wait()
            log.info("stopping: ending %d calls", len(signalling))
            signalling.refuse_new()
            await calls.hang_up_all(reason=SHUTDOWN)
            await self._drain(finishing, deliveries, database)

    async def _drain(
        self, finishing: FinishingService, deliveries: DeliveryLoop, database: Database
    ) -> None:
        """Let what is owed be done within the time that a shutdown may take."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.shutdown_seconds
        if not await finishing.drain(self._settings.shutdown_seconds):
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
        if media_heard(event) is not None:
            # It is for whoever steers the call. Not logged: keys may be a secret.
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
        if self._signalling is None:
            return
        if event.kind is WorkerEventKind.CALL_LOST:
            reason = "a media worker lost the call"
            self._spawn(self._signalling.hang_up(event.call_id, reason=reason))
        elif event.kind is WorkerEventKind.SILENT:
            self._spawn(self._signalling.check_on(event.call_id))

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


async def _sip_up(agent: UserAgent) -> None:
    if not agent.is_listening:
        raise MachineError("SIP is not listening")


async def _listen_sips(agent: UserAgent, address: tuple[str, int], tls: Tls) -> tuple[str, int]:
    """SIP over TLS. Raises ``UsageError`` where the address cannot be had."""
    try:
        return await agent.listen_tls(*address, context=tls.context)
    except MachineError as error:
        raise UsageError(f"{error}; choose another address with sips") from None


async def _listen_sip(agent: UserAgent, address: tuple[str, int]) -> tuple[str, int]:
    """UDP and TCP on the same port; where any will do, one that is free for both.

    ``::`` is every address of either family. Raises ``UsageError`` where the address cannot be had.
    """
    host, port = address
    for _ in range(20):
        try:
            local = await agent.listen_tcp(host, port)
            bound = await agent.listen_udp(host, local[1])
        except MachineError as error:
            if port:
                raise UsageError(f"{error}; choose another address with --sip") from None
            continue
        if host == "::":
            with contextlib.suppress(MachineError):  # a machine without IPv4
                await agent.listen_tcp("0.0.0.0", bound[1])
                await agent.listen_udp("0.0.0.0", bound[1])
        return bound
    raise UsageError("no port is free for SIP over both UDP and TCP")


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
    if LIFELINE_FD in os.environ:
        lifeline = int(os.environ[LIFELINE_FD])
        os.set_blocking(lifeline, False)
        loop.add_reader(lifeline, _on_lifeline, loop, lifeline, control)
    await control.run()


def _on_lifeline(loop: asyncio.AbstractEventLoop, lifeline: int, control: Control) -> None:
    """The lifeline is only ever readable because the supervisor is gone."""
    with contextlib.suppress(BlockingIOError):
        if not os.read(lifeline, 4096):
            loop.remove_reader(lifeline)
            log.error("the supervisor is gone: stopping")
            control.stop()


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
        logging.basicConfig(
            level=settings.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
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
