"""Keys in session descriptions (RFC 4568): its examples, what we cannot do, noise."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.wire.sdes import MAX_LINES, Crypto, Key, Suite, is_secure, usable

KEY = base64.b64encode(bytes(range(30))).decode()

# RFC 4568 §4 and §6.1.
EXAMPLES = [
    "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32",
    "1 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj|2^20|1:32",
    "2 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
    "3 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|1048576",
]
UNUSABLE = [
    "",
    "1",
    "x AES_CM_128_HMAC_SHA1_80 inline:" + KEY,
    "1 F8_128_HMAC_SHA1_80 inline:" + KEY,
    "1 AES_CM_128_HMAC_SHA1_80 " + KEY,
    "1 AES_CM_128_HMAC_SHA1_80 uri:" + KEY,
    "1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY[:-4],
    "1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY + "AAAA",
    "1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY[:-1] + "!",
    "1 AEAD_AES_256_GCM inline:" + KEY,
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4;inline:{KEY}|2:4",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|0",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^49",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:0",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:129",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|256:1",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=4",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} FEC_ORDER=FEC_SRTP",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} SOMETHING_NEW",
    f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} " + "-x " * 300,
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_are_read_and_written_again(text: str) -> None:
    crypto = Crypto.parse(text)
    assert crypto.serialize() == text
    assert len(crypto.key.master) == 30


def test_what_a_line_says() -> None:
    crypto = Crypto.parse(EXAMPLES[0])
    assert (crypto.tag, crypto.lifetime) == (1, "2^20")
    assert crypto.key.suite is Suite.AES_CM_128_HMAC_SHA1_80
    assert crypto.key.mki == bytes(31) + b"\x01"
    for harmless in ("WSH=64", "-FUTURE=1", "KDR=0"):
        assert Crypto.parse(f"{EXAMPLES[2]} {harmless}").key == Crypto.parse(EXAMPLES[2]).key


@pytest.mark.parametrize("text", UNUSABLE)
def test_what_we_cannot_do_is_not_usable(text: str) -> None:
    with pytest.raises(PeerError) as refusal:
        Crypto.parse(text)
    assert refusal.value.status == 488
    assert KEY not in str(refusal.value)


def test_padding_may_be_left_out() -> None:
    text = base64.b64encode(bytes(28)).decode()
    for spelt in (text, text.rstrip("=")):
        assert Crypto.parse(f"1 AEAD_AES_128_GCM inline:{spelt}").key.master == bytes(28)


def test_of_several_lines_the_usable_ones_in_order() -> None:
    attributes = [("mid", "0"), ("crypto", UNUSABLE[3]), ("crypto", EXAMPLES[2])]
    attributes += [("crypto", EXAMPLES[0]), ("crypto", EXAMPLES[1])]
    assert [one.tag for one in usable([*attributes, ("crypto", None)])] == [2, 1]
    assert usable(attributes)[1].key.suite is Suite.AES_CM_128_HMAC_SHA1_80, "one for each tag"
    many = [("crypto", f"{tag} {EXAMPLES[2][2:]}") for tag in range(1, 100)]
    assert len(usable(many)) == MAX_LINES


def test_which_transports_are_srtp() -> None:
    assert is_secure("RTP/SAVP")
    assert is_secure("rtp/savpf")
    for other in ("RTP/AVP", "UDP/TLS/RTP/SAVPF", "RTP/AVPF", ""):
        assert not is_secure(other)


def test_no_key_is_shown() -> None:
    assert "master" not in repr(Crypto.parse(EXAMPLES[0]))
    assert "PS1u" not in repr(Crypto.parse(EXAMPLES[0]))


@given(
    st.sampled_from(list(Suite)),
    st.binary(min_size=44, max_size=44),
    st.integers(0, 999_999_999),
    st.binary(max_size=16),
    st.sampled_from(["", "2^1", "2^48", "1", "281474976710656"]),
)
def test_what_is_written_is_read(
    suite: Suite, secret: bytes, tag: int, mki: bytes, lifetime: str
) -> None:
    crypto = Crypto(tag, Key(suite, secret[: suite.key_bytes], mki), lifetime)
    assert Crypto.parse(crypto.serialize()) == crypto


@given(st.text(max_size=200))
def test_noise_is_refused_or_read(text: str) -> None:
    with contextlib.suppress(PeerError):
        Crypto.parse(text)
