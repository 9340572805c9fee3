"""SIP messages (RFC 3261 §7): bytes in, checked requests and responses out; and building them.

The one place that stands between hostile bytes and ``sipmessage``: framing of the header, folding,
compact forms, Content-Length and the mandatory header fields are read here, header values in
:mod:`.values`. What comes out of :func:`parse_message` has a Via, From, To, Call-ID and CSeq that
are sound; every other accessor raises :class:`~callreel.base.errors.PeerError` on nonsense.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import sipmessage
from sipmessage import CSeq, Headers
from sipmessage.message import COMPACT_FORMS

from callreel.base.errors import PeerError
from callreel.wire.sip.values import (
    URI,
    Address,
    MediaType,
    Via,
    format_host,
    is_token,
    parse_cseq,
    parse_integer,
    split_list,
)

__all__ = [
    "MAX_DATAGRAM_BYTES",
    "MAX_STREAM_MESSAGE_BYTES",
    "REASON_PHRASES",
    "Headers",
    "MalformedRequest",
    "Message",
    "Request",
    "Response",
    "build_response",
    "format_hostport",
    "parse_message",
    "response_address",
    "stamp_source",
]

MAX_DATAGRAM_BYTES = 65_536
"""The longest message taken from a datagram."""

MAX_STREAM_MESSAGE_BYTES = 262_144
"""The longest message taken from a stream, unless set otherwise."""

MAX_HEADER_LINES = 256
MAX_VIAS = 70  # Max-Forwards starts at 70 (RFC 3261 §8.1.1.6)
MAX_CALL_ID_CHARACTERS = 1024

REASON_PHRASES = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    493: "Undecipherable",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}
"""The phrase that goes with a status code (RFC 3261 §21 and its extensions)."""

_ONCE = ("Call-ID", "Content-Length", "Content-Type", "CSeq", "From", "Max-Forwards", "To")
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE)
_REQUEST_LINE = re.compile(r"([^ ]+) ([^ ]+) (SIP/[0-9]+\.[0-9]+)", re.IGNORECASE)
_ANY_REQUEST_LINE = re.compile(r"([^ ]+) .*?(SIP/[0-9]+\.[0-9]+)[ \t]*", re.IGNORECASE)
_HEAD_END = re.compile(rb"\r\n\r\n|\n\r?\n")
_Value = TypeVar("_Value")


class MalformedRequest(PeerError):
    """A request that cannot be acted upon. ``response`` is the answer to send, None if the
    request does not hold enough to answer it (or is an ACK, which is never answered).
    """

    def __init__(self, message: str, *, status: int = 400, response: Response | None = None):
        super().__init__(message, status=status)
        self.response = response
        """The answer, its Via, From, To, Call-ID and CSeq copied from the request."""


def _checked(name: str, parse: Callable[[str], _Value], text: str) -> _Value:
    try:
        return parse(text)
    except ValueError as error:
        raise PeerError(f"{name}: {error}") from error


class Message(sipmessage.Message):
    """What requests and responses share. Accessors raise PeerError (400) on a bad value."""

    headers: Headers
    """The header fields by name, in any case; compact names are spelt out when read."""

    body: bytes
    """The body as it came, empty if there is none."""

    @property
    def call_id(self) -> str:
        """Call-ID (§20.8); empty if it is not there."""
        return self.headers.get("Call-ID") or ""

    @call_id.setter
    def call_id(self, value: str) -> None:
        self.headers.set("Call-ID", value)

    @property
    def cseq(self) -> CSeq:
        """CSeq (§20.16)."""
        return _checked("CSeq", parse_cseq, self._required("CSeq"))

    @cseq.setter
    def cseq(self, value: CSeq) -> None:
        self.headers.set("CSeq", str(value))

    @property
    def from_address(self) -> Address:
        """From (§20.20)."""
        return _checked("From", Address.parse, self._required("From"))

    @from_address.setter
    def from_address(self, value: sipmessage.Address) -> None:
        self.headers.set("From", str(value))

    @property
    def to_address(self) -> Address:
        """To (§20.39)."""
        return _checked("To", Address.parse, self._required("To"))

    @to_address.setter
    def to_address(self, value: sipmessage.Address) -> None:
        self.headers.set("To", str(value))

    @property
    def via(self) -> list[sipmessage.Via]:
        """Every Via (§20.42), the nearest hop first."""
        vias: list[sipmessage.Via] = []
        for value in self.headers.getlist("Via"):
            vias += _checked("Via", Via.parse_many, value)
        return vias

    @via.setter
    def via(self, value: list[sipmessage.Via]) -> None:
        self.headers.setlist("Via", [str(via) for via in value])

    @property
    def top_via(self) -> Via:
        """The first Via: the hop that a response goes to."""
        items = _checked("Via", split_list, self._required("Via"))
        return _checked("Via", Via.parse, items[0])

    @property
    def contact_uri(self) -> URI | None:
        """The URI of the first Contact; None without Contact, or if it is ``*``."""
        values = self.headers.getlist("Contact")
        if not values or values[0].strip() == "*":
            return None
        items = _checked("Contact", split_list, values[0])
        return _checked("Contact", Address.parse, items[0]).uri

    @property
    def content_type(self) -> MediaType | None:
        """Content-Type (§20.15), the type in lower case; None if it is not there."""
        value = self.headers.get("Content-Type")
        return None if value is None else _checked("Content-Type", MediaType.parse, value)

    @content_type.setter
    def content_type(self, value: sipmessage.MediaType | None) -> None:
        if value is None:
            self.headers.remove("Content-Type")
        else:
            self.headers.set("Content-Type", str(value))

    @property
    def accept(self) -> list[sipmessage.MediaType] | None:
        """Accept (§20.1); None if it is not there."""
        values = self.headers.getlist("Accept")
        if not values:
            return None
        return [item for v in values for item in _checked("Accept", MediaType.parse_many, v)]

    @accept.setter
    def accept(self, value: list[sipmessage.MediaType] | None) -> None:
        if value is None:
            self.headers.remove("Accept")
        else:
            self.headers.set("Accept", ", ".join(str(item) for item in value))

    def set_body(self, body: bytes, content_type: str | None) -> None:
        """Put ``body`` in, with its Content-Type (None: no such header field)."""
        self.body = body
        if content_type is None:
            self.headers.remove("Content-Type")
        else:
            self.headers.set("Content-Type", content_type)

    def _required(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise PeerError(f"{name} is missing")
        return value

    def _get_address_list(self, key: str) -> list[sipmessage.Address]:
        addresses: list[sipmessage.Address] = []
        for value in self.headers.getlist(key):
            if key != "Contact" or value.strip() != "*":
                addresses += _checked(key, Address.parse_many, value)
        return addresses

    def _get_optional_int(self, key: str) -> int | None:
        value = self.headers.get(key)
        if value is None:
            return None
        return _checked(key, lambda text: parse_integer(text, maximum=0xFFFF_FFFF), value)

    def _get_token_list(self, key: str) -> list[str]:
        return [
            item
            for value in self.headers.getlist(key)
            for item in _checked(key, split_list, value)
            if item
        ]

    def _serialize(self, start_line: str) -> bytes:
        self.headers.set("Content-Length", str(len(self.body)))
        # A line break inside a value would begin a header field of its own.
        lines = [start_line.replace("\r", " ").replace("\n", " ")]
        for name in self.headers.keys():  # noqa: SIM118 - Headers is no mapping
            for value in self.headers.getlist(name):
                lines.append(f"{name}: {value}".replace("\r", " ").replace("\n", " "))
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + self.body


class Request(Message, sipmessage.Request):
    """A request (RFC 3261 §7.1). ``bytes(request)`` writes it, Content-Length set."""

    uri: URI
    """The Request-URI."""

    def __init__(self, method: str, uri: URI, body: bytes = b"") -> None:
        super().__init__(method, uri, body)

    def copy(self) -> Request:
        """A request that can be changed while this one stays as it is."""
        copy = Request(self.method, self.uri, self.body)
        _copy_headers(self.headers, copy.headers)
        return copy

    def __bytes__(self) -> bytes:
        return self._serialize(f"{self.method} {self.uri} SIP/2.0")

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri}>"


class Response(Message, sipmessage.Response):
    """A response (RFC 3261 §7.2). ``bytes(response)`` writes it, Content-Length set."""

    def __init__(self, code: int, phrase: str | None = None, body: bytes = b"") -> None:
        super().__init__(code, REASON_PHRASES.get(code, "") if phrase is None else phrase, body)

    def copy(self) -> Response:
        """A response that can be changed while this one stays as it is."""
        copy = Response(self.code, self.phrase, self.body)
        _copy_headers(self.headers, copy.headers)
        return copy

    def __bytes__(self) -> bytes:
        return self._serialize(f"SIP/2.0 {self.code} {self.phrase}")

    def __repr__(self) -> str:
        return f"<Response {self.code} {self.phrase}>"


def _copy_headers(source: Headers, target: Headers) -> None:
    for name in source.keys():  # noqa: SIM118 - Headers is no mapping
        target.setlist(name, list(source.getlist(name)))


def parse_message(
    data: bytes, *, stream: bool = False, max_bytes: int = MAX_DATAGRAM_BYTES
) -> Request | Response:
    """The message in ``data``: one datagram, or one frame of a stream (``stream``).

    What follows the body in a datagram is ignored (RFC 3261 §18.3). Raises
    :class:`MalformedRequest` for a request that breaks the rules, PeerError for a response that
    does or for bytes that are neither: those are dropped.
    """
    if len(data) > max_bytes:
        raise _refusal(data[:max_bytes], f"message of over {max_bytes} bytes", 513)
    data = data.lstrip(b"\r\n")
    end = _HEAD_END.search(data)
    head = data[: end.start()] if end else data.rstrip(b"\r\n")
    body = data[end.end() :] if end else b""
    lines = _unfold(head)
    status = _STATUS_LINE.fullmatch(lines[0])
    if status is not None:
        response = Response(int(status[1]), status[2] or "", body)
        _read_headers(response.headers, lines[1:])
        _check(response, stream=stream)
        return response
    if lines[0][:4].upper() == "SIP/":
        raise PeerError("status line is not valid")
    match = _REQUEST_LINE.fullmatch(lines[0])
    try:
        if match is None:
            raise PeerError("request line is not valid")
        if match[3].upper() != "SIP/2.0":
            raise PeerError(f"{match[3]} is not spoken here", status=505)
        if not is_token(match[1]):
            raise PeerError("method is not valid")
        uri = _checked("Request-URI", URI.parse, match[2])
        if uri.headers:
            raise PeerError("Request-URI has header fields")
        if uri.scheme not in ("sip", "sips", "tel"):
            raise PeerError(f"URI scheme {uri.scheme} is not supported", status=416)
        if end is None:
            raise PeerError("header does not end")
        request = Request(match[1], uri, body)
        _read_headers(request.headers, lines[1:])
        _check(request, stream=stream)
        if request.cseq.method != request.method:
            raise PeerError("CSeq names another method than the request line")
        return request
    except PeerError as error:
        raise _refusal(data, str(error), error.status) from error


def _unfold(head: bytes) -> list[str]:
    """The header's lines, folded ones joined (RFC 3261 §7.3.1)."""
    # What is not UTF-8 becomes U+FFFD: no part of a name, tag, branch or number can hold it, and
    # a text with lone surrogates would break whoever stores or prints it.
    text = head.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", " ")
    return re.sub(r"\n[ \t]+", " ", text).split("\n")


def _read_headers(headers: Headers, lines: Sequence[str]) -> None:
    if len(lines) > MAX_HEADER_LINES:
        raise PeerError(f"more than {MAX_HEADER_LINES} header fields")
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not is_token(name):
            raise PeerError("a header field is not valid")
        headers.add(COMPACT_FORMS.get(name.lower(), name), value.strip(" \t"))


def _check(message: Message, *, stream: bool) -> None:
    """Raise PeerError unless the mandatory header fields (§8.1.1) and the length are sound."""
    headers = message.headers
    for name in _ONCE:
        values = headers.getlist(name)
        if len(values) > 1:
            raise PeerError(f"{name} occurs more than once")
    call_id = message._required("Call-ID")
    if not call_id or len(call_id) > MAX_CALL_ID_CHARACTERS or not call_id.isascii():
        raise PeerError("Call-ID is not valid")
    message.cseq  # noqa: B018 - raises if it is not valid
    for name, address in (("From", message.from_address), ("To", message.to_address)):
        tag = address.tag
        if tag is not None and not is_token(tag):
            raise PeerError(f"tag of {name} is not valid")
    vias = message.via
    if not vias:
        raise PeerError("Via is missing")
    if len(vias) > MAX_VIAS:
        raise PeerError("too many Via header fields")
    forwards = headers.get("Max-Forwards")
    if forwards is not None:
        _checked("Max-Forwards", lambda text: parse_integer(text, maximum=255), forwards)
    declared = headers.get("Content-Length")
    if declared is None:
        if stream:
            raise PeerError("Content-Length is missing")
        return
    length = _checked("Content-Length", lambda text: parse_integer(text, maximum=2**31), declared)
    if length > len(message.body):
        raise PeerError("Content-Length is greater than the body")
    message.body = message.body[:length]


def _refusal(data: bytes, text: str, status: int) -> PeerError:
    """The error for a request that was refused, with the answer to it if one can be made.

    Reads as much as can be read: every header field that the answer needs must be there, its
    value is copied as it came (RFC 3261 §8.2.6.2).
    """
    end = _HEAD_END.search(data)
    lines = _unfold(data[: end.start()] if end else data)
    match = _ANY_REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        return PeerError(text, status=status)
    copied = Headers()
    for line in lines[1:MAX_HEADER_LINES]:
        name, colon, value = line.partition(":")
        name = COMPACT_FORMS.get(name.rstrip(" \t").lower(), name.rstrip(" \t"))
        canonical = _COPIED.get(name.lower())
        # Of a field that may stand only once, the first is taken.
        if colon and canonical and (canonical == "Via" or not copied.get(canonical)):
            copied.add(canonical, value.strip(" \t"))
    error = MalformedRequest(text, status=status)
    if match[1].upper() == "ACK" or any(not copied.get(name) for name in _COPIED.values()):
        return error
    response = Response(status)
    _copy_headers(copied, response.headers)
    # The answer goes back to where the request came from, so the Via need not be sound.
    error.response = response
    with contextlib.suppress(PeerError):
        if response.to_address.tag is None:
            # Stateless, so the tag must come out the same for a retransmission.
            response.to_address = response.to_address.with_tag("malformed")
    return error


_COPIED = {name.lower(): name for name in ("Via", "From", "To", "Call-ID", "CSeq")}


def build_response(
    request: Request,
    code: int,
    phrase: str | None = None,
    *,
    to_tag: str | None = None,
    body: bytes = b"",
    content_type: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    """The response to ``request`` (RFC 3261 §8.2.6): Via, From, To, Call-ID and CSeq are copied.

    ``to_tag`` goes into To if the request has none there, and is left out of a 100. ``headers``
    come after; a name given twice makes two header fields.
    """
    response = Response(code, phrase)
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        response.headers.setlist(name, list(request.headers.getlist(name)))
    if to_tag and code != 100 and request.to_address.tag is None:
        response.to_address = request.to_address.with_tag(to_tag)
    if code < 300 and code != 100:
        routes = request.headers.getlist("Record-Route")
        if routes:
            response.headers.setlist("Record-Route", list(routes))
    for name, value in headers:
        response.headers.add(name, value)
    response.set_body(body, content_type)
    return response


def stamp_source(request: Request, host: str, port: int) -> None:
    """Write into the top Via where ``request`` came from: ``received``, and ``rport`` if the
    sender asked for it (RFC 3261 §18.2.1, RFC 3581 §4).
    """
    values = request.headers.getlist("Via")
    items = _checked("Via", split_list, values[0])
    via = _checked("Via", Via.parse, items[0])
    changes: dict[str, str | None] = {}
    if "rport" in via.parameters:
        changes = {"received": host, "rport": str(port)}
    elif via.host.strip("[]").lower() != host.lower():
        changes = {"received": host}
    if changes:
        stamped = Via(via.transport, via.host, via.port, via.parameters.replace(**changes))
        request.headers.setlist("Via", [", ".join([str(stamped), *items[1:]]), *values[1:]])


def response_address(response: Response) -> tuple[str, int]:
    """Where a response goes by its top Via (RFC 3261 §18.2.2, RFC 3581 §4): host and port."""
    via = response.top_via
    host = via.parameters.get("maddr") or via.parameters.get("received") or via.host
    rport = via.parameters.get("rport")
    default = 5061 if via.transport.upper() == "TLS" else 5060
    port = via.port or default
    if rport:
        port = _checked("rport", lambda text: parse_integer(text, maximum=65535), rport)
    return host.strip("[]"), port


def format_hostport(host: str, port: int) -> str:
    """``host:port`` as SIP writes it, IPv6 in brackets."""
    return f"{format_host(host)}:{port}"
