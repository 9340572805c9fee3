"""Certificates made, kept, examined and renewed; what a TLS listener does to hostile bytes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import Receive, Scope, Send

from callreel.base.errors import UsageError
from callreel.server import http
from callreel.server.addresses import bind_tcp, host_name
from callreel.server.banner import clear_text_warning
from callreel.server.certificate import (
    RENEW_BEFORE,
    VALID_FOR,
    Files,
    Names,
    load,
    self_signed,
)
from callreel.server.http import serving
from callreel.server.settings import Settings, load_settings
from callreel.server.tls import Tls, names_of, tls_of
from tests.server.issued import Authority, an_rsa_key, pem_key

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CALLREEL_{name.upper()}", raising=False)


class HandMovedClock:
    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, NOW)


# Made by ourselves


def test_a_self_signed_certificate_is_for_these_names_and_signs_nothing_else(
    tmp_path: Path,
) -> None:
    names = Names(frozenset({"rec.example.com", "192.0.2.7"}), frozenset({"box"}))
    files = self_signed(tmp_path / "tls", names, now=NOW)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700
    made = load(files)
    assert made.names == {
        *("localhost", "127.0.0.1", "::1"),
        *("rec.example.com", "192.0.2.7", "box"),
    }
    assert made.not_before <= NOW - DAY / 2
    assert NOW + VALID_FOR - 2 * DAY < made.not_after < NOW + VALID_FOR
    certificate = x509.load_pem_x509_certificate(files.chain.read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_the_mode_of_the_key_does_not_hang_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = self_signed(tmp_path / "tls", Names(), now=NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.chain.stat().st_mode) == 0o644


def test_it_stays_while_it_will_do(tmp_path: Path) -> None:
    names = Names(frozenset({"rec.example.com"}))
    files = self_signed(tmp_path, names, now=NOW)
    first = files.chain.read_bytes()
    last_day = NOW + VALID_FOR - RENEW_BEFORE - 2 * DAY
    for again, now in [
        (names, last_day),
        (Names(), NOW),
        (Names(besides=frozenset({"another-host-name"})), NOW),
        (names, NOW - 1000 * DAY),  # a machine that does not know the time yet
    ]:
        assert self_signed(tmp_path, again, now=now) == files
        assert files.chain.read_bytes() == first


@pytest.mark.parametrize(
    ("names", "after", "says"),
    [
        (Names(frozenset({"rec.example.com"})), timedelta(0), "lacked rec.example.com"),
        (Names(), VALID_FOR - RENEW_BEFORE, "was valid until"),
    ],
)
def test_it_is_made_anew_and_says_so(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    names: Names,
    after: timedelta,
    says: str,
) -> None:
    files = self_signed(tmp_path, Names(), now=NOW)
    first = files.chain.read_bytes()
    assert not caplog.records
    self_signed(tmp_path, names, now=NOW + after)
    assert files.chain.read_bytes() != first
    assert names.needed <= load(files).names
    (record,) = caplog.records
    assert "give it to the clients" in record.message
    assert says in record.message


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
@pytest.mark.parametrize("damage", [b"", b"nothing\n", None])
def test_a_damaged_one_is_made_anew(tmp_path: Path, name: str, damage: bytes | None) -> None:
    files = self_signed(tmp_path, Names(), now=NOW)
    if damage is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(damage)
    self_signed(tmp_path, Names(), now=NOW)
    assert load(files).not_after > NOW


def test_halves_of_two_pairs_are_made_anew(tmp_path: Path) -> None:
    """What a crash between the two files leaves."""
    files = self_signed(tmp_path / "a", Names(), now=NOW)
    other = self_signed(tmp_path / "b", Names(), now=NOW)
    other.key.rename(files.key)
    self_signed(tmp_path / "a", Names(), now=NOW)
    load(files)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/tls.*--tls-cert"):
        self_signed(tmp_path / "file/tls", Names(), now=NOW)


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("Rec.Example.COM", "rec.example.com"),
        ("*.example.com", "*.example.com"),
        ("box_1", "box_1"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_a_host_name_has_one_spelling(text: str, spelling: str) -> None:
    assert host_name(text) == spelling


@pytest.mark.parametrize(
    "text", ["", "a b", "http://x", "x:8443", "-x", "x-", "x..y", "bücher.example", "x" * 64, "*"]
)
def test_what_no_certificate_can_name(text: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        host_name(text)


# Given by the operator


def test_a_chain_with_its_key_is_served(authority: Authority) -> None:
    files = authority.issue()
    assert load(files).names == {"127.0.0.1"}
    both = files.chain.with_name("both.pem")
    both.write_bytes(files.key.read_bytes() + files.chain.read_bytes())
    assert load(Files(both, both)).names == {"127.0.0.1"}
    assert load(authority.issue("rsa", an_rsa_key())).names == {"127.0.0.1"}


def test_every_fault_names_the_file_and_the_remedy(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("good"), authority.issue("other")
    nothing, empty, locked = tmp_path / "nothing", tmp_path / "empty", tmp_path / "locked"
    empty.touch()
    locked.write_bytes(pem_key(an_rsa_key(), b"passphrase"))
    reversed_chain = tmp_path / "reversed.pem"
    blocks = good.chain.read_bytes().split(b"-----BEGIN")
    reversed_chain.write_bytes(b"".join(b"-----BEGIN" + one for one in blocks[:0:-1]))
    torn = tmp_path / "torn.pem"
    torn.write_bytes(good.chain.read_bytes()[:200])
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    weak = authority.issue("weak", an_rsa_key(1024))
    for chain, key, says in [
        (nothing, good.key, f"cannot read {nothing}: No such file"),
        (good.chain, nothing, f"cannot read {nothing}: No such file"),
        (tmp_path, good.key, f"cannot read {tmp_path}: Is a directory"),
        (empty, good.key, f"{empty} holds no certificate"),
        (torn, good.key, f"{torn} holds no certificate"),
        (binary, good.key, f"{binary} holds no certificate"),
        (good.key, good.chain, f"{good.key} holds no certificate"),
        (good.chain, empty, f"{empty} holds no private key"),
        (good.chain, binary, f"{binary} holds no private key"),
        (good.chain, good.chain, f"{good.chain} holds no private key"),
        (good.chain, locked, f"{locked} is encrypted"),
        (good.chain, other.key, f"{other.key} is not that of"),
        (good.chain, weak.key, f"{weak.key} is not that of"),
        (reversed_chain, good.key, "the server's own comes first"),
        (weak.chain, weak.key, "EE_KEY_TOO_SMALL"),
    ]:
        with pytest.raises(UsageError) as raised:
            load(Files(chain, key))
        assert says in str(raised.value)


def test_an_expired_one_is_served_with_a_warning(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.issue(until=NOW - DAY)
    Tls(lambda: files, HandMovedClock())
    (record,) = caplog.records
    assert str(files.chain) in record.message
    assert "expired" in record.message


# Settings


def test_tls_is_off_unless_asked_for() -> None:
    assert load_settings(None, {}).https_address is None


def test_a_certificate_alone_means_port_8443_of_the_same_host() -> None:
    options = {"http": "[::1]:80", "tls_cert": "a.pem", "tls_key": "a.key"}
    assert load_settings(None, options).https_address == ("::1", 8443)
    assert load_settings(None, options | {"https": "0.0.0.0:443"}).https_address == ("0.0.0.0", 443)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tls_cert": "a.pem"}, "tls_key is not: give both"),
        ({"tls_key": "a.key", "https": "127.0.0.1:0"}, "tls_cert is not: give both"),
        ({"https": "nowhere"}, "HOST:PORT"),
        ({"tls_names": ["a b"]}, "tls_names: 'a b' is neither a host name"),
    ],
)
def test_a_wrong_setting_says_what_to_do(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_settings(None, options)


def test_the_names_that_a_certificate_needs() -> None:
    bound = names_of(load_settings(None, {"https": "192.0.2.7:443", "tls_names": ["Rec.Example"]}))
    assert bound.needed == {"192.0.2.7", "rec.example"}
    options = {"https": "0.0.0.0:443", "public_url": "https://Rec.example.com:8443/x"}
    anywhere = names_of(load_settings(None, options))
    # The address of the day is not in the links, so a new one is no reason to lose clients' trust.
    assert anywhere.needed == {"rec.example.com"}
    assert len(anywhere.besides) >= 1
    assert names_of(load_settings(None, {"https": "0.0.0.0:443"})).needed <= anywhere.besides
    unusable = {"https": "127.0.0.1:0", "public_url": "http://[bad"}
    assert names_of(load_settings(None, unusable)).needed == {"127.0.0.1"}


def test_a_plain_api_that_a_network_reaches_is_warned_of() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1"):
        assert clear_text_warning(host, None) is None
    for host in ("0.0.0.0", "192.0.2.7", "::"):
        assert "--https" in (clear_text_warning(host, None) or "")
        assert "127.0.0.1" in (clear_text_warning(host, "https://x") or "")


# The listener


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says how it was reached."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@asynccontextmanager
async def listening(tls: Tls) -> AsyncIterator[tuple[int, int]]:
    """The plain and the TLS port of a server."""
    plain, secured = bind_tcp(("127.0.0.1", 0)), bind_tcp(("127.0.0.1", 0))
    ports = plain.getsockname()[1], secured.getsockname()[1]
    async with serving(hello, plain, tls=(secured, tls.context)):
        yield ports


def run(test: Callable[[], Awaitable[None]], seconds: float = 10) -> None:
    """On the event loop that the server uses; whatever it would log as an error is one here."""
    errors: list[dict[str, object]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: errors.append(about))
        async with asyncio.timeout(seconds):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
    assert not errors


async def get(
    port: int,
    ca: Path,
    *,
    host: str = "127.0.0.1",
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    strict: bool = False,
) -> str:
    """The version of TLS by which a client that trusts ``ca`` is answered."""
    context = ssl.create_default_context(cafile=str(ca))
    context.maximum_version = newest
    if strict:  # as later versions of Python are unless told otherwise
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=host
    )
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = (await reader.read()).decode().lower()
    about = writer.get_extra_info("ssl_object")
    assert about.selected_alpn_protocol() == "http/1.1"
    assert about.compression() is None
    writer.close()
    await writer.wait_closed()
    assert answer.startswith("http/1.1 200 ")
    assert "\r\nconnection: close\r\n" in answer
    assert "https" in answer.partition("\r\n\r\n")[2]  # the scheme, in a chunk
    return str(about.version())


def test_old_and_new_clients_with_and_without_a_host_name(tmp_path: Path) -> None:
    tls = tls_of(load_settings(None, {"https": "127.0.0.1:0"}), tmp_path, HandMovedClock())
    assert tls.to_trust is not None
    ca = tls.to_trust

    async def test() -> None:
        async with listening(tls) as (_, port):
            for host in ("127.0.0.1", "localhost"):  # the first is not said in a handshake
                assert await get(port, ca, host=host, strict=True) == "TLSv1.3"
                old = ssl.TLSVersion.TLSv1_2
                assert await get(port, ca, host=host, newest=old, strict=True) == "TLSv1.2"

    run(test)


def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.issue("live")
    tls = Tls(lambda: files, HandMovedClock())

    async def test() -> None:
        async with listening(tls) as (_, port):
            for key in (an_rsa_key(), None):  # one of another type must not stay beside it
                await get(port, authority.ca_file)
                (tmp_path / "new").mkdir(exist_ok=True)
                renewing = Authority(tmp_path / "new", NOW)
                new = renewing.issue("live", key)
                new.chain.rename(files.chain)
                tls.check()  # renewed by half
                tls.check()
                assert "is not that of the first certificate" in caplog.text
                await get(port, authority.ca_file)
                new.key.rename(files.key)
                tls.check()
                await get(port, renewing.ca_file)
                with pytest.raises(ssl.SSLError):
                    await get(port, authority.ca_file)
                assert [one.levelname for one in caplog.records] == ["ERROR", "INFO"]
                caplog.clear()
                tls.check()  # nothing is new
                assert not caplog.records
                authority.ca_file.write_bytes(renewing.ca_file.read_bytes())
            files.chain.unlink()
            tls.check()
            assert "No such file" in caplog.text
            await get(port, authority.ca_file)

    with caplog.at_level("INFO", "callreel.server.tls"):
        run(test)


def test_a_self_signed_certificate_is_renewed_while_it_is_served(tmp_path: Path) -> None:
    clock = HandMovedClock(NOW - VALID_FOR + RENEW_BEFORE)
    tls = tls_of(load_settings(None, {"https": "127.0.0.1:0"}), tmp_path, clock)
    old = (tmp_path / "cert.pem").read_bytes()
    tls.check()
    assert (tmp_path / "cert.pem").read_bytes() == old
    clock.time = NOW
    tls.check()
    assert (tmp_path / "cert.pem").read_bytes() != old

    async def test() -> None:
        async with listening(tls) as (_, port):
            await get(port, tmp_path / "cert.pem")

    run(test)


CLIENT_HELLO_1_1 = bytes.fromhex(
    "1603010031 0100002d 0302" + "5a" * 32 + "00 0006 c014c009002f 01 00"
)
"""TLS 1.1 (RFC 4346) with three suites that a TLS 1.1 server would take; no extensions."""
CLIENT_HELLO_1_0 = CLIENT_HELLO_1_1.replace(b"\x03\x02", b"\x03\x01")


@pytest.mark.parametrize("hello", [CLIENT_HELLO_1_1, CLIENT_HELLO_1_0], ids=["1.1", "1.0"])
def test_old_versions_of_tls_are_not_spoken(authority: Authority, hello: bytes) -> None:
    files = authority.issue()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    connection = Tls(lambda: files, HandMovedClock()).context.wrap_bio(
        incoming, outgoing, server_side=True
    )
    with pytest.raises(ssl.SSLError) as refused:
        connection.do_handshake()
    assert refused.value.reason == "UNSUPPORTED_PROTOCOL"
    alert = outgoing.read()
    assert (alert[0], alert[5:]) == (21, bytes([2, 70]))  # fatal, protocol_version


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "waits"])
@pytest.mark.parametrize(
    "noise",
    [
        CLIENT_HELLO_1_1,
        CLIENT_HELLO_1_0,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\n\r\n",
        bytes(1000),
        b"\xff" * 100_000,
        b"\x80\x2e\x01\x00\x02" + bytes(45),  # SSL 2
    ],
    ids=["tls1.1", "tls1.0", "http", "sip", "zeros", "ones", "ssl2"],
)
def test_what_is_no_tls_is_closed_and_the_listener_goes_on(
    tmp_path: Path, noise: bytes, ends: bool
) -> None:
    tls = tls_of(load_settings(None, {"https": "127.0.0.1:0"}), tmp_path, HandMovedClock())

    async def test() -> None:
        async with listening(tls) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with suppress(OSError):  # a reset is an end too
                writer.write(noise)
                if ends:
                    writer.write_eof()
                assert await reader.read() == b""
            writer.close()
            await get(port, tmp_path / "cert.pem")

    run(test)


def test_who_says_nothing_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HANDSHAKE_S", 0.3)
    tls = tls_of(load_settings(None, {"https": "127.0.0.1:0"}), tmp_path, HandMovedClock())

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with listening(tls) as (_, port):
            for begun in (b"", CLIENT_HELLO_1_1[:20]):
                with socket.socket() as silent:
                    silent.setblocking(False)
                    await loop.sock_connect(silent, ("127.0.0.1", port))
                    if begun:
                        await loop.sock_sendall(silent, begun)
                    await get(port, tmp_path / "cert.pem")  # nobody else waits
                    with suppress(ConnectionResetError):
                        assert await loop.sock_recv(silent, 100) == b""

    run(test, seconds=5)


def test_a_shutdown_waits_for_no_farewell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients with idle pools, one in mid-handshake, and one that has just asked."""
    monkeypatch.setattr(http, "GOODBYE_S", 0.2)
    tls = tls_of(load_settings(None, {"https": "127.0.0.1:0"}), tmp_path, HandMovedClock())
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))

    async def test() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as silent, socket.socket() as idle:
            async with listening(tls) as (_, port):
                silent.setblocking(False)
                await loop.sock_connect(silent, ("127.0.0.1", port))
                await asyncio.to_thread(idle.connect, ("127.0.0.1", port))
                pooled = await asyncio.to_thread(
                    context.wrap_socket, idle, server_hostname="127.0.0.1"
                )
                await asyncio.to_thread(pooled.sendall, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await asyncio.to_thread(pooled.recv, 12)) == b"HTTP/1.1 200"
                begun = loop.time()
            assert loop.time() - begun < 2
            pooled.close()

    run(test)
    assert not caplog.records
