"""A server that passes calls on, and what is found in it afterwards.

What is dialled says where a call goes: ``61070`` to the peer at that port of 127.0.0.1,
``tcp61070`` to the same over TCP. Every call is recorded, the caller in channel 1.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from callreel.demo.own_server import OwnServer
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.api import Api, Json
from tests.peers.agents import Agent
from tests.peers.baresip import Baresip
from tests.peers.tshark import Capture, captured
from tests.ports import free_port_pair
from tests.signalling.certificates import Authority

ACCOUNT = "AC" + "12" * 16
TOKEN = "a-token-of-tests"
CALLER_HZ, CALLEE_HZ = 440, 880

Spans = list[tuple[float, float]]

_ROUTES = """
[[routes]]
prefix = "6"
to = ["sip:peer@127.0.0.1:{{number}}"]
record = "dual"

[[routes]]
prefix = "tcp"
strip = 3
to = ["sip:peer@127.0.0.1:{{number}};transport=tcp"]
record = "dual"

[[routes]]
prefix = "tls"
strip = 3
to = ["sip:peer@127.0.0.1:{{number}};transport=tls"]
record = "dual"

[[routes]]
prefix = "short"
strip = 5
to = ["sip:peer@127.0.0.1:{{number}}"]
ring_seconds = 1

[[routes]]
user = "in-order"
to = ["sip:peer@127.0.0.1:{first}", "sip:peer@127.0.0.1:{second}"]
ring_seconds = 1
record = "dual"

[[routes]]
user = "at-once"
to = ["sip:peer@127.0.0.1:{first}", "sip:peer@127.0.0.1:{second}"]
ring = "at-once"
record = "dual"

[[routes]]
user = "loop"
to = ["sip:loop@127.0.0.1:{sip}"]
"""


@dataclass(slots=True)
class House:
    """A server, its API, and where its routes go."""

    server: OwnServer
    """It."""
    api: Api
    """The first account's view of it."""
    first: int
    """Port of the first target of the routes to several."""
    second: int
    """Port of the second."""
    capture: Capture
    """What its SIP port says."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(100))
    """For callers: each has its own, by which its call is found."""

    def uri(self, user: str, transport: str = "udp") -> str:
        """Of somebody behind the server."""
        host, port = self.address.split(":")
        shown = "" if transport == "udp" else f";transport={transport}"
        return f"sip:{user}@{host}:{int(port) + (transport == 'tls')}{shown}"

    @property
    def address(self) -> str:
        """HOST:PORT of its SIP."""
        return self.server.sip_uri.removeprefix("sip:")

    def number(self) -> str:
        """One that nobody called from yet."""
        return f"+15550{next(self.numbers)}"

    async def calls_from(self, number: str, *, over: bool = True, children: int = 1) -> list[Json]:
        """The call from a number, then its children; ``over``: once they have ended."""
        deadline = time.monotonic() + 10
        while True:
            found = await asyncio.to_thread(self.api.get, "/Calls.json", From=number)
            calls: list[Json] = sorted(
                found["calls"], key=lambda one: one["parent_call_sid"] is not None
            )
            live = [one for one in calls if one["status"] in _LIVE]
            if len(calls) == 1 + children and not (over and live):
                return calls
            assert time.monotonic() < deadline, (number, children, calls, self.server.log[-4000:])
            await asyncio.sleep(0.05)

    async def recording(self, call: Json, folder: Path) -> Path:
        """The one recording of a call, once it is finished: a WAV."""
        path = f"/Calls/{call['sid']}/Recordings.json"
        (made,) = (await asyncio.to_thread(self.api.get, path))["recordings"]
        finished = await asyncio.to_thread(self.api.finished, made["sid"])
        assert finished["status"] == "completed", finished
        assert finished["channels"] == 2
        folder.mkdir(parents=True, exist_ok=True)
        return await asyncio.to_thread(self.api.download, made["sid"], folder)


_LIVE = ("queued", "ringing", "in-progress")


@contextmanager
def open_house(
    folder: Path,
    *,
    sip: int = 0,
    authority: Authority | None = None,
    settings: str = "",
    more: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[House]:
    """A server with the routes above, at port ``sip``, with an authority also with TLS one above.

    ``settings`` and ``more``: the beginning and the end of its TOML file.
    """
    first, second, sip = free_port_pair(), free_port_pair(), sip or free_port_pair()
    config = folder / "callreel.toml"
    if authority is not None:
        pem = authority.issue(("127.0.0.1",))
        settings += (
            f'sips = "127.0.0.1:{sip + 1}"\nhttps = "127.0.0.1:0"\n'
            f'tls_cert = "{pem}"\ntls_key = "{pem}"\nsip_tls_ca = "{authority.certificate}"\n'
        )
    routes = _ROUTES.format(first=first, second=second, sip=sip)
    config.write_text(settings + routes + more)
    options = ("--config", str(config), "--sip", f"127.0.0.1:{sip}")
    with (
        captured(folder, sip) as capture,
        OwnServer(folder, ACCOUNT, TOKEN, options, environment or {}) as server,
    ):
        api = Api(server)
        try:
            yield House(server, api, first, second, capture)
        finally:
            api.http.close()
    assert "Traceback" not in server.log, server.log


class Guests:
    """Peers of one test: closed at its end."""

    def __init__(self, house: House, folder: Path) -> None:
        self._house = house
        self._folder = folder
        self._agents: list[Agent] = []
        self._phones: list[Baresip] = []
        self._numbers = itertools.count()

    async def callee(
        self,
        xml: str,
        *,
        port: int = 0,
        transport: str = "udp",
        calls: int = 1,
        more: tuple[str, ...] = (),
    ) -> Agent:
        """SIPp that is called."""
        return await self._start(
            xml, hz=CALLEE_HZ, port=port, transport=transport, calls=calls, to=None, more=more
        )

    async def caller(
        self,
        xml: str,
        *,
        transport: str = "udp",
        calls: int = 1,
        rate: int = 20,
        to: str | None = None,
    ) -> Agent:
        """SIPp that calls the server, or whoever is at ``to``."""
        to = to or self._house.address
        return await self._start(
            xml, hz=CALLER_HZ, transport=transport, calls=calls, rate=rate, to=to
        )

    async def _start(self, xml: str, **options: object) -> Agent:
        folder = self._folder / f"sipp-{next(self._numbers)}"
        agent = await Agent.start(folder, xml, **options)  # type: ignore[arg-type]
        self._agents.append(agent)
        return agent

    async def baresip(self, **options: object) -> Baresip:
        """baresip, see :meth:`Baresip.start`."""
        folder = self._folder / f"baresip-{next(self._numbers)}"
        phone = await Baresip.start(folder, **options)  # type: ignore[arg-type]
        self._phones.append(phone)
        return phone

    async def close(self) -> None:
        for agent in self._agents:
            await agent.close()
        for phone in self._phones:
            await phone.close()


@asynccontextmanager
async def guests_of(house: House, folder: Path) -> AsyncIterator[Guests]:
    guests = Guests(house, folder)
    try:
        yield guests
    finally:
        await guests.close()


def spans(path: Path, channel: int, hz: int) -> Spans:
    """When a tone sounds in a channel (from 1) of a recording, seconds."""
    rate_hz, samples = read_wav(path)
    return tone_spans(samples[:, channel - 1], rate_hz, hz)


def heard_s(path: Path, channel: int, hz: int) -> float:
    """How long a tone sounds in a channel."""
    return sum(end - start for start, end in spans(path, channel, hz))


def assert_conversation(path: Path, *, at_least_s: float = 0.7, holds: int = 0) -> None:
    """The caller's tone in channel 1, the callee's in channel 2, each without a gap.

    What a peer says while the other has it on hold is not kept: each hold may leave a gap, however
    short it is.
    """
    for channel, own, other in ((1, CALLER_HZ, CALLEE_HZ), (2, CALLEE_HZ, CALLER_HZ)):
        found = spans(path, channel, own)
        assert 1 <= len(found) <= 1 + holds, (channel, found)
        assert sum(end - start for start, end in found) >= at_least_s, (channel, found)
        assert spans(path, channel, other) == [], channel
