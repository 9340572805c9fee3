"""What happened when, in the file's own time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from callreel.audio.tone import silence, tone
from callreel.calls.model import Trim
from callreel.render.job import render_recording
from callreel.testing.link import (
    NS,
    RECORDING_ID,
    Sender,
    Taped,
    join,
    journal_blocks,
    said,
    write_journal,
)
from tests.render.test_job import CALLER, DUAL, RATE, callee, caller, render


def of_kind(report: dict[str, object], kind: str) -> list[tuple[int, ...]]:
    listed = report["markers"]
    assert isinstance(listed, list)
    names = ("at_ms", "length_ms")
    return [
        tuple(one[name] for name in names if name in one) for one in listed if one["kind"] == kind
    ]


def test_where_all_is_well_there_is_nothing_to_mark(tmp_path: Path) -> None:
    report = render(tmp_path, caller(), callee()).report
    assert report["markers"] == []
    assert report["gap_count"] == 0


def test_a_start_between_packets_is_no_gap(tmp_path: Path) -> None:
    late = Sender(ssrc=1).send(tone(CALLER, 4 * RATE), start_ns=15_000_000)
    report = render(tmp_path, late, callee(4), seconds=4.02).report
    assert report["streams"][0]["gaps"]["count"] > 0
    assert (report["gap_count"], report["markers"]) == (0, [])


def test_gaps_and_keys_are_marked_where_they_are_heard(tmp_path: Path) -> None:
    sender = Sender(ssrc=1)
    first, second = caller(1, sender), caller(2, sender.after(100), start_ns=2 * NS)
    key = replace(sender.after(50), payload_type=101, timestamp=8000).send_payloads(
        np.zeros((5, 4), np.uint8), ticks=0, start_ns=NS + NS // 2
    )
    report = render(tmp_path, join(first, key, second), callee(4), seconds=4).report
    assert (1000, 1000) in of_kind(report, "gap")
    (pressed,) = of_kind(report, "dtmf")
    assert abs(pressed[0] - 1500) <= 20


def test_times_are_those_of_the_file_without_what_was_skipped(tmp_path: Path) -> None:
    events = (
        said(NS, "pause", behavior="skip"),
        said(2 * NS, "resume"),
        said(3 * NS, "pause", behavior="silence"),
        said(4 * NS, "resume"),
    )
    report = render(tmp_path, caller(5), callee(5), events=events).report
    pauses = of_kind(report, "pause")
    assert report["gap_count"] == 0
    assert [length for _, length in pauses] == [1000, 1000]
    for at, wanted in zip((at for at, _ in pauses), (1000, 2000), strict=True):
        assert abs(at - wanted) <= 20


def test_times_are_those_of_the_file_after_trimming(tmp_path: Path) -> None:
    quiet = silence(RATE)
    said_once = np.concatenate((quiet, tone(CALLER, RATE), quiet, tone(CALLER, RATE)))
    events = (said(2 * NS, "pause", behavior="silence"), said(5 * NS // 2, "resume"))
    flow = Sender(ssrc=1).send(said_once)
    spec = replace(DUAL, trim=Trim.TRIM_SILENCE)
    report = render(tmp_path, flow, spec=spec, seconds=4, events=events).report
    assert report["trim"]["cut_start_ms"] >= 900
    ((at, _),) = of_kind(report, "pause")
    assert abs(at - (2000 - report["trim"]["cut_start_ms"])) <= 20


def test_holds_and_changes_of_codec_are_marked(tmp_path: Path) -> None:
    sender = Sender(ssrc=1)
    first = caller(2, sender)
    other = caller(2, replace(sender.after(100), payload_type=8), start_ns=2 * NS)
    holds = (
        said(NS, "stream", number=1, track="outbound", sending=False),
        said(2 * NS, "stream", number=1, track="outbound", sending=True),
        said(3 * NS, "stream", number=1, track="outbound", sending=False),
    )
    streams = [Taped(0, join(first, other)), Taped(1, callee(4))]
    blocks = journal_blocks(streams, length_ns=4 * NS, events=holds)
    journal = write_journal(tmp_path, blocks)
    report = render_recording(
        journal, tmp_path / "out", replace(DUAL, recording_id=RECORDING_ID)
    ).report
    assert of_kind(report, "hold") == [(1000, 1000), (3000, 1000)]
    assert report["gap_count"] == 0
    (change,) = [one for one in report["markers"] if one["kind"] == "codec"]
    assert (change["codec"], change["track"]) == ("PCMA", "inbound")
    assert abs(change["at_ms"] - 2000) <= 20


def test_what_did_not_come_while_on_hold_is_no_gap(tmp_path: Path) -> None:
    sender = Sender(ssrc=1)
    first, second = caller(1, sender), caller(1, sender.after(100), start_ns=2 * NS)
    third = caller(1, sender.after(200), start_ns=4 * NS)
    holds = (
        said(NS + NS // 20, "stream", number=0, track="inbound", sending=False),
        said(2 * NS, "stream", number=0, track="inbound", sending=True),
    )
    report = render(tmp_path, join(first, second, third), callee(), events=holds).report
    assert of_kind(report, "gap") == [(3000, 1000)]
    assert report["gap_count"] == 1
    # What was sent while on hold went no further, and is not lost; what came not at all is.
    (inbound,) = [one for one in report["streams"] if one["track"] == "inbound"]
    assert inbound["packets"]["lost"] == 50
