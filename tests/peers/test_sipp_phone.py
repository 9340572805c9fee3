"""SIPp calls the phone, and is called by it: its own built-in scenarios, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callreel.phone.call import CallFailed, Ending, PhoneCall
from callreel.wire.sip.flow import Transport
from tests.peers.sipp import need_sipp
from tests.phone.phones import Phones, spans, talk
from tests.ports import free_port_pair

pytestmark = pytest.mark.peer


@pytest.fixture
async def phones() -> AsyncIterator[Phones]:
    made = Phones()
    yield made
    await made.close()


async def sipp(folder: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(need_sipp(), *options, "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin"),
        *("-trace_err", "-error_file", "errors.log", "-timeout", "20", "-timeout_error"),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def succeed(process: asyncio.subprocess.Process, folder: Path) -> None:
    errors = folder / "errors.log"
    status = await asyncio.wait_for(process.wait(), 25)
    assert status == 0, errors.read_text() if errors.exists() else "no errors told"


async def reached(phones: Phones, uri: str, folder: Path) -> PhoneCall:
    """A call to SIPp, which may still be starting."""
    phone = phones.all[0]
    for _ in range(40):
        try:
            return await phone.call(uri, talk("tone:440", folder / "heard.wav"), ring_timeout_s=5)
        except CallFailed as error:
            if error.status not in (408, 503):
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("SIPp does not answer")


@pytest.mark.parametrize(("transport", "mode"), [("udp", "u1"), ("tcp", "t1")])
async def test_sipp_is_called(phones: Phones, tmp_path: Path, transport: str, mode: str) -> None:
    """Its user agent server echoes what it hears."""
    phone = await phones.make()
    port = free_port_pair()
    process = await sipp(
        tmp_path,
        *("-sn", "uas", "-rtp_echo", "-p", str(port), "-t", mode, "-m", "1"),
        *("-mp", str(free_port_pair())),
    )
    call = await reached(phones, f"sip:uas@127.0.0.1:{port};transport={transport}", tmp_path)
    assert [str(event.kind) for event in call.events] == ["dialling", "ringing", "answered"]
    await asyncio.sleep(0.8)
    await phone.hang_up(call)
    ((start, end),) = spans(tmp_path / "heard.wav", 440)
    assert end - start > 0.6
    summary = phone.summary(call)
    assert summary.in_order
    assert summary.media is not None
    assert summary.media.lost == 0
    assert summary.media.packets_received > 30
    # It would wait 4 s for messages that come again; whatever it did not expect, it has noted.
    process.terminate()
    await process.wait()
    assert not (tmp_path / "errors.log").exists()


@pytest.mark.parametrize(("transport", "mode"), [(Transport.UDP, "u1"), (Transport.TCP, "t1")])
async def test_sipp_calls(phones: Phones, tmp_path: Path, transport: Transport, mode: str) -> None:
    """Three calls of its user agent client, which says nothing and hangs up."""
    phone = await phones.make(takes_calls=True)
    host, port = phone.addresses[transport]
    process = await sipp(
        tmp_path,
        *(
            "-sn",
            "uac",
            "-t",
            mode,
            "-m",
            "3",
            "-r",
            "20",
            "-d",
            "300",
            "-mp",
            str(free_port_pair()),
        ),
        f"{host}:{port}",
    )
    calls = []
    for _ in range(3):
        call = await asyncio.wait_for(phone.next_call(), 10)
        phone.ring(call)
        phone.answer(call)
        calls.append(call)
    await succeed(process, tmp_path)
    for call in calls:
        await asyncio.wait_for(call.ended.wait(), 2)
        summary = phone.summary(call)
        assert (summary.ended_by, summary.codec) == (Ending.PEER, "PCMU")
        assert 0.2 < summary.seconds < 1.0
        assert summary.media is not None
        assert summary.media.packets_sent > 10
