"""Session descriptions (SDP, RFC 8866) and the answer to an offer (RFC 3264). No I/O.

Tolerant in reading: any line end, lines in any order, missing ``v= o= s= t=``, unknown lines kept
as attributes or passed over. Strict where a mistake would lose audio: ports, payload types and
connection addresses.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterable, Sequence

from callreel.base.errors import PeerError

SDP_TYPE = "application/sdp"
"""The content type of a session description (RFC 8866 §8.1)."""
MAX_SDP_BYTES = 16_384
MAX_MEDIA = 32
MAX_FORMATS = 64
MAX_ATTRIBUTES = 1024

_ADDRESS = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
_TOKEN = re.compile(r"[^\s\x00-\x1f\x7f:]{1,255}")
_RTPMAP = re.compile(r"([0-9]{1,3})\s+([^\s/]{1,64})/([0-9]{1,7})(?:/([0-9]{1,3}))?\s*")
_RTCP = re.compile(r"([0-9]{1,5})(?:\s+IN\s+IP[46]\s+(\S+))?\s*")


class Direction(enum.StrEnum):
    """Which way media flows, as the one who wrote the description sees it (RFC 3264 §5.1)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """True if the writer sends media."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """True if the writer takes media."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reversed(self) -> Direction:
        """The same flow as the other side sees it."""
        return {
            Direction.SENDONLY: Direction.RECVONLY,
            Direction.RECVONLY: Direction.SENDONLY,
        }.get(self, self)


_DIRECTIONS = {direction.value: direction for direction in Direction}


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """One payload format: what ``a=rtpmap`` and ``a=fmtp`` say of a payload type."""

    payload_type: int
    """The RTP payload type, 0 to 127."""

    name: str
    """The encoding name as written, for example ``PCMU`` or ``telephone-event``."""

    clock_rate_hz: int
    """The RTP clock; for G.722 that is 8000, although it samples at 16,000."""

    channels: int = 1
    """Audio channels."""

    parameters: str = ""
    """The format parameters (``a=fmtp``), as written; empty if there are none."""

    def matches(self, other: Codec) -> bool:
        """True if both name the same encoding, whatever their payload types."""
        return (
            self.name.upper() == other.name.upper()
            and self.clock_rate_hz == other.clock_rate_hz
            and self.channels == other.channels
        )


STATIC_CODECS = {
    codec.payload_type: codec
    for codec in (
        Codec(0, "PCMU", 8000),
        Codec(3, "GSM", 8000),
        Codec(4, "G723", 8000),
        Codec(8, "PCMA", 8000),
        Codec(9, "G722", 8000),
        Codec(10, "L16", 44100, 2),
        Codec(11, "L16", 44100),
        Codec(13, "CN", 8000),
        Codec(15, "G728", 8000),
        Codec(18, "G729", 8000),
    )
}
"""Payload types that need no ``a=rtpmap`` (RFC 3551 §6)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Media:
    """One media description: an ``m=`` line and what belongs to it."""

    kind: str
    """``audio``, ``video``, ``image``…"""

    port: int
    """The port that media goes to, 0 if the stream is refused or gone."""

    protocol: str
    """The transport, for example ``RTP/AVP`` or ``RTP/SAVP``."""

    formats: tuple[str, ...]
    """The formats in order of preference; payload types, for RTP."""

    codecs: tuple[Codec, ...] = ()
    """The formats that are known by rtpmap or statically, in the same order."""

    address: str | None = None
    """The connection address that holds for this stream, its own or the session's."""

    direction: Direction = Direction.SENDRECV
    """The direction attribute that holds, its own or the session's."""

    ptime_ms: int | None = None
    """Packet time that the writer wishes to receive (``a=ptime``)."""

    label: str | None = None
    """``a=label`` (RFC 4574): what SIPREC metadata calls the stream."""

    rtcp_port: int | None = None
    """The port of ``a=rtcp`` (RFC 3605); None: the RTP port plus one, or the same with mux."""

    rtcp_address: str | None = None
    """The address of ``a=rtcp``; None: that of the RTP."""

    rtcp_mux: bool = False
    """RTCP on the RTP port (RFC 5761)."""

    attributes: tuple[tuple[str, str | None], ...] = ()
    """Every other attribute, as written: mid, crypto, candidate…"""

    @property
    def is_rtp(self) -> bool:
        """True if the formats are RTP payload types."""
        return "RTP/" in self.protocol.upper()

    @property
    def is_held(self) -> bool:
        """True if the writer has put the stream on hold: ``inactive``, or the old way of
        RFC 2543, a connection address of zeros.
        """
        return self.direction is Direction.INACTIVE or self.address in ("0.0.0.0", "::")

    @property
    def rtcp_target(self) -> tuple[str, int] | None:
        """Where RTCP for this stream goes; None if the stream is refused or has no address."""
        if not self.port or not self.address:
            return None
        if self.rtcp_mux:
            return self.address, self.port
        return self.rtcp_address or self.address, self.rtcp_port or self.port + 1

    def attribute(self, name: str) -> str | None:
        """The value of the first attribute ``name`` (empty for a flag), None if there is none."""
        for key, value in self.attributes:
            if key == name:
                return value or ""
        return None


@dataclasses.dataclass(frozen=True, slots=True)
class SessionDescription:
    """A session description. ``parse`` reads it, ``serialize`` writes it."""

    media: tuple[Media, ...]
    """The media descriptions, in order: an answer has as many as its offer."""

    origin_username: str = "-"
    """First field of ``o=``."""

    session_id: int = 0
    """Second field of ``o=``: stays the same for the life of the session."""

    session_version: int = 0
    """Third field of ``o=``: grows by one with each change."""

    origin_address: str = "0.0.0.0"
    """Last field of ``o=``."""

    session_name: str = "-"
    """``s=``."""

    address: str | None = None
    """The connection address of the session (``c=``), if it has one."""

    attributes: tuple[tuple[str, str | None], ...] = ()
    """The session's attributes as written, direction apart."""

    @classmethod
    def parse(cls, data: bytes | str) -> SessionDescription:
        """Read a description. Raises PeerError: 400 if it is none, 488 if it is beyond bounds."""
        return _parse(data)

    def serialize(self) -> bytes:
        """The description as bytes, lines ending in CRLF."""
        family = _family(self.origin_address)
        lines = [
            "v=0",
            f"o={self.origin_username} {self.session_id} {self.session_version}"
            f" IN {family} {self.origin_address}",
            f"s={self.session_name}",
        ]
        if self.address is not None:
            lines.append(f"c=IN {_family(self.address)} {self.address}")
        lines.append("t=0 0")
        lines += [_attribute_line(name, value) for name, value in self.attributes]
        for media in self.media:
            lines += _media_lines(media, self.address)
        return "".join(f"{line}\r\n" for line in lines).encode()


def _family(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _attribute_line(name: str, value: str | None) -> str:
    return f"a={name}" if value is None else f"a={name}:{value}"


def _media_lines(media: Media, session_address: str | None) -> list[str]:
    lines = [f"m={media.kind} {media.port} {media.protocol} {' '.join(media.formats) or '0'}"]
    if media.address is not None and media.address != session_address:
        lines.append(f"c=IN {_family(media.address)} {media.address}")
    for codec in media.codecs:
        if codec == STATIC_CODECS.get(codec.payload_type) and not media.port:
            continue
        channels = f"/{codec.channels}" if codec.channels != 1 else ""
        lines.append(f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate_hz}{channels}")
        if codec.parameters:
            lines.append(f"a=fmtp:{codec.payload_type} {codec.parameters}")
    if media.ptime_ms is not None:
        lines.append(f"a=ptime:{media.ptime_ms}")
    if media.label is not None:
        lines.append(f"a=label:{media.label}")
    if media.rtcp_port is not None:
        where = ""
        if media.rtcp_address is not None:
            where = f" IN {_family(media.rtcp_address)} {media.rtcp_address}"
        lines.append(f"a=rtcp:{media.rtcp_port}{where}")
    if media.rtcp_mux:
        lines.append("a=rtcp-mux")
    lines += [_attribute_line(name, value) for name, value in media.attributes]
    lines.append(f"a={media.direction}")
    return lines


def _parse(data: bytes | str) -> SessionDescription:
    if isinstance(data, str):
        data = data.encode()
    if len(data) > MAX_SDP_BYTES:
        raise PeerError(f"session description of over {MAX_SDP_BYTES} bytes", status=488)
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    session: list[tuple[str, str]] = []
    sections: list[list[tuple[str, str]]] = []
    attributes = 0
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip(" \t\x00")
        if not line:
            continue
        # RFC 8866 §5 forbids a space around the =; RFC 4475 §3.1.1.8 has one, in noise.
        if len(line) < 2 or line[1] != "=" or not line[0].isalpha():
            raise PeerError(f"line {number} of the session description is not valid")
        kind, value = line[0], line[2:]
        attributes += kind == "a"
        if attributes > MAX_ATTRIBUTES:
            raise PeerError("session description has too many attributes", status=488)
        if kind == "m":
            if len(sections) == MAX_MEDIA:
                raise PeerError(f"more than {MAX_MEDIA} media descriptions", status=488)
            sections.append([])
        (sections[-1] if sections else session).append((kind, value))
    if not session and not sections:
        raise PeerError("session description is empty")
    if not any(kind == "v" for kind, _ in session) and not sections:
        raise PeerError("not a session description")
    address = _connection(session)
    direction, session_attributes = _split_direction(session)
    origin = _parse_origin(session)
    return SessionDescription(
        media=tuple(
            _parse_media(lines, address, direction or Direction.SENDRECV) for lines in sections
        ),
        origin_username=origin[0],
        session_id=origin[1],
        session_version=origin[2],
        origin_address=origin[3],
        session_name=next((v for k, v in session if k == "s"), "-") or "-",
        address=address,
        attributes=tuple(session_attributes),
    )


def _parse_origin(lines: Iterable[tuple[str, str]]) -> tuple[str, int, int, str]:
    value = next((v for k, v in lines if k == "o"), None)
    parts = value.split() if value else []
    if len(parts) != 6:
        return "-", 0, 0, "0.0.0.0"
    numbers = [int(p) if p.isascii() and p.isdigit() and len(p) <= 20 else 0 for p in parts[1:3]]
    return parts[0], numbers[0], numbers[1], parts[5]


def _connection(lines: Iterable[tuple[str, str]]) -> str | None:
    """The address of the first ``c=`` line, without the TTL of multicast."""
    value = next((v for k, v in lines if k == "c"), None)
    if value is None:
        return None
    parts = value.split()
    if len(parts) != 3 or parts[0].upper() != "IN" or parts[1].upper() not in ("IP4", "IP6"):
        raise PeerError("connection line (c=) is not valid")
    address = parts[2].split("/")[0]
    if not _ADDRESS.fullmatch(address):
        raise PeerError("connection address is not valid")
    return address


def _split_attribute(value: str) -> tuple[str, str | None]:
    name, colon, text = value.partition(":")
    return name.strip(), text.strip() if colon else None


def _split_direction(
    lines: Iterable[tuple[str, str]],
) -> tuple[Direction | None, list[tuple[str, str | None]]]:
    direction: Direction | None = None
    rest: list[tuple[str, str | None]] = []
    for kind, value in lines:
        if kind != "a":
            continue
        name, text = _split_attribute(value)
        if name in _DIRECTIONS and text is None:
            direction = _DIRECTIONS[name]
        elif _TOKEN.fullmatch(name):
            rest.append((name, text))
    return direction, rest


def _parse_media(
    lines: Sequence[tuple[str, str]], session_address: str | None, session_direction: Direction
) -> Media:
    parts = lines[0][1].split()
    if len(parts) < 3:
        raise PeerError("media line (m=) is not valid")
    kind, port_text, protocol, *formats = parts
    port_text = port_text.split("/")[0]
    if not port_text.isascii() or not port_text.isdigit() or len(port_text) > 5:
        raise PeerError("port of a media line is not valid")
    port = int(port_text)
    if port > 65535:
        raise PeerError("port of a media line is not valid")
    if len(formats) > MAX_FORMATS:
        raise PeerError("media line has too many formats", status=488)
    if not formats and port:
        raise PeerError("media line has no formats")
    direction, attributes = _split_direction(lines)
    known: dict[str, Codec] = {}
    parameters: dict[str, str] = {}
    rest: list[tuple[str, str | None]] = []
    ptime_ms: int | None = None
    label: str | None = None
    rtcp_port: int | None = None
    rtcp_address: str | None = None
    rtcp_mux = False
    for name, text in attributes:
        if name == "rtpmap" and text is not None:
            match = _RTPMAP.fullmatch(text)
            # A broken rtpmap loses one codec, not the call.
            if match and int(match[1]) < 128 and int(match[3]) > 0:
                known.setdefault(
                    str(int(match[1])),
                    Codec(int(match[1]), match[2], int(match[3]), int(match[4] or 1) or 1),
                )
        elif name == "fmtp" and text is not None:
            payload_type, _, value = text.partition(" ")
            parameters.setdefault(payload_type, value.strip())
        elif name == "ptime" and text is not None:
            number = text.split(".")[0]
            if number.isascii() and number.isdigit() and 0 < len(number) <= 4 and int(number):
                ptime_ms = int(number)
        elif name == "label" and text:
            label = label or text
        elif name == "rtcp" and text is not None:
            rtcp = _RTCP.fullmatch(text)
            if rtcp and 0 < int(rtcp[1]) < 65536:
                rtcp_port = int(rtcp[1])
                if rtcp[2] and _ADDRESS.fullmatch(rtcp[2]):
                    rtcp_address = rtcp[2]
        elif name == "rtcp-mux":
            rtcp_mux = True
        else:
            rest.append((name, text))
    is_rtp = "RTP/" in protocol.upper()
    codecs: list[Codec] = []
    if is_rtp:
        for format_ in formats:
            if not format_.isascii() or not format_.isdigit() or len(format_) > 3:
                raise PeerError("payload type is not a number")
            if int(format_) > 127:
                raise PeerError("payload type is greater than 127")
            codec = known.get(str(int(format_))) or STATIC_CODECS.get(int(format_))
            if codec is not None and codec.payload_type not in {c.payload_type for c in codecs}:
                value = parameters.get(format_, "")
                codecs.append(dataclasses.replace(codec, parameters=value) if value else codec)
    address = _connection(lines) or session_address
    if address is None and port:
        raise PeerError("no connection address (c=) for a stream")
    return Media(
        kind=kind.lower(),
        port=port,
        protocol=protocol,
        formats=tuple(formats),
        codecs=tuple(codecs),
        address=address,
        direction=direction or session_direction,
        ptime_ms=ptime_ms,
        label=label,
        rtcp_port=rtcp_port,
        rtcp_address=rtcp_address,
        rtcp_mux=rtcp_mux,
        attributes=tuple(rest),
    )


def common_codecs(offered: Media, supported: Sequence[str]) -> tuple[Codec, ...]:
    """The codecs of an offer whose encoding is in ``supported``, in the offer's order.

    ``supported`` holds names as ``PCMU/8000`` or ``opus/48000/2``; their case does not matter.
    """
    names = {name.upper() for name in supported}
    return tuple(codec for codec in offered.codecs if _codec_name(codec) in names)


def _codec_name(codec: Codec) -> str:
    channels = f"/{codec.channels}" if codec.channels != 1 else ""
    return f"{codec.name}/{codec.clock_rate_hz}{channels}".upper()


def answer_media(
    offered: Media,
    *,
    port: int,
    address: str,
    codecs: Sequence[Codec],
    direction: Direction,
    rtcp_mux: bool = False,
    rtcp_port: int | None = None,
    attributes: Sequence[tuple[str, str | None]] = (),
) -> Media:
    """The answer to one offered stream (RFC 3264 §6): the offer's payload types, label and
    transport, our port, and ``direction`` narrowed to what the offer allows.

    ``direction`` is ours: ``recvonly`` for a recorder. Without ``codecs`` the stream is refused.
    """
    if not codecs or not offered.port:
        return refuse_media(offered)
    offer = offered.direction.reversed
    sends = direction.sends and offer.sends
    receives = direction.receives and offer.receives
    allowed = {
        (True, True): Direction.SENDRECV,
        (True, False): Direction.SENDONLY,
        (False, True): Direction.RECVONLY,
        (False, False): Direction.INACTIVE,
    }[sends, receives]
    return Media(
        kind=offered.kind,
        port=port,
        protocol=offered.protocol,
        formats=tuple(str(codec.payload_type) for codec in codecs),
        codecs=tuple(codecs),
        address=address,
        direction=allowed,
        ptime_ms=offered.ptime_ms,
        label=offered.label,
        rtcp_port=rtcp_port,
        rtcp_mux=rtcp_mux and offered.rtcp_mux,
        attributes=tuple(attributes),
    )


def refuse_media(offered: Media) -> Media:
    """The answer that refuses a stream (RFC 3264 §6): port 0, the formats as offered."""
    return Media(
        kind=offered.kind,
        port=0,
        protocol=offered.protocol,
        formats=offered.formats,
        direction=Direction.INACTIVE,
        label=offered.label,
    )


def check_reoffer(previous: SessionDescription, offer: SessionDescription) -> None:
    """Raise PeerError (488) if ``offer`` drops a stream of ``previous`` without zeroing its port
    (RFC 3264 §8: the number of media descriptions never shrinks).
    """
    if len(offer.media) < len(previous.media):
        raise PeerError("offer has fewer streams than the session", status=488)
