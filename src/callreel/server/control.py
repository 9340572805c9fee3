"""The control process: signalling, API, webhooks and scheduling on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
from fastapi import FastAPI

from callreel.api.app import ApiServices, create_app
from callreel.api.metrics import Metrics
from callreel.base.clock import Clock
from callreel.base.errors import MachineError, UsageError
from callreel.base.log_lines import formatter
from callreel.calls.model import Account
from callreel.console.services import Addresses
from callreel.delivery.documents import ProgramDocuments
from callreel.server.addresses import Bound, loopback
from callreel.server.admin import AdminServices, admin_socket, create_admin, listen_admin
from callreel.server.banner import banner, clear_text_warning, own_command
from callreel.server.bounds import Bounds
from callreel.server.console import mount_console
from callreel.server.core import Core, Foundation
from callreel.server.datadir import DataDir
from callreel.server.front import Front
from callreel.server.health import Health
from callreel.server.http import serving
from callreel.server.look_through import look_through
from callreel.server.machine import ServerMachine
from callreel.server.metrics import CONTENT_TYPE, exposition
from callreel.server.outbox import StoreOutbox
from callreel.server.peering import takes_calls_of
from callreel.server.probes import health_of
from callreel.server.rereading import Rereading
from callreel.server.running import running
from callreel.server.settings import Settings, load_settings
from callreel.server.sip_listening import SipFront
from callreel.server.speech import prompts_of, signing_keys
from callreel.server.status import Status
from callreel.server.supervisor import LIFELINE_FD, REPLACE_ME, REPLACE_SIGNAL, announce_ready
from callreel.server.syncer import Syncer
from callreel.server.system import RandomIds, SystemClock
from callreel.server.telephony import Telephony
from callreel.server.trial_calls import LoopbackTrialCalls
from callreel.server.voice import Voice
from callreel.server.worker_events import WorkerEvents
from callreel.service.account_removal import AccountRemoval
from callreel.service.deliveries import DeliveryService
from callreel.service.live import LiveService
from callreel.service.recovery import recover
from callreel.service.registrations import RegistrationService
from callreel.service.retention import RetentionService
from callreel.service.verification import Verification

log = logging.getLogger(__name__)

EX_CONFIG = 78
SHUTDOWN = "the server is shutting down"
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
            events = WorkerEvents()
            foundation = await Foundation.open(
                settings, data, self._runtime, stack, on_event=events.heed
            )
            bound = Bound(self._runtime)
            front = Front.open(settings, bound, data, clock, stack)
            core = await Core.open(
                settings,
                data,
                foundation,
                stack,
                clock=clock,
                ids=ids,
                public_url=settings.public_url or front.https_url or front.http_url,
            )
            voice = await self._voice_of(core, stack, clock, ids)
            telephony = await self._telephony_of(core, clock, ids)
            events.recordings, events.signalling, events.voice = (
                core.recordings,
                telephony.door,
                voice,
            )
            voice.attach(telephony)
            stack.push_async_callback(telephony.close)
            taken_up = await telephony.door.restore()
            await recover(
                core.context, core.calls, core.recordings, core.finishing, taken_up=taken_up
            )
            await voice.service.restore(taken_up)
            sip = await SipFront.open(settings, bound, data, clock, telephony.agent, stack)
            await telephony.start()
            await core.deletion.recover()

            health = health_of(core, telephony.agent, journals=events.journals_state)
            syncer = Syncer(data.journals, lambda: len(telephony.door) > 0)
            bounds = Bounds(telephony.agent, core.context.backlog)
            status = Status(
                core,
                clock=clock,
                syncer=syncer,
                health=health,
                calls=lambda: len(telephony.door),
                limits=bounds.used,
                sweep_s=settings.sweep_period_ms / 1000,
            )
            logging.getLogger().addHandler(status.logged)
            stack.callback(logging.getLogger().removeHandler, status.logged)
            app = self._api_of(core, voice, health, status)
            doors = await stack.enter_async_context(AsyncExitStack())
            warning = clear_text_warning(front.http_host, front.https_url)
            trial_calls = LoopbackTrialCalls(
                first=core.account,
                sip_address=(loopback(sip.host), sip.port),
                recordings=core.recordings,
                live=LiveService(core.context, core.workers),
                clock=clock,
                ids=ids,
            )
            trial_calls.accepts = settings.accept_loopback
            stack.push_async_callback(trial_calls.close)
            machine = ServerMachine(
                workers=core.workers,
                health=health.check,
                rendering=lambda: core.finishing.waiting,
                max_calls=lambda: self._settings.max_calls,
                ports=settings.port_range,
                folders=data.folders(settings.database_url, settings.media_url),
                database=core.database.engine_name,
                media_store=core.media_store.place,
                started_at=clock.now(),
                warnings=[warning] if warning else [],
            )
            console = await mount_console(
                app,
                core,
                machine=machine,
                trial_calls=trial_calls,
                addresses=Addresses(core.context.public_url, sip.uri, sip.secure_uri),
                idle_s=60.0 * settings.console_idle_minutes,
            )
            await doors.enter_async_context(
                serving(
                    bounds.over(app, settings.max_requests),
                    front.http,
                    tls=front.secured,
                    trusted_proxies=settings.trusted_proxies,
                )
            )
            doors.callback(console.close)
            if front.tls is not None:
                await stack.enter_async_context(running(front.tls.watch(), "certificate"))
            takes_calls = takes_calls_of(settings, core.account)
            retention = RetentionService(core.context, core.deletion, settings.retention_days)
            verification = Verification(core.context, core.renderer, core.media_store)
            admin = admin_socket(self._runtime)
            admin_listening = listen_admin(admin)
            stack.callback(admin_listening.close)
            await doors.enter_async_context(
                serving(
                    create_admin(
                        AdminServices(
                            core.accounts,
                            AccountRemoval(
                                core.context, core.accounts, core.deletion.delete, takes_calls
                            ),
                            DeliveryService(core.context),
                            retention,
                            verification,
                            core.calls,
                            core.context.public_url,
                            status.gather,
                        )
                    ),
                    admin_listening,
                )
            )
            for name, work in (
                ("deliveries", core.deliveries.run()),
                ("disk", core.disk.run()),
                ("retention", retention.run()),
                ("backlog", bounds.watch(core.database)),
                ("look through", look_through(verification)),
                ("syncer", syncer.run()),
                ("render pool", core.pool.warm()),
            ):
                await stack.enter_async_context(running(work, name))

            async def take(fresh: Settings) -> None:
                await voice.configure(fresh)
                await telephony.configure(fresh)
                takes_calls.clear()
                takes_calls.update(takes_calls_of(fresh, core.account))
                core.configure(fresh)
                bounds.most_requests = fresh.max_requests
                retention.days = fresh.retention_days
                logging.getLogger().setLevel(fresh.log_level.upper())
                trial_calls.accepts = fresh.accept_loopback
                self._settings = fresh

            self._rereading = Rereading(settings, self._load, take)
            await stack.enter_async_context(running(self._rereading.run(), "rereading"))
            if self._reread_asked:  # while it came up
                self._rereading.ask()

            bound.note(
                http_port=front.http_port,
                https_port=front.https_port,
                sip_port=sip.port,
                sips_port=sip.secure_port,
            )
            data.write_state(
                {
                    "pid": os.getpid(),
                    "supervisor_pid": os.getppid(),
                    "http_url": front.http_url,
                    "https_url": front.https_url,
                    "sip_uri": sip.uri,
                    "sips_uri": sip.secure_uri,
                    "admin_socket": str(admin),
                }
            )
            stack.callback(data.remove_state)
            if warning:
                log.warning("%s", warning)
            self._greet(core.account, front, sip, warning)
            self._is_up = True
            announce_ready()
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)

            await self._stop.wait()
            if self._replaced:
                log.info("making way for a successor: %d calls go on", len(telephony.door))
                await doors.aclose()
                # What follows would take registrations back and wait for renders. The successor
                # takes all of that up, as after a crash.
                stack.pop_all()
                return True
            log.info("stopping: ending %d calls", len(telephony.door))
            telephony.door.refuse_new()
            await core.calls.hang_up_all(reason=SHUTDOWN)
            await voice.service.close()
            await self._drain(core)
        return False

    async def _voice_of(
        self, core: Core, stack: AsyncExitStack, clock: Clock, ids: RandomIds
    ) -> Voice:
        """Calls that documents steer, not attached to signalling as yet."""
        settings = self._settings
        signing_key = signing_keys(core.database)
        prompts = prompts_of(settings, self._data, core.exchange, signing_key, clock)
        stack.push_async_callback(prompts.close)
        voice = Voice(
            core.context,
            core.account,
            accounts=core.accounts,
            calls=core.calls,
            recordings=core.recordings,
            media=core.workers,
            prompts=prompts,
            documents=ProgramDocuments(core.exchange, signing_key, new_id=ids.new_id),
        )
        await voice.configure(settings)
        return voice

    async def _telephony_of(self, core: Core, clock: Clock, ids: RandomIds) -> Telephony:
        """Signalling, not listening as yet."""
        return await Telephony.of(
            self._settings,
            core.account,
            accounts=core.accounts,
            calls=core.calls,
            recordings=core.recordings,
            registrations=RegistrationService(core.database),
            media=core.workers,
            clock=clock,
            ids=ids,
            voice_media=core.workers,
        )

    def _api_of(self, core: Core, voice: Voice, health: Health, status: Status) -> FastAPI:
        """The REST API."""
        settings = self._settings

        async def figures() -> tuple[bytes, str]:
            return exposition(await status.gather()), CONTENT_TYPE

        return create_app(
            ApiServices(
                accounts=core.accounts,
                calls=core.calls,
                voice=voice.service,
                recordings=core.recordings,
                media=core.media,
                deletion=core.deletion,
                health=health.check,
                metrics=Metrics(figures, settings.metrics_loopback, settings.metrics_token),
            ),
            public_url=core.context.public_url,
            media_auth=settings.media_auth,
        )

    def _greet(self, account: Account, front: Front, sip: SipFront, warning: str | None) -> None:
        """Say on standard output where everything is."""
        command = own_command(Path(sys.executable), at=Path.cwd(), found=shutil.which("callreel"))
        sys.stdout.write(
            banner(
                account,
                front.http_url,
                sip.uri,
                self._settings,
                show_token=not self._data.token_shown,
                command=command,
                https_url=front.https_url,
                sips_uri=sip.secure_uri,
                trust=front.tls.to_trust if front.tls else None,
                warning=warning,
            )
        )
        sys.stdout.flush()
        self._data.note_token_shown()

    async def _drain(self, core: Core) -> None:
        """Let what is owed be done within the time that a shutdown may take."""
        loop = asyncio.get_running_loop()
        patience_s = self._settings.shutdown_seconds
        if self._orphaned:
            patience_s = min(patience_s, _ORPHANED_S)
        deadline = loop.time() + patience_s
        if not await core.finishing.drain(patience_s):
            log.warning("%d recordings are left to the next start", core.finishing.waiting)
        core.deliveries.notify()
        outbox = StoreOutbox(core.database)
        while loop.time() < deadline:
            due = await outbox.next_due_at()
            if not core.deliveries.in_flight and (due is None or due > SystemClock().now()):
                break
            await asyncio.sleep(0.05)
        core.deliveries.stop()
        await core.finishing.close()


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
