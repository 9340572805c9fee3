"""Which keys are offered, answered and hold (RFC 4568)."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence

import pytest

from callreel.base.errors import PeerError
from callreel.calls.media import MediaAddress, Srtp
from callreel.calls.model import Track
from callreel.signalling.negotiation import acceptable, answer, keys_for, streams_of
from callreel.signalling.passing import (
    NOBODY,
    OurSession,
    audio_of,
    onward_answer,
    onward_offer,
    stream_of,
)
from callreel.signalling.refusal import Refused
from callreel.signalling.security import (
    OFFERED,
    KeyExchange,
    SrtpPolicy,
    agreed,
    answer_line,
    first_lines,
    keys_of,
    later_lines,
    lines_of,
    lines_of_our_own,
)
from callreel.wire.sdes import Crypto, Key, Suite
from callreel.wire.sdp import Direction, Media, SessionDescription
from callreel.wire.sip.flow import Flow, Transport

CM, CM_32, GCM, GCM_256 = (
    Suite.AES_CM_128_HMAC_SHA1_80,
    Suite.AES_CM_128_HMAC_SHA1_32,
    Suite.AEAD_AES_128_GCM,
    Suite.AEAD_AES_256_GCM,
)
OURS = MediaAddress("198.51.100.1", 20000, 20001)
SESSION = OurSession(77)
CLEAR = Flow(Transport.UDP, "192.0.2.7", 5060)
SAFE = Flow(Transport.TLS, "192.0.2.7", 5061)


def key(number: int, suite: Suite = CM) -> Key:
    return Key(suite, bytes([number]) * suite.key_bytes)


def new_keys() -> Callable[[Suite], Key]:
    numbers = itertools.count(100)
    return lambda suite: key(next(numbers), suite)


def described(*lines: str, protocol: str = "RTP/SAVP", port: int = 4000) -> SessionDescription:
    head = ["v=0", "o=- 1 1 IN IP4 192.0.2.7", "s=-", "c=IN IP4 192.0.2.7", "t=0 0"]
    return SessionDescription.parse(
        "\r\n".join([*head, f"m=audio {port} {protocol} 0 101", *lines, ""])
    )


def crypto(*lines: Crypto) -> list[str]:
    return [f"a=crypto:{one.serialize()}" for one in lines]


def media(*lines: Crypto, protocol: str = "RTP/SAVP") -> Media:
    return described(*crypto(*lines), protocol=protocol).media[0]


A1, A2 = Crypto(1, key(1)), Crypto(2, key(2, GCM))


@pytest.mark.parametrize(
    ("protocol", "lines", "policy", "taken"),
    [
        ("RTP/AVP", [], SrtpPolicy.OPTIONAL, True),
        ("RTP/AVPF", [], SrtpPolicy.NEVER, True),
        ("RTP/AVP", [], SrtpPolicy.REQUIRED, False),
        ("RTP/AVP", [A1], SrtpPolicy.REQUIRED, False),
        ("RTP/SAVP", [A1], SrtpPolicy.OPTIONAL, True),
        ("RTP/SAVPF", [A1], SrtpPolicy.REQUIRED, True),
        ("RTP/SAVP", [A1], SrtpPolicy.NEVER, False),
        ("RTP/SAVP", [], SrtpPolicy.OPTIONAL, False),
        ("UDP/TLS/RTP/SAVPF", [], SrtpPolicy.OPTIONAL, False),
    ],
)
def test_what_a_policy_lets_in(
    protocol: str, lines: Sequence[Crypto], policy: SrtpPolicy, taken: bool
) -> None:
    offer = described(*crypto(*lines), protocol=protocol)
    if taken:
        assert audio_of(offer, source_host="192.0.2.7", srtp=policy).media == offer.media[0]
        assert len(acceptable(offer, source_host="192.0.2.7", srtp=policy)) == 1
        return
    for step in (audio_of, acceptable):
        with pytest.raises(PeerError) as refusal:
            step(offer, source_host="192.0.2.7", srtp=policy)
        assert refusal.value.status == 488


def test_of_two_streams_the_one_that_the_policy_wants() -> None:
    text = described(*crypto(A1)).serialize() + b"m=audio 5000 RTP/AVP 0\r\n"
    both = SessionDescription.parse(text)
    for policy, index in ((SrtpPolicy.OPTIONAL, 0), (SrtpPolicy.NEVER, 1)):
        assert audio_of(both, source_host="192.0.2.7", srtp=policy).index == index


def test_keys_hold_where_both_have_the_tag() -> None:
    ours, theirs = Crypto(2, key(8, GCM)), A2
    assert keys_of(media(ours), media(A1, A2)) == Srtp(receive=theirs.key, send=ours.key)
    assert keys_of(media(A1, A2), media(ours)) == Srtp(receive=ours.key, send=A2.key)
    assert keys_of(None, media(A1)) is None
    assert keys_of(media(protocol="RTP/AVP"), media(protocol="RTP/AVPF")) is None
    for mine, other in (
        (media(A1), media(protocol="RTP/AVP")),
        (media(protocol="RTP/AVP"), media(A1)),
        (media(A1), media(A2)),
        (media(A1), media(Crypto(1, key(8, GCM)))),
    ):
        with pytest.raises(Refused) as refusal:
            keys_of(mine, other)
        assert refusal.value.status == 488


def test_what_a_leg_is_offered_first() -> None:
    lines = first_lines((), new_keys())
    assert [one.key.suite for one in lines] == list(OFFERED)
    passed = first_lines((Crypto(2, key(1, CM_32)), Crypto(9, key(2))), new_keys())
    assert [(one.tag, one.key.suite) for one in passed] == [
        (2, CM_32),
        (9, CM),
        (1, GCM_256),
        (3, GCM),
    ]
    assert passed[1].key == key(2), "as the other leg offered it"


def test_an_answer_to_what_was_passed_on_goes_back_as_it_is() -> None:
    onward = media(*first_lines((A1, A2), new_keys()))
    theirs = Crypto(2, key(50, GCM))
    line = answer_line(media(A1, A2), onward, media(theirs), before=(), new_key=new_keys())
    assert line == theirs
    # So each leg's receiving key is the other's sending one.
    caller, callee = keys_of(media(theirs), media(A1, A2)), keys_of(onward, media(theirs))
    assert caller is not None
    assert callee is not None
    assert (caller.receive, caller.send) == (callee.send, callee.receive)


def test_an_answer_with_a_key_of_our_own() -> None:
    offered = media(A1, A2)
    own = next(one for one in first_lines((A1, A2), new_keys()) if one.key.suite is GCM_256)
    onward = media(*first_lines((A1, A2), new_keys()))
    for answered in (media(Crypto(own.tag, key(51, GCM_256))), media(protocol="RTP/AVP")):
        line = answer_line(offered, onward, answered, before=(), new_key=new_keys())
        assert line is not None
        assert (line.tag, line.key.suite) == (1, CM), "the offerer's order counts"
        assert line.key not in (A1.key, own.key)
    kept = answer_line(offered, None, None, before=[key(7, GCM), key(8)], new_key=new_keys())
    assert kept == Crypto(1, key(8)), "what holds goes on"
    assert answer_line(media(protocol="RTP/AVP"), None, None, before=(), new_key=key) is None  # type: ignore[arg-type]


def test_in_mid_call_keys_stay_or_are_passed_through_as_before() -> None:
    told, said = media(A1, A2), media(Crypto(1, key(60)))
    across = Srtp(receive=A1.key, send=key(60))
    renewed = Crypto(1, key(3))
    assert later_lines(told, said, across, (renewed,), new_keys()) == (renewed,)
    assert later_lines(told, said, across, (), new_keys()) == (A1,), "the other leg is plain now"
    foreign = Srtp(receive=key(70), send=key(71))
    assert later_lines(told, said, foreign, (renewed,), new_keys()) == (A1,)
    plain = media(protocol="RTP/AVP")
    assert later_lines(plain, plain, across, (renewed,), new_keys()) == ()


def test_somebody_else_speaks_with_a_key_of_ours() -> None:
    told, said = media(Crypto(1, key(60))), media(A1, A2)
    (line,) = lines_of_our_own(told, said, (), new_keys())
    assert (line.tag, line.key.suite) == (1, CM)
    assert line.key != key(60), "that one was passed on"
    assert lines_of_our_own(told, said, (key(60),), new_keys()) == (Crypto(1, key(60)),)


def test_descriptions_are_passed_on_with_keys_and_without() -> None:
    offer = described(*crypto(A1, A2))
    audio = audio_of(offer, source_host="192.0.2.7")
    assert audio.crypto == (A1, A2)
    onward = onward_offer(audio, OURS, SESSION.next, crypto=audio.crypto)
    assert onward.media[0].protocol == "RTP/SAVP"
    assert lines_of(SessionDescription.parse(onward.serialize()).media[0]) == (A1, A2)
    plain = onward_offer(audio, OURS, SESSION.next)
    assert plain.media[0].protocol == "RTP/AVP"
    assert plain.media[0].attribute("crypto") is None
    answered = audio_of(described(protocol="RTP/AVP"), source_host="192.0.2.8")
    own = Crypto(1, key(9))
    back = onward_answer(offer, audio, answered, OURS, SESSION.next, crypto=own)
    assert (back.media[0].protocol, lines_of(back.media[0])) == ("RTP/SAVP", (own,))


def test_nothing_is_taken_while_there_are_no_keys() -> None:
    audio = audio_of(described(*crypto(A1)), source_host="192.0.2.7")
    waiting = stream_of(audio)
    assert (waiting.remote_host, waiting.remote_port, waiting.srtp) == (NOBODY, 0, None)
    keys = Srtp(A1.key, key(9))
    stream = stream_of(audio, srtp=keys)
    assert (stream.remote_host, stream.remote_port, stream.srtp) == ("192.0.2.7", 4000, keys)


def test_a_recording_session_is_answered_with_a_key() -> None:
    offer = described(*crypto(A2, A1), "a=sendonly")
    taken = acceptable(offer, source_host="192.0.2.7")
    lines = keys_for(taken, None, new_keys())
    assert lines[0].tag == 2
    made = answer(offer, taken, {0: OURS}, session_id=1, session_version=1, lines=lines)
    assert (made.media[0].protocol, made.media[0].direction) == ("RTP/SAVP", Direction.RECVONLY)
    assert lines_of(made.media[0]) == (lines[0],)
    (stream,) = streams_of(taken, {0: Track.INBOUND}, {}, lines)
    assert stream.srtp == Srtp(receive=A2.key, send=lines[0].key)
    assert keys_for(taken, made, new_keys()) == lines, "it goes on with the session"
    plain = acceptable(described(protocol="RTP/AVP"), source_host="192.0.2.7")
    assert keys_for(plain, None, new_keys()) == {}


def test_keys_over_clear_signalling(caplog: pytest.LogCaptureFixture) -> None:
    keys = KeyExchange()
    assert keys.policy(SrtpPolicy.REQUIRED, CLEAR) is SrtpPolicy.REQUIRED
    keys.over_clear = False
    assert keys.policy(SrtpPolicy.OPTIONAL, CLEAR) is SrtpPolicy.NEVER
    assert keys.policy(SrtpPolicy.REQUIRED, SAFE) is SrtpPolicy.REQUIRED
    with pytest.raises(Refused) as refusal:
        keys.policy(SrtpPolicy.REQUIRED, CLEAR)
    assert refusal.value.status == 488
    with caplog.at_level(logging.WARNING):
        for flow in (SAFE, None, CLEAR, CLEAR):
            keys.note("edge", flow)
    assert [one.getMessage() for one in caplog.records] == [
        "edge: keys of SRTP over UDP can be read on the way; use TLS for SIP"
    ]


def test_agreed_needs_the_same_suite() -> None:
    assert agreed([A1], [Crypto(1, key(5, CM_32))]) is None
    assert agreed([], [A1]) is None
    assert agreed([A2, A1], [A1]) == (A1, A1)
