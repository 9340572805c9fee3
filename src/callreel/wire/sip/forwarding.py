"""What keeps a request from being passed on for ever (RFC 3261 §16.3). No I/O."""

from __future__ import annotations

from callreel.base.errors import PeerError
from callreel.wire.sip.message import Message, Request

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


def times_through(message: Message, sent_by: str) -> int:
    """How often the Vias say that ``message`` came through ``sent_by`` (``host:port``).

    More than a few times means a loop (482). Only elements that keep the Vias show here: one that
    answers calls and places new ones is given away by Max-Forwards alone.
    """
    wanted = sent_by.lower()
    return sum(
        f"{via.host.lower()}:{via.port or (5061 if via.transport.upper() == 'TLS' else 5060)}"
        == wanted
        for via in message.via
    )
