"""From what is to be said to the HTTP request that carries it (contract §12.3, §12.4). No I/O.

What is signed is what is sent: the URL is put into the form in which it goes over the wire first,
and signed then.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlencode, urljoin, urlsplit

from callreel import __version__
from callreel.base.errors import PeerError
from callreel.calls.model import CallbackMethod
from callreel.delivery.model import Delivery
from callreel.delivery.signature import SIGNALWIRE_HEADER, TWILIO_HEADER, sign

MAX_URL_CHARACTERS = 8192
USER_AGENT = f"callreel/{__version__}"
IDEMPOTENCY_HEADER = "I-Twilio-Idempotency-Token"
DELIVERY_HEADER = "Callreel-Delivery-Id"
FORM_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"

_DEFAULT_PORTS = {"http": 80, "https": 443}
# RFC 3986 reserved and unreserved, and the percent sign of what is encoded already.
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~-._"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Message:
    """What is said to a program, or asked of it."""

    url: str
    """As the program gave it: userinfo, query and fragment included."""
    fields: Mapping[str, str]
    """The form, or with GET the query. A name occurs once."""
    signing_key: str = field(repr=False)
    """Key of the signature (contract §12.4)."""
    method: CallbackMethod = CallbackMethod.POST
    """GET or POST."""
    headers: tuple[tuple[str, str], ...] = ()
    """Besides the usual ones."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a try may take, each in milliseconds."""

    connect_ms: int = 2000
    """To find the address and connect: ``ot``, or ``ct`` as Twilio has it, 100 to 10,000."""
    read_ms: int = 5000
    """Between two pieces of the answer: ``rt``, 100 to 15,000."""
    total_ms: int = 15000
    """In all, redirects included: ``tt``, 100 to 15,000."""

    def overridden(self, fragment: str) -> Timeouts:
        """With what a URL's fragment asks for, each held to its bounds; the rest is ignored."""
        asked = dict(re.findall(r"(?:^|&)(ct|ot|rt|tt)=([0-9]{1,6})(?=&|$)", fragment))
        return Timeouts(
            _bounded(asked.get("ot", asked.get("ct")), self.connect_ms, 10_000),
            _bounded(asked.get("rt"), self.read_ms, 15_000),
            _bounded(asked.get("tt"), self.total_ms, 15_000),
        )


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """An HTTP request, ready for a connection."""

    url: str
    """As signed: userinfo and query included, no fragment, ASCII."""
    scheme: str
    """``http`` or ``https``."""
    host: str
    """Name or numeric address, without brackets."""
    port: int
    """TCP port."""
    target: str
    """Path and query, as in the request line (RFC 9112 §3.2.1)."""
    method: CallbackMethod
    """GET or POST."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """In order, each name once; ``Host`` among them."""
    body: bytes = field(repr=False)
    """The form, or nothing for GET."""
    timeouts: Timeouts
    """Of the try."""
    message: Message = field(repr=False)
    """What it carries."""


def prepare(delivery: Delivery, timeouts: Timeouts | None = None) -> PreparedRequest:
    """The request of a delivery. Raises PeerError where its URL cannot be requested."""
    message = Message(
        delivery.url,
        delivery.fields,
        delivery.signing_key,
        delivery.method,
        ((IDEMPOTENCY_HEADER, delivery.id), (DELIVERY_HEADER, delivery.id)),
    )
    return compose(message, timeouts)


def compose(message: Message, timeouts: Timeouts | None = None) -> PreparedRequest:
    """The request that carries a message. Raises PeerError where its URL cannot be requested."""
    url, _, fragment = message.url.partition("#")
    url = _sendable(url)
    if message.method is CallbackMethod.GET:
        url = _with_query(url, urlencode(message.fields, quote_via=quote))
    return _request(message, url, message.method, (timeouts or Timeouts()).overridden(fragment))


def redirect(request: PreparedRequest, status: int, location: str) -> PreparedRequest:
    """The request that a redirect asks for, signed anew. Raises PeerError where it is none.

    A POST stays a POST with all its fields, as RFC 9110 §15.4 allows, since a GET without them
    would be answered 200 and the event be lost; only 303 asks for a plain GET. Fields of a GET are
    in the URL already, and the location says which URL it shall be. Credentials go along to the
    same host alone, and nothing goes from https to http.
    """
    if _CONTROL.search(location):
        raise PeerError("a redirect with control characters")
    try:
        url = _sendable(urljoin(request.url, location.strip().partition("#")[0]))
    except ValueError as error:
        raise PeerError(f"not a redirect: {error}") from None
    before, after = urlsplit(request.url), urlsplit(url)
    if before.scheme == "https" and after.scheme != "https":
        raise PeerError("a redirect from https to http is not followed")
    userinfo, at, _ = before.netloc.rpartition("@")
    if at and "@" not in after.netloc and _is_same_host(before, after):
        url = after._replace(netloc=f"{userinfo}@{after.netloc}").geturl()
    method = CallbackMethod.GET if status == 303 else request.method
    return _request(request.message, url, method, request.timeouts)


def _request(
    message: Message, url: str, method: CallbackMethod, timeouts: Timeouts
) -> PreparedRequest:
    parts = urlsplit(url)
    post = method is CallbackMethod.POST
    body = urlencode(message.fields).encode() if post else b""
    signature = sign(message.signing_key, url, message.fields if post else {})
    userinfo, _, authority = parts.netloc.rpartition("@")
    headers = [
        ("Host", authority),
        ("User-Agent", USER_AGENT),
        ("Accept", "*/*"),
        # What is not asked for cannot blow up when it is unpacked.
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
        (TWILIO_HEADER, signature),
        (SIGNALWIRE_HEADER, signature),
        *message.headers,
    ]
    if userinfo:
        user, _, password = userinfo.partition(":")
        credentials = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        headers.append(("Authorization", f"Basic {base64.b64encode(credentials).decode()}"))
    if post:
        headers += [("Content-Type", FORM_TYPE), ("Content-Length", str(len(body)))]
    return PreparedRequest(
        url=url,
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or _DEFAULT_PORTS[parts.scheme],
        target=f"{parts.path}?{parts.query}" if "?" in url else parts.path,
        method=method,
        headers=tuple(headers),
        body=body,
        timeouts=timeouts,
        message=message,
    )


def _is_same_host(before: SplitResult, after: SplitResult) -> bool:
    """Same name and port, or the same name with TLS on its usual port."""
    ports = tuple(parts.port or _DEFAULT_PORTS[parts.scheme] for parts in (before, after))
    return before.hostname == after.hostname and (ports[0] == ports[1] or ports == (80, 443))


def _sendable(url: str) -> str:
    """A URL without fragment as it goes over the wire. Raises PeerError where it cannot."""
    url = url.strip()
    if len(url) > MAX_URL_CHARACTERS:
        raise PeerError(f"a URL of more than {MAX_URL_CHARACTERS} characters")
    if _CONTROL.search(url):
        raise PeerError("a URL with control characters")
    try:
        parts = urlsplit(url)
        userinfo, at, authority = parts.netloc.rpartition("@")
        match = _AUTHORITY.fullmatch(authority)
        host, port = match.groups() if match else ("", None)
        if "\\" in userinfo:
            host = ""  # some take what is before the backslash for the host
        if not host.isascii():
            host = host.encode("idna").decode()
        path, query = (quote(text, safe=_URL_SAFE) for text in (parts.path or "/", parts.query))
        userinfo = quote(userinfo, safe=_URL_SAFE)
    except (ValueError, UnicodeError):
        # What is wrong with it is not said, for that would quote it, userinfo and all.
        raise PeerError("not a URL that can be requested") from None
    if parts.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host):
        raise PeerError("a URL must be absolute, http or https, with a host")
    if port and not 0 < int(port) < 65536:
        raise PeerError("a URL with a port that is none")
    mark = "?" if "?" in url else ""
    return f"{parts.scheme}://{userinfo}{at}{host}{f':{port}' if port else ''}{path}{mark}{query}"


def _with_query(url: str, more: str) -> str:
    if not more:
        return url
    if "?" not in url:
        return f"{url}?{more}"
    return f"{url}{'' if url[-1] in '?&' else '&'}{more}"


def _bounded(asked: str | None, default_ms: int, most_ms: int) -> int:
    return default_ms if asked is None else min(max(int(asked), 100), most_ms)
