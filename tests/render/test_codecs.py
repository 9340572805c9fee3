"""Speech encoded by others, through a journal into a file: what the codec gives, and no less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.audio.encoders import (
    Bcg729,
    decode_opus,
    decode_raw,
    encode_opus,
    encode_raw,
    snr_db,
    speech,
)

from callreel.audio.tone import tone
from callreel.calls.model import RecordingTrack
from callreel.render.job import RenderResult, RenderSpec, render_recording
from callreel.testing.ears import dominant_hz, read_wav, tone_spans
from callreel.testing.link import (
    NS,
    PCMU,
    RECORDING_ID,
    Flow,
    Sender,
    Taped,
    join,
    journal_blocks,
    write_journal,
)

pytestmark = pytest.mark.peer

Samples = NDArray[np.int16]

DUAL = RenderSpec(RECORDING_ID, channel_count=2)
ONE = RenderSpec(RECORDING_ID, track=RecordingTrack.INBOUND)


def codec(payload_type: int, name: str, clock_rate_hz: int, channels: int = 1) -> dict[str, Any]:
    return {
        "payload_type": payload_type,
        "name": name,
        "clock_rate_hz": clock_rate_hz,
        "channels": channels,
        "fmtp": "",
    }


G722, GSM, G729 = codec(9, "G722", 8000), codec(3, "GSM", 8000), codec(18, "G729", 8000)
OPUS = codec(111, "OPUS", 48000, 2)
CN = codec(13, "CN", 8000)


def render(folder: Path, *streams: Taped, seconds: float) -> RenderResult:
    blocks = journal_blocks(streams, length_ns=round(seconds * NS))
    spec = DUAL if len(streams) > 1 else ONE
    return render_recording(write_journal(folder / "journals", blocks), folder / "out", spec)


def heard(result: RenderResult) -> Samples:
    assert result.wav is not None
    rate_hz, samples = read_wav(result.wav)
    assert rate_hz == result.rate_hz
    return samples


def frames(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data) - size + 1, size)]


def sent(payloads: list[bytes], about: dict[str, Any], ticks: int) -> Flow:
    sender = Sender(payload_type=about["payload_type"], clock_hz=about["clock_rate_hz"])
    return sender.send_frames(payloads, ticks)


@pytest.mark.parametrize(
    ("about", "rate_hz", "encoder", "container", "size", "ticks"),
    [
        (PCMU, 8000, "pcm_mulaw", "mulaw", 160, 160),
        (codec(8, "PCMA", 8000), 8000, "pcm_alaw", "alaw", 240, 240),
        (G722, 16_000, "g722", "g722", 160, 160),
        (GSM, 8000, "libgsm", "gsm", 66, 320),
        (codec(96, "L16", 8000), 8000, "pcm_s16be", "s16be", 320, 160),
        (codec(97, "L16", 16_000), 16_000, "pcm_s16be", "s16be", 640, 320),
        (codec(98, "L16", 48_000), 48_000, "pcm_s16be", "s16be", 960, 480),
    ],
    ids=["PCMU", "PCMA", "G722", "GSM", "L16-8k", "L16-16k", "L16-48k"],
)
def test_the_file_is_what_the_codec_gives_bit_by_bit(
    tmp_path: Path,
    about: dict[str, Any],
    rate_hz: int,
    encoder: str,
    container: str,
    size: int,
    ticks: int,
) -> None:
    coded = encode_raw(speech(rate_hz), rate_hz, encoder, container)
    payloads = frames(coded, size)
    result = render(tmp_path, Taped(0, sent(payloads, about, ticks), codecs=[about]), seconds=6)
    wanted = decode_raw(b"".join(payloads), rate_hz, container)
    assert result.rate_hz == rate_hz
    samples = heard(result)[:, 0]
    n = min(len(wanted), len(samples))
    assert n > 5.8 * rate_hz
    assert (samples[:n] == wanted[:n]).all()
    assert not result.report["streams"][0]["packets"]["lost"]
    assert result.report["streams"][0]["gaps"]["total_ms"] <= 60


def test_l16_of_44100_hz_in_two_channels_is_mixed_and_resampled(tmp_path: Path) -> None:
    both = speech(44_100, 4, channels=2)
    payloads = frames(encode_raw(both, 44_100, "pcm_s16be", "s16be"), 441 * 4)
    about = codec(10, "L16", 44_100, 2)
    result = render(tmp_path, Taped(0, sent(payloads, about, 441), codecs=[about]), seconds=4)
    assert result.rate_hz == 48_000
    samples = heard(result)[:, 0]
    assert len(samples) == pytest.approx(4 * 48_000, abs=1)
    # Sample k of the one rate is at the instant of sample k · 147/160 of the other.
    mixed = both.sum(axis=1) // 2
    assert snr_db(samples[::160], mixed[::147].astype(np.int16)) > 25


@pytest.mark.parametrize(
    ("channels", "frame_ms", "options"),
    [
        (1, 20, ()),
        (2, 20, ()),
        (2, 60, ("-vbr", "off")),
        (1, 10, ("-fec", "1", "-packet_loss", "20")),
    ],
)
def test_opus_is_heard_as_libopus_hears_it(
    tmp_path: Path, channels: int, options: tuple[str, ...], frame_ms: int
) -> None:
    packets, ogg = encode_opus(
        speech(48_000, 4, channels), "-application", "voip", "-b:a", "48k",
        "-frame_duration", str(frame_ms), *options,
    )  # fmt: skip
    flow = sent(packets, OPUS, frame_ms * 48)
    result = render(tmp_path, Taped(0, flow, codecs=[OPUS]), seconds=4.1)
    assert result.rate_hz == 48_000
    wanted = decode_opus(ogg)
    samples = heard(result)[312 : 312 + len(wanted), 0]  # what the encoder needs to get going
    assert snr_db(samples, wanted) > 30
    assert result.report["clean"]
    assert result.report["streams"][0]["codecs"] == {"OPUS": len(packets)}


def test_opus_that_is_not_sent_in_silence_makes_no_gap_in_time(tmp_path: Path) -> None:
    beep = tone(440, 48_000, rate_hz=48_000)
    packets, _ = encode_opus(np.concatenate((beep, np.zeros(4 * 48_000, np.int16), beep)))
    # Its sequence numbers go on where its timestamps leap (RFC 7587 §3.1.3); now and then there is
    # a packet of one byte.
    spoken = [k for k in range(300) if k < 55 or k >= 248 or k % 20 == 0]
    flows = [
        Sender(payload_type=111, sequence=number, timestamp=960 * k, clock_hz=48_000).send_frames(
            [packets[k] if k < 55 or k >= 248 else packets[k][:1]], 960, start_ns=k * NS // 50
        )
        for number, k in enumerate(spoken)
    ]
    result = render(tmp_path, Taped(0, join(*flows), codecs=[OPUS]), seconds=6)
    found = tone_spans(heard(result)[:, 0], 48_000, 440)
    assert np.array(found) == pytest.approx(np.array([(0, 1), (5, 6)]), abs=0.03)
    stream = result.report["streams"][0]
    assert (stream["packets"]["lost"], stream["concealed_ms"]) == (0, 0)
    assert stream["gaps"]["total_ms"] == (300 - len(spoken)) * 20
    assert result.report["clean"]


@pytest.mark.parametrize("frames_a_packet", [1, 2, 6])
def test_g729_is_heard_as_its_own_decoder_hears_it(tmp_path: Path, frames_a_packet: int) -> None:
    codec_of_others = Bcg729()
    made = codec_of_others.encode(speech(8000))
    payloads = frames(b"".join(made), 10 * frames_a_packet)
    flow = sent(payloads, G729, 80 * frames_a_packet)
    result = render(tmp_path, Taped(0, flow, codecs=[G729]), seconds=6)
    wanted = codec_of_others.decode(made[: len(payloads) * frames_a_packet])
    assert result.rate_hz == 8000
    assert snr_db(heard(result)[: len(wanted), 0], wanted) > 20
    assert result.report["clean"]


def test_silence_descriptors_of_g729_are_silence_and_are_no_loss(tmp_path: Path) -> None:
    voice = np.concatenate((speech(8000, 2), np.zeros(3 * 8000, np.int16), speech(8000, 2)))
    made = Bcg729().encode(voice, vad=True)
    spoken = [k for k, frame in enumerate(made) if frame]
    sizes = {len(made[k]) for k in spoken}
    assert sizes == {2, 10}
    flows = [
        Sender(payload_type=18, sequence=number, timestamp=80 * k).send_frames(
            [made[k]], 80, start_ns=k * NS // 100
        )
        for number, k in enumerate(spoken)
    ]
    result = render(tmp_path, Taped(0, join(*flows), codecs=[G729]), seconds=7)
    stream = result.report["streams"][0]
    descriptors = sum(len(made[k]) == 2 for k in spoken)
    assert stream["silence_descriptors"] == descriptors > 0
    assert (stream["packets"]["lost"], stream["packets"]["undecodable"]) == (0, 0)
    assert result.report["clean"]
    samples = heard(result)[:, 0]
    assert not samples[int(3.5 * 8000) : int(4.9 * 8000)].any()
    assert np.abs(samples[: 2 * 8000].astype(int)).max() > 3000


def test_the_file_has_the_rate_of_its_better_track_and_both_are_in_step(tmp_path: Path) -> None:
    low = Sender(ssrc=1).send(tone(440, 5 * 8000))
    high = encode_raw(tone(5000, 5 * 16_000, rate_hz=16_000), 16_000, "g722", "g722")
    wide = Sender(ssrc=2, payload_type=9).send_frames(frames(high, 160), 160, start_ns=NS)
    result = render(tmp_path, Taped(0, low), Taped(1, wide, codecs=[G722]), seconds=7)
    assert result.rate_hz == 16_000
    samples = heard(result)
    assert samples.shape == (7 * 16_000, 2)
    spans = [tone_spans(samples[:, leg], 16_000, hz) for leg, hz in ((0, 440), (1, 5000))]
    assert np.array(spans) == pytest.approx(np.array([[(0, 5)], [(1, 6)]]), abs=0.006)
    assert dominant_hz(samples[:, 0], 16_000) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("later", [G722, OPUS, G729], ids=lambda about: about["name"])
def test_a_codec_may_change_in_mid_call(tmp_path: Path, later: dict[str, Any]) -> None:
    first = Sender(ssrc=1).send(tone(440, 2 * 8000))
    rate_hz = {"G722": 16_000, "OPUS": 48_000, "G729": 8000}[later["name"]]
    voice = tone(700, 2 * rate_hz, rate_hz=rate_hz)
    match later["name"]:
        case "G722":
            payloads = frames(encode_raw(voice, rate_hz, "g722", "g722"), 160)
        case "OPUS":
            payloads = encode_opus(voice)[0][:100]
        case _:
            payloads = frames(b"".join(Bcg729().encode(voice)), 20)
    # One sender: its sequence numbers go on, its timestamps in the ticks of the new clock.
    after = Sender(
        ssrc=1,
        payload_type=later["payload_type"],
        sequence=100,
        timestamp=16_000,
        clock_hz=later["clock_rate_hz"],
    ).send_frames(payloads, later["clock_rate_hz"] // 50, start_ns=2 * NS)
    back = Sender(ssrc=1, sequence=200, timestamp=4_000_000).send(
        tone(440, 2 * 8000), start_ns=4 * NS
    )
    flow = join(first, after, back)
    result = render(tmp_path, Taped(0, flow, codecs=[PCMU, later]), seconds=6)
    samples = heard(result)[:, 0]
    assert result.rate_hz == rate_hz
    assert np.array(tone_spans(samples, rate_hz, 440)) == pytest.approx(
        np.array([(0, 2), (4, 6)]), abs=0.01
    )
    assert np.array(tone_spans(samples, rate_hz, 700)) == pytest.approx(
        np.array([(2, 4)]), abs=0.03
    )
    stream = result.report["streams"][0]
    assert stream["packets"]["lost"] == 0
    assert set(stream["codecs"]) == {"PCMU", later["name"]}


@pytest.mark.parametrize("about", [G722, OPUS, GSM], ids=lambda about: about["name"])
def test_the_same_journal_gives_the_same_bytes(tmp_path: Path, about: dict[str, Any]) -> None:
    match about["name"]:
        case "G722":
            payloads = frames(encode_raw(speech(16_000, 3), 16_000, "g722", "g722"), 160)
        case "OPUS":
            payloads = encode_opus(speech(48_000, 3))[0]
        case _:
            payloads = frames(encode_raw(speech(8000, 3), 8000, "libgsm", "gsm"), 33)
    flow = sent(payloads, about, about["clock_rate_hz"] // 50)
    flow = flow.pick(np.flatnonzero(np.arange(len(flow)) % 11 > 0))
    other = Sender(ssrc=2).send(tone(440, 3 * 8000))
    digests = {
        render(tmp_path / name, Taped(0, flow, codecs=[about]), Taped(1, other), seconds=3).sha256
        for name in ("one", "two")
    }
    assert len(digests) == 1
