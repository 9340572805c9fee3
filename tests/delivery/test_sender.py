"""One webhook sent, to real servers on this machine, good and bad."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twilio.request_validator import RequestValidator

from callreel.calls.model import CallbackMethod
from callreel.delivery.address import AddressPolicy
from callreel.delivery.exchange import Exchange, Resolver, SystemResolver
from callreel.delivery.model import Delivery, Outcome, Result
from callreel.delivery.request import prepare
from callreel.delivery.sender import MAX_ANSWER_BYTES, Sender
from callreel.testing.webhooks import Answer, WebhookReceiver

KEY = "signing-key"
UTC = datetime.UTC


class RealClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(UTC)


class Names:
    """A resolver with a table of its own."""

    def __init__(self, **table: list[str]) -> None:
        self.table = table

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        if host not in self.table:
            raise socket.gaierror(-2, "Name or service not known")
        return self.table[host]


def delivery(url: str, method: CallbackMethod = CallbackMethod.POST) -> Delivery:
    return Delivery(
        id="ab" * 16,
        account_id="cd" * 16,
        event="completed",
        url=url,
        method=method,
        fields={"RecordingStatus": "completed", "To": "+1 é&="},
        signing_key=KEY,
        created_at=datetime.datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as started:
        yield started


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[Sender]:
    async with sending() as made:
        yield made


@asynccontextmanager
async def sending(
    *,
    policy: AddressPolicy | None = None,
    resolver: Resolver | None = None,
    ca_file: Path | None = None,
) -> AsyncIterator[Sender]:
    async with Exchange(policy=policy, resolver=resolver, ca_file=ca_file) as exchange:
        yield Sender(RealClock(), exchange)


async def attempt(
    sender: Sender, url: str, method: CallbackMethod = CallbackMethod.POST
) -> Outcome:
    return await sender.attempt(prepare(delivery(url, method)))


@pytest.mark.parametrize("method", CallbackMethod)
async def test_a_webhook_arrives_and_its_signature_holds(
    receiver: WebhookReceiver, sender: Sender, method: CallbackMethod
) -> None:
    outcome = await attempt(sender, f"{receiver.url}/ü?q=a%2Fb|c#tt=5000", method)
    assert (outcome.result, outcome.status) == (Result.DELIVERED, 204)
    webhook = await receiver.wait_for("completed")
    assert webhook.method == method.value
    assert webhook.fields.get("To") == "+1 é&="
    assert webhook.header("i-twilio-idempotency-token") == "ab" * 16
    sent = webhook.fields if method is CallbackMethod.POST else {}
    validator = RequestValidator(KEY)
    assert validator.validate(webhook.url, sent, webhook.header("X-Twilio-Signature"))
    assert len(receiver.received) == 1


async def test_credentials_are_sent_and_not_in_the_request_line(
    receiver: WebhookReceiver, sender: Sender
) -> None:
    await attempt(sender, receiver.url.replace("//", "//user:pa%3Ass@"))
    (webhook,) = receiver.received
    assert webhook.header("authorization") == "Basic dXNlcjpwYTpzcw=="
    assert "user" not in webhook.url


@pytest.mark.parametrize("status", [200, 201, 299])
async def test_any_2xx_is_success(receiver: WebhookReceiver, sender: Sender, status: int) -> None:
    receiver.default = Answer(status, body=b"<Response/>")
    outcome = await attempt(sender, receiver.url)
    assert (outcome.result, outcome.answer) == (Result.DELIVERED, b"<Response/>")


@pytest.mark.parametrize("status", [304, 400, 404, 410, 429, 500, 503])
async def test_other_answers_are_told(
    receiver: WebhookReceiver, sender: Sender, status: int
) -> None:
    receiver.default = Answer(status, (("Retry-After", "7"),))
    outcome = await attempt(sender, receiver.url)
    assert (outcome.result, outcome.status) == (Result.ANSWERED, status)
    assert outcome.retry_after_s == 7


async def test_a_huge_answer_is_cut_off(receiver: WebhookReceiver, sender: Sender) -> None:
    receiver.default = Answer(200, body=b"x" * 20_000_000)
    outcome = await attempt(sender, receiver.url)
    assert outcome.result is Result.DELIVERED
    assert outcome.answer == b"x" * MAX_ANSWER_BYTES


async def raw_server(reply: bytes, *, stall: bool) -> tuple[asyncio.Server, str]:
    """Takes a request, says these bytes, and closes or stays silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(reply)
        if stall:
            await reader.read()  # until the other side has had enough
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    ("reply", "stall", "expected"),
    [
        (b"", False, Result.CONNECTION),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, Result.CONNECTION),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, False, Result.CONNECTION),
        (b"", True, Result.TIMEOUT),
        (b"HTTP/1.1 200 OK\r\nContent-", True, Result.TIMEOUT),
        # The status decides; a body that never comes does not.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", True, Result.DELIVERED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", False, Result.DELIVERED),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip", False, Result.DELIVERED),
    ],
)
async def test_broken_receivers(
    sender: Sender, reply: bytes, stall: bool, expected: Result
) -> None:
    server, url = await raw_server(reply, stall=stall)
    async with server:
        outcome = await attempt(sender, f"{url}#rt=200")
        assert outcome.result is expected
        assert (outcome.error == "") == (expected is Result.DELIVERED)


async def test_a_slow_drip_ends_with_the_total(sender: Sender) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        try:
            while not writer.is_closing():
                writer.write(b"y")
                await writer.drain()
                await asyncio.sleep(0.05)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await attempt(sender, f"http://127.0.0.1:{port}/#rt=1000&tt=300")
    assert outcome.result is Result.TIMEOUT
    assert 250 < outcome.elapsed_ms < 900


async def test_nobody_listens(sender: Sender) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        outcome = await attempt(sender, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert outcome.result is Result.CONNECTION
    assert outcome.error


async def test_a_full_backlog_is_a_connect_timeout(sender: Sender) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        outcome = await attempt(sender, f"http://127.0.0.1:{full.getsockname()[1]}/#ot=150")
    assert (outcome.result, outcome.error) == (Result.TIMEOUT, "no connection in time")
    assert outcome.elapsed_ms < 1500


async def test_redirects_are_followed_and_signed_anew(
    receiver: WebhookReceiver, sender: Sender
) -> None:
    receiver.answers += [Answer(307, (("Location", f"/hop{n}"),)) for n in range(3)]
    outcome = await attempt(sender, receiver.url)
    assert outcome.result is Result.DELIVERED
    assert [webhook.url.rpartition("/")[2] for webhook in receiver.received] == [
        "webhook",
        "hop0",
        "hop1",
        "hop2",
    ]
    for webhook in receiver.received:
        assert RequestValidator(KEY).validate(
            webhook.url, webhook.fields, webhook.header("X-Twilio-Signature")
        )


async def test_a_fourth_redirect_is_too_many(receiver: WebhookReceiver, sender: Sender) -> None:
    receiver.default = Answer(302, (("Location", "/again"),))
    outcome = await attempt(sender, receiver.url)
    assert (outcome.result, outcome.status) == (Result.ANSWERED, 302)
    assert len(receiver.received) == 4


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://169.254.169.254/latest/meta-data/", Result.DENIED),
        ("http://[fe80::1]/", Result.DENIED),
        ("http://[::ffff:169.254.169.254]/", Result.DENIED),
        ("http://2852039166/", Result.DENIED),  # 169.254.169.254 as one number
        ("file:///etc/passwd", Result.ANSWERED),
    ],
)
async def test_redirects_are_checked_again(
    receiver: WebhookReceiver, sender: Sender, location: str, expected: Result
) -> None:
    receiver.default = Answer(302, (("Location", location),))
    outcome = await attempt(sender, receiver.url)
    assert outcome.result is expected
    assert outcome.error
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "http://0.0.0.0/", "http://224.0.0.1/", "http://[::]/"]
)
async def test_denied_addresses_get_no_connection(sender: Sender, url: str) -> None:
    outcome = await attempt(sender, url)
    assert outcome.result is Result.DENIED


async def test_private_addresses_are_denied_where_set(receiver: WebhookReceiver) -> None:
    async with sending(policy=AddressPolicy(deny_private=True)) as strict:
        outcome = await attempt(strict, receiver.url)
    assert outcome.result is Result.DENIED
    assert not receiver.received


async def test_a_name_is_resolved_once_and_that_address_is_used(
    receiver: WebhookReceiver,
) -> None:
    class Rebinding(Names):
        async def resolve(self, host: str, port: int) -> Sequence[str]:
            found = await super().resolve(host, port)
            self.table[host] = ["169.254.169.254"]
            return found

    names = Rebinding(hook=["169.254.169.254", "127.0.0.1"])
    async with sending(resolver=names) as sender:
        first = await attempt(sender, f"http://hook:{receiver.port}/")
        second = await attempt(sender, f"http://hook:{receiver.port}/")
    assert (first.result, second.result) == (Result.DELIVERED, Result.DENIED)
    (webhook,) = receiver.received
    assert webhook.header("host") == f"hook:{receiver.port}"


async def test_the_next_address_is_tried_where_one_does_not_connect(
    receiver: WebhookReceiver,
) -> None:
    names = Names(hook=["127.0.0.9", "::1", "127.0.0.1"])
    async with sending(resolver=names) as sender:
        outcome = await attempt(sender, f"http://hook:{receiver.port}/")
    assert outcome.result is Result.DELIVERED
    assert len(receiver.received) == 1


async def test_unknown_names_are_connection_failures() -> None:
    async with sending(resolver=Names()) as sender:
        outcome = await attempt(sender, "http://nowhere.invalid/")
    assert outcome.result is Result.CONNECTION
    assert "not known" in outcome.error


async def test_a_name_server_that_hangs_costs_the_connect_timeout() -> None:
    class Hanging(Names):
        async def resolve(self, host: str, port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            raise AssertionError

    async with sending(resolver=Hanging()) as sender:
        outcome = await attempt(sender, "http://hook/#ot=100")
    assert outcome.result is Result.TIMEOUT


async def test_the_systems_resolver() -> None:
    resolver = SystemResolver(threads=1)
    try:
        assert await resolver.resolve("127.0.0.1", 80) == ["127.0.0.1"]
        assert await resolver.resolve("::1", 80) == ["::1"]
        both = await asyncio.gather(*(resolver.resolve("localhost", 80) for _ in range(3)))
        assert all("127.0.0.1" in found for found in both)
    finally:
        resolver.close()


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.mark.parametrize(
    ("host", "expected"),
    [("hook.test", Result.DELIVERED), ("other.test", Result.CONNECTION)],
)
async def test_tls_is_checked_for_the_name_though_the_address_is_connected_to(
    tmp_path: Path, host: str, expected: Result
) -> None:
    pem = certificate(tmp_path, "hook.test")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    asked: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    names = Names(**{"hook.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
    async with (
        WebhookReceiver(tls=tls) as receiver,
        sending(resolver=names, ca_file=pem) as trusting,
        sending(resolver=names) as stranger,
    ):
        outcome = await attempt(trusting, f"https://{host}:{receiver.port}/x")
        assert outcome.result is expected
        assert asked == [host]
        if expected is Result.DELIVERED:
            assert receiver.received[0].url == f"https://{host}:{receiver.port}/x"
            untrusted = await attempt(stranger, f"https://{host}:{receiver.port}/x")
            assert untrusted.result is Result.CONNECTION
            assert "certificate" in untrusted.error
        else:
            assert not receiver.received


async def test_tls_to_a_bare_address(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    async with (
        WebhookReceiver(tls=tls) as receiver,
        sending(ca_file=pem) as sender,
    ):
        outcome = await attempt(sender, receiver.url)
    assert outcome.result is Result.DELIVERED
