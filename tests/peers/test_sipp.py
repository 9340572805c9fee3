"""SIPREC sessions from SIPp: signalling of a stranger, tones in the right channels."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.api import Api
from tests.peers.sipp import Legs, Sipp, scenario

pytestmark = pytest.mark.peer


def spans(path: Path, channel: int, hz: int) -> list[tuple[float, float]]:
    rate_hz, samples = read_wav(path)
    return tone_spans(samples[:, channel], rate_hz, hz)


def assert_tones_fill(path: Path, seconds: float, *, within_s: float = 0.04) -> None:
    """440 Hz in channel 1 and 880 Hz in channel 2, for the whole length, and nothing else."""
    rate_hz, samples = read_wav(path)
    assert samples.shape[1] == 2
    assert abs(len(samples) / rate_hz - seconds) < within_s
    for channel, (own, other) in enumerate(((440, 880), (880, 440))):
        ((start, end),) = spans(path, channel, own)
        assert start < within_s
        assert end > len(samples) / rate_hz - within_s
        assert spans(path, channel, other) == []


async def test_udp_body_of_over_3_kb_and_another_source_port(
    server: OwnServer, api: Api, legs: Legs, tmp_path: Path
) -> None:
    xml = scenario(talk_ms=4500, padding=3000)
    assert len(xml.partition("--foobar")[2]) > 3000
    sipp = await Sipp.start(server, tmp_path, xml)
    (ports,) = await sipp.ports()
    legs.play(ports)
    (call,) = await asyncio.to_thread(api.wait_live)
    assert (call["from"], call["to"]) == ("+15550100", "+15550199")
    await asyncio.sleep(1.0)
    recording = await asyncio.to_thread(api.start, call["sid"], RecordingChannels="dual")
    begun = time.monotonic()
    await asyncio.sleep(2.0)
    await asyncio.to_thread(api.stop, recording)
    seconds = time.monotonic() - begun
    finished = await asyncio.to_thread(api.finished, recording["sid"])
    assert finished["status"] == "completed"
    path = await asyncio.to_thread(api.download, recording["sid"], tmp_path)
    assert_tones_fill(path, seconds, within_s=0.06)
    await sipp.succeed()
    report = await asyncio.to_thread(api.integrity, recording["sid"])
    assert report["clean"], report["problems"]
    await asyncio.to_thread(api.wait_live, 0)


async def test_tcp_several_calls_on_one_connection(
    server: OwnServer, api: Api, tmp_path: Path
) -> None:
    sipp = await Sipp.start(
        server, tmp_path, scenario(talk_ms=6000, padding=2500), transport="t1", calls=3
    )
    answered = await sipp.ports(calls=3)
    assert len({port for pair in answered for port in pair}) == 6
    tones = [(500, 700), (900, 1100), (1300, 1700)]
    every = [Legs(*pair) for pair in tones]
    try:
        for legs, ports in zip(every, answered, strict=True):
            legs.play(ports)
        calls = await asyncio.to_thread(api.wait_live, 3)
        await asyncio.sleep(0.5)
        made = [
            await asyncio.to_thread(api.start, call["sid"], RecordingChannels="dual")
            for call in calls
        ]
        await asyncio.sleep(1.5)
        heard = set()
        for recording in made:
            await asyncio.to_thread(api.stop, recording)
            finished = await asyncio.to_thread(api.finished, recording["sid"])
            assert finished["status"] == "completed"
            path = await asyncio.to_thread(api.download, recording["sid"], tmp_path)
            for one, other in tones:
                if spans(path, 0, one):
                    assert spans(path, 1, other)
                    assert not spans(path, 0, other)
                    heard.add((one, other))
        assert heard == set(tones)
        await sipp.succeed()
    finally:
        for legs in every:
            await legs.close()


async def test_hold_by_reinvite_is_silence_and_both_legs_come_back(
    server: OwnServer, api: Api, legs: Legs, tmp_path: Path
) -> None:
    xml = scenario(hold_ms=(1500, 1500), talk_ms=2500)
    sipp = await Sipp.start(server, tmp_path, xml)
    (ports,) = await sipp.ports()
    legs.play(ports)
    (call,) = await asyncio.to_thread(api.wait_live)
    recording = await asyncio.to_thread(api.start, call["sid"], RecordingChannels="dual")
    await asyncio.sleep(1.0)
    legs.hold(True)
    await asyncio.sleep(1.0)
    legs.hold(False)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(api.stop, recording)
    finished = await asyncio.to_thread(api.finished, recording["sid"])
    assert finished["status"] == "completed"
    path = await asyncio.to_thread(api.download, recording["sid"], tmp_path)
    for channel, hz in ((0, 440), (1, 880)):
        found = spans(path, channel, hz)
        assert len(found) == 2, found
        (first, second) = found
        assert abs(second[0] - first[1] - 1.0) < 0.06
    left, right = spans(path, 0, 440), spans(path, 1, 880)
    assert all(
        abs(a - b) <= 0.02 for one, two in zip(left, right, strict=True)
        for a, b in zip(one, two, strict=True)
    )  # fmt: skip
    await sipp.succeed()


async def test_cancel_leaves_no_call_in_progress(
    server: OwnServer, api: Api, tmp_path: Path
) -> None:
    # A busy database keeps the INVITE pending until the CANCEL has come.
    busy = sqlite3.connect(server.data / "callreel.db", isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    sipp = await Sipp.start(server, tmp_path, scenario(cancel=True))
    await asyncio.sleep(1.0)
    busy.execute("ROLLBACK")
    busy.close()
    await sipp.succeed()
    calls = (await asyncio.to_thread(api.get, "/Calls.json", PageSize="1"))["calls"]
    assert calls[0]["status"] == "canceled"
    assert await asyncio.to_thread(api.live_calls) == []


async def test_lost_200s_are_repeated_until_the_ack(
    server: OwnServer, api: Api, tmp_path: Path
) -> None:
    sipp = await Sipp.start(server, tmp_path, scenario(ack_after_ms=2000, talk_ms=500))
    await sipp.succeed()
    await asyncio.to_thread(api.wait_live, 0)
    calls = (await asyncio.to_thread(api.get, "/Calls.json", PageSize="1"))["calls"]
    assert calls[0]["status"] == "completed"


async def test_fifty_calls_at_once(server: OwnServer, api: Api, tmp_path: Path) -> None:
    sipp = await Sipp.start(server, tmp_path, scenario(talk_ms=2000), calls=50)
    await sipp.ports(calls=50)
    live = await asyncio.to_thread(api.wait_live, 50)
    assert len({call["sid"] for call in live}) == 50
    await sipp.succeed()
    await asyncio.to_thread(api.wait_live, 0)
