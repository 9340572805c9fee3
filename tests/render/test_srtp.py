"""A journal of SRTP: heard with its keys, and nothing else heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from callreel.audio.tone import tone
from callreel.base.errors import MachineError
from callreel.journal.format import stream_to_json
from callreel.journal.keys import JournalSeal
from callreel.render.job import TOO_SHORT, RenderResult, RenderSpec, render_recording
from callreel.testing.ears import read_wav, tone_spans
from callreel.testing.link import (
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
from callreel.wire.sdes import Key, Suite
from callreel.wire.srtp import Protector

RATE = 8000
SEAL = JournalSeal.of(b"a server's key")
SPEC = RenderSpec(RECORDING_ID, channel_count=2, key_secret=SEAL.secret)
SUITES = list(Suite)
CALLER, CALLEE = 440, 1000


def key(number: int, suite: Suite = Suite.AES_CM_128_HMAC_SHA1_80) -> Key:
    return Key(suite, bytes([number]) * suite.key_bytes)


def protect(flow: Flow, protector: Protector) -> Flow:
    """A flow, each packet in the order of sending protected."""
    packets: list[bytes] = []
    at = 0
    for length in flow.lengths.tolist():
        protected = protector.rtp(flow.data[at : at + length].tobytes())
        assert protected is not None
        packets.append(protected)
        at += length
    lengths = np.array([len(one) for one in packets], np.uint16)
    return replace(flow, lengths=lengths, data=np.frombuffer(b"".join(packets), np.uint8))


def caller(seconds: float = 3, sequence: int = 0, *, start_ns: int = 0) -> Flow:
    sender = Sender(ssrc=1, sequence=sequence)
    return sender.send(tone(CALLER, round(seconds * RATE)), start_ns=start_ns)


def render(
    folder: Path,
    *streams: Taped,
    spec: RenderSpec = SPEC,
    seconds: float = 3,
    events: Sequence[Said] = (),
) -> RenderResult:
    blocks = journal_blocks(streams, length_ns=round(seconds * NS), events=events)
    journal = write_journal(folder / "journals", blocks)
    return render_recording(journal, folder / "out", spec)


def spans(result: RenderResult, channel: int, hz: int) -> list[tuple[float, float]]:
    assert result.wav is not None
    rate, samples = read_wav(result.wav)
    return tone_spans(samples[:, channel], rate, hz)


@pytest.mark.parametrize("suite", SUITES)
def test_it_is_heard_as_plain_rtp_would_be(tmp_path: Path, suite: Suite) -> None:
    flow = Link(jitter_ms=60, loss=0.02, duplicate=0.01).carry
    plain = flow(caller(sequence=65_500))
    other = Sender(ssrc=2).send(tone(CALLEE, 3 * RATE))
    secret = key(1, suite)
    protected = flow(protect(caller(sequence=65_500), Protector(secret)))
    results = [
        render(tmp_path / name, Taped(0, one, sealed_key=sealed), Taped(1, other))
        for name, one, sealed in (("a", plain, ""), ("b", protected, SEAL.seal(secret)))
    ]
    assert results[0].sha256 == results[1].sha256
    reports = [one.report["streams"][0] for one in results]
    assert reports[0].pop("srtp") is False
    assert reports[1].pop("srtp") is True
    assert reports[0] == reports[1], "lost, late and twice are counted alike"


def test_a_recording_that_begins_after_many_rollovers(tmp_path: Path) -> None:
    protector = Protector(key(1))
    for index in range(0, 40 * 65_536, 8_000):
        protector.rtp(b"\x80\0" + (index & 0xFFFF).to_bytes(2, "big") + bytes(7) + b"\x01")
    flow = protect(caller(sequence=index & 0xFFFF).pick(np.arange(1, 150)), protector)
    result = render(tmp_path, Taped(0, flow, sealed_key=SEAL.seal(key(1))))
    assert len(spans(result, 0, CALLER)) == 1
    assert result.report["streams"][0]["packets"]["unauthentic"] == 0


def test_a_wrong_key_lets_nothing_be_heard(tmp_path: Path) -> None:
    flow = protect(caller(), Protector(key(2)))
    result = render(tmp_path, Taped(0, flow, sealed_key=SEAL.seal(key(1))))
    assert result.wav is None
    assert result.absent_code == TOO_SHORT
    assert result.report["streams"][0]["packets"]["unauthentic"] == 150
    assert (
        "Inbound stream 0: 150 packets failed authentication (SRTP) and are not heard."
        in (result.report["problems"])
    )


def test_what_is_injected_is_not_heard_and_counted(tmp_path: Path) -> None:
    good = protect(caller(), Protector(key(1)))
    plain = Sender(ssrc=1, sequence=500, timestamp=80_000).send(tone(CALLEE, RATE))
    stranger = protect(
        Sender(ssrc=1, sequence=700, timestamp=90_000).send(tone(CALLEE, RATE)), Protector(key(9))
    )
    flow = join(good, plain.later(NS), stranger.later(NS + 7))
    result = render(tmp_path, Taped(0, flow, sealed_key=SEAL.seal(key(1))))
    ((start, end),) = spans(result, 0, CALLER)
    assert (start, end) == pytest.approx((0, 3), abs=0.01)
    assert spans(result, 0, CALLEE) == []
    packets = result.report["streams"][0]["packets"]
    assert packets["unauthentic"] == 100
    assert (packets["received"], packets["lost"]) == (150, 0)
    assert not result.report["clean"]


def described(secret: Key | None) -> dict[str, object]:
    sealed = "" if secret is None else SEAL.seal(secret)
    return stream_to_json(0, "inbound", [PCMU], sealed_key=sealed)


@pytest.mark.parametrize("told_after_ms", [-30, 0, 200])
def test_a_key_that_changes(tmp_path: Path, told_after_ms: int) -> None:
    """The peer may send with its new key before we heard of it, and with the old one after."""
    flow = caller()
    old, new = Protector(key(1)), Protector(key(2))
    before, after = (
        protect(flow.pick(np.arange(75)), old),
        protect(flow.pick(np.arange(75, 150)), new),
    )
    mixed = join(before, after)
    swapped = mixed.pick(np.array([*range(74), 75, 76, 74, *range(77, 150)]))
    swapped = replace(swapped, arrival_ns=np.sort(swapped.arrival_ns))
    told = said(round(1.5 * NS) + told_after_ms * 1_000_000, "stream", **described(key(2)))
    result = render(tmp_path, Taped(0, swapped, sealed_key=SEAL.seal(key(1))), events=(told,))
    assert len(spans(result, 0, CALLER)) == 1
    packets = result.report["streams"][0]["packets"]
    assert (packets["unauthentic"], packets["lost"], packets["reordered"]) == (0, 0, 1)


def test_from_plain_to_srtp_and_back(tmp_path: Path) -> None:
    flow = caller()
    parts = [flow.pick(np.arange(start, start + 50)) for start in (0, 50, 100)]
    mixed = join(parts[0], protect(parts[1], Protector(key(1))), parts[2])
    events = (
        said(NS + 1, "stream", **described(key(1))),
        said(2 * NS + 1, "stream", **described(None)),
    )
    result = render(tmp_path, Taped(0, mixed), events=events)
    assert len(spans(result, 0, CALLER)) == 1
    stream = result.report["streams"][0]
    assert (stream["srtp"], stream["packets"]["lost"]) == (True, 0)


def test_after_a_pause_of_half_an_hour(tmp_path: Path) -> None:
    protector = Protector(key(1))
    first = protect(caller(2), protector)
    for index in range(8_000, 90_000, 8_000):
        protector.rtp(b"\x80\0" + (index & 0xFFFF).to_bytes(2, "big") + bytes(7) + b"\x01")
    later = Sender(ssrc=1, sequence=90_000 & 0xFFFF, timestamp=90_000 * 160)
    second = protect(later.send(tone(CALLER, 2 * RATE), start_ns=1800 * NS), protector)
    events = (said(2 * NS, "pause", behavior="skip"), said(1800 * NS, "resume"))
    taped = Taped(0, join(first, second), sealed_key=SEAL.seal(key(1)))
    result = render(tmp_path, taped, seconds=1802, events=events)
    assert result.report["streams"][0]["packets"]["unauthentic"] == 0
    assert sum(end - start for start, end in spans(result, 0, CALLER)) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("secret", [None, JournalSeal.of(b"another server's key").secret])
def test_without_the_servers_key_the_journal_stays(tmp_path: Path, secret: bytes | None) -> None:
    flow = protect(caller(), Protector(key(1)))
    taped = Taped(0, flow, sealed_key=SEAL.seal(key(1)))
    with pytest.raises(MachineError, match="key"):
        render(tmp_path, taped, spec=replace(SPEC, key_secret=secret))
    assert list((tmp_path / "journals").rglob("*.seg"))
    assert not (tmp_path / "out.wav").exists()


def test_srtp_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    event = said(1, "stream", number=0, srtp={"version": 2, "sealed": ""})
    with pytest.raises(MachineError, match="kind"):
        render(tmp_path, Taped(0, caller()), events=(event,))


def test_the_secret_is_not_shown() -> None:
    assert "secret" not in repr(SPEC).replace("key_secret", "secret")
    assert repr(SEAL.secret) not in repr(SEAL)
