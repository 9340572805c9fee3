"""Session descriptions passed from one leg of a bridged call to the other (RFC 3264): pure.

Each leg is described with our own addresses. Payload types and parameters stay the peers' own,
since packets are relayed as they come.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from callreel.base.errors import PeerError
from callreel.calls.media import MediaAddress, Srtp, Stream
from callreel.calls.model import Track
from callreel.signalling.negotiation import NO_CODEC, host_of, understood, worker_codecs
from callreel.signalling.security import SrtpPolicy, lines_of, refusal_of
from callreel.wire import sdp
from callreel.wire.sdes import Crypto, is_secure

NOBODY = "0.0.0.0"
"""From whom nothing is taken."""
STREAM = 0
"""The number of a leg's one stream, whatever the index of its m-line."""
_PASSED = frozenset({"maxptime", "silenceSupp", "rtcp-fb"})
"""Attributes of a stream that mean the same on the other side. ICE, DTLS and labels do not."""


@dataclass(frozen=True, slots=True)
class Audio:
    """The one audio stream of a description that is bridged."""

    index: int
    """Of its m-line."""
    media: sdp.Media
    """As described."""
    codecs: tuple[sdp.Codec, ...]
    """What of it we understand, in the peer's order."""
    host: str
    """Where the peer receives and sends: a numeric address."""

    @property
    def crypto(self) -> tuple[Crypto, ...]:
        """Its keys, as far as we can use them; none where it is plain RTP."""
        return lines_of(self.media)


def audio_of(
    description: sdp.SessionDescription,
    *,
    source_host: str,
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL,
) -> Audio:
    """The stream to bridge: the first audio that can be recorded.

    ``source_host`` is where the signalling came from; it stands in for an unspecified address
    (``c=0.0.0.0`` is hold, RFC 3264 §8.4). ``srtp`` says what may protect it. Raises ``PeerError``
    (488).
    """
    reasons: list[str] = []
    for index, media in enumerate(description.media):
        if not media.port:
            continue
        refusal = refusal_of(media, srtp)
        if media.kind != "audio" or refusal is not None:
            reasons.append(refusal or f"{media.kind} over {media.protocol}")
            continue
        codecs = understood(media.codecs)
        if not codecs:
            reasons.append(NO_CODEC)
            continue
        return Audio(index, media, codecs, host_of(media, description, source_host))
    why = "; ".join(reasons[:4]) or "there is none"
    raise PeerError(f"no audio that can be passed on: {why}", status=488)


def stream_of(audio: Audio, *, participant: str = "", srtp: Srtp | None = None) -> Stream:
    """What a media worker receives from the peer, and sends to it.

    While a peer's SRTP has no keys (``srtp``) nothing is taken from it.
    """
    keyless = srtp is None and is_secure(audio.media.protocol)
    held = audio.media.is_held
    return Stream(
        number=STREAM,
        track=Track.INBOUND,
        remote_host=NOBODY if keyless else audio.host,
        remote_port=0 if keyless else audio.media.port,
        codecs=worker_codecs(audio.codecs),
        participant=participant,
        sending=audio.media.direction.sends and not held,
        receiving=audio.media.direction.receives and not held,
        rtcp_mux=audio.media.rtcp_mux,
        srtp=srtp,
    )


@dataclass(frozen=True, slots=True)
class OurSession:
    """What ``o=`` says of our side of a leg."""

    session_id: int
    """Stays for the life of the leg."""
    version: int = 0
    """Grows by one with each description that differs from the last."""

    @property
    def next(self) -> OurSession:
        """For a description that differs."""
        return dataclasses.replace(self, version=self.version + 1)


def onward_offer(
    audio: Audio,
    address: MediaAddress,
    ours: OurSession,
    *,
    previous: sdp.SessionDescription | None = None,
    crypto: Sequence[Crypto] = (),
) -> sdp.SessionDescription:
    """One side's audio, offered to the other with our address.

    ``previous`` is our last description on that leg, for an offer within its dialog: its streams
    keep their places (RFC 3264 §8). With ``crypto`` it is offered as SRTP.
    """
    if previous is None:
        protocol = "RTP/SAVP" if crypto else "RTP/AVP"
        media = [
            _passed(audio.media, audio.codecs, address, mux=True, protocol=protocol, crypto=crypto)
        ]
    else:
        media = [
            _passed(
                audio.media,
                audio.codecs,
                address,
                mux=one.rtcp_mux,
                protocol=one.protocol,
                crypto=crypto,
            )
            if one.port
            else one
            for one in previous.media
        ]
    return description_of(media, address, ours)


def onward_answer(
    offer: sdp.SessionDescription,
    offered: Audio,
    answered: Audio,
    address: MediaAddress,
    ours: OurSession,
    *,
    crypto: Crypto | None = None,
) -> sdp.SessionDescription:
    """The other side's answer, as the answer to this side's offer (RFC 3264 §6); with ``crypto``,
    where that is SRTP.

    Raises ``PeerError`` (488) where it has none of the codecs that were offered.
    """
    types = {one.payload_type for one in offered.codecs}
    codecs = [one for one in answered.codecs if one.payload_type in types]
    if not codecs:
        raise PeerError("no codec in common", status=488)
    media = [
        _passed(
            answered.media,
            codecs,
            address,
            mux=one.rtcp_mux,
            protocol=offered.media.protocol,
            crypto=() if crypto is None else (crypto,),
        )
        if index == offered.index
        else sdp.refuse_media(one)
        for index, one in enumerate(offer.media)
    ]
    return description_of(media, address, ours)


def same_media(one: sdp.SessionDescription, other: sdp.SessionDescription) -> bool:
    """Whether two descriptions of one peer say the same: then a re-INVITE only refreshes."""
    return (one.media, one.address) == (other.media, other.address)


def _passed(
    media: sdp.Media,
    codecs: Sequence[sdp.Codec],
    address: MediaAddress,
    *,
    mux: bool,
    protocol: str,
    crypto: Sequence[Crypto],
) -> sdp.Media:
    direction = media.direction
    if media.address in ("0.0.0.0", "::") and direction.sends:
        # The old way of hold (RFC 2543): whoever does it still sends, and wants to hear nothing.
        direction = sdp.Direction.SENDONLY
    return sdp.Media(
        kind="audio",
        port=address.rtp_port,
        protocol=protocol,
        formats=tuple(str(one.payload_type) for one in codecs),
        codecs=tuple(codecs),
        address=address.host,
        direction=direction,
        ptime_ms=media.ptime_ms,
        rtcp_port=None if mux else address.rtcp_port,
        rtcp_mux=mux,
        attributes=(
            *(pair for pair in media.attributes if pair[0] in _PASSED),
            *(("crypto", one.serialize()) for one in crypto),
        ),
    )


def description_of(
    media: Sequence[sdp.Media], address: MediaAddress, ours: OurSession
) -> sdp.SessionDescription:
    """Media as we describe them to a peer, in a session of ours."""
    return sdp.SessionDescription(
        media=tuple(media),
        origin_username="callreel",
        session_id=ours.session_id,
        session_version=ours.version,
        origin_address=address.host,
        session_name="callreel",
        address=address.host,
    )
