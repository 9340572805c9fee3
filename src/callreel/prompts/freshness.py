"""How long what a URL gave may be used without asking again (RFC 9111, the simple part). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_S = 60.0
"""Where the server does not say."""
MAX_S = 86_400.0
"""Whatever the server says."""

_DIRECTIVE = re.compile(r'([a-z-]+)(?:\s*=\s*"?([0-9]{1,9})"?)?', re.IGNORECASE)
_MAX_VALIDATOR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Freshness:
    """What an answer's headers say."""

    seconds: float
    """How long it is fresh, from now on."""
    validators: Mapping[str, str]
    """Headers to ask with, whether it has changed."""


def freshness(headers: Mapping[str, str]) -> Freshness:
    """Of an answer, whose ``headers`` can be looked up in any case.

    >>> freshness({"Cache-Control": "public, max-age=300", "Age": "100"}).seconds
    200.0
    """
    said = dict(_DIRECTIVE.findall(headers.get("Cache-Control", "").lower()))
    seconds = DEFAULT_S
    if "no-store" in said or "no-cache" in said:
        seconds = 0.0
    elif said.get("max-age"):
        age = headers.get("Age", "")
        passed = int(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0
        seconds = min(max(0.0, float(said["max-age"]) - passed), MAX_S)
    validators = {}
    for name, asked in (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")):
        value = headers.get(name, "")
        if value.isprintable() and value.isascii() and 0 < len(value) <= _MAX_VALIDATOR_CHARACTERS:
            validators[asked] = value
    return Freshness(seconds, validators)
