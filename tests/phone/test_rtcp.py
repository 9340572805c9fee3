"""RTCP: there and back, by the bytes, and cut short anywhere."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.phone.reception import ReceptionReport
from callreel.phone.rtcp import (
    Report,
    ReportBlock,
    SenderInfo,
    middle,
    ntp_of,
    round_trip_s,
    wall_of,
)

U32 = st.integers(0, 0xFFFFFFFF)
counts = st.builds(ReceptionReport, U32, st.integers(0, 255),
                   st.integers(-0x800000, 0x7FFFFF), U32, U32)  # fmt: skip
reports = st.builds(
    Report,
    ssrc=U32,
    sender=st.none() | st.builds(SenderInfo, st.integers(0, (1 << 64) - 1), U32, U32, U32),
    blocks=st.lists(st.builds(ReportBlock, counts, U32, U32), max_size=3).map(tuple),
    cname=st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=40),
    leaves=st.booleans(),
)


@given(reports)
def test_there_and_back(report: Report) -> None:
    data = report.serialize()
    assert len(data) % 4 == 0
    assert Report.parse(data) == report


@given(reports, st.data())
def test_cut_short_is_refused_or_less(report: Report, data: st.DataObject) -> None:
    whole = report.serialize()
    size = data.draw(st.integers(0, len(whole) - 1))
    try:
        Report.parse(whole[:size])
    except PeerError:
        return
    assert size % 4 == 0  # cut between two packets of the compound


@given(st.binary(max_size=200))
def test_nonsense_is_refused(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        Report.parse(data)


def test_the_bytes_of_a_receiver_report() -> None:
    block = ReportBlock(ReceptionReport(0x01020304, 64, -2, 0x1FFFF, 5), 0xAABBCCDD, 0x10000)
    assert Report(0x0A0B0C0D, blocks=(block,), cname="me@here").serialize() == bytes.fromhex(
        "81c90007 0a0b0c0d 01020304 40fffffe 0001ffff 00000005 aabbccdd 00010000"
        "81ca0004 0a0b0c0d 01076d65 40686572 65000000"
    )


def test_a_report_that_says_more_blocks_than_it_has() -> None:
    with pytest.raises(PeerError):
        Report.parse(struct.pack(">BBHI", 0x85, 201, 1, 1))


def test_ntp_time_and_the_round_trip() -> None:
    sent = 1_700_000_000.25
    assert wall_of(ntp_of(sent)) == pytest.approx(sent, abs=1e-6)
    counted = ReceptionReport(1, 0, 0, 0, 0)
    block = ReportBlock(counted, middle(ntp_of(sent)), round(0.5 * 65536))
    assert round_trip_s(block, arrival_ntp=ntp_of(sent + 0.62)) == pytest.approx(0.12, abs=1e-4)
    assert round_trip_s(block, arrival_ntp=ntp_of(sent + 0.4)) is None  # it cannot be
    assert round_trip_s(ReportBlock(counted, 0, 0), arrival_ntp=ntp_of(sent)) is None
