"""Keys that are told in INFO, as phones do that send no telephone-events. Pure.

There is no RFC for it: ``application/dtmf-relay`` holds lines such as ``Signal=5``,
``application/dtmf`` the key alone.
"""

from __future__ import annotations

import re

from callreel.base.errors import PeerError
from callreel.wire.sip.message import Request

DTMF_TYPES = ("application/dtmf-relay", "application/dtmf")
MAX_BYTES = 1024

_SIGNAL = re.compile(r"^\s*signal\s*=\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_KEYS = {**{key: key for key in "0123456789*#ABCD"}, "10": "*", "11": "#"}


def content_type_of(request: Request) -> str:
    """Its content type, lower case and without parameters."""
    return (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()


def digit_of(request: Request) -> str:
    """The key, one of ``0-9*#A-D``. Raises ``PeerError``: 415 for a body of another kind, 400 for
    one that names no key."""
    kind = content_type_of(request)
    if kind not in DTMF_TYPES or len(request.body) > MAX_BYTES:
        raise PeerError(f"an INFO of {kind[:60]!r}", status=415)
    text = request.body.decode("ascii", "replace")
    signal = _SIGNAL.search(text)
    key = _KEYS.get((signal[1] if signal else text.strip()).upper())
    if key is None:
        raise PeerError("an INFO that names no key")
    return key
