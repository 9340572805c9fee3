"""Test calls: two recorded voices talk over the live server, and it is recorded."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from dataclasses import replace

from callreel.base.clock import Clock
from callreel.base.errors import CallreelError, MachineError
from callreel.base.ids import IdSource
from callreel.calls.model import Account, RecordingChannels, RecordingRequest, RecordingStatus
from callreel.console.services import Stage, TrialCall
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.voices import NAMES, voice_of
from callreel.server.addresses import url_host
from callreel.service.live import LiveService
from callreel.service.recordings import RecordingService

log = logging.getLogger(__name__)

CALLER = Party("sip:+15550100@demo.example.com", "Ada (test call)")
CALLEE = Party("sip:+15550199@demo.example.com", "Grace (test call)")
RECORDED_S = 12
FINISHED_S = 60.0
_LOOK_S = 0.1


class LoopbackTrialCalls:
    """Implements ``console.services.TrialCalls`` with calls from this machine to itself.

    Such calls are the first account's, where the settings take them at all; ``accepts`` says so.
    """

    def __init__(
        self,
        *,
        first: Account,
        sip_address: tuple[str, int],
        recordings: RecordingService,
        live: LiveService,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self.accepts = True
        """Whether the server takes calls from this machine; changes with its settings."""
        self._first = first
        self._host, self._port = sip_address
        self._recordings = recordings
        self._live = live
        self._clock = clock
        self._ids = ids
        self._newest: TrialCall | None = None
        self._task: asyncio.Task[None] | None = None

    def obstacle(self, account: Account) -> str | None:
        """Why none can be made for this account."""
        if account.id != self._first.id:
            return (
                "A test call comes from the server's own machine, and such calls belong to its "
                "first account. Sign in as that to make one."
            )
        if not self.accepts:
            return (
                "This server takes no calls from its own machine (accept_loopback = false), so "
                "there can be no test call."
            )
        if not ipaddress.ip_address(self._host).is_loopback:
            return (
                f"SIP listens on {self._host} alone, and a test call comes from 127.0.0.1. Listen "
                "on all addresses (--sip 0.0.0.0:5060) to make one."
            )
        return None

    def newest(self, account: Account) -> TrialCall | None:
        """The last one."""
        return self._newest if account.id == self._first.id else None

    def start(self, account: Account) -> None:
        """Begin one, unless one is under way."""
        if self._task is None or self._task.done():
            self._newest = TrialCall(Stage.CALLING)
            self._task = asyncio.create_task(self._run(account), name="test call")

    async def close(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, account: Account) -> None:
        try:
            await self._call(account)
        except CallreelError as error:
            log.warning("the test call failed: %s", error)
            self._tell(stage=Stage.FAILED, problem=str(error))
        except Exception:
            log.exception("the test call failed")
            self._tell(stage=Stage.FAILED, problem="the server's log says why")

    async def _call(self, account: Account) -> None:
        uri = f"sip:{url_host(self._host)}:{self._port}"
        voices = [await asyncio.to_thread(voice_of, name) for name in NAMES]
        client = RecordingClient(clock=self._clock, ids=self._ids, local_host=self._host)
        await client.start()
        try:
            call = await client.call(uri, voices, caller=CALLER, callee=CALLEE)
            recording_id = await self._record(account, call.dialog.id.call_id)
            for second in range(RECORDED_S):
                self._tell(stage=Stage.TALKING, seconds=second, recording_id=recording_id)
                await asyncio.sleep(1.0)
            recording = await self._recordings.get(account, recording_id)
            if recording.is_live:  # somebody may have stopped it, watching
                await self._recordings.stop(recording)
            self._tell(stage=Stage.FINISHING)
            if not call.ended.is_set():
                await client.hang_up(call)
        finally:
            await client.close()
        await self._finished(account, recording_id)
        self._tell(stage=Stage.DONE)

    async def _record(self, account: Account, sip_call_id: str) -> str:
        for live in await self._live.calls(account):
            if live.call.sip_call_id == sip_call_id:
                if live.recording is not None:  # the policy for such calls was quicker
                    return live.recording.id
                dual = RecordingRequest(RecordingChannels.DUAL)
                recording, _ = await self._recordings.start(account, live.call.id, dual)
                return recording.id
        raise MachineError("the call was answered, and is not among those in progress")

    async def _finished(self, account: Account, recording_id: str) -> None:
        try:
            async with asyncio.timeout(FINISHED_S):
                while True:
                    found = await self._recordings.get(account, recording_id)
                    if found.status in (RecordingStatus.COMPLETED, RecordingStatus.ABSENT):
                        return
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise MachineError(f"the recording was not finished in {FINISHED_S:.0f} s") from None

    def _tell(self, **changes: object) -> None:
        assert self._newest is not None
        self._newest = replace(self._newest, **changes)  # type: ignore[arg-type]
