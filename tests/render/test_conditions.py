"""What networks and phones do to a call, and what the file must be like all the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from chaos.frames import find, frame
from hypothesis import HealthCheck, given, note, settings, strategies as st
from numpy.typing import NDArray

from callreel.audio.g711 import decode_ulaw, encode_ulaw
from callreel.audio.tone import tone
from callreel.calls.model import RecordingTrack
from callreel.render.job import RenderResult, RenderSpec, render_recording
from callreel.render.timeline import Batch, Placer, Survey
from callreel.testing.ears import read_wav, tone_spans
from callreel.testing.link import (
    NS,
    RECORDING_ID,
    Flow,
    Link,
    Sender,
    Taped,
    join,
    journal_blocks,
    write_journal,
)
from callreel.wire.rtp import parse_slab

Samples = NDArray[np.int16]

RATE = 8000
MS = RATE // 1000
ONE = RenderSpec(RECORDING_ID, track=RecordingTrack.INBOUND)
L16 = {"payload_type": 97, "name": "L16", "clock_rate_hz": RATE, "channels": 1}


def rendered(folder: Path, flow: Flow, seconds: float) -> tuple[RenderResult, Samples]:
    blocks = journal_blocks([Taped(0, flow)], length_ns=round(seconds * NS))
    result = render_recording(write_journal(folder, blocks), folder / "out", ONE)
    assert result.wav is not None
    return result, read_wav(result.wav)[1][:, 0]


def heard_codes(samples: Samples) -> Samples:
    """What G.711 leaves of samples."""
    return decode_ulaw(encode_ulaw(samples))


def without(flow: Flow, *lost: int) -> Flow:
    return flow.pick(np.delete(np.arange(len(flow)), lost))


# Two clocks over four hours


def loud(stretch: int, index: NDArray[np.int64], part: slice) -> NDArray[np.bool_]:
    return np.zeros(len(index[part]), np.bool_)


def placed_at(flow: Flow) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Media time of each packet, and where on the axis it was put; ticks."""
    table = parse_slab(flow.lengths, flow.data)

    def batches() -> list[Batch]:
        edges = range(0, len(flow), 3000)
        return [
            Batch(
                span=0,
                arrival_ns=flow.arrival_ns[at : at + 3000],
                sequence=table.sequence[at : at + 3000],
                timestamp=table.timestamp[at : at + 3000],
                ssrc=table.ssrc[at : at + 3000],
                ticks=table.payload_bytes[at : at + 3000],
                clock_hz=np.full(len(flow.lengths[at : at + 3000]), RATE, np.int32),
            )
            for at in edges
        ]

    survey = Survey()
    for batch in batches():
        survey.feed(batch)
    placer = Placer(survey.lines())
    media, position = [], []
    for batch in batches():
        for placed in placer.place(batch, loud):
            media.append(batch.timestamp[placed.index].astype(np.int64))
            position.append(placed.position)
    return np.concatenate(media), np.concatenate(position)


def test_legs_line_up_within_20_ms_over_four_hours_of_clocks_that_differ() -> None:
    errors = []
    for seed, ppm, jitter_ms in ((3, 200.0, 500), (2, -200.0, 500)):
        count = 4 * 3600 * 50
        # Fewer bytes than there would be: how long a packet lasts is all that matters here.
        payloads = np.zeros((count // 3, 480), np.uint8)
        flow = Sender(ssrc=seed, ppm=ppm).send_payloads(payloads, ticks=480)
        del payloads
        # Every third minute nothing is said, and nothing sent.
        said = (np.arange(len(flow)) // 1000) % 3 != 2
        flow = Link(seed=seed, jitter_ms=jitter_ms, loss=0.02, duplicate=0.01).carry(
            flow.pick(np.flatnonzero(said))
        )
        media, position = placed_at(flow)
        errors.append(position - media / (1 + ppm / 1e6))
    one, other = errors
    apart = max(float(one.max() - other.min()), float(other.max() - one.min())) / MS
    assert apart < 20
    assert min(float(np.ptp(error)) for error in errors) > 0


# Lost packets


@pytest.mark.parametrize("lost", [1, 2, 3, 10])
def test_a_gap_is_concealed_for_60_ms_at_most_and_nothing_else_is_touched(
    tmp_path: Path, lost: int
) -> None:
    voice = tone(220, 2 * RATE)
    gone = range(50, 50 + lost)
    result, samples = rendered(tmp_path, without(Sender().send(voice), *gone), 2)
    start, end = 50 * 160, (50 + lost) * 160
    whole = heard_codes(voice)
    assert (samples[:start] == whole[:start]).all()
    assert (samples[end:] == whole[end:]).all()
    filled = samples[start : min(end, start + 60 * MS)].astype(float)
    # The voice goes on as it was, then fades.
    assert np.abs(filled[: 10 * MS] - whole[start : start + 10 * MS]).max() < 1500
    if lost == 1:
        assert np.abs(filled[-40:]).max() > 5000
    assert not samples[start + 60 * MS : end].any()
    stream = result.report["streams"][0]
    assert stream["packets"]["lost"] == lost
    assert stream["concealed_ms"] == min(lost * 20, 60)
    assert stream["gaps"]["listed"] == [{"start_ms": 1000, "length_ms": lost * 20}]
    assert not result.report["clean"]


def test_what_comes_late_is_not_concealed_but_heard(tmp_path: Path) -> None:
    voice = tone(220, 20 * RATE)
    flow = Sender().send(voice)
    # So late that what follows has been read, and put in its place, long since.
    arrival = flow.arrival_ns.copy()
    arrival[100:103] += 12 * NS
    late = replace(flow, arrival_ns=arrival).pick(np.argsort(arrival, kind="stable"))
    blocks = journal_blocks([Taped(0, late)], length_ns=20 * NS)
    result = render_recording(write_journal(tmp_path, blocks), tmp_path / "out", ONE)
    assert result.wav is not None
    samples = read_wav(result.wav)[1][:, 0]
    assert (samples == heard_codes(voice)).all()
    stream = result.report["streams"][0]
    assert stream["concealed_ms"] == stream["gaps"]["count"] == 0
    assert stream["packets"]["late"] == 3


def test_what_is_not_sent_is_not_made_up(tmp_path: Path) -> None:
    first = Sender().send(tone(220, RATE))
    # Silence suppression: sequence numbers go on, timestamps leap.
    after = Sender().after(50, ticks=3 * RATE).send(tone(220, RATE), start_ns=3 * NS)
    result, samples = rendered(tmp_path, join(first, after), 4)
    assert not samples[RATE : 3 * RATE].any()
    assert tone_spans(samples, RATE, 220)[1] == pytest.approx((3, 4), abs=0.004)
    stream = result.report["streams"][0]
    assert (stream["packets"]["lost"], stream["concealed_ms"]) == (0, 0)
    assert result.report["clean"]


def test_comfort_noise_between_is_no_loss_and_nothing_is_made_up_for_it(tmp_path: Path) -> None:
    first = Sender().send(tone(220, RATE))
    noise = replace(Sender().after(50), payload_type=13).send_payloads(
        np.full((3, 1), 70, np.uint8), ticks=5000, start_ns=NS
    )
    after = Sender().after(53, ticks=3 * RATE).send(tone(220, RATE), start_ns=3 * NS)
    result, samples = rendered(tmp_path, join(first, noise, after), 4)
    assert not samples[RATE : 3 * RATE].any()
    stream = result.report["streams"][0]
    assert (stream["packets"]["lost"], stream["concealed_ms"]) == (0, 0)
    assert stream["silence_descriptors"] == 3


# Hold


@pytest.mark.parametrize(
    "sender",
    [
        Sender().after(100),  # its clock stood still
        Sender().after(100, ticks=32 * RATE),  # it ran on
        Sender(ssrc=77, sequence=9, timestamp=2**32 - 500),  # it begins anew
        Sender(sequence=40_000, timestamp=99),  # the same source, its numbers anew
    ],
    ids=["stood", "ran", "new", "restarted"],
)
def test_after_a_hold_audio_is_where_it_came(tmp_path: Path, sender: Sender) -> None:
    first = Sender().send(tone(440, 2 * RATE))
    after = sender.send(tone(700, 2 * RATE), start_ns=32 * NS)
    result, samples = rendered(tmp_path, join(first, after), 34)
    assert len(samples) == 34 * RATE
    assert tone_spans(samples, RATE, 440)[0] == pytest.approx((0, 2), abs=0.004)
    assert tone_spans(samples, RATE, 700)[0] == pytest.approx((32, 34), abs=0.004)
    stream = result.report["streams"][0]
    assert (stream["packets"]["lost"], stream["concealed_ms"]) == (0, 0)
    assert stream["gaps"]["listed"] == [{"start_ms": 2000, "length_ms": 30_000}]


# Whatever the network does: no sample lost, none twice


@dataclass(frozen=True)
class Weather:
    """A network and a sender."""

    link: Link
    packet_ms: tuple[int, ...]
    pauses: tuple[int, ...]
    sequence: int
    timestamp: int
    ppm: float


WEATHER = st.builds(
    Weather,
    link=st.builds(
        Link,
        seed=st.integers(0, 2**16),
        delay_ms=st.sampled_from([0.0, 150.0]),
        jitter_ms=st.sampled_from([0.0, 5.0, 80.0, 500.0]),
        loss=st.sampled_from([0.0, 0.03, 0.3]),
        duplicate=st.sampled_from([0.0, 0.1]),
    ),
    packet_ms=st.lists(st.sampled_from([10, 20, 30, 60]), min_size=1, max_size=4).map(tuple),
    pauses=st.lists(st.sampled_from([0, 100, 700]), min_size=1, max_size=3).map(tuple),
    sequence=st.sampled_from([0, 65_500, 65_535]) | st.integers(0, 65_535),
    timestamp=st.sampled_from([0, 2**32 - 1, 2**32 - 8000]) | st.integers(0, 2**32 - 1),
    ppm=st.sampled_from([-200.0, 0.0, 200.0]),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(weather=WEATHER)
def test_every_sample_that_arrived_is_in_the_file_once(tmp_path: Path, weather: Weather) -> None:
    note(
        str(
            (
                weather.link,
                weather.packet_ms,
                weather.pauses,
                weather.sequence,
                weather.timestamp,
                weather.ppm,
            )
        )
    )
    values = np.arange(1, 3 * RATE + 1)  # each sample is known by its value
    flows: list[Flow] = []
    ticks: list[int] = []
    sender = Sender(
        payload_type=97,
        sequence=weather.sequence,
        timestamp=weather.timestamp,
        ppm=weather.ppm,
    )
    at = media = number = 0
    while at < len(values) - 480:
        size = weather.packet_ms[number % len(weather.packet_ms)] * MS
        payload = values[at : at + size].astype(">i2").tobytes()
        sent_ns = round(media * NS / RATE / (1 + weather.ppm / 1e6))
        flows.append(sender.send_frames([payload], size, start_ns=sent_ns))
        ticks.append(size)
        pause = weather.pauses[number // 25 % len(weather.pauses)] * MS if number % 25 == 24 else 0
        sender = sender.after(1, ticks=size + pause)
        at, media, number = at + size, media + size + pause, number + 1
    came = weather.link.carry(join(*flows))
    if not len(came):
        return
    streams = [Taped(0, came, codecs=[L16])]
    blocks = journal_blocks(streams, length_ns=round(media * NS / RATE) + NS)
    result = render_recording(write_journal(tmp_path, blocks), tmp_path / "out", ONE)
    assert result.wav is not None
    out = read_wav(result.wav)[1][:, 0].astype(np.int64)

    table = parse_slab(came.lengths, came.data)
    first = np.unique([int.from_bytes(came.data[s : s + 2].tobytes()) for s in table.payload_start])
    sizes = {
        1 + int(start): size for start, size in zip(np.cumsum([0, *ticks]), ticks, strict=False)
    }
    for value in first.tolist():
        run = np.arange(value, value + sizes[value])
        places = [
            p
            for p in np.flatnonzero(out == value).tolist()
            if np.array_equal(out[p : p + len(run)], run)
        ]
        assert len(places) == 1, (value, places)
    # All else is silence, or was made up in place of what was lost.
    stream = result.report["streams"][0]
    arrived = sum(sizes[value] for value in first.tolist())
    assert np.count_nonzero(out) <= arrived + (stream["concealed_ms"] + 1) * MS
    assert stream["packets"]["duplicated"] == len(came) - len(first)
    assert stream["unplaced_ms"] == 0
    if weather.link.loss == 0:
        assert (stream["packets"]["lost"], stream["concealed_ms"]) == (0, 0)


# A worker's successor


def test_a_restart_leaves_every_packet_where_it_was_said(tmp_path: Path) -> None:
    voice, count, gone = 7, 300, range(120, 128)
    payloads = np.stack([np.frombuffer(frame(voice, n), np.uint8) for n in range(count)])
    flow = Sender().send_payloads(payloads, ticks=160)
    cut_ns = int(flow.arrival_ns[gone.start])
    halves = [Taped(0, flow.between(0, cut_ns)), Taped(0, without(flow, *range(gone.stop)))]
    length_ns = count * 20_000_000
    write_journal(tmp_path, journal_blocks(halves[:1], length_ns=cut_ns, ended=False))
    folder = write_journal(
        tmp_path,
        journal_blocks(halves[1:], begin_ns=cut_ns, length_ns=length_ns, segment=2, generation=2),
        segment=2,
    )
    result = render_recording(folder, tmp_path / "out", ONE)
    assert result.wav is not None
    samples = np.ascontiguousarray(read_wav(result.wav)[1][:, 0])
    stream = result.report["streams"][0]
    assert stream["gaps"]["listed"] == [{"start_ms": 2400, "length_ms": 160}]
    assert stream["concealed_ms"] == 60
    found = find(samples, voice, count, gaps=[gone.start * 160])
    assert list(np.flatnonzero(~found.whole)) == list(gone)
    assert not found.bases.any()
    assert (found.repeated, found.foreign, found.stray, found.concealed) == (0, 0, 0, 480)
