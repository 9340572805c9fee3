"""What keeps a request from being passed on for ever (RFC 3261 §16.3). No I/O."""

from __future__ import annotations

from callreel.base.errors import PeerError
from callreel.wire.sip.message import Request

MAX_FORWARDS = 70
"""What a request begins with (RFC 3261 §8.1.1.6)."""


def forwards_left(request: Request) -> int:
    """Max-Forwards for the request that passes ``request`` on (RFC 7332 §4).

    Raises PeerError (483) if it must not be passed on any further.
    """
    left = request.max_forwards
    if left is None:
        return MAX_FORWARDS - 1
    if left <= 0:
        raise PeerError("the request was passed on too often", status=483)
    return min(left, MAX_FORWARDS) - 1
