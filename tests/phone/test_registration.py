"""Registration against a registrar on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callreel.base.errors import PeerError, UsageError
from callreel.phone import registration
from callreel.phone.registration import Registration
from callreel.server.system import RandomIds
from callreel.signalling.user_agent import IncomingRequest
from tests.phone.phones import Phones
from tests.phone.raw import RawPeer


@pytest.fixture
async def registrar() -> AsyncIterator[RawPeer]:
    made = RawPeer()
    await made.start()
    yield made
    await made.agent.close()


async def test_registered_refreshed_and_taken_back(registrar: RawPeer, phones: Phones) -> None:
    async def grant(incoming: IncomingRequest) -> None:
        contact = incoming.request.headers.get("Contact") or ""
        asked = incoming.request.headers.get("Expires")
        granted = "1" if asked != "0" else "0"
        others = "<sip:else@127.0.0.1:9>;expires=1"
        incoming.respond(200, headers=[("Contact", f"{others}, {contact};expires={granted}")])

    registrar.on["REGISTER"] = grant
    phone = await phones.make(user="100")
    ours = Registration(phone, f"sip:127.0.0.1:{registrar.port}", user="100", ids=RandomIds())
    assert await ours.start() == 1
    await registrar.saw("REGISTER", 2)
    await ours.stop()
    requests = [one.request for one in registrar.seen]
    assert [one.headers.get("Expires") for one in requests] == ["600", "600", "0"]
    assert [one.cseq.sequence for one in requests] == [1, 2, 3]
    assert len({one.call_id for one in requests}) == 1
    assert str(requests[0].to_address.uri) == ours.aor == f"sip:100@127.0.0.1:{registrar.port}"
    assert requests[0].contact_uri is not None
    assert str(requests[0].contact_uri) == phone.uri()


async def test_too_brief_for_the_registrar(registrar: RawPeer, phones: Phones) -> None:
    async def grant(incoming: IncomingRequest) -> None:
        if incoming.request.headers.get("Expires") == "600":
            incoming.respond(423, headers=[("Min-Expires", "1800")])
        else:
            incoming.respond(200)

    registrar.on["REGISTER"] = grant
    phone = await phones.make()
    ours = Registration(phone, f"sip:127.0.0.1:{registrar.port}", user="p", ids=RandomIds())
    assert await ours.start() == 1800
    await ours.stop()


async def test_refused(registrar: RawPeer, phones: Phones) -> None:
    async def refuse(incoming: IncomingRequest) -> None:
        incoming.respond(403)

    registrar.on["REGISTER"] = refuse
    phone = await phones.make()
    ours = Registration(phone, f"sip:127.0.0.1:{registrar.port}", user="p", ids=RandomIds())
    with pytest.raises(PeerError, match="403 Forbidden"):
        await ours.start()
    await ours.stop()
    assert len(registrar.seen) == 1


async def test_a_refresh_that_fails_is_told_and_tried_again(
    registrar: RawPeer, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "RETRY_SECONDS", 0.1)
    codes = iter((200, 503, 200, 200))

    async def grant(incoming: IncomingRequest) -> None:
        incoming.respond(next(codes), headers=[("Expires", "1")])

    registrar.on["REGISTER"] = grant
    said: list[str] = []
    phone = await phones.make()
    ours = Registration(
        phone, f"sip:127.0.0.1:{registrar.port}", user="p", ids=RandomIds(), say=said.append
    )
    await ours.start()
    await registrar.saw("REGISTER", 3)
    await asyncio.sleep(0.05)
    await ours.stop()
    assert said == ["registration failed: 503 Service Unavailable"]


def test_no_uri(phones: Phones) -> None:
    with pytest.raises(UsageError):
        Registration(object(), "not a uri", user="p", ids=RandomIds())  # type: ignore[arg-type]
