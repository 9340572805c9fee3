"""What a recording server answers to an offer (RFC 3264, RFC 7866 §7): pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from callreel.audio.codec import COMFORT_NOISE, TELEPHONE_EVENT, format_for
from callreel.base.errors import PeerError
from callreel.calls.media import Codec, MediaAddress, Srtp, Stream
from callreel.calls.model import Track
from callreel.signalling.security import (
    NewKey,
    SrtpPolicy,
    answer_line,
    lines_of,
    refusal_of,
)
from callreel.wire import sdp
from callreel.wire.sdes import Crypto

NO_CODEC = "no codec of PCMU PCMA G722 G729 GSM L16 opus"
"""Why a stream is refused that a recording could not be rendered from."""


@dataclass(frozen=True, slots=True)
class Offered:
    """An m-line that we take."""

    number: int
    """Its index."""
    media: sdp.Media
    """As offered."""
    codecs: tuple[sdp.Codec, ...]
    """What of it we understand."""
    host: str
    """Where it comes from: a numeric address."""


def acceptable(
    offer: sdp.SessionDescription,
    *,
    source_host: str,
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL,
) -> list[Offered]:
    """The audio streams of an offer that we can keep.

    ``source_host`` is where the signalling came from: it stands in for an unspecified address
    (``c=0.0.0.0`` is hold, RFC 3264 §8.4). ``srtp`` says what may protect them. Raises
    ``PeerError`` (488) when an offer with streams has none for us.
    """
    taken: list[Offered] = []
    reasons: list[str] = []
    for number, media in enumerate(offer.media):
        if not media.port:
            continue  # empty or dropped
        refusal = refusal_of(media, srtp)
        if media.kind != "audio" or refusal is not None:
            reasons.append(refusal or f"{media.kind} over {media.protocol}")
            continue
        codecs = understood(media.codecs)
        if not codecs:
            reasons.append(NO_CODEC)
            continue
        if media.direction is sdp.Direction.RECVONLY:
            reasons.append("it only receives")
            continue
        taken.append(Offered(number, media, codecs, host_of(media, offer, source_host)))
    if not taken and reasons:
        raise PeerError("no stream that can be recorded: " + "; ".join(reasons[:4]), status=488)
    return taken


def keys_for(
    taken: Sequence[Offered], previous: sdp.SessionDescription | None, new_key: NewKey
) -> dict[int, Crypto]:
    """Our own lines for those streams that are SRTP. Nothing is ever sent with them, but an answer
    has one (RFC 4568 §5.1.3). ``previous`` is our last answer: its keys go on."""
    found: dict[int, Crypto] = {}
    for one in taken:
        known = previous.media[one.number : one.number + 1] if previous is not None else ()
        before = [line.key for media in known for line in lines_of(media)]
        line = answer_line(one.media, None, None, before=before, new_key=new_key)
        if line is not None:
            found[one.number] = line
    return found


def _srtp(one: Offered, lines: Mapping[int, Crypto]) -> Srtp | None:
    ours = lines.get(one.number)
    if ours is None:
        return None
    theirs = next(line for line in lines_of(one.media) if line.tag == ours.tag)
    return Srtp(receive=theirs.key, send=ours.key)


def streams_of(
    taken: Sequence[Offered],
    tracks: Mapping[int, Track],
    heard: Mapping[int, str],
    lines: Mapping[int, Crypto] = MappingProxyType({}),
) -> list[Stream]:
    """The streams as the media workers know them; ``lines`` are those of :func:`keys_for`."""
    return [
        Stream(
            number=one.number,
            track=tracks[one.number],
            remote_host=one.host,
            remote_port=one.media.port,
            codecs=worker_codecs(one.codecs),
            label=one.media.label or "",
            participant=heard.get(one.number, ""),
            sending=one.media.direction.sends and not one.media.is_held,
            rtcp_mux=one.media.rtcp_mux,
            srtp=_srtp(one, lines),
        )
        for one in taken
    ]


def answer(
    offer: sdp.SessionDescription,
    taken: Sequence[Offered],
    addresses: Mapping[int, MediaAddress],
    *,
    session_id: int,
    session_version: int,
    lines: Mapping[int, Crypto] = MappingProxyType({}),
) -> sdp.SessionDescription:
    """Our answer: ``recvonly`` for each stream taken, port 0 for every other."""
    by_number = {one.number: one for one in taken}
    media: list[sdp.Media] = []
    for number, offered in enumerate(offer.media):
        one = by_number.get(number)
        if one is None:
            media.append(sdp.refuse_media(offered))
            continue
        ours = addresses[number]
        media.append(
            sdp.answer_media(
                offered,
                port=ours.rtp_port,
                address=ours.host,
                codecs=one.codecs,
                direction=sdp.Direction.RECVONLY,
                rtcp_mux=True,
                rtcp_port=ours.rtcp_port,
                attributes=[("crypto", lines[number].serialize())] if number in lines else (),
            )
        )
    return _ours(media, session_id, session_version)


def _ours(
    media: Sequence[sdp.Media], session_id: int, session_version: int
) -> sdp.SessionDescription:
    address = next((one.address for one in media if one.address), "0.0.0.0")
    return sdp.SessionDescription(
        media=tuple(media),
        origin_username="callreel",
        session_id=session_id,
        session_version=session_version,
        origin_address=address,
        session_name="callreel",
        address=address,
    )


def understood(codecs: Sequence[sdp.Codec]) -> tuple[sdp.Codec, ...]:
    """Those that a recording can be rendered from, and what may come between them (comfort noise,
    keys), in their order; none if there is no audio among them."""
    heard = {
        one.payload_type
        for one in codecs
        if format_for(one.name, one.clock_rate_hz, one.channels) is not None
    }
    if not heard:
        return ()
    return tuple(
        one
        for one in codecs
        if one.payload_type in heard or one.name.upper() in (COMFORT_NOISE, TELEPHONE_EVENT)
    )


def worker_codecs(codecs: Sequence[sdp.Codec]) -> tuple[Codec, ...]:
    """Payload formats as the media workers know them."""
    return tuple(
        Codec(
            payload_type=one.payload_type,
            name=one.name.upper(),
            clock_rate_hz=one.clock_rate_hz,
            channels=one.channels,
            fmtp=one.parameters,
        )
        for one in codecs
    )


def host_of(media: sdp.Media, offer: sdp.SessionDescription, source_host: str) -> str:
    """The numeric address that a stream will come from."""
    signalled = media.address or offer.address or source_host
    try:
        address = ipaddress.ip_address(signalled)
    except ValueError:
        # A name would have to be looked up; SBCs signal addresses. The source is the best guess.
        return source_host
    return source_host if address.is_unspecified else str(address)
