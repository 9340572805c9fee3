"""How things end: by order, by a signal, by a crash. Nothing is lost and nothing is stuck."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans
from tests.cli.commands import callreel
from tests.journeys.api import Api, Json

SID = "AC" + "cd" * 16
CALLER, CALLEE = Party("sip:+15550100@pbx.example.com"), Party("sip:+15550199@pbx.example.com")


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


async def a_call(phone: RecordingClient, server: OwnServer) -> ClientCall:
    tones = [parse_source("tone:440"), parse_source("tone:880")]
    return await phone.call(server.sip_uri, tones, caller=CALLER, callee=CALLEE)


async def a_recorded_call(
    phone: RecordingClient, server: OwnServer
) -> tuple[ClientCall, Api, Json]:
    """A call whose dual recording has begun, the API, and the recording as it shows it."""
    call = await a_call(phone, server)
    api = Api(server)
    (shown,) = await asyncio.to_thread(api.wait_live)
    started = await asyncio.to_thread(api.start, shown["sid"], RecordingChannels="dual")
    return call, api, started


def children(pid: int) -> dict[int, str]:
    """Process ids of a process's children, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(entry.name)] = command
            except (OSError, ValueError):
                continue
    return found


def processes(server: OwnServer, what: str) -> list[int]:
    assert server.process is not None
    return [pid for pid, command in children(server.process.pid).items() if what in command]


async def ended_well(api: Api, sid: str, folder: Path, *, seconds: float) -> Json:
    """Completed, with both tones in their channels for about so long; the report of it."""
    finished = await asyncio.to_thread(api.finished, sid)
    assert finished["status"] == "completed"
    path = await asyncio.to_thread(api.download, sid, folder)
    rate_hz, samples = read_wav(path)
    for channel, hz in ((0, 440), (1, 880)):
        spans = tone_spans(samples[:, channel], rate_hz, hz)
        heard = sum(end - start for start, end in spans)
        assert heard >= seconds, (channel, spans)
    return await asyncio.to_thread(api.integrity, sid)


async def test_sigterm_ends_calls_and_recordings_first(
    phone: RecordingClient, tmp_path: Path
) -> None:
    async with WebhookReceiver() as receiver:
        with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
            call = await a_call(phone, server)
            api = Api(server)
            (shown,) = await asyncio.to_thread(api.wait_live)
            started = await asyncio.to_thread(
                api.start,
                shown["sid"],
                RecordingChannels="dual",
                RecordingStatusCallback=receiver.url,
            )
            await asyncio.sleep(1.0)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            async with asyncio.timeout(10):
                await call.ended.wait()  # a BYE came
            hook = await receiver.wait_for("completed")
            assert hook.fields["RecordingSid"] == started["sid"]
            assert await stopping == 0
            assert not (server.data / "server.json").exists()
            server.start()
            api = Api(server)
            report = await ended_well(api, started["sid"], tmp_path, seconds=0.95)
            assert report["clean"], report["problems"]
            again = await asyncio.to_thread(api.get, f"/Calls/{shown['sid']}.json")
            assert again["status"] == "completed"
    assert "Traceback" not in server.log


async def test_sigterm_to_every_process_at_once_is_still_in_order(
    phone: RecordingClient, tmp_path: Path
) -> None:
    """As a service manager stops a service."""
    with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
        _, _, started = await a_recorded_call(phone, server)
        await asyncio.sleep(1.0)
        assert server.process is not None
        for pid in [server.process.pid, *children(server.process.pid)]:
            os.kill(pid, signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, 20) == 0
        server.start()
        report = await ended_well(Api(server), started["sid"], tmp_path, seconds=0.95)
        assert report["clean"], report["problems"]


async def test_a_second_sigterm_ends_at_once_and_the_next_start_takes_up_the_rest(
    phone: RecordingClient, tmp_path: Path
) -> None:
    # A webhook that nobody takes would keep the first SIGTERM waiting.
    async with WebhookReceiver() as receiver:
        receiver.default = type(receiver.default)(status=500, delay_s=3.0)
        with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
            await a_call(phone, server)
            api = Api(server)
            (shown,) = await asyncio.to_thread(api.wait_live)
            started = await asyncio.to_thread(
                api.start,
                shown["sid"],
                RecordingChannels="dual",
                RecordingStatusCallback=receiver.url,
            )
            await asyncio.sleep(1.0)
            assert server.process is not None
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 5) == 1
            assert time.monotonic() - begun < 2.0
            receiver.default = type(receiver.default)()
            server.start()
            await ended_well(Api(server), started["sid"], tmp_path, seconds=0.9)
            await receiver.wait_for("completed", 90)


async def test_a_killed_media_worker_goes_on_with_the_recording(
    phone: RecordingClient, tmp_path: Path
) -> None:
    options = ("--workers", "1")
    with OwnServer(tmp_path, SID, "a-token-of-tests", options=options) as server:
        call, api, started = await a_recorded_call(phone, server)
        await asyncio.sleep(1.2)
        (worker,) = processes(server, "callreel.capture.worker")
        os.kill(worker, signal.SIGKILL)
        await asyncio.sleep(2.0)
        assert processes(server, "callreel.capture.worker") not in ([], [worker])
        stopped = await asyncio.to_thread(api.stop, started)
        assert stopped["status"] == "stopped"
        report = await ended_well(api, started["sid"], tmp_path, seconds=3.0)
        assert report["journal"]["segments"] == 2
        assert report["journal"]["worker_generations"] == [1, 2]
        assert [one["packets"]["lost"] for one in report["streams"]] == [0, 0]
        await phone.hang_up(call)


async def test_a_killed_control_process_comes_back_and_goes_on_with_the_call(
    phone: RecordingClient, tmp_path: Path
) -> None:
    with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
        call, api, started = await a_recorded_call(phone, server)
        await asyncio.sleep(1.2)
        begun = time.monotonic() - 1.2
        (control,) = processes(server, "-m callreel.server ")
        (server.data / "server.json").unlink()
        os.kill(control, signal.SIGKILL)
        deadline = time.monotonic() + 15
        while not (server.data / "server.json").exists():
            assert time.monotonic() < deadline, server.log
            await asyncio.sleep(0.05)
        before = server.http_url, server.sip_uri
        server.learn_state()
        assert (server.http_url, server.sip_uri) == before
        (still,) = await asyncio.to_thread(api.wait_live)
        assert still["sid"] == started["call_sid"]
        await asyncio.sleep(0.5)
        whole_s = time.monotonic() - begun
        await phone.hang_up(call)  # its BYE is answered
        report = await ended_well(api, started["sid"], tmp_path, seconds=whole_s - 0.1)
        assert report["clean"], report["problems"]
        ended = await asyncio.to_thread(api.get, f"/Calls/{started['call_sid']}.json")
        assert ended["status"] == "completed"


async def test_the_control_process_is_replaced_and_not_a_packet_is_missed(
    phone: RecordingClient, tmp_path: Path
) -> None:
    """As an upgrade does: its successor is of whatever version is installed by then."""
    with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
        call, api, started = await a_recorded_call(phone, server)
        await asyncio.sleep(1.0)
        (before,) = processes(server, "-m callreel.server ")
        workers = processes(server, "callreel.capture.worker")
        upgraded = await asyncio.to_thread(callreel, "upgrade", data=server.data)
        assert upgraded.status == 0, upgraded.err
        (after,) = processes(server, "-m callreel.server ")
        assert after != before
        assert processes(server, "callreel.capture.worker") == workers
        (still,) = await asyncio.to_thread(api.wait_live)
        assert still["sid"] == started["call_sid"]
        await asyncio.sleep(0.5)
        await phone.hang_up(call)
        report = await ended_well(api, started["sid"], tmp_path, seconds=1.5)
        assert report["clean"], report["problems"]
        assert report["journal"]["segments"] == 1
    assert "died" not in server.log


async def test_without_its_supervisor_a_server_ends_in_order_and_makes_way(
    phone: RecordingClient, tmp_path: Path
) -> None:
    with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
        call, _, started = await a_recorded_call(phone, server)
        await asyncio.sleep(1.0)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        async with asyncio.timeout(10):
            await call.ended.wait()  # a BYE came
        server.start()  # which waits until what is left of the former one is gone
        report = await ended_well(Api(server), started["sid"], tmp_path, seconds=0.95)
        assert report["clean"], report["problems"]


async def test_everything_killed_at_once_leaves_playable_recordings(
    phone: RecordingClient, tmp_path: Path
) -> None:
    with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
        _, _, started = await a_recorded_call(phone, server)
        await asyncio.sleep(2.0)
        assert server.process is not None
        everyone = [server.process.pid, *children(server.process.pid)]
        for pid in everyone:
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(server.process.wait)
        server.start()
        # What was not swept yet, half a second at most, is gone with the processes.
        report = await ended_well(Api(server), started["sid"], tmp_path, seconds=1.4)
        assert not report["clean"]


async def test_a_peer_whose_policy_is_dual_is_recorded_from_the_first_packet(
    phone: RecordingClient, tmp_path: Path
) -> None:
    environment = {"CALLREEL_LOOPBACK_RECORD": "dual"}
    with OwnServer(tmp_path, SID, "a-token-of-tests", environment=environment) as server:
        call = await a_call(phone, server)
        await asyncio.sleep(1.0)
        await phone.hang_up(call)
        sent = call.packets_sent
        api = Api(server)
        (recording,) = (await asyncio.to_thread(api.get, "/Recordings.json"))["recordings"]
        assert recording["source"] == "Trunking"
        assert recording["channels"] == 2
        report = await ended_well(api, recording["sid"], tmp_path, seconds=0.95)
        assert report["clean"], report["problems"]
        assert sum(one["packets"]["received"] for one in report["streams"]) == sent


async def test_nothing_of_an_unrecorded_call_touches_the_disk(
    phone: RecordingClient, tmp_path: Path
) -> None:
    with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
        call = await a_call(phone, server)
        await asyncio.sleep(1.0)
        await phone.hang_up(call)
        await asyncio.to_thread(Api(server).wait_live, 0)
        assert [one.name for one in (server.data / "journals").iterdir()] == [".callreel"]
