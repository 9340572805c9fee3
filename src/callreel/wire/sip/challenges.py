"""Challenges and credentials as they stand in header fields (RFC 3261 §25.1, RFC 7235 §2.1).

WWW-Authenticate, Proxy-Authenticate, Authorization and Proxy-Authorization share one grammar: a
scheme, then parameters. It is read in one pass and leniently, since commas separate challenges,
parameters and, inside quotes, nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MAX_FIELD_CHARACTERS = 8_192
MAX_VALUES = 16
MAX_PARAMETERS = 32

_SEPARATORS = re.compile(r"[ \t\r\n,]*")
_NAME = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r'[^ \t\r\n,"]*')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SCHEME_ENDS = re.compile(r"[ \t\r\n]+[A-Za-z0-9\-.!%*_+`'~]")


@dataclass(frozen=True, slots=True)
class AuthValue:
    """One challenge, or the credentials that answer one."""

    scheme: str
    """As it was written; compare it in lower case."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case; values without quotes and escapes. The first of two alike counts."""

    def serialize(self, bare: Iterable[str] = ()) -> str:
        """The header field's value. Parameters named in ``bare`` go without quotes where they are
        tokens: ``algorithm``, ``stale`` and ``nc`` must, ``realm`` and ``nonce`` must not.
        """
        without = frozenset(bare)
        items = [
            f"{name}={value if name in without and _NAME.fullmatch(value) else quote(value)}"
            for name, value in self.parameters.items()
        ]
        return f"{self.scheme} {', '.join(items)}".rstrip(" ")


def quote(text: str) -> str:
    """``text`` as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_auth_values(text: str) -> list[AuthValue]:
    """Every challenge, or credentials, in one header field. Raises ValueError.

    A missing comma between parameters is forgiven, as are empty items. A word alone is a scheme
    only where it can be one: ``qop=auth,auth-int`` without quotes is a peer's slip.
    """
    if len(text) > MAX_FIELD_CHARACTERS:
        raise ValueError("too long")
    values: list[AuthValue] = []
    parameters: dict[str, str] = {}
    position = _after(_SEPARATORS, text, 0)
    while position < len(text):
        name = _NAME.match(text, position)
        if name is None:
            raise ValueError("not a scheme, nor a parameter")
        position = name.end()
        equals = _EQUALS.match(text, position)
        if equals is not None and values:
            value, position = _read_value(text, equals.end())
            if len(parameters) >= MAX_PARAMETERS:
                raise ValueError("too many parameters")
            parameters.setdefault(name[0].lower(), value)
        elif equals is not None:
            raise ValueError("parameters before any scheme")
        elif not values or _SCHEME_ENDS.match(text, position):
            if len(values) >= MAX_VALUES:
                raise ValueError("too many challenges")
            parameters = {}
            values.append(AuthValue(name[0], parameters))
        position = _after(_SEPARATORS, text, position)
    return values


def _read_value(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        bare = _BARE.match(text, position)
        assert bare is not None
        return bare[0], bare.end()
    quoted = _QUOTED.match(text, position)
    if quoted is None:
        raise ValueError("a quoted string is not closed")
    return _ESCAPE.sub(r"\1", quoted[1]), quoted.end()


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    assert match is not None
    return match.end()
