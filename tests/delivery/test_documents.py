"""Documents and files from programs' servers: real ones, also hostile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callreel.calls.model import CallbackMethod
from callreel.calls.voice import DocumentUnavailable
from callreel.delivery.address import AddressPolicy
from callreel.delivery.documents import MAX_DOCUMENT_BYTES, ProgramDocuments
from callreel.delivery.downloads import Downloads
from callreel.delivery.exchange import Exchange
from callreel.delivery.signature import sign
from callreel.testing.webhooks import Answer, WebhookReceiver

KEY = "a-signing-key"
ACCOUNT = "ac" * 16
FIELDS = [("CallSid", "CA1"), ("From", "+1 é&="), ("Digits", "")]
DOCUMENT = Answer(200, (("Content-Type", "text/xml; charset=utf-8"),), b"<Response/>")


async def signing_key(account_id: str) -> str | None:
    return KEY if account_id == ACCOUNT else None


@pytest.fixture
async def program() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as started:
        started.default = DOCUMENT
        yield started


@asynccontextmanager
async def asking(policy: AddressPolicy | None = None) -> AsyncIterator[ProgramDocuments]:
    numbers = itertools.count()
    async with Exchange(policy=policy) as exchange:
        yield ProgramDocuments(exchange, signing_key, new_id=lambda: f"id-{next(numbers)}")


@pytest.fixture
async def documents() -> AsyncIterator[ProgramDocuments]:
    async with asking() as made:
        yield made


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that says what no HTTP library would."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await reader.readuntil(b"\r\n\r\n")
                await talk(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/voice"
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()


@pytest.mark.parametrize("method", CallbackMethod)
async def test_a_document_is_asked_for_signed_and_comes_as_it_is(
    program: WebhookReceiver, documents: ProgramDocuments, method: CallbackMethod
) -> None:
    url = program.url.replace("://", "://me:pw%40@") + "?a=1#rc=2&rt=3000"
    found = await documents.fetch(ACCOUNT, url, method, FIELDS)
    assert found.text == b"<Response/>"
    assert found.content_type == "text/xml; charset=utf-8"
    (asked,) = program.received
    assert asked.method == method.value
    assert "#" not in asked.url
    for name, value in FIELDS:
        assert asked.fields[name] == value
    signed = sign(KEY, found.url, asked.fields if method is CallbackMethod.POST else {})
    assert asked.header("X-Twilio-Signature") == signed
    assert asked.header("X-SignalWire-Signature") == signed
    assert asked.header("Authorization") == "Basic bWU6cHdA"
    assert asked.header("I-Twilio-Idempotency-Token") == "id-0"
    assert found.url.startswith(url.partition("#")[0])


async def test_what_is_relative_is_relative_to_where_redirects_led(
    program: WebhookReceiver, documents: ProgramDocuments
) -> None:
    program.answers.append(Answer(307, (("Location", "/elsewhere/voice"),)))
    found = await documents.fetch(ACCOUNT, program.url, CallbackMethod.POST, FIELDS)
    assert found.url == f"http://127.0.0.1:{program.port}/elsewhere/voice"
    assert [asked.method for asked in program.received] == ["POST", "POST"]


async def unavailable(
    documents: ProgramDocuments, url: str, account_id: str = ACCOUNT
) -> DocumentUnavailable:
    with pytest.raises(DocumentUnavailable) as caught:
        await documents.fetch(account_id, url, CallbackMethod.POST, FIELDS)
    assert "pw" not in str(caught.value)
    return caught.value


async def test_what_answers_with_no_document_says_which(
    program: WebhookReceiver, documents: ProgramDocuments
) -> None:
    for status in (404, 500):
        program.answers.append(Answer(status, body=b"<Response/>"))
        error = await unavailable(documents, program.url)
        assert error.http_status == status
        assert str(status) in str(error)
    program.default = Answer(302, (("Location", "/webhook"),))
    error = await unavailable(documents, program.url)
    assert (error.http_status, "3 redirects" in str(error)) == (302, True)
    assert len(program.received) == 2 + 4


async def test_a_redirect_to_a_forbidden_address_leads_nowhere(
    program: WebhookReceiver, documents: ProgramDocuments
) -> None:
    program.answers.append(Answer(302, (("Location", "http://169.254.169.254/latest"),)))
    assert "link-local" in str(await unavailable(documents, program.url))
    async with asking(AddressPolicy(deny_private=True)) as strict:
        assert "loopback" in str(await unavailable(strict, program.url))
    assert len(program.received) == 1


@pytest.mark.parametrize(
    "url",
    ["", "voice.xml", "ftp://me:pw@example.com/", "http://", "http://me:pw@[::1/", "http://a\nb/"],
)
async def test_what_is_no_url_is_not_asked_for(documents: ProgramDocuments, url: str) -> None:
    assert "URL" in str(await unavailable(documents, url))


async def test_an_account_that_is_gone_asks_for_nothing(
    program: WebhookReceiver, documents: ProgramDocuments
) -> None:
    assert "gone" in str(await unavailable(documents, program.url, "0" * 32))
    assert not program.received


async def test_failures_are_tried_again_as_the_url_says(
    program: WebhookReceiver, documents: ProgramDocuments
) -> None:
    program.answers.extend([Answer(503), Answer(503), DOCUMENT])
    found = await documents.fetch(
        ACCOUNT, f"{program.url}#rc=2&rp=5xx", CallbackMethod.POST, FIELDS
    )
    assert found.text == b"<Response/>"
    tokens = {asked.header("I-Twilio-Idempotency-Token") for asked in program.received}
    assert (len(program.received), tokens) == (3, {"id-0"})
    program.answers.extend([Answer(503), Answer(503), DOCUMENT])
    assert (await unavailable(documents, f"{program.url}#rc=1&rp=5xx")).http_status == 503
    assert len(program.received) == 5


async def test_where_nobody_listens_there_is_one_more_try(documents: ProgramDocuments) -> None:
    """The port is free at the first try, and is listened at from then on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert "connection" in str(await unavailable(documents, f"{url}#rc=5")).lower()

    async with WebhookReceiver() as late:
        late.default = DOCUMENT
        tried = []

        class Names:
            async def resolve(self, host: str, port: int) -> list[str]:
                tried.append(host)
                return ["127.0.0.9" if len(tried) == 1 else "127.0.0.1"]

        async with Exchange(resolver=Names()) as exchange:
            patient = ProgramDocuments(exchange, signing_key, new_id=lambda: "id")
            url = f"http://program:{late.port}/"
            found = await patient.fetch(ACCOUNT, url, CallbackMethod.POST, FIELDS)
            assert (found.text, len(tried)) == (b"<Response/>", 2)
            tried.clear()
            await unavailable(patient, f"{url}#rc=0")
            assert len(tried) == 1


async def test_whoever_says_nothing_is_not_waited_for(documents: ProgramDocuments) -> None:
    asked = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(1)
        await reader.read()

    async with raw_server(silent) as url:
        assert "in time" in str(await unavailable(documents, f"{url}#rt=200"))
        assert len(asked) == 1  # it has heard the question: not asked again, unless told to
        await unavailable(documents, f"{url}#rt=200&rc=1&rp=rt")
        assert len(asked) == 3


async def test_the_total_is_that_of_all_tries(documents: ProgramDocuments) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:  # each piece is in time, the whole never is
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with raw_server(slow) as url, asyncio.timeout(10):
        error = await unavailable(documents, f"{url}#tt=400&rc=5&rp=all")
    assert "0." in str(error)


async def test_another_try_has_the_time_that_is_left(documents: ProgramDocuments) -> None:
    tries = []

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(1)
        if len(tries) > 1:
            await reader.read()
        await asyncio.sleep(0.3)
        writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(late) as url:
        error = await unavailable(documents, f"{url}#tt=2000&rc=5&rp=5xx")
    assert len(tries) == 2
    (allowed_s,) = re.findall(r"within ([0-9.]+) s", str(error))
    assert float(allowed_s) <= 1.7


async def test_a_document_without_end_is_read_no_further(documents: ProgramDocuments) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"<Say>" * 2000)
            await writer.drain()
            sent += 10_000

    async with raw_server(endless) as url:
        assert "64 KiB" in str(await unavailable(documents, url))
        assert sent < 10_000_000  # what the kernel's buffers took


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<Resp",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "no HTTP", "cut off", "bad chunk", "huge header"],
)
async def test_what_is_no_answer_is_no_document(documents: ProgramDocuments, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with raw_server(talk) as url:
        error = await unavailable(documents, url)
    assert str(error)


async def test_exactly_the_largest_document_comes(
    program: WebhookReceiver, documents: ProgramDocuments
) -> None:
    program.default = Answer(200, body=b"x" * MAX_DOCUMENT_BYTES)
    found = await documents.fetch(ACCOUNT, program.url, CallbackMethod.POST, FIELDS)
    assert len(found.text) == MAX_DOCUMENT_BYTES


# Files


@pytest.fixture
async def downloads() -> AsyncIterator[Downloads]:
    async with Exchange() as exchange:
        yield Downloads(exchange, signing_key)


async def test_a_file_is_saved(
    program: WebhookReceiver, downloads: Downloads, tmp_path: Path
) -> None:
    body = bytes(range(256)) * 4000
    program.default = Answer(200, (("ETag", '"v1"'),), body)
    into = tmp_path / "file"
    done = await downloads.download(
        ACCOUNT, program.url, headers={"If-None-Match": '"v0"'}, into=into, max_bytes=len(body)
    )
    assert (done.http_status, done.headers["etag"]) == (200, '"v1"')
    assert into.read_bytes() == body
    (asked,) = program.received
    assert (asked.method, asked.header("If-None-Match")) == ("GET", '"v0"')
    assert asked.header("X-Twilio-Signature") == sign(KEY, program.url, {})


async def test_what_has_not_changed_is_not_written(
    program: WebhookReceiver, downloads: Downloads, tmp_path: Path
) -> None:
    program.default = Answer(304)
    done = await downloads.download(
        ACCOUNT, program.url, headers={}, into=tmp_path / "file", max_bytes=10
    )
    assert done.http_status == 304
    assert not (tmp_path / "file").exists()


async def test_a_file_that_is_too_large_is_refused_by_what_it_says_and_what_it_is(
    program: WebhookReceiver, downloads: Downloads, tmp_path: Path
) -> None:
    into = tmp_path / "file"

    async def refused(url: str) -> str:
        with pytest.raises(DocumentUnavailable) as caught:
            await downloads.download(ACCOUNT, url, headers={}, into=into, max_bytes=1_000_000)
        return str(caught.value)

    program.default = Answer(200, body=b"x" * 1_000_001)
    assert "larger than 1 MB" in await refused(program.url)
    assert not into.exists()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with raw_server(endless) as url:
        assert "larger than 1 MB" in await refused(url)
    assert into.stat().st_size <= 1_000_000
    program.default = Answer(404)
    assert "404" in await refused(program.url)
