"""A server for each dialect, a driver for each SDK and listener, a phone and a receiver."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import RecordingClient
from callreel.server.system import RandomIds, SystemClock
from tests.sdk import schemas
from tests.sdk.relay import Relay
from tests.sdk.sdks import SDKS, Driver, Sdk

TOKEN = "a-token-of-tests"
_callers = count(15550000)


@dataclass(frozen=True, slots=True)
class Leg:
    """One SDK on one listener of a server."""

    sdk: Sdk
    """The client."""
    server: OwnServer
    """Of its dialect."""
    ask: Driver
    """Does what it is asked with the client."""
    relay: Relay | None
    """Between the two; None over TLS."""

    @property
    def refusal(self) -> int:
        """HTTP status of a refused parameter or state."""
        return 400 if self.sdk.is_twilio else 422

    def check_answers(self) -> None:
        """Hold every JSON answer so far against the vendor's schema; skip if there is none."""
        if self.relay is None:
            return
        if not schemas.description(twilio=self.sdk.is_twilio).exists():
            pytest.skip("all passed, but the vendor's schema is not here to compare answers with")
        answers = [one for one in self.relay.exchanges() if one.body[:1] in (b"{", b"[")]
        assert answers
        for one in answers:
            schemas.check(one, twilio=self.sdk.is_twilio)


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], OwnServer]]:
    """A running server whose first account has this SID; one a SID."""
    running: dict[str, OwnServer] = {}
    with ExitStack() as stack:

        def get(account_sid: str) -> OwnServer:
            if account_sid not in running:
                folder = tmp_path_factory.mktemp("server")
                running[account_sid] = stack.enter_context(
                    OwnServer(folder, account_sid, TOKEN, tls=True)
                )
            return running[account_sid]

        yield get
    for server in running.values():
        assert "Traceback" not in server.log


@pytest.fixture(
    scope="module",
    params=[(name, listener) for name in SDKS for listener in ("plain", "tls")],
    ids=lambda one: "-".join(one),
)
def leg(request: pytest.FixtureRequest, server_of: Callable[[str], OwnServer]) -> Iterator[Leg]:
    name, listener = request.param
    sdk = SDKS[name]
    if sdk.missing:
        pytest.skip(sdk.missing)
    server = server_of(sdk.account_sid)
    with ExitStack() as stack:
        relay, url, prefix = None, server.https_url, ""
        if listener == "plain":
            relay = stack.enter_context(Relay(server.http_url))
            url = relay.url
            if not sdk.is_twilio:
                # A SignalWire client may have its space's path in its base URL, and then asks for
                # it twice when it follows a page's link.
                prefix = "/api/laml"
        driver = Driver(sdk, url, TOKEN, server.ca_file, prefix)
        stack.callback(driver.close)
        yield Leg(sdk, server, driver, relay)


@pytest.fixture(scope="session")
def key_of() -> Callable[[OwnServer], dict[str, str]]:
    """An API key of a server's account, SID and secret, made by the command line."""

    @cache
    def make(account_sid: str, data: Path) -> dict[str, str]:
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "callreel", "keys", "create", account_sid),
                *("--data", str(data), "--json"),
            ],
            check=True,
            capture_output=True,
        )
        made = json.loads(ran.stdout)
        return {"key_sid": made["sid"], "key_secret": made["secret"]}

    return lambda server: make(server.account_sid, server.data)


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def number() -> str:
    """A caller that no other test has."""
    return f"+{next(_callers)}"
