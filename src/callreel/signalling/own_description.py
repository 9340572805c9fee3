"""What we describe ourselves, where a call ends here (RFC 3264): pure.

One codec is agreed on with each peer, so that what is played to it is never in doubt, and so that
two calls that are connected can be given the same: then packets are passed on as they come.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from callreel.base.errors import PeerError
from callreel.calls.media import MediaAddress
from callreel.signalling.passing import Audio, OurSession, description_of
from callreel.wire import sdp
from callreel.wire.sdes import Crypto

PLAYED = (sdp.Codec(0, "PCMU", 8000), sdp.Codec(8, "PCMA", 8000))
"""Codecs that we play and offer, in this order."""
DIGITS = sdp.Codec(101, "telephone-event", 8000, parameters="0-15")
"""Keys that are pressed (RFC 4733)."""
PTIME_MS = 20
"""Packet time that we send, and wish to receive."""


def agreed(audio: Audio) -> tuple[sdp.Codec, ...]:
    """What is spoken with a peer: the first of its codecs that we play, and its telephone-events.

    Raises ``PeerError`` (488) where there is none.
    """
    voice = next((one for one in audio.codecs if any(one.matches(ours) for ours in PLAYED)), None)
    if voice is None:
        names = " ".join(one.name for one in PLAYED)
        raise PeerError(f"no codec that can be played: {names}", status=488)
    digits = [one for one in audio.codecs if one.matches(DIGITS)]
    return (voice, *digits[:1])


def narrowed(audio: Audio, codecs: Sequence[sdp.Codec]) -> Audio:
    """A peer's stream as it may arrive, once we have answered it with these codecs alone."""
    kept = tuple(one for one in audio.codecs if any(one.matches(ours) for ours in codecs))
    return dataclasses.replace(audio, codecs=kept)


def same_codec(one: Audio, other: Audio) -> bool:
    """Whether what one peer sends can be passed to the other as it comes."""
    mine, theirs = agreed(one)[0], agreed(other)[0]
    return mine.matches(theirs) and mine.payload_type == theirs.payload_type


def own_offer(
    codecs: Sequence[sdp.Codec],
    address: MediaAddress,
    ours: OurSession,
    *,
    previous: sdp.SessionDescription | None = None,
    crypto: Sequence[Crypto] = (),
) -> sdp.SessionDescription:
    """Our side of a call, offered. With ``crypto`` it is offered as SRTP.

    ``previous`` is our last description in the dialog: its streams keep their places (RFC 3264
    §8).
    """
    protocol = "RTP/SAVP" if crypto else "RTP/AVP"
    if previous is None:
        media = [_stream(codecs, address, protocol=protocol, mux=True, crypto=crypto)]
    else:
        media = [
            _stream(codecs, address, protocol=one.protocol, mux=one.rtcp_mux, crypto=crypto)
            if one.port
            else one
            for one in previous.media
        ]
    return description_of(media, address, ours)


def own_answer(
    offer: sdp.SessionDescription,
    offered: Audio,
    codecs: Sequence[sdp.Codec],
    address: MediaAddress,
    ours: OurSession,
    *,
    crypto: Crypto | None = None,
) -> sdp.SessionDescription:
    """Our side of a call, as the answer to a peer's offer: these codecs of it, everything else
    refused (RFC 3264 §6)."""
    media = [
        dataclasses.replace(
            sdp.answer_media(
                one,
                port=address.rtp_port,
                address=address.host,
                codecs=codecs,
                direction=sdp.Direction.SENDRECV,
                rtcp_mux=True,
                rtcp_port=None if one.rtcp_mux else address.rtcp_port,
                attributes=() if crypto is None else [("crypto", crypto.serialize())],
            ),
            ptime_ms=PTIME_MS,
            label=None,
        )
        if index == offered.index
        else sdp.refuse_media(one)
        for index, one in enumerate(offer.media)
    ]
    return description_of(media, address, ours)


def _stream(
    codecs: Sequence[sdp.Codec],
    address: MediaAddress,
    *,
    protocol: str,
    mux: bool,
    crypto: Sequence[Crypto],
) -> sdp.Media:
    return sdp.Media(
        kind="audio",
        port=address.rtp_port,
        protocol=protocol,
        formats=tuple(str(one.payload_type) for one in codecs),
        codecs=tuple(codecs),
        address=address.host,
        ptime_ms=PTIME_MS,
        rtcp_port=None if mux else address.rtcp_port,
        rtcp_mux=mux,
        attributes=tuple(("crypto", one.serialize()) for one in crypto),
    )
