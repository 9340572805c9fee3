"""Bodies that a session recording client sends, whole and broken, as text made by hand."""

from __future__ import annotations

CRLF = "\r\n"
BOUNDARY = "unbroken"


def stream(
    port: int = 41000,
    formats: str = "0 8",
    *,
    label: str = "1",
    direction: str = "sendonly",
    kind: str = "audio",
    protocol: str = "RTP/AVP",
    more: tuple[str, ...] = (),
) -> str:
    """A media description."""
    lines = [f"m={kind} {port} {protocol} {formats}", *(f"a={one}" for one in more)]
    return CRLF.join([*lines, f"a=label:{label}", f"a={direction}", ""])


def sdp(*streams: str, version: int = 1, host: str = "127.0.0.1") -> str:
    """A session description; two streams of G.711 unless told otherwise."""
    media = streams or (stream(41000, label="1"), stream(41002, label="2"))
    head = ["v=0", f"o=src 7 {version} IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0", ""]
    return CRLF.join(head) + "".join(media)


def metadata(caller: str = "sip:+15550111@pbx", callee: str = "sip:+15550122@pbx") -> str:
    """Recording metadata (RFC 7865) of two parties, the caller in the stream labelled 1."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
<datamode>complete</datamode><session session_id="s"/>
<participant participant_id="a"><nameID aor="{caller}"/></participant>
<participant participant_id="b"><nameID aor="{callee}"/></participant>
<stream stream_id="x" session_id="s"><label>1</label></stream>
<stream stream_id="y" session_id="s"><label>2</label></stream>
<participantstreamassoc participant_id="a"><send>x</send></participantstreamassoc>
<participantstreamassoc participant_id="b"><send>y</send></participantstreamassoc>
</recording>"""


def part(content_type: str, body: str | bytes, *headers: str) -> bytes:
    """One part of a multipart, headers first."""
    head = CRLF.join([f"Content-Type: {content_type}", *headers, "", ""]).encode()
    return head + (body if isinstance(body, bytes) else body.encode())


def multipart(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    """Parts between boundaries."""
    mark = f"--{boundary}".encode()
    return b"\r\n".join([piece for one in parts for piece in (mark, one)] + [mark + b"--", b""])


def siprec(offer: str | None = None, about: str | bytes | None = None) -> bytes:
    """The body of a SIPREC INVITE: SDP and metadata."""
    return multipart(
        part("application/sdp", sdp() if offer is None else offer),
        part(
            "application/rs-metadata+xml",
            metadata() if about is None else about,
            "Content-Disposition: recording-session",
        ),
    )
