from __future__ import annotations

import pytest

from callreel.base.errors import PeerError
from callreel.wire.sip.forwarding import forwards_left, times_through
from callreel.wire.sip.message import Request
from callreel.wire.sip.values import URI


@pytest.mark.parametrize(("value", "left"), [(None, 69), ("70", 69), ("1", 0), ("255", 69)])
def test_forwards_left(value: str | None, left: int) -> None:
    request = Request("INVITE", URI.parse("sip:a"))
    if value is not None:
        request.headers.set("Max-Forwards", value)
    assert forwards_left(request) == left


def test_no_forwards_left() -> None:
    request = Request("INVITE", URI.parse("sip:a"))
    request.headers.set("Max-Forwards", "0")
    with pytest.raises(PeerError) as caught:
        forwards_left(request)
    assert caught.value.status == 483


def test_times_through() -> None:
    request = Request("INVITE", URI.parse("sip:a"))
    request.headers.setlist(
        "Via",
        [
            "SIP/2.0/UDP Us.example.com:5060;branch=z9hG4bK1, SIP/2.0/UDP other:5060;branch=z",
            "SIP/2.0/UDP us.example.com;branch=z9hG4bK2",
            "SIP/2.0/TLS us.example.com;branch=z9hG4bK3",
        ],
    )
    assert times_through(request, "us.example.com:5060") == 2
    assert times_through(request, "us.example.com:5061") == 1
    assert times_through(request, "them:5060") == 0
