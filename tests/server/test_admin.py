"""The administration application as a client that is no command of ours may speak to it."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from callreel.base.errors import UsageError
from callreel.calls.model import Account, Dialect
from callreel.server.admin import listen_admin
from callreel.server.datadir import DataDir
from callreel.server.http import serving
from callreel.server.offline import offline_admin
from callreel.server.peering import takes_calls_of
from callreel.server.settings import Settings, load_settings
from callreel.server.sip_settings import PeerSettings
from callreel.server.system import RandomIds, SystemClock
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.context import Context
from callreel.store.database import Database
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia

FIRST = "AC" + "cd" * 16
OTHER = "b3877c40-da60-4998-90ad-b792e98472af"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The application on a Unix socket, as a server serves it."""
    data = DataDir(tmp_path / "data")
    database = Database(f"sqlite:///{data.database}", Seal(data.prepare()))
    await asyncio.to_thread(database.migrate)
    clock = SystemClock()
    context = Context(database, ScriptedMedia(clock), clock, RandomIds(), "", lambda: None)
    await AccountService(context).ensure_first(Bootstrap(FIRST))
    await database.close()
    path = tmp_path / "admin.sock"
    path.touch()  # as a control process that was killed leaves one
    listening = listen_admin(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with (
        offline_admin(Settings(data=data.root), data) as app,
        serving(app, listening),
        httpx.AsyncClient(transport=transport, base_url="http://callreel") as client,
    ):
        yield client
    listening.close()


WRONG = [
    ("POST", "/accounts", b"{", 400),
    ("POST", "/accounts", b"\xff", 400),
    ("POST", "/accounts", b"[]", 400),
    ("POST", "/accounts", b'{"name": 7}', 400),
    ("POST", "/accounts", b'{"sid": ["x"]}', 400),
    ("POST", "/accounts", b'{"dialect": "klingon"}', 400),
    ("POST", "/accounts", b'{"name": "' + b"x" * 70_000 + b'"}', 400),
    ("POST", f"/accounts/{FIRST}/signing-key", b"{}", 400),
    ("POST", f"/accounts/{FIRST}/signing-key", b'{"apart": "yes"}', 400),
    ("POST", f"/accounts/{OTHER}/token", b"", 404),
    ("DELETE", f"/accounts/{OTHER}", b"", 404),
    ("DELETE", f"/accounts/{FIRST}", b"", 409),
    ("DELETE", "/keys/SK" + "0" * 32, b"", 404),
    ("GET", "/calls/CA" + "0" * 32, b"", 404),
    ("GET", "/calls/nonsense", b"", 404),
    ("GET", f"/calls?account={OTHER}", b"", 404),
    ("GET", "/calls?status=klingon", b"", 400),
    ("GET", "/calls?limit=0", b"", 400),
    ("GET", "/calls?limit=x", b"", 400),
    ("POST", "/calls", b"", 405),
    ("PUT", "/accounts", b"", 405),
    ("GET", "/accounts/", b"", 404),
    ("GET", "/elsewhere", b"", 404),
]


async def test_what_is_wrong_is_said_in_json(http: httpx.AsyncClient) -> None:
    for method, path, content, status in WRONG:
        answer = await http.request(method, path, content=content)
        assert answer.status_code == status, (method, path, content, answer.text)
        assert list(answer.json()) == ["error"]
    assert len((await http.get("/accounts")).json()) == 1


async def test_no_listing_shows_a_secret(http: httpx.AsyncClient) -> None:
    made = (await http.post("/accounts", json={"name": "Two"})).json()
    key = (await http.post(f"/accounts/{made['sid']}/keys", json={})).json()
    apart = (await http.post(f"/accounts/{made['sid']}/signing-key", json={"apart": True})).json()
    assert apart["signs_with"] == "signing key"
    shown = "".join(
        [
            (await http.get(path)).text
            for path in ("/accounts", f"/accounts/{made['sid']}", f"/accounts/{made['sid']}/keys")
        ]
    )
    assert made["sid"] in shown
    for secret in (made["auth_token"], key["secret"], apart["signing_key"]):
        assert secret not in shown


def test_whose_calls_the_settings_give_away() -> None:
    account = Account("ab" * 16, Dialect.TWILIO, "a-token", "a-token", SystemClock().now())
    peers = [
        PeerSettings(name="a", addresses=["192.0.2.7"]),
        PeerSettings(name="b", addresses=["192.0.2.8"], account_sid=OTHER),
    ]
    given = takes_calls_of(Settings(peers=peers), account)
    assert given == {account.id: ["peer a", "this machine"], OTHER.replace("-", ""): ["peer b"]}
    assert takes_calls_of(Settings(accept_loopback=False), account) == {}


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLREEL_TRUSTED_PROXIES", '["192.0.2.0/24"]')
    assert load_settings(None, {}).trusted_proxies == ["192.0.2.0/24"]
    monkeypatch.setenv("CALLREEL_TRUSTED_PROXIES", "192.0.2.7")
    with pytest.raises(UsageError, match="JSON"):
        load_settings(None, {})
    monkeypatch.setenv("CALLREEL_TRUSTED_PROXIES", '["proxy.example.com"]')
    with pytest.raises(UsageError, match="trusted_proxies"):
        load_settings(None, {})
