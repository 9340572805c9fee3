"""Callback URLs that refuse, fail, stall or must not be asked: nobody waits for them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from callreel.demo.own_server import OwnServer
from callreel.testing.webhooks import Answer, WebhookReceiver
from tests.journeys.api import Api, Json
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.bad_input.rtp import ToneLeg, perform
from tests.journeys.bad_input.sdp import metadata, siprec

METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"
EVENTS = "in-progress completed absent"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A URL where nobody listens: the port is taken, but not for connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/"


def record(server: OwnServer, callbacks: dict[str, str]) -> tuple[dict[str, Json], float]:
    """Record a call for each callback, all at once; the recordings, and how long the last took."""
    api = Api(server)
    made: dict[str, Json] = {}
    legs = []
    with SipPeer(server) as peer:
        calls = []
        for number, (name, url) in enumerate(callbacks.items()):
            call = RawCall(peer)
            caller = f"+1555050{number}"
            assert call.invite(siprec(about=metadata(f"sip:{caller}@pbx"))).code == 200
            calls.append(call)
            (shown,) = api.get("/Calls.json", From=caller, Status="in-progress")["calls"]
            begun = time.monotonic()
            made[name] = api.start(
                shown["sid"],
                RecordingStatusCallback=url,
                RecordingStatusCallbackEvent=EVENTS,
            )
            assert time.monotonic() - begun < 2
            legs += [ToneLeg(port, 440) for port in call.ports]
        perform(25, [leg.play for leg in legs])
        for call in calls:
            call.hang_up()
        stopped = time.monotonic()
    finished = {name: api.finished(one["sid"]) for name, one in made.items()}
    took = time.monotonic() - stopped
    for leg in legs:
        leg.close()
    api.http.close()
    return finished, took


def test_bad_receivers_delay_neither_recordings_nor_each_other(
    server: OwnServer, refusing: str
) -> None:
    async def play() -> None:
        async with WebhookReceiver() as good, WebhookReceiver() as bad, WebhookReceiver() as slow:
            bad.default = Answer(status=500)
            slow.default = Answer(delay_s=60)
            callbacks = {
                "refusing": refusing,
                "failing": bad.url,
                "stalling": slow.url,
                "forbidden": METADATA_SERVICE,
                "good": good.url,
            }
            finished, took = await asyncio.to_thread(record, server, callbacks)
            assert {one["status"] for one in finished.values()} == {"completed"}
            assert took < 5
            begun = time.monotonic()
            first, last = await good.wait_count(2)
            assert time.monotonic() - begun < 2
            assert [first.event, last.event] == ["in-progress", "completed"]
            # What comes after an event that was not taken waits for its turn.
            assert {one.event for one in bad.received} == {"in-progress"}
            assert len(slow.received) == 1

            told = [line for line in server.log.splitlines() if " webhook " in line]
            for what in ("connection", "answered 500", "169.254.169.254 is link-local"):
                assert len([line for line in told if what in line]) == 1, told
            assert "latest/meta-data" not in "".join(told), "a URL may hold secrets"

    asyncio.run(play())
