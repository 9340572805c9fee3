"""Start, pause, resume, stop, hang-up, crash, restart, trouble: in any order, on a real database.

A simulation of the use cases: media and rendering do as they are told. ``make chaos`` is the same
with real processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.base.errors import CallreelError
from callreel.calls.model import CallStatus, PauseBehavior, Recording, RecordingStatus
from callreel.calls.states import RECORDING_TRANSITIONS
from callreel.mediastore import MediaStore
from callreel.service import finishing as finishing_module, recordings as recordings_module
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.context import Context
from callreel.service.recovery import recover
from callreel.store import recordings
from callreel.store.database import Database, DatabaseUnavailable
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia, ScriptedRenderer
from tests.service.conftest import ALL_EVENTS, CountedIds, House, StepClock, wire

SEAL = Seal(b"k" * 32)
STEPS = ("start", "stop", "pause", "resume")
DONE = (RecordingStatus.COMPLETED, RecordingStatus.ABSENT)


@pytest.fixture(scope="module", autouse=True)
def _no_long_pauses() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finishing_module, "_FIRST_PAUSE_S", 0.001)
        patch.setattr(finishing_module, "_LONGEST_PAUSE_S", 0.005)
        patch.setattr(recordings_module, "_STOP_AGAIN_S", 0.001)
        yield


@pytest.fixture(scope="module", autouse=True)
def _empty(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A database that every run gets a copy of."""
    path = tmp_path_factory.mktemp("empty") / "a.db"
    database = Database(f"sqlite:///{path}", SEAL)
    database.migrate()
    asyncio.run(database.close())
    AnyOrder.template = path


class FailingDatabase(Database):
    """Cannot be written to while it is told so."""

    is_away = False
    fails_in = 0
    """Once, at the so-manieth transaction from now; 0: not."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        self.fails_in = max(0, self.fails_in - 1)
        if self.is_away or self.fails_in == 1:
            raise DatabaseUnavailable("it was to be away")
        async with super().begin() as connection:
            yield connection


class AnyOrder(RuleBasedStateMachine):
    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "a.db")
        (self.folder / "scratch").mkdir()
        self.runner = asyncio.Runner()
        self.database = FailingDatabase(f"sqlite:///{self.folder / 'a.db'}", SEAL)
        clock = StepClock()
        self.media = ScriptedMedia(clock)
        context = Context(
            self.database, self.media, clock, CountedIds(), "https://x.example", lambda: None
        )
        self.renderer = ScriptedRenderer(self.folder / "scratch")
        store = MediaStore.from_url(self.folder / "media")

        async def wired() -> House:
            account = await AccountService(context).ensure_first(Bootstrap())
            return wire(context, self.media, self.renderer, store, account, [])

        self.house = self.runner.run(wired())
        self.calls: list[str] = []
        self.seen: dict[str, RecordingStatus] = {}

    # What may happen

    @rule()
    def a_call_comes(self) -> None:
        async def come() -> None:
            self.calls.append((await self.house.a_call()).id)

        self._try(come())

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def it_is_to_be_recorded(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.calls))
        self._try(self.house.recordings.start(self.house.account, call, ALL_EVENTS))

    @rule(data=st.data(), what=st.sampled_from(("pause", "resume", "stop")))
    def a_recording_is_changed(self, data: st.DataObject, what: str) -> None:
        every = self._every()
        if not every:
            return
        one = data.draw(st.sampled_from(every))
        service = self.house.recordings
        match what:
            case "pause":
                self._try(service.pause(one, PauseBehavior.SKIP))
            case "resume":
                self._try(service.resume(one))
            case _:
                self._try(service.stop(one))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def a_call_ends(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.calls))
        self._try(self.house.calls.ended(call, CallStatus.COMPLETED, reason="BYE"))

    @rule(data=st.data())
    def a_worker_loses_a_recording_and_says_so(self, data: st.DataObject) -> None:
        if self.media.live:
            one = data.draw(st.sampled_from(sorted(self.media.live)))
            del self.media.live[one]
            self._try(self.house.recordings.not_kept(one))

    @rule(step=st.sampled_from(STEPS), how=st.sampled_from(("fail", "silent", "well")))
    def the_workers_do_badly(self, step: str, how: str) -> None:
        self.media.fail -= {step}
        self.media.silent -= {step}
        if how != "well":
            getattr(self.media, how).add(step)

    @rule(times=st.integers(1, 3))
    def rendering_fails(self, times: int) -> None:
        self.renderer.failures = self.renderer.discard_failures = times

    @rule(away=st.booleans())
    def the_database_comes_and_goes(self, away: bool) -> None:
        self.database.is_away = away

    @rule(transactions=st.integers(1, 4))
    def the_database_fails_once(self, transactions: int) -> None:
        self.database.fails_in = transactions + 1

    @rule()
    def time_passes(self) -> None:
        self._try(asyncio.sleep(0.01))

    @rule(data=st.data(), workers_too=st.booleans())
    def the_control_process_dies(self, data: st.DataObject, workers_too: bool) -> None:
        """With the workers, or alone; some calls are taken up, the others are over."""
        taken_up = [call for call in self.calls if data.draw(st.booleans())]
        self.database.is_away, self.database.fails_in = False, 0  # without it nothing starts
        self.media.fail, self.media.silent = set(), set()
        self._restart([] if workers_too else taken_up, workers_too=workers_too)

    # What must be so

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        try:
            self.database.is_away, self.database.fails_in = False, 0
            self.media.fail, self.media.silent = set(), set()
            self.renderer.failures = self.renderer.discard_failures = 0
            self._restart(self.calls, workers_too=False)
            self.runner.run(self._end_all())
            for one in self._every():
                assert one.status in DONE, one
                self.runner.run(self._was_told(one))
            assert self.media.live == {}
        finally:
            self.runner.run(self._close())
            self.runner.close()
            shutil.rmtree(self.folder)

    async def _end_all(self) -> None:
        for call in self.calls:
            await self.house.calls.ended(call, CallStatus.COMPLETED, reason="BYE")
        async with asyncio.timeout(20):
            while self.house.recordings._tasks or self.house.finishing.waiting:
                await asyncio.sleep(0.001)

    async def _was_told(self, one: Recording) -> None:
        owed = await self.house.owed(one.id)
        events = [each.event for each in owed]
        assert sorted(set(events)) == sorted(events), events
        assert events[-1] == one.status.value
        assert events[:-1] in ([], ["in-progress"])
        if one.start_time is not None:
            assert events[0] == "in-progress"
            assert owed[-1].after == owed[0].id

    # How it is done

    def _try(self, step: Any) -> None:
        """Take a step; what is refused with an error of ours is refused. The table holds."""

        async def run() -> None:
            with contextlib.suppress(CallreelError):
                async with asyncio.timeout(5):
                    await step

        self.runner.run(run())
        self._check()

    def _check(self) -> None:
        for one in self._every():
            before = self.seen.get(one.id, RecordingStatus.IN_PROGRESS)
            assert _reachable(before, one.status), (before, one.status)
            self.seen[one.id] = one.status

    def _every(self) -> list[Recording]:
        async def read() -> list[Recording]:
            async with self.database.read() as connection:
                return list(await recordings.with_status(connection, SEAL, *RecordingStatus))

        return self.runner.run(read())

    def _restart(self, taken_up: list[str], *, workers_too: bool) -> None:
        async def restart() -> None:
            await self._stop_tasks()
            if workers_too:
                self.media.live.clear()
            old = self.house
            self.house = wire(old.context, self.media, self.renderer, old.store, old.account, [])
            house = self.house
            await recover(
                house.context, house.calls, house.recordings, house.finishing, taken_up=taken_up
            )

        self.runner.run(restart())
        self._check()

    async def _stop_tasks(self) -> None:
        tasks = list(self.house.recordings._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.house.finishing.close()

    async def _close(self) -> None:
        await self._stop_tasks()
        await self.database.close()


def _reachable(before: RecordingStatus, after: RecordingStatus) -> bool:
    """Whether the table leads from one to the other, in any number of steps."""
    seen, ahead = set(), {before}
    while ahead:
        seen |= ahead
        ahead = {then for one in ahead for then in RECORDING_TRANSITIONS[one]} - seen
    return after in seen


AnyOrder.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyOrder = AnyOrder.TestCase
