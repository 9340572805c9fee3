"""SIP header values: URI, address, Via, CSeq, media type and parameters (RFC 3261 §25.1).

The types are those of ``sipmessage``, so that its message class and accessors work on them; the
reading is ours, because the library's patterns lose or alter what peers really send: parameters
are percent-encoded on output (a tag ``a*b`` comes back as ``a%2Ab``, an IPv6 ``received`` is
spoilt), a parameter called ``self`` raises ``TypeError``, one quoted string swallows the next,
host names that end in a digit or hold an underscore are refused, URI headers too.

Every ``parse`` raises ``ValueError`` on text that is not the value; :mod:`.message` turns that
into an answer for the peer. A value that was parsed prints as it was read.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Iterator
from functools import lru_cache

import sipmessage
from sipmessage import CSeq

__all__ = [
    "URI",
    "Address",
    "CSeq",
    "MediaType",
    "Parameters",
    "Via",
    "format_host",
    "is_token",
    "parse_cseq",
    "parse_integer",
    "printable",
    "split_list",
]

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_BARE_VALUE = re.compile(r"[A-Za-z0-9\-.!%*_+`'~:\[\]/]+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URI_TEXT = re.compile(r"[^\x00-\x20\x7f<>\"]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VIA = re.compile(
    r"SIP[ ]*/[ ]*2\.0[ ]*/[ ]*(?P<transport>[A-Za-z0-9\-.!%*_+`'~]+)"
    r"[ ]+(?P<host>\[[^\]]*\]|[^ :;,\[\]]+)"
    r"(?:[ ]*:[ ]*(?P<port>[0-9]{1,5}))?[ ]*(?P<parameters>;.*)?",
    re.IGNORECASE,
)
_MEDIA_TYPE = re.compile(
    r"(?P<type>[A-Za-z0-9\-.!%*_+`'~]+)[ ]*/[ ]*(?P<subtype>[A-Za-z0-9\-.!%*_+`'~]+)"
    r"[ ]*(?P<parameters>;.*)?"
)
_WHITESPACE = re.compile(r"[ \t\r\n]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_REMEMBERED = 1024
"""Values of each kind, the newest."""
_REMEMBERED_LENGTH = 256
"""Longer ones are parsed anew: what a stranger sends must not fill the memory."""
_MAX_PARAMETERS = 64


def is_token(text: str) -> bool:
    """True if ``text`` is a token (RFC 3261 §25.1): a method, option tag or parameter name."""
    return _TOKEN.fullmatch(text) is not None


def printable(text: str) -> str:
    """``text`` fit for a database, a log or a page: control characters become U+FFFD."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def format_host(host: str) -> str:
    """``host`` as SIP writes it: an IPv6 address goes in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def parse_integer(text: str, *, maximum: int) -> int:
    """A plain decimal number from 0 to ``maximum``; leading zeros are allowed, signs are not.

    Raises ValueError for anything else, however long.
    """
    text = text.strip(" \t")
    digits = text.lstrip("0")
    if not text.isascii() or not text.isdigit() or len(digits) > 20:
        raise ValueError("not a number")
    value = int(digits or "0")
    if value > maximum:
        raise ValueError(f"number greater than {maximum}")
    return value


def parse_cseq(text: str) -> CSeq:
    """A CSeq value (RFC 3261 §20.16). Numbers of 32 bits are taken, where the RFC allows 31."""
    number, _, method = _squeeze(text).partition(" ")
    if not is_token(method):
        raise ValueError("CSeq has no method")
    return CSeq(sequence=parse_integer(number, maximum=0xFFFF_FFFF), method=method)


def split_list(text: str, separator: str = ",") -> list[str]:
    """The items of a list, separated by ``separator`` outside quoted strings and ``<>``.

    Items come back stripped; empty ones too, for the caller to judge. Raises ValueError if a
    quoted string or ``<`` is not closed.
    """
    if '"' not in text and "<" not in text:
        return [item.strip(" \t") for item in text.split(separator)]
    items: list[str] = []
    start = position = 0
    end = len(text)
    while position < end:
        character = text[position]
        if character == '"':
            position = _end_of_quoted(text, position)
            continue
        if character == "<":
            position = text.find(">", position)
            if position < 0:
                raise ValueError("< is not closed")
        elif character == separator:
            items.append(text[start:position].strip(" \t"))
            start = position + 1
        position += 1
    items.append(text[start:].strip(" \t"))
    return items


def _end_of_quoted(text: str, start: int) -> int:
    """The position after the quoted string that begins at ``start``."""
    position = start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 2
        elif text[position] == '"':
            return position + 1
        else:
            position += 1
    raise ValueError("quoted string is not closed")


def _unquote(text: str) -> str:
    """The content of a quoted string; other text as it is."""
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _squeeze(text: str) -> str:
    """Linear white space made single spaces, none at the ends."""
    return _WHITESPACE.sub(" ", text).strip(" ")


class Parameters(sipmessage.Parameters):
    """Parameters (``;name=value``) in order. Names are found whatever their case.

    ``Parameters(tag="x", lr=None)`` makes them; values come without quotes, None for a name alone.
    """

    def __init__(self, /, **parameters: str | None) -> None:
        self._values: dict[str, str | None] = {}
        self._texts: dict[str, str] = {}
        for name, value in parameters.items():
            key = name.lower()
            self._values[key] = value
            if value is None:
                self._texts[key] = name
            elif _BARE_VALUE.fullmatch(value):
                self._texts[key] = f"{name}={value}"
            else:
                self._texts[key] = f"{name}={_quote(value)}"

    @classmethod
    def parse(cls, value: str) -> Parameters:
        """Parse ``;name=value;name`` (empty text: none). The first of two alike counts."""
        self = cls()
        value = value.strip(" \t\r\n")
        if not value:
            return self
        items = split_list(value, ";")
        if items[0] or len(items) > _MAX_PARAMETERS:
            raise ValueError("parameters are not valid")
        for item in items[1:]:
            name, equals, text = item.partition("=")
            name = name.strip(" \t")
            text = text.strip(" \t")
            if not name or (equals and not text) or any(c in name for c in '"<> ,'):
                raise ValueError("parameters are not valid")
            if text.startswith('"') and _end_of_quoted(text, 0) != len(text):
                raise ValueError("parameters are not valid")
            key = name.lower()
            if key not in self._values:
                self._values[key] = _unquote(text) if equals else None
                self._texts[key] = f"{name}={text}" if equals else name
        return self

    def replace(self, /, **changes: str | None) -> Parameters:
        """A copy with ``changes`` made; what is not changed prints as it was read."""
        copy = Parameters(**changes)
        copy._values = {**self._values, **copy._values}
        copy._texts = {**self._texts, **copy._texts}
        return copy

    def without(self, name: str) -> Parameters:
        """A copy that lacks ``name``."""
        copy = Parameters()
        copy._values = {k: v for k, v in self._values.items() if k != name.lower()}
        copy._texts = {k: v for k, v in self._texts.items() if k != name.lower()}
        return copy

    def __getitem__(self, key: str) -> str | None:
        return self._values[key.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Parameters({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"

    def __str__(self) -> str:
        return "".join(f";{text}" for text in self._texts.values())


@dataclasses.dataclass(frozen=True)
class URI(sipmessage.URI):
    """A URI (RFC 3261 §19.1, tel: RFC 3966). Of schemes other than sip, sips and tel only the
    scheme is known; they print as they were read.

    ``user`` and ``password`` are unescaped, so they may hold any character, NUL too.
    """

    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    "Parameters affecting a request constructed from the URI."

    headers: str = ""
    "What follows the question mark (RFC 3261 §19.1.1), as read."

    _text: str = dataclasses.field(default="", init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, value: str) -> URI:
        """Parse a URI. Raises ValueError if it is none."""
        return _known_uri(value) if len(value) <= _REMEMBERED_LENGTH else cls._read(value)

    @classmethod
    def _read(cls, value: str) -> URI:
        value = value.strip(" \t")
        scheme_match = _SCHEME.match(value)
        if scheme_match is None or not _URI_TEXT.fullmatch(value):
            raise ValueError("URI is not valid")
        scheme = scheme_match.group(1).lower()
        rest = value[scheme_match.end() :]
        if scheme in ("sip", "sips"):
            uri = cls._parse_sip(scheme, rest)
        elif scheme == "tel":
            subscriber, semicolon, parameters = rest.partition(";")
            if not re.fullmatch(r"\+?[0-9A-Fa-f*#().-]+", subscriber):
                raise ValueError("telephone number is not valid")
            uri = cls(
                scheme=scheme,
                host="",
                user=subscriber,
                parameters=Parameters.parse(semicolon + parameters),
            )
        elif rest:
            uri = cls(scheme=scheme, host="")
        else:
            raise ValueError("URI is not valid")
        object.__setattr__(uri, "_text", value)
        return uri

    @classmethod
    def _parse_sip(cls, scheme: str, rest: str) -> URI:
        # A user part may hold ; and ? but no @, and neither may what follows the host.
        userinfo, at, hostpart = rest.rpartition("@")
        user: str | None = None
        password: str | None = None
        if at:
            name, colon, secret = userinfo.partition(":")
            if not name or "@" in userinfo or _BAD_ESCAPE.search(userinfo):
                raise ValueError("user of URI is not valid")
            user = urllib.parse.unquote(name)
            password = urllib.parse.unquote(secret) if colon else None
        hostpart, _, headers = hostpart.partition("?")
        hostport, semicolon, parameters = hostpart.partition(";")
        host, port = _parse_hostport(hostport)
        return cls(
            scheme=scheme,
            host=host,
            user=user,
            password=password,
            port=port,
            parameters=Parameters.parse(semicolon + parameters),
            headers=headers,
        )

    def __str__(self) -> str:
        if self._text:
            return self._text
        text = super().__str__()
        return f"{text}?{self.headers}" if self.headers else text


def _parse_hostport(text: str) -> tuple[str, int | None]:
    host = text
    port: int | None = None
    close = text.rfind("]")
    colon = text.rfind(":")
    if colon > close:
        host = text[:colon]
        port = parse_integer(text[colon + 1 :], maximum=65535)
    if not _HOST.fullmatch(host):
        raise ValueError("host is not valid")
    return host, port


@dataclasses.dataclass(frozen=True)
class Address(sipmessage.Address):
    """An address with its display name and parameters: From, To, Contact, Route (§20.10)."""

    uri: URI
    "The URI of the address."

    name: str = ""
    "The display name, control characters replaced; empty if there is none."

    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    "The parameters of the header field, for example the tag."

    _text: str = dataclasses.field(default="", init=False, repr=False, compare=False)

    @property
    def tag(self) -> str | None:
        """The tag parameter (RFC 3261 §19.3), None if there is none."""
        return self.parameters.get("tag") or None

    @classmethod
    def parse(cls, value: str) -> Address:
        """Parse one name-addr or addr-spec with parameters. Raises ValueError.

        More lenient than the grammar where the meaning is plain (RFC 4475 §3.1.2.15): a display
        name may hold any characters but quotes, commas and ``<``.
        """
        return _known_address(value) if len(value) <= _REMEMBERED_LENGTH else cls._read(value)

    @classmethod
    def _read(cls, value: str) -> Address:
        text = _squeeze(value)
        position = _end_of_quoted(text, 0) if text.startswith('"') else 0
        opening = text.find("<", position)
        if position and (opening < 0 or text[position:opening].strip(" ")):
            raise ValueError("display name is not followed by a URI")
        if opening >= 0 and ";" in text[position:opening] and not position:
            opening = -1
        if opening >= 0:
            closing = text.find(">", opening)
            name = text[:opening].strip(" ")
            if closing < 0 or (not position and ('"' in name or "," in name)):
                raise ValueError("address is not valid")
            # The library's grammar wants no spaces inside <>; neither does RFC 4475 §3.1.2.14.
            uri = text[opening + 1 : closing]
            parameters = text[closing + 1 :]
            if uri != uri.strip(" "):
                raise ValueError("space inside <>")
        else:
            name = ""
            uri, semicolon, parameters = text.partition(";")
            parameters = semicolon + parameters
            uri = uri.rstrip(" ")
            if "?" in uri or "," in uri:
                raise ValueError("a URI with ? or , needs <>")
        self = cls(
            uri=URI.parse(uri),
            name=printable(_unquote(name)),
            parameters=Parameters.parse(parameters),
        )
        object.__setattr__(self, "_text", text)
        return self

    @classmethod
    def parse_many(cls, value: str) -> list[sipmessage.Address]:
        """Parse a comma-separated list."""
        return [cls.parse(item) for item in split_list(value)]

    def with_tag(self, tag: str) -> Address:
        """The same address with the tag ``tag``; the rest prints as it was read."""
        copy = dataclasses.replace(self, parameters=self.parameters.replace(tag=tag))
        if self._text and self.tag is None:
            bare = self._text if "<" in self._text else f"<{self.uri}>{self.parameters}"
            object.__setattr__(copy, "_text", f"{bare};tag={tag}")
        return copy

    def __str__(self) -> str:
        if self._text:
            return self._text
        name = f"{_quote(self.name)} " if self.name else ""
        return f"{name}<{self.uri}>{self.parameters}"


@dataclasses.dataclass(frozen=True)
class Via(sipmessage.Via):
    """One hop of the way that the responses take back (RFC 3261 §20.42)."""

    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    "The parameters, for example branch, received and rport."

    @property
    def branch(self) -> str:
        """The branch parameter, empty if there is none."""
        return self.parameters.get("branch") or ""

    @classmethod
    def parse(cls, value: str) -> Via:
        """Parse one Via value. Raises ValueError."""
        return _known_via(value) if len(value) <= _REMEMBERED_LENGTH else cls._read(value)

    @classmethod
    def _read(cls, value: str) -> Via:
        match = _VIA.fullmatch(_squeeze(value))
        if match is None or not _HOST.fullmatch(match["host"]):
            raise ValueError("Via is not valid")
        port = match["port"]
        return cls(
            transport=match["transport"],
            host=match["host"],
            port=parse_integer(port, maximum=65535) if port else None,
            parameters=Parameters.parse(match["parameters"] or ""),
        )

    @classmethod
    def parse_many(cls, value: str) -> list[sipmessage.Via]:
        """Parse a comma-separated list."""
        return [cls.parse(item) for item in split_list(value)]


@dataclasses.dataclass(frozen=True)
class MediaType(sipmessage.MediaType):
    """A media type (RFC 3261 §20.15). Quoted parameters, as a boundary, come without quotes."""

    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    "The parameters, for example the boundary of a multipart body."

    @classmethod
    def parse(cls, value: str) -> MediaType:
        """Parse one media type; the type is made lower case. Raises ValueError."""
        match = _MEDIA_TYPE.fullmatch(_squeeze(value))
        if match is None:
            raise ValueError("media type is not valid")
        return cls(
            mime_type=f"{match['type']}/{match['subtype']}".lower(),
            parameters=Parameters.parse(match["parameters"] or ""),
        )

    @classmethod
    def parse_many(cls, value: str) -> list[sipmessage.MediaType]:
        """Parse a comma-separated list."""
        return [cls.parse(item) for item in split_list(value) if item]


# The messages of a dialog repeat each other's values, and each is asked for several times. What is
# parsed never changes, so whoever asks again may have the same.
@lru_cache(maxsize=_REMEMBERED)
def _known_uri(value: str) -> URI:
    return URI._read(value)


@lru_cache(maxsize=_REMEMBERED)
def _known_address(value: str) -> Address:
    return Address._read(value)


@lru_cache(maxsize=_REMEMBERED)
def _known_via(value: str) -> Via:
    return Via._read(value)
