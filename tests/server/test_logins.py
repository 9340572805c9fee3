"""Registrations with trunks, as the settings change."""

from __future__ import annotations

import asyncio

import pytest

from callreel.server.logins import TrunkLogins
from callreel.server.sip_settings import TrunkSettings
from callreel.server.system import RandomIds, SystemClock
from callreel.signalling.user_agent import IncomingRequest, UserAgent


class Trunk:
    """Grants every registration, and notes who came for how long."""

    methods = ("REGISTER",)
    option_tags = ()

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def handle_request(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        expires = request.headers.get("Expires") or ""
        contact = ("Contact", f"{request.headers.get('Contact')};expires={expires}")
        incoming.respond(200, headers=[contact])
        self.heard.put_nowait((request.from_address.uri.user or "", expires))

    async def next(self) -> tuple[str, str]:
        return await asyncio.wait_for(self.heard.get(), 5)


def settings(port: int, name: str, *, username: str = "", **more: object) -> TrunkSettings:
    return TrunkSettings.model_validate(
        {
            "name": name,
            "uri": f"sip:127.0.0.1:{port}",
            "username": username or name,
            "password": "p",
            "register": True,
            **more,
        }
    )


@pytest.fixture
def trunk() -> Trunk:
    return Trunk()


async def test_what_changes_is_registered_anew_and_the_rest_left_alone(trunk: Trunk) -> None:
    clock, ids = SystemClock(), RandomIds()
    there = UserAgent(clock=clock, ids=ids, handler=trunk)
    here = UserAgent(clock=clock, ids=ids, handler=Trunk())
    _, port = await there.listen_udp("127.0.0.1")
    await here.listen_udp("127.0.0.1")
    logins = TrunkLogins(here, clock=clock, ids=ids)
    one, two = settings(port, "one"), settings(port, "two")
    logins.configure([one, two])
    assert set(logins.clients) == {"one", "two"}
    assert trunk.heard.empty()  # not before there are sockets
    logins.start()
    assert {await trunk.next(), await trunk.next()} == {("one", "3600"), ("two", "3600")}
    before = logins.clients["one"]

    # Its other settings are no reason to register anew; a new trunk is registered with at once.
    logins.configure([settings(port, "one", caller="+1"), two, settings(port, "three")])
    assert await trunk.next() == ("three", "3600")
    assert logins.clients["one"] is before

    # Gone, or changed: taken back first, and then made anew.
    logins.configure([settings(port, "one", password="q"), settings(port, "three")])
    heard = [await trunk.next() for _ in range(3)]
    assert ("two", "0") in heard
    assert [said for said in heard if said[0] == "one"] == [("one", "0"), ("one", "3600")]
    assert logins.clients["one"] is not before
    assert [one.settings.name for one in logins.registrations] == ["one", "three"]

    # Changed twice in a row: the last word counts.
    logins.configure([settings(port, "one", password="r")])
    logins.configure([settings(port, "one", password="s")])
    heard = [await trunk.next() for _ in range(3)]
    assert ("three", "0") in heard
    assert [said for said in heard if said[0] == "one"] == [("one", "0"), ("one", "3600")]

    # One that is only to answer challenges keeps its client while its credentials stay.
    plain = settings(port, "one", register=False)
    logins.configure([plain])
    assert await trunk.next() == ("one", "0")
    client = logins.clients["one"]
    logins.configure([plain.model_copy(update={"caller": "+2"})])
    assert logins.clients["one"] is client
    assert logins.registrations == []
    await logins.close()
    assert trunk.heard.empty()
    await here.close()
    await there.close()
