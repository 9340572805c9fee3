from __future__ import annotations

import json
import subprocess
import tracemalloc
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.typing import NDArray

from callreel.audio.tone import silence, tone
from callreel.base.errors import MachineError
from callreel.calls.model import RecordingTrack, Trim
from callreel.render.job import RenderResult, RenderSpec, render_recording
from callreel.testing.ears import dominant_hz, read_wav, tone_spans
from callreel.testing.link import (
    EVENTS,
    NS,
    PCMU,
    RECORDING_ID,
    Flow,
    Link,
    Said,
    Sender,
    Taped,
    join,
    journal_blocks,
    said,
    write_journal,
)

RATE = 8000
CALLER, CALLEE = 440, 1000
DUAL = RenderSpec(RECORDING_ID, channel_count=2)
MONO = RenderSpec(RECORDING_ID)
FADED = 0.035
"""A tone goes on for so long behind its last packet before it is half as loud."""


def caller(seconds: float = 5, sender: Sender | None = None, *, start_ns: int = 0) -> Flow:
    sender = sender or Sender(ssrc=1)
    return sender.send(tone(CALLER, round(seconds * RATE)), start_ns=start_ns)


def callee(seconds: float = 5, *, start_ns: int = 0) -> Flow:
    sender = Sender(ssrc=2, payload_type=8, sequence=65500, timestamp=2**32 - 9000)
    return sender.send(tone(CALLEE, round(seconds * RATE)), start_ns=start_ns)


def render(
    folder: Path,
    *flows: Flow,
    spec: RenderSpec = DUAL,
    seconds: float = 5,
    events: tuple[Said, ...] = (),
    name: str = "out",
) -> RenderResult:
    streams = [Taped(number, flow) for number, flow in enumerate(flows)]
    blocks = journal_blocks(streams, length_ns=round(seconds * NS), events=events)
    return render_recording(write_journal(folder / "journals", blocks), folder / name, spec)


def heard(result: RenderResult) -> NDArray[np.int16]:
    assert result.wav is not None
    rate, samples = read_wav(result.wav)
    assert rate == result.rate_hz
    return samples


def spans(samples: NDArray[np.int16], hz: float) -> list[tuple[float, float]]:
    return tone_spans(samples, RATE, hz)


def assert_spans(
    samples: NDArray[np.int16],
    hz: float,
    wanted: list[tuple[float, float]],
    within_s: float = 0.003,
) -> None:
    found = spans(samples, hz)
    assert len(found) == len(wanted), found
    assert np.array(found) == pytest.approx(np.array(wanted), abs=within_s)


def test_each_leg_is_heard_in_its_own_channel(tmp_path: Path) -> None:
    result = render(tmp_path, caller(), callee(3, start_ns=NS))
    samples = heard(result)
    assert samples.shape == (5 * RATE, 2)
    assert_spans(samples[:, 0], CALLER, [(0, 5)])
    assert_spans(samples[:, 1], CALLEE, [(1, 4)])
    assert spans(samples[:, 0], CALLEE) == spans(samples[:, 1], CALLER) == []
    assert dominant_hz(samples[:, 0], RATE) == pytest.approx(CALLER, abs=1)
    assert (result.duration_ms, result.channels, result.absent_code) == (5000, 2, None)
    assert result.report["clean"]
    assert result.report["problems"] == []


def test_the_result_tells_of_the_files_beside_it(tmp_path: Path) -> None:
    result = render(tmp_path, caller(), callee())
    assert result.wav is not None
    assert result.wav == tmp_path / "out.wav"
    assert result.size_bytes == result.wav.stat().st_size
    assert json.loads((tmp_path / "out.json").read_text()) == result.report
    assert result.report["sha256"] == result.sha256
    digest = subprocess.run(["sha256sum", result.wav], capture_output=True, check=True, text=True)
    assert digest.stdout.split()[0] == result.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journals", "out.json", "out.wav"]
    assert result.report["started_at"] == "2023-11-14T22:13:20.000000Z"
    assert result.report["ended_at"] == "2023-11-14T22:13:25.000000Z"


def test_mono_is_both_mixed(tmp_path: Path) -> None:
    samples = heard(render(tmp_path, caller(), callee(3, start_ns=NS), spec=MONO))
    assert samples.shape == (5 * RATE, 1)
    assert_spans(samples[:, 0], CALLER, [(0, 5)])
    assert_spans(samples[:, 0], CALLEE, [(1, 4)])


@pytest.mark.parametrize(
    ("track", "there", "missing"),
    [(RecordingTrack.INBOUND, CALLER, CALLEE), (RecordingTrack.OUTBOUND, CALLEE, CALLER)],
)
def test_a_single_track_is_one_channel_whatever_was_asked(
    tmp_path: Path, track: RecordingTrack, there: int, missing: int
) -> None:
    result = render(tmp_path, caller(), callee(), spec=replace(DUAL, track=track))
    samples = heard(result)
    assert result.channels == samples.shape[1] == 1
    assert_spans(samples[:, 0], there, [(0, 5)])
    assert spans(samples[:, 0], missing) == []
    assert [s["track"] for s in result.report["streams"]] == [track.value]
    assert result.report["clean"]


def test_streams_of_one_track_are_mixed(tmp_path: Path) -> None:
    third = Sender(ssrc=3).send(tone(1700, 2 * RATE), start_ns=2 * NS)
    samples = heard(render(tmp_path, caller(), callee(), third))
    assert_spans(samples[:, 0], CALLER, [(0, 5)])
    assert_spans(samples[:, 0], 1700, [(2, 4)])
    assert_spans(samples[:, 1], CALLEE, [(0, 5)])


def test_the_file_lasts_from_start_to_stop_and_a_packet_is_not_cut(tmp_path: Path) -> None:
    samples = heard(render(tmp_path, caller(2), callee(9), seconds=4.01))
    assert len(samples) == pytest.approx(4.02 * RATE, abs=1)
    assert_spans(samples[:, 0], CALLER, [(0, 2)])
    assert_spans(samples[:, 1], CALLEE, [(0, 4.02)])


def test_a_missing_leg_is_silence_and_is_told(tmp_path: Path) -> None:
    nothing = callee(0)
    no_media = said(3 * NS, "no-media", stream=1)
    result = render(tmp_path, caller(), nothing, events=(no_media,))
    samples = heard(result)
    assert samples.shape == (5 * RATE, 2)
    assert not samples[:, 1].any()
    assert not result.report["clean"]
    assert result.report["problems"] == ["Nothing was received on the outbound track."]
    assert result.report["streams"][1]["no_media"]


def test_a_bad_network_is_heard_only_where_packets_are_missing(tmp_path: Path) -> None:
    link = Link(jitter_ms=60, delay_ms=20, loss=0.02, duplicate=0.02)
    whole = caller(20)
    result = render(tmp_path, link.carry(whole), callee(20), seconds=21)
    packets = result.report["streams"][0]["packets"]
    lost = packets["lost"]
    assert lost > 10
    assert packets["received"] + lost - packets["duplicated"] == packets["expected"] == 1000
    assert packets["duplicated"] > 5
    assert packets["reordered"] > 100
    samples = heard(result)[:, 0]
    gaps = result.report["streams"][0]["gaps"]
    inner = [gap for gap in gaps["listed"] if 30 < gap["start_ms"] < 19_990]
    assert sum(gap["length_ms"] for gap in inner) == lost * 20
    concealed = sum(min(60, gap["length_ms"]) for gap in inner)
    assert result.report["streams"][0]["concealed_ms"] == concealed
    assert np.count_nonzero(samples) > 999 * 160 * 0.95
    assert not result.report["clean"]


def test_an_hour_of_drift_keeps_the_legs_within_20_ms(tmp_path: Path) -> None:
    seconds = 3600
    beep = np.concatenate((tone(CALLER, RATE // 2), silence(RATE * 59 + RATE // 2)))
    voice = np.tile(beep, seconds // 60)
    fast = Sender(ssrc=1, ppm=200).send(voice)
    slow = Sender(ssrc=2, ppm=-200).send(voice)
    links = Link(jitter_ms=40, loss=0.01), Link(seed=2, jitter_ms=15)
    streams = [Taped(0, links[0].carry(fast)), Taped(1, links[1].carry(slow))]
    blocks = journal_blocks(streams, length_ns=seconds * NS, sweep_ns=5 * NS)
    result = render_recording(write_journal(tmp_path, blocks), tmp_path / "out", DUAL)
    samples = heard(result)
    assert len(samples) == pytest.approx(seconds * RATE, abs=0.02 * RATE)
    for minute in range(0, seconds // 60, 7):
        sounded = [minute * 60 / (1 + ppm / 1e6) for ppm in (200, -200)]
        at = max(0, minute * 60 * RATE - 2 * RATE)
        both = [spans(samples[at : at + 4 * RATE, leg], CALLER)[0][0] for leg in (0, 1)]
        error = [at / RATE + both[leg] - sounded[leg] for leg in (0, 1)]
        assert max(map(abs, error)) < 0.012
        assert abs(error[0] - error[1]) < 0.020
    drifts = [stream["drift_ppm"] for stream in result.report["streams"]]
    assert drifts == pytest.approx([200, -200], abs=3)


def test_memory_does_not_grow_with_the_call(tmp_path: Path) -> None:
    def peak(minutes: int) -> int:
        flow = Sender(packet_ms=60).send(silence(minutes * 60 * RATE))
        folder = tmp_path / str(minutes)
        blocks = journal_blocks([Taped(0, flow)], length_ns=minutes * 60 * NS)
        journal = write_journal(folder, blocks)
        del flow, blocks
        tracemalloc.start()
        try:
            render_recording(journal, folder / "out", MONO)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(24) < 1.1 * peak(6)


def test_a_skipped_pause_is_cut_out_of_every_channel(tmp_path: Path) -> None:
    events = (said(2 * NS, "pause", behavior="skip"), said(3 * NS, "resume"))
    first, second = caller(2), caller(2, Sender(ssrc=1).after(150), start_ns=3 * NS)
    result = render(tmp_path, join(first, second), callee(5), events=events)
    samples = heard(result)
    assert len(samples) == 4 * RATE
    assert_spans(samples[:, 0], CALLER, [(0, 4)])
    assert result.report["pauses"] == [{"start_ms": 2000, "length_ms": 1000, "behavior": "skip"}]
    assert result.report["streams"][0]["packets"]["lost"] == 0
    assert result.report["streams"][0]["gaps"]["count"] == 0


def test_what_came_in_a_pause_is_not_heard(tmp_path: Path) -> None:
    events = (said(2 * NS, "pause", behavior="silence"), said(3 * NS, "resume"))
    result = render(tmp_path, caller(5), callee(5), events=events)
    samples = heard(result)
    assert len(samples) == 5 * RATE
    assert_spans(samples[:, 0], CALLER, [(0, 2), (3, 5)], within_s=0.021)
    assert result.report["journal"]["packets_outside"] == 100
    assert result.report["streams"][1]["packets"]["lost"] == 0
    assert result.report["streams"][1]["gaps"]["count"] == 0
    assert result.report["clean"]


def test_a_recording_stopped_while_paused(tmp_path: Path) -> None:
    for behavior, seconds in (("skip", 2), ("silence", 5)):
        events = (said(2 * NS, "pause", behavior=behavior),)
        result = render(tmp_path, caller(2), callee(2), events=events, name=behavior)
        # Skipped or not, what follows the last word is what the recording lasted.
        assert result.duration_ms == seconds * 1000
        assert result.report["pauses"][0]["length_ms"] == 3000


def test_many_short_pauses_do_not_double_anything(tmp_path: Path) -> None:
    events: list[Said] = []
    kept: list[Flow] = []
    for k in range(8):
        at = k * 500_000_000
        events += [
            said(at + 400_000_000, "pause", behavior="skip"),
            said(at + 500_000_000, "resume"),
        ]
        kept.append(caller(4).between(at, at + 400_000_000))
    flow = Link(jitter_ms=30).carry(join(*kept))
    result = render(tmp_path, flow, callee(0), events=tuple(events), seconds=4)
    assert 3100 <= result.duration_ms <= 3700
    assert np.abs(heard(result).astype(int)).max() <= 8400


def speech(*parts: tuple[float, float]) -> NDArray[np.int16]:
    """Tones of (seconds, Hz); 0 Hz is silence with a little line noise."""
    noise = np.random.default_rng(1).integers(-8, 9, RATE * 20).astype(np.int16)
    pieces = [tone(hz, round(s * RATE)) if hz else noise[: round(s * RATE)] for s, hz in parts]
    return np.concatenate(pieces)


def test_trimming_cuts_the_ends_only_and_where_both_are_silent(tmp_path: Path) -> None:
    a = Sender(ssrc=1).send(speech((2, 0), (1, CALLER), (2, 0), (1, CALLER), (4, 0)))
    b = Sender(ssrc=2).send(speech((1.5, 0), (0.5, CALLEE), (6, 0), (0.2, CALLEE), (1.8, 0)))
    spec = replace(DUAL, trim=Trim.TRIM_SILENCE)
    result = render(tmp_path, a, b, spec=spec, seconds=10)
    samples = heard(result)
    assert result.duration_ms == pytest.approx(6700, abs=20)
    assert len(samples) == result.duration_ms * 8
    assert_spans(samples[:, 0], CALLER, [(0.5, 1.5), (3.5, 4.5)], within_s=0.02)
    assert_spans(samples[:, 1], CALLEE, [(0, 0.5), (6.5, 6.7)], within_s=0.02)
    trim = result.report["trim"]
    assert trim["cut_start_ms"] == pytest.approx(1500, abs=20)
    assert trim["cut_start_ms"] + result.duration_ms + trim["cut_end_ms"] == 10_000


def test_silence_is_kept_unless_it_is_to_be_trimmed(tmp_path: Path) -> None:
    quiet = Sender(ssrc=1).send(speech((5, 0)))
    kept = render(tmp_path, quiet, callee(0), spec=MONO)
    assert (kept.absent_code, kept.duration_ms) == (None, 5000)
    gone = render(tmp_path, quiet, callee(0), spec=replace(MONO, trim=Trim.TRIM_SILENCE))
    assert gone.absent_code == gone.report["absent_code"] == 16102
    assert (gone.wav, gone.sha256, gone.duration_ms, gone.size_bytes) == (None, None, 0, 0)
    assert gone.report_path.exists()


@pytest.mark.parametrize("trim", list(Trim))
def test_without_any_media_it_is_absent(tmp_path: Path, trim: Trim) -> None:
    result = render(tmp_path, caller(0), callee(0), spec=replace(DUAL, trim=trim))
    assert result.absent_code == 16101
    assert result.wav is None
    assert [path.name for path in tmp_path.glob("out*")] == ["out.json"]


def test_without_a_journal_it_is_absent(tmp_path: Path) -> None:
    result = render_recording(tmp_path / RECORDING_ID, tmp_path / "out", DUAL)
    assert result.absent_code == 16101
    assert not result.report["clean"]


def test_too_short_is_absent_if_a_minimum_is_set(tmp_path: Path) -> None:
    spec = replace(DUAL, minimum_ms=6000)
    assert render(tmp_path, caller(), callee(), spec=spec).absent_code == 16101
    assert list(tmp_path.glob("out*")) == [tmp_path / "out.json"]


def test_the_same_journal_gives_the_same_bytes(tmp_path: Path) -> None:
    flows = Link(jitter_ms=50, loss=0.02).carry(caller(20)), callee(20)
    first = render(tmp_path, *flows, seconds=20, name="first")
    second = render(tmp_path, *flows, seconds=20, name="second")
    for suffix in ("wav", "json"):
        one, two = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
        assert one.read_bytes() == two.read_bytes()
    assert first.sha256 == second.sha256


def test_how_often_the_worker_swept_makes_no_difference(tmp_path: Path) -> None:
    streams = [Taped(0, Link(jitter_ms=50).carry(caller(20))), Taped(1, callee(20))]
    digests = set()
    for sweep_ns in (NS // 50, NS // 5, 3 * NS):
        blocks = journal_blocks(streams, length_ns=20 * NS, sweep_ns=sweep_ns)
        journal = write_journal(tmp_path / str(sweep_ns), blocks)
        digests.add(render_recording(journal, tmp_path / str(sweep_ns) / "out", DUAL).sha256)
    assert len(digests) == 1


def test_an_unknown_payload_type_is_a_gap_and_is_told(tmp_path: Path) -> None:
    opus = Sender(ssrc=1, payload_type=96, sequence=100, timestamp=16000)
    strange = opus.send_payloads(np.zeros((50, 77), np.uint8), ticks=160, start_ns=2 * NS)
    plain = caller(2)
    back = caller(2, replace(opus, payload_type=0).after(50), start_ns=3 * NS)
    result = render(tmp_path, join(plain, strange, back), callee(5))
    assert_spans(heard(result)[:, 0], CALLER, [(0, 2), (3, 5)])
    stream = result.report["streams"][0]
    assert stream["unknown_payload_types"] == {"96": 50}
    assert stream["packets"]["undecodable"] == 50
    assert stream["packets"]["lost"] == 0
    assert stream["gaps"]["listed"] == [{"start_ms": 2000, "length_ms": 1000}]
    assert "50 packets are of a codec that cannot be decoded" in result.report["problems"][0]


def test_codecs_may_change_from_packet_to_packet(tmp_path: Path) -> None:
    voice = tone(CALLER, 5 * RATE)
    ulaw, alaw = Sender(ssrc=1).send(voice), Sender(ssrc=1, payload_type=8).send(voice)
    rows = np.arange(len(ulaw))
    flow = join(ulaw.pick(rows[rows % 3 > 0]), alaw.pick(rows[rows % 3 == 0]))
    result = render(tmp_path, flow, callee())
    samples = heard(result)[:, 0].astype(int)
    assert np.abs(samples - voice).max() < 600
    assert result.report["streams"][0]["codecs"] == {"PCMA": 84, "PCMU": 166}
    assert result.report["streams"][0]["packets"]["lost"] == 0


def test_keys_and_comfort_noise_are_silence(tmp_path: Path) -> None:
    sender = Sender(ssrc=1)
    voice = caller(1)
    keys = []
    for k in range(3):
        event = replace(sender.after(50 + 5 * k), payload_type=101, timestamp=8000 + 800 * k)
        keys.append(
            event.send_payloads(np.zeros((5, 4), np.uint8), ticks=0, start_ns=NS + k * 10**8)
        )
    noise = replace(sender.after(65, ticks=8000 + 2400), payload_type=13).send_payloads(
        np.full((1, 1), 60, np.uint8), ticks=160, start_ns=NS + 300_000_000
    )
    again = caller(1, sender.after(66, ticks=3 * RATE), start_ns=3 * NS)
    result = render(tmp_path, join(voice, *keys, noise, again), callee())
    stream = result.report["streams"][0]
    assert stream["dtmf_events"] == 3
    assert stream["codecs"] == {"CN": 1, "PCMU": 100, "TELEPHONE-EVENT": 15}
    assert stream["packets"]["lost"] == 0
    assert stream["packets"]["undecodable"] == 0
    samples = heard(result)[:, 0]
    assert not samples[RATE + 10 : 3 * RATE - 10].any()
    assert_spans(samples, CALLER, [(0, 1), (3, 4)])
    assert result.report["clean"]


def test_rtcp_on_the_rtp_port_and_garbage_are_counted(tmp_path: Path) -> None:
    extra = [bytes.fromhex("80c80006") + bytes(24), b"", b"\x00" * 40, b"hello"]
    strange = Flow(
        np.arange(4, dtype=np.int64) * 10**6,
        np.array([len(e) for e in extra], np.uint16),
        np.frombuffer(b"".join(extra), np.uint8),
    )
    result = render(tmp_path, join(caller(), strange), callee())
    packets = result.report["streams"][0]["packets"]
    assert (packets["rtcp"], packets["malformed"], packets["lost"]) == (1, 3, 0)
    assert_spans(heard(result)[:, 0], CALLER, [(0, 5)])


def test_what_was_dropped_and_who_was_latched_is_in_the_report(tmp_path: Path) -> None:
    events = (
        said(10**8, "latch", stream=0, host="192.0.2.1", port=4000, ssrc=1),
        said(NS, "drops", stream=1, kernel=3, foreign=5, truncated=1),
        said(2 * NS, "drops", stream=1, kernel=4, foreign=0, truncated=0, unwritten=2),
    )
    result = render(tmp_path, caller(), callee(), events=events)
    inbound, outbound = result.report["streams"]
    assert inbound["sources"] == [
        {"start_ms": 100, "host": "192.0.2.1", "port": 4000, "ssrc": "00000001"}
    ]
    packets = outbound["packets"]
    assert (packets["dropped_by_kernel"], packets["foreign"]) == (7, 5)
    assert (packets["truncated"], packets["unwritten"]) == (1, 2)
    assert len(result.report["problems"]) == 3


def test_a_stream_may_change_its_codecs_and_come_late(tmp_path: Path) -> None:
    early = Taped(0, caller(), codecs=(PCMU,))
    late = Taped(1, _retyped(callee(3, start_ns=2 * NS), 112), codecs=(PCMU, EVENTS))
    change = said(
        NS,
        "stream",
        number=1,
        track="outbound",
        codecs=[{"payload_type": 112, "name": "pcma", "clock_rate_hz": 8000}],
    )
    blocks = journal_blocks([early, late], length_ns=5 * NS, events=(change,))
    result = render_recording(write_journal(tmp_path, blocks), tmp_path / "out", DUAL)
    assert_spans(heard(result)[:, 1], CALLEE, [(2, 5)])
    assert result.report["clean"]


def _retyped(flow: Flow, payload_type: int) -> Flow:
    data = flow.data.copy().reshape(len(flow), -1)
    data[:, 1] = payload_type
    return replace(flow, data=data.reshape(-1))


def test_a_crash_and_a_new_worker_leave_a_gap_that_is_told(tmp_path: Path) -> None:
    streams = [Taped(0, caller(10)), Taped(1, callee(10))]
    write_journal(tmp_path, journal_blocks(streams, length_ns=4 * NS, ended=False))
    later = journal_blocks(
        streams, begin_ns=5 * NS, length_ns=10 * NS, segment=2, generation=2, sweep_ns=NS // 4
    )
    journal = write_journal(tmp_path, later, segment=2)
    result = render_recording(journal, tmp_path / "out", DUAL)
    assert_spans(heard(result)[:, 0], CALLER, [(0, 4 + FADED), (5, 10)])
    assert result.report["streams"][0]["concealed_ms"] == 60
    assert result.report["journal"]["worker_generations"] == [1, 2]
    assert result.report["streams"][0]["packets"]["lost"] == 50
    assert "The media worker was restarted 1 times." in result.report["problems"]


def test_a_pause_that_was_torn_is_known_from_the_next_header(tmp_path: Path) -> None:
    streams = [Taped(0, caller(10)), Taped(1, callee(10))]
    write_journal(tmp_path, journal_blocks(streams, length_ns=4 * NS, ended=False))
    write_journal(
        tmp_path,
        journal_blocks(
            [], begin_ns=5 * NS, length_ns=6 * NS, segment=2, paused="skip", ended=False
        ),
        segment=2,
    )
    later = journal_blocks(streams, begin_ns=8 * NS, length_ns=10 * NS, segment=3)
    result = render_recording(write_journal(tmp_path, later, segment=3), tmp_path / "out", DUAL)
    assert result.report["pauses"] == [{"start_ms": 5000, "length_ms": 3000, "behavior": "skip"}]
    assert_spans(heard(result)[:, 0], CALLER, [(0, 4), (5, 7)])


def test_over_a_reboot_wall_time_goes_on(tmp_path: Path) -> None:
    streams = [Taped(0, caller(10)), Taped(1, callee(10))]
    write_journal(tmp_path, journal_blocks(streams, length_ns=4 * NS, ended=False))
    later = journal_blocks(
        streams,
        begin_ns=6 * NS,
        length_ns=10 * NS,
        segment=2,
        generation=2,
        boot_id="second",
        start_mono_ns=-5 * NS,
    )
    journal = write_journal(tmp_path, later, segment=2)
    samples = heard(render_recording(journal, tmp_path / "out", DUAL))
    assert len(samples) == 10 * RATE
    assert_spans(samples[:, 0], CALLER, [(0, 4 + FADED), (6, 10)])


def test_a_recording_that_was_never_ended_ends_with_its_last_block(tmp_path: Path) -> None:
    streams = [Taped(0, caller(10)), Taped(1, callee(10))]
    blocks = journal_blocks(streams, length_ns=4 * NS, ended=False)
    result = render_recording(write_journal(tmp_path, blocks), tmp_path / "out", DUAL)
    assert result.duration_ms == 4000
    assert result.report["problems"] == ["The recording was not stopped in order."]


def test_setting_the_clock_moves_nothing(tmp_path: Path) -> None:
    streams = [Taped(0, caller(10))]
    before = journal_blocks(streams, length_ns=5 * NS, ended=False)
    after = journal_blocks(
        streams, begin_ns=5 * NS, length_ns=10 * NS, start_wall_ns=1_700_003_600 * NS
    )
    journal = write_journal(tmp_path, [*before, *after[1:]])
    samples = heard(render_recording(journal, tmp_path / "out", MONO))
    assert len(samples) == 10 * RATE
    assert_spans(samples[:, 0], CALLER, [(0, 10)])


SMALL = b"".join(
    journal_blocks([Taped(0, caller(2)), Taped(1, callee(2))], length_ns=2 * NS, sweep_ns=NS // 4)
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    damage=st.lists(
        st.tuples(st.integers(0, len(SMALL) - 1), st.integers(1, 255)), min_size=1, max_size=4
    ),
    cut=st.integers(0, len(SMALL)) | st.just(len(SMALL)),
)
def test_a_journal_damaged_at_any_byte_still_renders(
    tmp_path: Path, damage: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(SMALL)
    for at, flip in damage:
        data[at] ^= flip
    left = bytes(data[:cut])
    journal = write_journal(tmp_path / "damaged", [left])
    result = render_recording(journal, tmp_path / "damaged" / "out", DUAL)
    assert result.report["clean"] == (left == SMALL)
    if result.wav is None:
        assert all(not stream["packets"]["received"] for stream in result.report["streams"])
        return
    if result.report["journal"]["headers_lost"]:
        return  # when it began is then only nearly known
    # Whatever is left is where it was.
    samples = heard(result)
    starts = [0.25 * k for k in range(9)]
    for leg, hz in ((0, CALLER), (1, CALLEE)):
        for start, end in spans(samples[:, leg], hz):
            assert min(abs(start - s) for s in starts) < 0.022
            assert min(abs(end - s) for s in (*starts, *(s + FADED for s in starts))) < 0.022


def test_a_lost_header_costs_names_but_no_audio(tmp_path: Path) -> None:
    blocks = journal_blocks([Taped(0, caller()), Taped(1, callee())], length_ns=5 * NS)
    journal = write_journal(tmp_path, [b"\x00" + blocks[0][1:], *blocks[1:]])
    result = render_recording(journal, tmp_path / "out", DUAL)
    samples = heard(result)
    assert_spans(samples[:, 0], CALLER, [(0, 5)])
    assert_spans(samples[:, 1], CALLEE, [(0, 5)])
    assert result.report["journal"]["headers_lost"] == [1]
    assert result.report["journal"]["hole_bytes"] == len(blocks[0])


def test_a_journal_under_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="name of its recording"):
        render_recording(tmp_path / "other", tmp_path / "out", DUAL)


def test_a_disk_that_refuses_is_the_machines_fault(tmp_path: Path) -> None:
    blocks = journal_blocks([Taped(0, caller())], length_ns=5 * NS)
    journal = write_journal(tmp_path, blocks)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError):
        render_recording(journal, tmp_path / "file" / "out", DUAL)


def test_past_the_limit_it_is_rf64(tmp_path: Path) -> None:
    spec = replace(DUAL, riff_limit_bytes=100_000)
    big = render(tmp_path, caller(), callee(), spec=spec, name="big")
    small = render(tmp_path, caller(), callee(), name="small")
    assert big.wav is not None
    assert small.wav is not None
    assert big.wav.read_bytes()[:4] == b"RF64"
    assert small.wav.read_bytes()[:4] == b"RIFF"
    assert (heard(big) == heard(small)).all()


@pytest.mark.peer
@pytest.mark.parametrize("limit", [100_000, 2**32 - 1])
def test_ffmpeg_reads_the_wav(tmp_path: Path, limit: int) -> None:
    if which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    result = render(tmp_path, caller(), callee(), spec=replace(DUAL, riff_limit_bytes=limit))
    assert result.wav is not None
    keys = "stream=codec_name,sample_rate,channels,duration_ts"
    probe = ["ffprobe", "-v", "error", "-show_entries", keys, "-of", "csv=p=0", str(result.wav)]
    told = subprocess.run(probe, capture_output=True, check=True, text=True)
    assert told.stderr == ""
    assert told.stdout.strip() == "pcm_s16le,8000,2,40000"
    decode = ["ffmpeg", "-v", "error", "-i", str(result.wav), "-f", "s16le", "-"]
    raw = subprocess.run(decode, capture_output=True, check=True)
    assert raw.stdout == heard(result).astype("<i2").tobytes()


def test_every_key_of_the_report_is_documented(tmp_path: Path) -> None:
    told = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    events = (said(10**8, "latch", stream=0, host="192.0.2.1", port=4000, ssrc=1),)
    report = render(tmp_path, caller(), callee(), events=events).report

    def keys(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        if isinstance(value, dict):
            named = {key for key in value if key.islower()}
            return named.union(*map(keys, value.values()))
        return set()

    assert {key for key in keys(report) if key not in told} == set()
