"""What a phone offers and answers (RFC 3264): one stream of G.711 and telephone-events. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence

from callreel.base.errors import PeerError
from callreel.calls.media import Srtp
from callreel.phone.sources import RATE_HZ
from callreel.signalling.new_keys import random_key
from callreel.signalling.security import SrtpPolicy, answer_line, keys_of, refusal_of
from callreel.wire import sdp
from callreel.wire.sdes import Crypto, Suite, is_secure

DEFAULT_EVENT_TYPE = 101
_STATIC_TYPES = {"PCMU": 0, "PCMA": 8}
_EVENT_NAME = "telephone-event"


@dataclasses.dataclass(frozen=True, slots=True)
class Agreed:
    """What both sides of a call agreed upon last."""

    remote: tuple[str, int] | None
    """Where our packets go; None while the peer takes none."""
    rtcp: tuple[str, int] | None
    """Where our reports go; the same as ``remote`` if RTCP shares the port of RTP (RFC 5761)."""
    rtcp_mux: bool
    """Whether it does."""
    codec: str
    """What we send: ``PCMU`` or ``PCMA``."""
    payload_type: int
    """Its payload type."""
    codecs: tuple[tuple[int, str], ...]
    """What may come, by payload type."""
    event_type: int | None
    """The payload type of telephone-events; None if the peer does not know them."""
    direction: sdp.Direction
    """As we see it."""
    held: bool
    """Whether it is the peer that does not want to hear us."""
    srtp: Srtp | None = None
    """The keys; None for plain RTP."""


class Negotiation:
    """The offers and answers of one call. Our ports are ``port`` and the next one, for RTCP.

    With ``suites`` it offers SRTP in one of these, and takes it where it is offered.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        codecs: Sequence[str],
        session_id: int,
        suites: Sequence[Suite] = (),
    ) -> None:
        self._lines = tuple(Crypto(tag, random_key(one)) for tag, one in enumerate(suites, 1))
        self._host = host
        self._port = port
        self._codecs = tuple(codec.upper() for codec in codecs)
        self._session_id = session_id
        self._version = 0
        self._ours: tuple[sdp.Media, ...] = ()
        self._number = 0
        self._body = b""
        self.direction = sdp.Direction.SENDRECV
        """What we want."""
        self.agreed: Agreed | None = None
        """What was agreed upon; None before the first answer."""

    def offer(self) -> bytes:
        """An offer of all that we can do, in our order."""
        event_type = DEFAULT_EVENT_TYPE
        if self.agreed is not None and self.agreed.event_type is not None:
            event_type = self.agreed.event_type
        codecs = (
            *(sdp.Codec(_STATIC_TYPES[name], name, RATE_HZ) for name in self._codecs),
            sdp.Codec(event_type, _EVENT_NAME, RATE_HZ, parameters="0-15"),
        )
        protocol = "RTP/SAVP" if self._lines else "RTP/AVP"
        if self._ours:
            protocol = self._ours[self._number].protocol
        ours = sdp.Media(
            kind="audio",
            port=self._port,
            protocol=protocol,
            formats=tuple(str(codec.payload_type) for codec in codecs),
            codecs=codecs,
            address=self._host,
            direction=self.direction,
            ptime_ms=20,
            attributes=_attributes(self._lines if is_secure(protocol) else ()),
        )
        # A stream once described keeps its place for good (RFC 3264 §8).
        media = list(self._ours) or [ours]
        media[self._number] = ours
        return self._describe(media)

    def accept(self, offer: bytes, *, source_host: str) -> tuple[bytes, Agreed]:
        """Our answer to an offer, and what is agreed by it.

        ``source_host`` is where the signalling came from. Raises ``PeerError`` (488).
        """
        description = sdp.SessionDescription.parse(offer)
        number = next((n for n, one in enumerate(description.media) if self._suits(one)), None)
        if number is None:
            raise PeerError("no audio stream with a codec of ours", status=488)
        media = description.media[number]
        codecs = self._common(media)
        answered = [sdp.refuse_media(one) for one in description.media]
        keys = [line.key for line in self._lines]
        line = answer_line(media, None, None, before=keys, new_key=random_key)
        answered[number] = sdp.answer_media(
            media,
            port=self._port,
            address=self._host,
            codecs=codecs,
            direction=self.direction,
            rtcp_mux=True,
            attributes=_attributes(() if line is None else (line,)),
        )
        srtp = keys_of(answered[number], media)
        agreed = self._agree(media, answered[number].direction, codecs, source_host, srtp)
        self._number = number
        body = self._describe(answered)
        self.agreed = agreed
        return body, agreed

    def conclude(self, answer: bytes, *, source_host: str) -> Agreed:
        """What the answer to our last offer makes agreed. Raises ``PeerError`` (488)."""
        description = sdp.SessionDescription.parse(answer)
        if len(description.media) <= self._number:
            raise PeerError("the answer has no audio stream", status=488)
        media = description.media[self._number]
        if not self._suits(media):
            raise PeerError("the answer has no codec of ours", status=488)
        codecs = self._common(media)
        offered = self._ours[self._number].direction
        theirs = media.direction.reversed
        sends = offered.sends and theirs.sends
        receives = offered.receives and theirs.receives
        srtp = keys_of(self._ours[self._number], media)
        self.agreed = self._agree(media, _direction(sends, receives), codecs, source_host, srtp)
        return self.agreed

    # Within

    def _suits(self, media: sdp.Media) -> bool:
        voices = [one for one in self._common(media) if one.name.upper() in _STATIC_TYPES]
        return bool(media.port and voices and refusal_of(media, self._policy) is None)

    @property
    def _policy(self) -> SrtpPolicy:
        return SrtpPolicy.OPTIONAL if self._lines else SrtpPolicy.NEVER

    def _common(self, media: sdp.Media) -> tuple[sdp.Codec, ...]:
        if media.kind != "audio" or not media.is_rtp:
            return ()
        names = [f"{name}/{RATE_HZ}" for name in (*self._codecs, _EVENT_NAME)]
        return sdp.common_codecs(media, names)

    def _agree(
        self,
        media: sdp.Media,
        direction: sdp.Direction,
        codecs: Sequence[sdp.Codec],
        source_host: str,
        srtp: Srtp | None,
    ) -> Agreed:
        voice = [codec for codec in codecs if codec.name.upper() in _STATIC_TYPES]
        host = _host(media, source_host)
        held = media.is_held or not media.direction.receives
        rtcp = media.rtcp_target
        return Agreed(
            remote=(host, media.port) if direction.sends and not held else None,
            rtcp=(host, rtcp[1]) if rtcp is not None else None,
            rtcp_mux=media.rtcp_mux,
            codec=voice[0].name.upper(),
            payload_type=voice[0].payload_type,
            codecs=tuple((codec.payload_type, codec.name.upper()) for codec in voice),
            event_type=next(
                (one.payload_type for one in codecs if one.name.lower() == _EVENT_NAME), None
            ),
            direction=direction,
            held=held,
            srtp=srtp,
        )

    def _describe(self, media: Sequence[sdp.Media]) -> bytes:
        def write(version: int) -> bytes:
            return sdp.SessionDescription(
                media=tuple(media),
                origin_username="callreel-phone",
                session_id=self._session_id,
                session_version=version,
                origin_address=self._host,
                address=self._host,
            ).serialize()

        # The version grows when something changed, and only then (RFC 3264 §8).
        if not self._body or write(self._version) != self._body:
            self._version += 1
        self._ours = tuple(media)
        self._body = write(self._version)
        return self._body


def _attributes(lines: Sequence[Crypto]) -> tuple[tuple[str, str], ...]:
    return tuple(("crypto", line.serialize()) for line in lines)


def _direction(sends: bool, receives: bool) -> sdp.Direction:
    return {
        (True, True): sdp.Direction.SENDRECV,
        (True, False): sdp.Direction.SENDONLY,
        (False, True): sdp.Direction.RECVONLY,
        (False, False): sdp.Direction.INACTIVE,
    }[sends, receives]


def _host(media: sdp.Media, source_host: str) -> str:
    """A numeric address to send to."""
    try:
        address = ipaddress.ip_address(media.address or source_host)
    except ValueError:
        # A name would have to be looked up in the middle of a call; phones signal addresses.
        return source_host
    return source_host if address.is_unspecified else str(address)
