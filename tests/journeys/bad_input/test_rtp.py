"""Media that is wrong or not from where it should be: kept out, counted and reported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.testing.ears import read_wav, tone_spans
from callreel.testing.webhooks import Webhook, WebhookReceiver
from tests.journeys.api import Api, Json
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.bad_input.rtp import ToneLeg, perform
from tests.journeys.bad_input.sdp import metadata, siprec

FRAMES = 125
SECONDS = FRAMES * 0.02
LEFT_HZ, RIGHT_HZ, STRANGER_HZ = 440, 880, 1500

GARBAGE = (
    b"",
    b"\x80",
    b"\x80\x00\x00\x01\x00",
    b"\x00" * 172,  # version 0
    b"\x8f\x00" + b"\x00\x07" * 10,  # fifteen CSRCs, but no room for them
    b"\xa0\x00" + b"\x00\x07" * 5 + b"\xff" * 20,  # more padding than payload
    b"\x90\x00" + b"\x00\x07" * 5 + b"\xbe\xde\xff\xff" + b"\x01" * 8,  # endless extension
)


@dataclass
class Scene:
    """A call of two parties, and what goes wrong in it."""

    legs: tuple[ToneLeg, ToneLeg]
    playing: int = 2
    strangers: list[ToneLeg] = field(default_factory=list)
    act: Callable[[int], None] = lambda frame: None

    def frame(self, number: int) -> None:
        self.act(number)
        for leg in self.legs[: self.playing]:
            leg.play(number)

    def close(self) -> None:
        for leg in (*self.legs, *self.strangers):
            leg.close()


def stranger_at_another_address(scene: Scene) -> None:
    stranger = ToneLeg(scene.legs[0].to[1], STRANGER_HZ, host="127.0.0.2")
    scene.strangers = [stranger]
    scene.act = stranger.play


def stranger_at_another_port(scene: Scene) -> None:
    stranger = ToneLeg(scene.legs[0].to[1], STRANGER_HZ)
    scene.strangers = [stranger]
    scene.act = lambda frame: stranger.play(frame) if frame >= 25 else None


def garbage(scene: Scene) -> None:
    def act(frame: int) -> None:
        if 20 <= frame < 20 + len(GARBAGE):
            scene.legs[0].raw(GARBAGE[frame - 20])
        if frame == 60:
            scene.legs[0].raw(b"\x80\x00" + b"\x55" * 5000)

    scene.act = act


def unknown_codec(scene: Scene) -> None:
    def act(frame: int) -> None:
        scene.legs[0].payload_type = 96 if 50 <= frame < 75 else 0

    scene.act = act


def another_ssrc(scene: Scene) -> None:
    def act(frame: int) -> None:
        if frame == 60:
            leg = scene.legs[0]
            leg.ssrc, leg.sequence, leg.timestamp = 0x99999999, 1234, 777

    scene.act = act


def no_media(scene: Scene) -> None:
    scene.playing = 0


def one_leg(scene: Scene) -> None:
    scene.playing = 1


WRONGS = (
    stranger_at_another_address,
    stranger_at_another_port,
    garbage,
    unknown_codec,
    another_ssrc,
    no_media,
    one_leg,
)


@dataclass
class Take:
    """What became of one scene."""

    scene: Scene
    recording: Json
    report: Json
    wav: Path | None

    def packets(self, stream: int = 0) -> Json:
        counts: Json = self.report["streams"][stream]["packets"]
        return counts

    def spans(self, channel: int, hz: int) -> list[tuple[float, float]]:
        assert self.wav is not None
        rate_hz, samples = read_wav(self.wav)
        return tone_spans(samples[:, channel], rate_hz, hz)

    def assert_undisturbed(self) -> None:
        """Each party's tone in its channel without a break, and no other."""
        for channel, hz in enumerate((LEFT_HZ, RIGHT_HZ)):
            ((start, end),) = self.spans(channel, hz)
            assert end - start == pytest.approx(SECONDS, abs=0.1)
            assert self.spans(channel, STRANGER_HZ) == []


def record(server: OwnServer, folder: Path, callback: str) -> dict[str, Take]:
    """All scenes at once, each a call that is recorded."""
    api = Api(server)
    scenes: dict[str, Scene] = {}
    made: dict[str, Json] = {}
    with SipPeer(server) as peer:
        calls = []
        for number, wrong in enumerate(WRONGS):
            call = RawCall(peer)
            caller = f"+1555030{number}"
            assert call.invite(siprec(about=metadata(f"sip:{caller}@pbx"))).code == 200
            calls.append(call)
            left, right = call.ports
            scene = Scene((ToneLeg(left, LEFT_HZ), ToneLeg(right, RIGHT_HZ, ssrc=7)))
            wrong(scene)
            scenes[wrong.__name__] = scene
            (shown,) = api.get("/Calls.json", From=caller, Status="in-progress")["calls"]
            made[wrong.__name__] = api.start(
                shown["sid"],
                RecordingChannels="dual",
                RecordingStatusCallback=callback,
                RecordingStatusCallbackEvent="completed absent",
            )
        perform(FRAMES, [scene.frame for scene in scenes.values()])
        for call in calls:
            call.hang_up()
    takes = {}
    for name, recording in made.items():
        sid = recording["sid"]
        finished = api.finished(sid)
        completed = finished["status"] == "completed"
        wav = api.download(sid, folder) if completed else None
        takes[name] = Take(scenes[name], finished, api.integrity(sid), wav)
        scenes[name].close()
    api.http.close()
    return takes


@pytest.fixture(scope="module")
def stage(
    server: OwnServer, healthy: Json, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Take], list[Webhook]]:
    """What became of every scene, and the webhooks that came."""

    async def play() -> tuple[dict[str, Take], list[Webhook]]:
        async with WebhookReceiver() as receiver:
            folder = tmp_path_factory.mktemp("takes")
            takes = await asyncio.to_thread(record, server, folder, receiver.url)
            return takes, await receiver.wait_count(len(WRONGS))

    return asyncio.run(play())


Stage = tuple[dict[str, Take], list[Webhook]]


def test_a_stranger_at_another_address(stage: Stage) -> None:
    take = stage[0]["stranger_at_another_address"]
    take.assert_undisturbed()
    (stranger,) = take.scene.strangers
    assert stranger.sent == FRAMES
    # What a filter refused is told by the next packet that passes: the last may go untold.
    assert FRAMES - 3 <= take.packets()["foreign"] <= FRAMES
    assert take.packets()["received"] == FRAMES
    assert take.report["clean"], take.report["problems"]


def test_a_stranger_at_another_port(stage: Stage) -> None:
    take = stage[0]["stranger_at_another_port"]
    take.assert_undisturbed()
    assert take.packets()["foreign"] == FRAMES - 25
    assert take.packets()["received"] == FRAMES
    (source,) = take.report["streams"][0]["sources"]
    assert source["port"] == take.scene.legs[0].port


def test_garbage_from_the_right_source(stage: Stage) -> None:
    take = stage[0]["garbage"]
    take.assert_undisturbed()
    assert take.packets()["malformed"] == len(GARBAGE)
    assert take.packets()["truncated"] == 1
    assert take.packets()["lost"] == 0
    assert not take.report["clean"]
    assert any("no RTP" in one for one in take.report["problems"])
    assert any("too long" in one for one in take.report["problems"])


def test_a_codec_that_was_not_offered(stage: Stage) -> None:
    take = stage[0]["unknown_codec"]
    before, after = take.spans(0, LEFT_HZ)
    assert after[0] - before[1] == pytest.approx(0.5, abs=0.05)
    ((start, end),) = take.spans(1, RIGHT_HZ)
    assert end - start == pytest.approx(SECONDS, abs=0.1)
    assert take.report["streams"][0]["unknown_payload_types"] == {"96": 25}
    gaps = take.report["streams"][0]["gaps"]["listed"]
    (gap,) = [one for one in gaps if one["length_ms"] > 200]
    assert gap["length_ms"] == pytest.approx(500, abs=20)
    assert any("cannot be decoded" in one for one in take.report["problems"])


def test_another_ssrc_goes_on(stage: Stage) -> None:
    take = stage[0]["another_ssrc"]
    take.assert_undisturbed()
    assert take.report["streams"][0]["ssrc_changes"] == 1
    assert take.packets()["received"] == FRAMES
    assert take.packets()["lost"] == 0


def test_no_media_at_all_is_absent(stage: Stage) -> None:
    takes, webhooks = stage
    recording = takes["no_media"].recording
    assert (recording["status"], recording["error_code"]) == ("absent", 16101)
    (told,) = [one.fields for one in webhooks if one.fields["RecordingSid"] == recording["sid"]]
    assert (told["RecordingStatus"], told["ErrorCode"]) == ("absent", "16101")
    assert takes["no_media"].report["problems"] == [
        "Nothing was received on the inbound track.",
        "Nothing was received on the outbound track.",
    ]


def test_one_leg_alone_is_kept(stage: Stage) -> None:
    take = stage[0]["one_leg"]
    assert take.recording["status"] == "completed"
    assert take.wav is not None
    _, samples = read_wav(take.wav)
    assert samples.shape[1] == 2
    ((start, end),) = take.spans(0, LEFT_HZ)
    assert end - start == pytest.approx(SECONDS, abs=0.1)
    assert not samples[:, 1].any()
    assert take.report["problems"] == ["Nothing was received on the outbound track."]
