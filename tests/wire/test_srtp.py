"""SRTP: reference packets, roll-over, latecomers, restarts, forgeries."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings, strategies as st
from pylibsrtp import Session

from callreel.wire import srtp
from callreel.wire.sdes import Key, Suite
from callreel.wire.srtp import MAX_SSRCS, Protector, Refusal, Unprotector, index_after

SSRC = 0xCAFEBABE
PLAIN = bytes.fromhex("800f1234decafbadcafebabe") + b"\xab" * 16
# The reference packets that libsrtp's own driver carries; the first is that of RFC 3711's authors.
REFERENCES = [
    (
        Suite.AES_CM_128_HMAC_SHA1_80,
        "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
        "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
    ),
    (
        Suite.AEAD_AES_128_GCM,
        bytes(range(16)).hex() + bytes(range(0xA0, 0xAC)).hex(),
        "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
    ),
]
KEYS = [
    Key(suite, bytes(range(suite.key_bytes)), mki)
    for suite, mki in itertools.product(Suite, (b"", b"\0\0\0\x01"))
]
REPORT = b"\x80\xc8\0\6" + SSRC.to_bytes(4, "big") + bytes(20)


def packet(index: int, ssrc: int = SSRC, size: int = 160) -> bytes:
    head = struct.pack(">BBHII", 0x80, 0, index & 0xFFFF, index * 160 & 0xFFFFFFFF, ssrc)
    return head + bytes((index & 0xFF,)) * size


@pytest.mark.parametrize(("suite", "key", "protected"), REFERENCES)
def test_reference_packets(suite: Suite, key: str, protected: str) -> None:
    master = Key(suite, bytes.fromhex(key))
    assert Protector(master).rtp(PLAIN) == bytes.fromhex(protected)
    assert Unprotector(master).rtp(bytes.fromhex(protected)) == PLAIN


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_there_and_back_over_a_rollover(key: Key) -> None:
    protector, unprotector = Protector(key), Unprotector(key)
    for index in range(65_400, 65_700):
        protected = protector.rtp(packet(index))
        assert protected is not None
        assert packet(index)[12:] not in protected
        assert unprotector.rtp(protected) == packet(index)
        report = protector.rtcp(REPORT)
        assert report is not None
        assert unprotector.rtcp(report) == REPORT
        assert unprotector.rtcp(report) is Refusal.REPLAYED
        assert unprotector.rtp(protected) is Refusal.REPLAYED
    assert protector.progress == {SSRC: 2}


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_who_comes_late_finds_out(key: Key) -> None:
    protector = Protector(key)
    protected = None
    for index in range(60_000, 60_000 + 5 * 65_536, 5_000):
        protected = protector.rtp(packet(index))
        last = index
    assert protected is not None
    late = Unprotector(key)
    assert late.rtp(protected) == packet(last)
    for index in range(last + 1, last + 70_000, 5_000):
        protected = protector.rtp(packet(index))
        assert protected is not None
        assert late.rtp(protected) == packet(index)


@pytest.mark.parametrize("key", KEYS[::2], ids=str)
def test_after_a_long_pause(key: Key) -> None:
    protector, unprotector = Protector(key), Unprotector(key)
    heard = []
    for index in range(0, 300_000, 4_000):
        protected = protector.rtp(packet(index))
        assert protected is not None
        if not 20_000 < index < 250_000:
            heard.append(unprotector.rtp(protected) == packet(index))
    assert all(heard)


@pytest.mark.parametrize("key", KEYS[::2], ids=str)
def test_a_successor_uses_no_index_twice(key: Key) -> None:
    former, peer = Protector(key), Unprotector(key)
    sent = set()
    for index in range(60_000, 140_000, 4_000):
        protected = former.rtp(packet(index))
        report = former.rtcp(REPORT)
        assert protected is not None
        assert report is not None
        assert peer.rtp(protected) == packet(index)
        assert peer.rtcp(report) == REPORT
        sent.add(report)
    assert former.moved
    successor = Protector(key, dict(former.progress), former.rtcp_index)
    for index in range(140_000, 220_000, 4_000):
        protected, report = successor.rtp(packet(index)), successor.rtcp(REPORT)
        assert protected is not None
        assert report is not None
        assert peer.rtp(protected) == packet(index)
        assert peer.rtcp(report) == REPORT
        assert report not in sent


@given(st.integers(0, 400_000), st.integers(1, 30_000))
@settings(max_examples=40)
def test_a_successor_finds_its_place(last: int, missed: int) -> None:
    former, peer = Protector(KEYS[0]), Unprotector(KEYS[0])
    for index in [*range(last % 8_000, last, 8_000), last]:
        protected = former.rtp(packet(index))
        assert protected is not None
        assert peer.rtp(protected) == packet(index)
    successor = Protector(KEYS[0], dict(former.progress), former.rtcp_index)
    protected = successor.rtp(packet(last + missed))
    assert protected is not None
    assert peer.rtp(protected) == packet(last + missed)


def test_it_is_told_when_there_is_something_to_keep() -> None:
    protector = Protector(KEYS[0])
    protector.rtp(packet(65_530))
    protector.rtcp(REPORT)
    assert protector.moved
    protector.moved = False
    for index in range(65_531, 65_536):
        protector.rtp(packet(index))
        protector.rtcp(REPORT)
    assert not protector.moved
    protector.rtp(packet(65_536))
    assert protector.moved


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_what_was_changed_or_made_without_the_key_is_not_taken(key: Key) -> None:
    unprotector = Unprotector(key)
    protected = Protector(key).rtp(packet(7))
    report = Protector(key).rtcp(REPORT)
    assert protected is not None
    assert report is not None
    for at in range(len(protected)):
        changed = protected[:at] + bytes((protected[at] ^ 1,)) + protected[at + 1 :]
        assert unprotector.rtp(changed) is Refusal.UNAUTHENTIC
    for at in range(len(report)):
        changed = report[:at] + bytes((report[at] ^ 1,)) + report[at + 1 :]
        assert unprotector.rtcp(changed) is Refusal.UNAUTHENTIC
    for end in range(len(protected)):
        assert unprotector.rtp(protected[:end]) is Refusal.UNAUTHENTIC
    for end in range(len(report)):
        assert unprotector.rtcp(report[:end]) is Refusal.UNAUTHENTIC
    assert unprotector.rtp(packet(7)) is Refusal.UNAUTHENTIC, "plain"
    stranger = Protector(Key(key.suite, bytes(key.suite.key_bytes), key.mki)).rtp(packet(7))
    assert stranger is not None
    assert unprotector.rtp(stranger) is Refusal.UNAUTHENTIC
    assert unprotector.rtp(protected) == packet(7), "and none of that left a trace"
    assert unprotector.rtcp(report) == REPORT


def test_a_flood_of_forgeries_is_not_searched_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    session = srtp._session

    def counted(key: Key, kind: int) -> Session:
        made.append(kind)
        return session(key, kind)

    monkeypatch.setattr(srtp, "_session", counted)
    unprotector = Unprotector(KEYS[0])
    for number in range(1000):
        assert unprotector.rtp(packet(number, number)) is Refusal.UNAUTHENTIC
    assert len(made) < 30


def test_a_source_that_changes_for_ever_is_bounded() -> None:
    protector = Protector(KEYS[0])
    sent = [protector.rtp(packet(1, ssrc)) for ssrc in range(MAX_SSRCS + 10)]
    assert sum(one is not None for one in sent) == MAX_SSRCS
    reports = [
        protector.rtcp(REPORT[:4] + ssrc.to_bytes(4, "big") + REPORT[8:])
        for ssrc in range(MAX_SSRCS + 10)
    ]
    assert sum(one is not None for one in reports) == MAX_SSRCS


def test_what_cannot_be_sent() -> None:
    protector = Protector(KEYS[0])
    assert protector.rtp(b"\x80\0") is None
    assert protector.rtp(packet(1, size=1400)) is None
    assert protector.rtp(packet(1)) is not None
    assert protector.rtp(packet(1, size=20)) is None, "an index is used once"
    assert protector.rtcp(b"\x80\xc8\0\0") is None


def test_no_key_is_shown() -> None:
    secret = KEYS[0].master.hex()
    for one in (Protector(KEYS[0]), Unprotector(KEYS[0])):
        assert secret not in repr(one)
        assert repr(KEYS[0].master) not in repr(one)


@given(st.integers(0, 1 << 40), st.integers(-0x7FFF, 0x7FFF))
def test_the_index_is_the_nearest(last: int, ahead: int) -> None:
    if last + ahead >= 0:
        assert index_after(last, (last + ahead) & 0xFFFF) == last + ahead


@settings(max_examples=30)
@given(st.integers(0, 0xFFFF), st.permutations(range(40)))
def test_any_order_is_taken(first: int, order: list[int]) -> None:
    protector, unprotector = Protector(KEYS[0]), Unprotector(KEYS[0])
    protected = [protector.rtp(packet(first + number)) for number in range(40)]
    started = protected[0]
    assert started is not None
    assert unprotector.rtp(started) == packet(first)
    for number in order:
        one = protected[number]
        assert one is not None
        wanted = Refusal.REPLAYED if number == 0 else packet(first + number)
        assert unprotector.rtp(one) == wanted
