"""Signalling as it is wired in the server, on loopback and over a real database; who steers calls
and the media workers do as they are told."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.signalling.agents import JumpClock

from callreel.base.errors import MachineError
from callreel.calls.media import MediaAddress, Stream
from callreel.calls.model import Account, Call, CallDirection, CallStatus
from callreel.calls.states import is_ended
from callreel.calls.voice import Ending, MediaHeard, Sound
from callreel.capture.client import WorkerPool
from callreel.server.settings import Settings
from callreel.server.telephony import Telephony
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.recordings import RecordingService
from callreel.service.registrations import RegistrationService
from callreel.signalling.terminals import Terminals
from callreel.store import calls as rows
from callreel.store.calls import CallFilter
from callreel.store.database import Database
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia
from callreel.testing.sip_link import CountingIds
from callreel.wire.sip.flow import Flow, Transport


class Media(ScriptedMedia):
    """Notes what each call is told, and that it is attended."""

    def __init__(self, clock: JumpClock) -> None:
        super().__init__(clock)
        self.streams: dict[str, Stream] = {}
        """The last of each open call."""
        self._attending: set[str] = set()
        self._ports = iter(range(20000, 30000, 2))
        self._at: dict[str, MediaAddress] = {}

    async def open(
        self, call_id: str, streams: Sequence[Stream], *, beside: str | None = None
    ) -> Mapping[int, MediaAddress]:
        self._step("open", call_id)
        self._at[call_id] = MediaAddress("127.0.0.1", port := next(self._ports), port + 1)
        self.streams[call_id] = streams[0]
        return {0: self._at[call_id]}

    async def update(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, MediaAddress]:
        self._step("update", call_id)
        self.streams[call_id] = streams[0]
        return {0: self._at[call_id]}

    async def close(self, call_id: str) -> None:
        await super().close(call_id)
        self.streams.pop(call_id, None)
        self._attending.discard(call_id)

    @property
    def attended(self) -> set[str]:
        """Calls whose media ends here now."""
        return self._attending - set(self.bridged)

    def sockets(self, call_id: str) -> MediaAddress:
        """Where a call is received."""
        return self._at[call_id]

    async def attend(self, call_id: str) -> None:
        self._step("attend", call_id)
        if call_id not in self.streams or not self.streams[call_id].codecs:
            raise MachineError("there is nothing to attend")
        self._attending.add(call_id)

    async def play(self, call_id: str, play_id: str, sounds: Sequence[Sound]) -> None:
        raise NotImplementedError

    async def stop_playing(self, call_id: str) -> None:
        raise NotImplementedError

    async def listen(self, call_id: str, silence_ms: int | None) -> None:
        raise NotImplementedError

    @property
    def calls(self) -> Sequence[str]:
        return list(self.streams)


@dataclass
class Voice:
    """Plays the use cases: notes what it is told."""

    numbers: set[str] = field(default_factory=set)
    """What documents are there for."""
    everything: bool = False
    """Whether the account has one for all others."""
    calls_offered: list[tuple[str, str]] = field(default_factory=list)
    """Call and what was dialled."""
    ends: list[tuple[str, Ending]] = field(default_factory=list)
    """Calls that are over."""
    keys: list[MediaHeard] = field(default_factory=list)
    """What was heard."""

    def takes(self, account_id: str, dialled: str, *, exactly: bool = False) -> bool:
        return dialled in self.numbers or (self.everything and not exactly)

    def offered(self, call_id: str, account_id: str, dialled: str) -> None:
        self.calls_offered.append((call_id, dialled))

    def hung_up(self, call_id: str, ending: Ending) -> None:
        self.ends.append((call_id, ending))

    def heard(self, what: MediaHeard) -> None:
        self.keys.append(what)


@dataclass
class VoiceHouse:
    """All of it."""

    context: Context
    account: Account
    accounts: AccountService
    calls: CallService
    recordings: RecordingService
    media: Media
    voice: Voice
    settings: Settings
    telephony: Telephony
    flow: Flow
    """Where its SIP is, over UDP."""

    @property
    def clock(self) -> JumpClock:
        return cast(JumpClock, self.context.clock)

    @property
    def phone(self) -> Terminals:
        return self.telephony.terminals

    def uri(self, user: str) -> str:
        return f"sip:{user}@{self.flow.host}:{self.flow.port}"

    async def a_row(self, status: CallStatus = CallStatus.QUEUED, to: str = "+15550199") -> Call:
        """As the use cases make it before they dial."""
        now = self.context.clock.now()
        call = Call(
            id=self.context.ids.new_id().ljust(32, "0")[-32:],
            account_id=self.account.id,
            status=status,
            direction=CallDirection.OUTBOUND_API,
            from_="+15550100",
            to=to,
            created_at=now,
            updated_at=now,
        )
        async with self.context.database.begin() as connection:
            await rows.add(connection, call)
        return call

    async def row(self, call_id: str) -> Call:
        return await self.calls.get(self.account, call_id)

    async def calls_ever(self) -> Sequence[Call]:
        """Every call of the account."""
        page = await self.calls.page(self.account, CallFilter(), size=50, position=None)
        return page.items

    async def ended(self, call_id: str) -> Call:
        """Once it is over."""
        async with asyncio.timeout(5):
            while not is_ended((row := await self.row(call_id)).status):
                await asyncio.sleep(0.01)
        return row

    async def restarted(self) -> None:
        """A new control process in the place of this one, which says no goodbye."""
        await self.telephony.agent.close()
        self.telephony = await wire(self, self.settings)
        await self.telephony.door.restore()
        await self.telephony.agent.listen_udp(self.flow.host, self.flow.port)


async def wire(house: VoiceHouse, settings: Settings) -> Telephony:
    telephony = await Telephony.of(
        settings,
        house.account,
        accounts=house.accounts,
        calls=house.calls,
        recordings=house.recordings,
        registrations=RegistrationService(house.context.database),
        media=house.media,
        clock=house.context.clock,
        ids=house.context.ids,
        voice_media=house.media,
        voice=house.voice,
    )
    house.calls.control = telephony.door
    return telephony


@functools.cache
def _fresh() -> bytes:
    """A database that is empty: to make one takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.db"
        Database(f"sqlite:///{file}", Seal(b"k" * 32)).migrate()
        return file.read_bytes()


@asynccontextmanager
async def open_voice_house(
    folder: Path, *, workers: WorkerPool | None = None, **settings: object
) -> AsyncIterator[VoiceHouse]:
    """``settings`` as in the TOML file; ``workers`` are real ones."""
    (folder / "a.db").write_bytes(_fresh())
    database = Database(f"sqlite:///{folder / 'a.db'}", Seal(b"k" * 32))
    clock = JumpClock()
    media = cast(Media, workers or Media(clock))
    context = Context(
        database=database,
        media=media,
        clock=clock,
        ids=CountingIds("h"),
        public_url="https://rec.example.com",
        delivery_owed=lambda: None,
    )
    accounts = AccountService(context)
    account = await accounts.ensure_first(Bootstrap())
    recordings = RecordingService(context, lambda _: None)
    calls = CallService(context, recordings)
    chosen = Settings.model_validate({"dns_servers": ["127.0.0.1:9"], **settings})
    house = VoiceHouse(
        context,
        account,
        accounts,
        calls,
        recordings,
        media,
        Voice(),
        chosen,
        telephony=None,  # type: ignore[arg-type]
        flow=None,  # type: ignore[arg-type]
    )
    house.telephony = await wire(house, chosen)
    house.flow = Flow(Transport.UDP, *await house.telephony.agent.listen_udp("127.0.0.1"))
    try:
        yield house
    finally:
        await house.telephony.close()
        await database.close()
