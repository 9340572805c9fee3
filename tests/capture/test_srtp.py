"""SRTP in the relay and in journals: undone, done, passed through; forged, rekeyed, taken over."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callreel.calls.media import Srtp, Stream
from callreel.calls.model import Track
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import stream_from_json, stream_to_json
from callreel.capture.relay import AT_A_TIME
from callreel.capture.successor import read_blob
from callreel.journal.format import Block, Kind
from callreel.journal.keys import JournalSeal
from callreel.journal.reader import read_journal
from callreel.render.decryption import Decryption
from callreel.testing.packets import journal_events
from callreel.wire.sdes import Key, Suite
from callreel.wire.srtp import Protector, Unprotector
from tests.capture.house import BOTH, CALL, ONE, OTHER, Bench, Party, free_ports

REPORT = b"\x80\xc8\0\6" + (0xA).to_bytes(4, "big") + bytes(20)

SEAL = JournalSeal.of(b"a server's key")
CM = Suite.AES_CM_128_HMAC_SHA1_80


def key(number: int, suite: Suite = CM) -> Key:
    return Key(suite, bytes([number]) * suite.key_bytes)


def keys(receive: Key, send: Key) -> Srtp:
    return Srtp(receive, send, sealed=SEAL.seal(receive))


def packet(index: int, ssrc: int = 0xA, size: int = 160) -> bytes:
    return struct.pack(">BBHII", 0x80, 0, index & 0xFFFF, index * 160 & 0xFFFFFFFF, ssrc) + (
        b"\xd5" * size
    )


def done(protector: Protector, data: bytes) -> bytes:
    protected = protector.rtp(data)
    assert protected is not None
    return protected


class Bridge(Bench):
    """A caller and a callee, bridged, either of them with keys."""

    def __init__(
        self, root: Path, ports: tuple[int, int], caller: Srtp | None, callee: Srtp | None
    ) -> None:
        super().__init__(root, ports)
        self.caller, self.callee = Party(ssrc=0xA), Party(ssrc=0xB)
        streams = [
            replace(party.stream(), srtp=srtp)
            for party, srtp in ((self.caller, caller), (self.callee, callee))
        ]
        self.caller_stream, self.callee_stream = streams
        self.caller_port = self.recorder.open(CALL, [streams[0]])[0]
        self.callee_port = self.recorder.open(OTHER, [streams[1]])[0]
        self.recorder.bridge(CALL, OTHER)

    def close(self) -> None:
        super().close()
        self.caller.close()
        self.callee.close()

    def say(self, *packets: bytes) -> list[bytes]:
        """The caller sends these; what the callee is sent."""
        for data in packets:
            self.caller.send_bytes(data, self.caller_port)
        self.relay()
        return self.callee.received()

    def reply(self, *packets: bytes) -> list[bytes]:
        for data in packets:
            self.callee.send_bytes(data, self.callee_port)
        self.relay()
        return self.caller.received()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[list[Bridge]]:
    made: list[Bridge] = []
    yield made
    for one in made:
        one.close()


def bridge_of(
    make: list[Bridge], tmp_path: Path, caller: Srtp | None, callee: Srtp | None
) -> Bridge:
    made = Bridge(tmp_path / "journals", free_ports(40), caller, callee)
    make.append(made)
    return made


@pytest.mark.parametrize("suite", list(Suite))
def test_undone_for_one_leg_and_done_for_the_other(
    make: list[Bridge], tmp_path: Path, suite: Suite
) -> None:
    theirs, ours = key(1, suite), key(2, suite)
    bridge = bridge_of(make, tmp_path, keys(theirs, ours), None)
    sender, receiver = Protector(theirs), Unprotector(ours)
    said = [packet(index, size=160 if index % 3 else 20) for index in range(3 * AT_A_TIME)]
    assert bridge.say(*(done(sender, one) for one in said)) == said
    said = [packet(index, 0xB) for index in range(AT_A_TIME)]
    heard = bridge.reply(*said)
    assert not set(heard) & set(said)
    assert [receiver.rtp(one) for one in heard] == said
    assert bridge.recorder.state(0).unauthentic == 0


def test_between_legs_with_other_keys(make: list[Bridge], tmp_path: Path) -> None:
    bridge = bridge_of(
        make,
        tmp_path,
        keys(key(1), key(2)),
        keys(key(3, Suite.AEAD_AES_256_GCM), key(4, Suite.AEAD_AES_256_GCM)),
    )
    sender, receiver = Protector(key(1)), Unprotector(key(4, Suite.AEAD_AES_256_GCM))
    heard = bridge.say(*(done(sender, packet(index)) for index in range(100)))
    assert [receiver.rtp(one) for one in heard] == [packet(index) for index in range(100)]


def test_shared_keys_pass_untouched(make: list[Bridge], tmp_path: Path) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), keys(key(2), key(1)))
    sender = Protector(key(1))
    said = [done(sender, packet(index)) for index in range(50)]
    assert bridge.say(*said) == said
    # What does not authenticate is for whoever has the key to refuse.
    assert bridge.say(packet(60)) == [packet(60)]


def test_rtcp_crosses_too(make: list[Bridge], tmp_path: Path) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), None)
    protected = Protector(key(1)).rtcp(REPORT)
    assert protected is not None
    bridge.caller.send_bytes(protected, bridge.caller_port + 1, rtcp=True)
    bridge.relay()
    assert bridge.callee.received(rtcp=True) == [REPORT]
    bridge.callee.send_bytes(REPORT, bridge.callee_port + 1, rtcp=True)
    bridge.relay()
    (heard,) = bridge.caller.received(rtcp=True)
    assert Unprotector(key(2)).rtcp(heard) == REPORT


def test_what_is_forged_or_replayed_is_not_relayed(make: list[Bridge], tmp_path: Path) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), None)
    bridge.recorder.start(ONE, OTHER, BOTH)
    sender = Protector(key(1))
    good = [done(sender, packet(index)) for index in range(4)]
    stranger = done(Protector(key(9)), packet(50))
    assert bridge.say(good[0], stranger, packet(51), good[0], good[1]) == [packet(0), packet(1)]
    assert bridge.say(stranger[:20], good[2], good[1], good[3]) == [packet(2), packet(3)]
    assert bridge.recorder.state(0).unauthentic == 5
    bridge.recorder.stop(ONE)
    # Who hears the other call keeps what was relayed, as it came.
    assert kept_packets(bridge.root, ONE) == {1001: good}


def kept_packets(root: Path, recording_id: str) -> dict[int, list[bytes]]:
    """The RTP of a journal, by stream."""
    found: dict[int, list[bytes]] = {}
    for _, part in read_journal(root, recording_id):
        if isinstance(part, Block) and part.kind is Kind.RTP:
            slab, at = part.packets(), 0
            for length in slab.lengths.tolist():
                found.setdefault(part.stream, []).append(bytes(slab.data[at : at + length]))
                at += length
    return found


def test_the_journal_holds_what_came_and_its_key_sealed(make: list[Bridge], tmp_path: Path) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), None)
    bridge.recorder.start(ONE, CALL, BOTH)
    sender = Protector(key(1))
    said = [done(sender, packet(index)) for index in range(20)]
    bridge.say(*said)
    bridge.reply(packet(3, 0xB))
    bridge.recorder.stop(ONE)
    assert kept_packets(bridge.root, ONE)[0] == said
    header, repeated, *_ = journal_events(bridge.root, ONE)
    streams = header["streams"]
    assert isinstance(streams, list)
    own, heard = streams
    assert SEAL.open(own["srtp"]["sealed"]) == key(1)
    assert "srtp" not in heard
    assert repeated["event"] == "stream"
    assert repeated["srtp"] == own["srtp"], "the header may be torn"
    written = b"".join(path.read_bytes() for path in bridge.root.rglob("*.seg"))
    for secret in (key(1), key(2)):
        assert secret.master not in written
        assert secret.master.hex().encode() not in written


def test_a_new_key_holds_from_then_on_and_what_is_late_still_counts(
    make: list[Bridge], tmp_path: Path
) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), None)
    bridge.recorder.start(ONE, CALL, BOTH)
    old, new = Protector(key(1)), Protector(key(5))
    late = done(old, packet(1))
    assert bridge.say(done(old, packet(2))) == [packet(2)]
    bridge.recorder.update(CALL, [replace(bridge.caller_stream, srtp=keys(key(5), key(2)))])
    assert bridge.say(done(new, packet(3)), late, done(new, packet(4))) == [
        packet(3),
        packet(1),
        packet(4),
    ]
    bridge.recorder.stop(ONE)
    told = [one for one in journal_events(bridge.root, ONE) if one["event"] == "stream"]
    assert SEAL.open(told[-1]["srtp"]["sealed"]) == key(5)  # type: ignore[index]
    decryption = Decryption()
    decryption.learn(key(1))
    decryption.learn(key(5))
    packets = kept_packets(bridge.root, ONE)[0]
    assert [decryption._one(one) for one in packets] == [packet(n) for n in (2, 3, 1, 4)]


def test_the_same_keys_again_change_nothing(make: list[Bridge], tmp_path: Path) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), None)
    bridge.recorder.start(ONE, CALL, BOTH)
    sender = Protector(key(1))
    assert bridge.say(done(sender, packet(2))) == [packet(2)]
    bridge.recorder.update(CALL, [replace(bridge.caller_stream, srtp=keys(key(1), key(2)))])
    assert bridge.say(done(sender, packet(3))) == [packet(3)]
    bridge.recorder.stop(ONE)
    told = [one for one in journal_events(bridge.root, ONE) if one["event"] == "stream"]
    assert len(told) == 1, "that which repeats the header"


def test_a_successor_goes_on_after_rollovers_and_over_one(
    make: list[Bridge], tmp_path: Path
) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), None)
    bridge.recorder.start(ONE, CALL, BOTH)
    sender, receiver = Protector(key(1)), Unprotector(key(2))
    for index in range(60_000, 200_000, 5_000):
        assert bridge.say(done(sender, packet(index))) == [packet(index)]
        (heard,) = bridge.reply(packet(index, 0xB))
        assert receiver.rtp(heard) == packet(index, 0xB)
    bridge.recorder.update(CALL, [replace(bridge.caller_stream, srtp=keys(key(5), key(2)))])
    newer, late = Protector(key(5)), done(sender, packet(200_001))
    bridge.restart()
    assert bridge.say(done(newer, packet(200_002)), late) == [packet(200_002), packet(200_001)]
    (heard,) = bridge.reply(packet(200_003, 0xB))
    assert receiver.rtp(heard) == packet(200_003, 0xB)
    bridge.recorder.stop(ONE)


def test_a_leg_that_turns_to_plain_rtp_and_back(make: list[Bridge], tmp_path: Path) -> None:
    bridge = bridge_of(make, tmp_path, keys(key(1), key(2)), None)
    bridge.recorder.update(CALL, [replace(bridge.caller_stream, srtp=None)])
    assert bridge.say(packet(1)) == [packet(1)]
    bridge.recorder.update(CALL, [replace(bridge.caller_stream, srtp=keys(key(6), key(7)))])
    assert bridge.say(packet(2), done(Protector(key(6)), packet(3))) == [packet(3)]


def test_what_a_successor_is_left_names_no_key_that_it_does_not_need(
    make: list[Bridge], tmp_path: Path
) -> None:
    bridge = bridge_of(make, tmp_path, None, None)
    (stream,) = read_blob(bridge.keep.held[CALL][0])["streams"]
    assert stream["protection"] == {}
    assert stream["stream"]["srtp"] is None


def test_keys_go_to_the_worker_and_are_not_shown() -> None:
    stream = Stream(0, Track.INBOUND, "127.0.0.1", 4000, (), srtp=keys(key(1), key(2)))
    there = stream_from_json(stream_to_json(stream))
    assert there == stream
    assert there.srtp is not None
    assert there.srtp.sealed
    assert key(1).master.hex() not in repr(stream)
    assert repr(key(1).master) not in repr(stream)
    for broken in (7, {}, {"receive": ["x"], "send": []}, {"receive": ["AES", "00", ""]}):
        with pytest.raises(ValueError, match=r"srtp|suite"):
            stream_from_json({**stream_to_json(stream), "srtp": broken})


def test_the_pool_seals_what_journals_hold(tmp_path: Path) -> None:
    pool = WorkerPool([], on_event=print, advertised_host="127.0.0.1", seal=SEAL.seal)
    plain = Stream(0, Track.INBOUND, "127.0.0.1", 4000, ())
    secure = replace(plain, srtp=Srtp(key(1), key(2)))
    one, other = pool._sealed([plain, secure])
    assert one.srtp is None
    assert other.srtp is not None
    assert SEAL.open(other.srtp.sealed) == key(1)
