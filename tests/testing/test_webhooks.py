"""The webhook receiver itself, spoken to with another's client."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from callreel.testing.webhooks import Answer, Webhook, WebhookReceiver


async def test_forms_and_queries_become_fields() -> None:
    seen: list[Webhook] = []
    async with WebhookReceiver(on_webhook=seen.append) as receiver, httpx.AsyncClient() as client:
        posted = await client.post(
            f"{receiver.url}?q=1", data={"RecordingStatus": "completed", "E": "é", "N": ""}
        )
        got = await client.get(receiver.url, params={"CallStatus": "ringing"})
        assert (posted.status_code, got.status_code) == (204, 204)
        first, second = receiver.received
    assert first.fields == {"RecordingStatus": "completed", "E": "é", "N": ""}
    assert first.url == f"http://127.0.0.1:{receiver.port}/webhook?q=1"
    assert first.event == "completed"
    assert (second.method, second.event) == ("GET", "ringing")
    assert seen == [first, second]


async def test_answers_come_in_order_and_then_the_default() -> None:
    async with WebhookReceiver() as receiver, httpx.AsyncClient() as client:
        receiver.answers.append(Answer(503, (("Retry-After", "9"),), b"busy"))
        receiver.default = Answer(200, body=b"ok")
        busy = await client.post(receiver.url)
        taken = await client.post(receiver.url)
    assert (busy.status_code, busy.headers["retry-after"], busy.text) == (503, "9", "busy")
    assert (taken.status_code, taken.text) == (200, "ok")


async def test_waiting_for_events() -> None:
    async with WebhookReceiver() as receiver, httpx.AsyncClient() as client:
        waiting = asyncio.create_task(receiver.wait_for("completed"))
        await client.post(receiver.url, data={"RecordingStatus": "in-progress"})
        assert not waiting.done()
        await client.post(receiver.url, data={"RecordingStatus": "completed"})
        assert (await waiting).event == "completed"
        assert len(await receiver.wait_count(2)) == 2
        with pytest.raises(TimeoutError):
            await receiver.wait_for("absent", 0.05)


async def test_nonsense_and_sudden_ends_do_not_stop_it() -> None:
    async with WebhookReceiver() as receiver, httpx.AsyncClient() as client:
        for nonsense in (b"", b"\x16\x03\x01 not http\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            writer.write(nonsense)
            writer.close()
            await writer.wait_closed()
        assert (await client.post(receiver.url)).status_code == 204
        assert len(receiver.received) == 1
