"""MIME multipart bodies as SIP carries them (RFC 2046 §5.1, RFC 5621), leaf by leaf. No I/O.

Tolerant in reading, because session border controllers take liberties: quoted or bare boundaries,
a boundary that the header names otherwise or not at all, LF line ends, text before the first and
after the last boundary, no closing boundary, folded headers, no space after a header's colon, no
headers at all, multiparts within multiparts. What is bounded is answered with a status when it
goes beyond: the size, the number of parts, the depth.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from callreel.base.errors import PeerError, UsageError
from callreel.wire.sdp import SDP_TYPE

MAX_BODY_BYTES = 256 * 1024
MAX_PARTS = 32
MAX_DEPTH = 4
MAX_HEADER_BYTES = 16 * 1024

METADATA_TYPE = "application/rs-metadata+xml"
"""What we write; ``application/rs-metadata`` (RFC 7866 §13.2) is read as well."""
METADATA_TYPES = frozenset({METADATA_TYPE, "application/rs-metadata"})

_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:(.*)", re.DOTALL)
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_GUESS = re.compile(rb"(?:^|\n)--([^\s\x00-\x1f][^\x00-\x1f]{0,199}?)[ \t]*\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
_METADATA_START = re.compile(rb"<(?:[\w.-]+:)?recording(?:[_-]?metadata)?[\s>/]", re.IGNORECASE)
_UNTYPED = frozenset({"", "text/plain", "application/octet-stream"})


@dataclass(frozen=True, slots=True)
class Part:
    """One leaf of a body: what is left when all multiparts are unpacked."""

    content_type: str
    """Media type in lower case without parameters; empty where none was given."""
    body: bytes
    """As sent, its transfer encoding undone."""
    content_id: str = ""
    """Without angle brackets, or empty."""
    content_disposition: str = ""
    """Disposition type in lower case without parameters, or empty (RFC 5621 §4)."""
    headers: tuple[tuple[str, str], ...] = ()
    """All headers of the part as written, unfolded."""


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """Split a Content-Type into the media type and its parameters, names in lower case.

    >>> parse_content_type('Multipart/Mixed;boundary="a b"')
    ('multipart/mixed', {'boundary': 'a b'})
    """
    media_type = value.split(";", 1)[0].strip().lower()
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(value):
        text = match[2].strip()
        if len(text) > 1 and text.startswith('"') and text.endswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        parameters.setdefault(match[1].lower(), text)
    return media_type, parameters


def parse(content_type: str, body: bytes) -> list[Part]:
    """The leaves of a body, in order. A body that is no multipart is one part.

    Raises PeerError: 413 where there is too much of it, 400 where no boundary can be found or the
    nesting is too deep.
    """
    if len(body) > MAX_BODY_BYTES:
        raise PeerError(f"a body of {len(body)} bytes; at most {MAX_BODY_BYTES}", status=413)
    leaves: list[Part] = []
    _collect((("Content-Type", content_type),) if content_type else (), body, 0, leaves)
    return leaves


def serialize(parts: Iterable[Part], boundary: str) -> bytes:
    """A multipart/mixed body. The caller puts the same boundary in the message's Content-Type.

    A part's own headers are written as they are; without any, they are made from its values.
    Raises UsageError where the boundary is not one, or occurs in a part.
    """
    if not _BOUNDARY.fullmatch(boundary):
        raise UsageError(f"not a multipart boundary: {boundary!r}")
    delimiter = b"--" + boundary.encode()
    lines: list[bytes] = []
    for part in parts:
        if re.search(rb"(?:^|\n)" + re.escape(delimiter), part.body):
            raise UsageError("the boundary occurs in a part: choose another")
        lines.append(delimiter)
        for name, value in part.headers or _headers_of(part):
            if re.search(r"[\r\n]", name + value):
                raise UsageError(f"a line end in the header {name!r}")
            lines.append(f"{name}: {value}".encode())
        lines += [b"", part.body]
    lines += [delimiter + b"--", b""]
    return b"\r\n".join(lines)


def find_sdp(parts: Sequence[Part]) -> Part | None:
    """The session description among the parts, if there is one, whatever its disposition."""
    return _find(parts, frozenset({SDP_TYPE}), lambda body: body.lstrip().startswith(b"v=0"))


def find_metadata(parts: Sequence[Part]) -> Part | None:
    """The recording metadata among the parts, if there is any, whatever its disposition."""
    return _find(parts, METADATA_TYPES, lambda body: bool(_METADATA_START.search(body[:4096])))


def _find(
    parts: Sequence[Part], types: frozenset[str], looks: Callable[[bytes], bool]
) -> Part | None:
    # An empty part of the right type is of no use while a fuller one follows it.
    typed = [part for part in parts if part.content_type in types]
    for part in typed:
        if part.body.strip():
            return part
    for part in parts:
        if part.content_type in _UNTYPED and looks(part.body):
            return part
    return typed[0] if typed else None


def _headers_of(part: Part) -> list[tuple[str, str]]:
    headers = [("Content-Type", part.content_type)] if part.content_type else []
    if part.content_id:
        headers.append(("Content-ID", f"<{part.content_id}>"))
    if part.content_disposition:
        headers.append(("Content-Disposition", part.content_disposition))
    return headers


def _collect(
    headers: tuple[tuple[str, str], ...], body: bytes, depth: int, leaves: list[Part]
) -> None:
    media_type, parameters = parse_content_type(_header(headers, "content-type", "c"))
    if media_type.startswith("multipart/"):
        if depth >= MAX_DEPTH:
            raise PeerError(f"multiparts more than {MAX_DEPTH} deep")
        for raw in _split(body, parameters.get("boundary", "")):
            inner_headers, inner_body = _part(raw)
            _collect(inner_headers, inner_body, depth + 1, leaves)
        return
    if len(leaves) >= MAX_PARTS:
        raise PeerError(f"more than {MAX_PARTS} parts in a body", status=413)
    leaves.append(
        Part(
            content_type=media_type,
            body=_decoded(body, _header(headers, "content-transfer-encoding")),
            content_id=_header(headers, "content-id").strip().strip("<>").strip(),
            content_disposition=_header(headers, "content-disposition")
            .split(";", 1)[0]
            .strip()
            .lower(),
            headers=headers,
        )
    )


def _split(body: bytes, boundary: str) -> list[bytes]:
    """The bytes between the boundaries; the line end before a boundary belongs to it."""
    found = _delimiters(body, boundary.encode("utf-8", "replace")) if boundary else []
    if not found:
        # The header names another boundary than the body has, or none: the body knows best.
        guess = _GUESS.search(body)
        found = _delimiters(body, guess[1]) if guess else []
    if not found:
        raise PeerError("a multipart body without its boundary")
    parts: list[bytes] = []
    for number, (_, end, closing) in enumerate(found):
        if closing:
            break
        parts.append(body[end : found[number + 1][0] if number + 1 < len(found) else len(body)])
        if len(parts) > MAX_PARTS:
            raise PeerError(f"more than {MAX_PARTS} parts in a body", status=413)
    return parts


def _delimiters(body: bytes, boundary: bytes) -> list[tuple[int, int, bool]]:
    """Start, end and whether it closes, of every line that is this boundary."""
    pattern = rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)"
    found: list[tuple[int, int, bool]] = []
    for match in re.finditer(pattern, body):
        end = match.end()
        # One line end follows the boundary; a second would end an empty list of headers.
        line_end = _LINE_END.match(body, end)
        # The next boundary may need that line end as its own, when the part is empty.
        found.append((match.start(), line_end.end() if line_end else end, bool(match[1])))
    return found


def _part(raw: bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Split a part into headers and body. Without anything like a header it is all body."""
    headers: list[tuple[str, str]] = []
    position = 0
    while position < len(raw):
        newline = raw.find(b"\n", position)
        end = len(raw) if newline < 0 else newline
        line = raw[position:end].removesuffix(b"\r")
        following = len(raw) if newline < 0 else newline + 1
        if not line:
            return tuple(headers), raw[following:]
        if headers and following > MAX_HEADER_BYTES:
            raise PeerError(f"more than {MAX_HEADER_BYTES} bytes of headers in a part")
        match = _HEADER.fullmatch(line)
        if match:
            headers.append((match[1].decode(), _text(match[2])))
        elif line[:1] in b" \t" and headers:
            name, value = headers[-1]
            headers[-1] = (name, f"{value} {_text(line)}".strip())
        else:
            # The blank line is missing: the body begins here.
            return tuple(headers), raw[position:]
        position = following
    return tuple(headers), b""


def _header(headers: tuple[tuple[str, str], ...], *names: str) -> str:
    return next((value for name, value in headers if name.lower() in names), "")


def _text(raw: bytes) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", raw.decode("utf-8", "replace")).strip()


def _decoded(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "base64":
            try:
                return base64.b64decode(re.sub(rb"\s+", b"", body), validate=True)
            except binascii.Error as error:
                raise PeerError(f"a part that is not base64 as it says: {error}") from None
        case "quoted-printable":
            return binascii.a2b_qp(body)
        case _:
            return body
